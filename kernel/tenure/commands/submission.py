"""Submitted inputs, how they were admitted, and which of them are known.  Spec: specs/inbox.md."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import ClassVar

from attrs import field, frozen

from ..event import Parent
from ..outcome import Refusal, Refused
from ..policy import LANES, POLICIES, IfOver, OnOtherContent, Policy
from ..records import Admission, HowAdmitted, Input, OpenKey, Session, TicketName
from ..replace import replace
from ..transcript import hash_content
from .replay import check_pruned

__all__ = ["Admitted", "Conflict", "IfIdle", "NewInput", "Target", "known_admissions"]


class Target(enum.StrEnum):
    """A target that is not a run id (INBOX-49)."""

    CURRENT = "current"  # the run of the open turn, or else the one under the lease
    NOBODY = "nobody"  # no run, also if its policy says that it steers


class IfIdle(enum.StrEnum):
    """What happens to an input for the running turn if no turn is running."""

    QUEUE = "queue"  # an ordinary input
    REFUSE = "refuse"


@frozen
class NewInput:
    """A submitted input.  `payload` is opaque text, for a prompt the prompt itself.

    `key`: idempotency key; without one, `input_id` identifies the input.  `priority`: 0 comes first, None is the
    policy's.  `available_at_ms`: the earliest time at which it may begin, by the clock of the store.  `target`: the run
    that is to take it, by id or as `Target`; None is the current run if the policy says that the input steers.
    `if_idle`: if there is no current run.  `if_over`: if the named run has ended, or ends without it.  `origin`: opaque text
    about where the input comes from, for its agent; at most 16,384 bytes.  `parent`: the run on whose behalf it is submitted.
    `resolution`: the version of the agent that is to work on it (RUN-70).  `settles`: the ticket of another session that its
    end settles (TICKET-40); an input that is known already settles none.
    """

    added: ClassVar = {
        "target": 2,
        "if_idle": 2,
        "if_over": 2,
        "origin": 2,
        "parent": 2,
        "resolution": 2,
        "settles": 2,
    }
    input_id: str
    kind: str
    payload: str = field(repr=lambda p: repr(p) if len(p) < 80 else f"<{len(p)} characters>")
    source: str = "api"
    key: str | None = None
    priority: int | None = None
    available_at_ms: int | None = None
    supersession_key: str | None = None
    correlation_id: str | None = None
    policy: Policy | None = None  # for a kind that has no policy in policy.py
    target: str | Target | None = None
    if_idle: IfIdle = IfIdle.QUEUE
    if_over: IfOver = IfOver.QUEUE
    origin: str | None = field(
        default=None,
        repr=lambda o: repr(o) if o is None or len(o) < 80 else f"<{len(o)} characters>",
    )
    parent: Parent | None = None
    resolution: str | None = None
    settles: TicketName | None = None

    def rules(self) -> Policy | None:
        """Return the policy of this input; None if its kind is unknown."""
        return self.policy or POLICIES.get(self.kind)


@frozen
class Admitted:
    """How each input was admitted, in order."""

    admissions: tuple[Admission, ...]


@frozen
class Conflict:
    """Which submitted input was refused, and the value that caused it."""

    index: int
    value: str
    existing_id: str | None = None

    def __str__(self) -> str:
        known = "" if self.existing_id is None else f", known as input {self.existing_id}"
        return f"input {self.index}: {self.value}{known}"


@frozen
class KnownInput:
    """An input that was admitted under the id or key of a submission."""

    input_id: str
    content_digest: str
    pruned: bool = False


def known_admissions(
    session: Session | None,
    inputs: Sequence[NewInput],
    by_id: Sequence[Input | None],
    by_key: Sequence[Sequence[Input]],
    open_keys: Sequence[Sequence[OpenKey]],
) -> list[Admission | str] | Refused:
    """INBOX-1, INBOX-2, RETENTION-6: return for each input its admission if it is known, else its digest.

    An input is known from the store or from an earlier place of the same batch.
    """
    keyed = [new.key for new in inputs if new.key is not None]
    in_lanes = [key for key in keyed for _ in LANES]
    met: dict[tuple[str, str], KnownInput] = {}
    for found in by_id:
        if found is not None:
            met["id", found.input_id] = _known(found)
    for key, holders in zip(in_lanes, open_keys, strict=True):
        for holder in _holding(session, holders):
            met["key", key] = KnownInput(holder.input_id, holder.content_digest)
    for key, originals in zip(keyed, by_key, strict=True):
        for original in originals:
            met["key", key] = _known(original)
    receipts: list[Admission | str] = []
    for index, new in enumerate(inputs):
        digest = hash_content(new.kind, new.payload)
        known = met.get(("id", new.input_id)) or met.get(("key", new.key or ""))
        if known is None:
            if refused := check_pruned(session, new.input_id):
                return replace(refused, detail=Conflict(index, new.input_id))
            receipts.append(digest)
            met["id", new.input_id] = KnownInput(new.input_id, digest)
            if new.key is not None:
                met["key", new.key] = KnownInput(new.input_id, digest)
        elif known.content_digest == digest or _original(new, known):
            if known.pruned:
                detail = Conflict(index, new.input_id, known.input_id)
                return Refused(Refusal.PRUNED, "RETENTION-6", detail)
            receipts.append(Admission(known.input_id, HowAdmitted.KNOWN))
        else:
            value = new.input_id if known.input_id == new.input_id else new.key or ""
            conflict = Conflict(index, value, known.input_id)
            return Refused(Refusal.KEY_CONFLICT, "INBOX-2", conflict)
    return receipts


def _known(found: Input) -> KnownInput:
    return KnownInput(found.input_id, found.content_digest, bool(found.pruned))


def _holding(session: Session | None, holders: Sequence[OpenKey]) -> list[OpenKey]:
    """INBOX-28: return the holders of an open key that no mark has superseded."""
    return [h for h in holders if session is not None and h.mark >= session.mark(h.lane)]


def _original(new: NewInput, known: KnownInput) -> bool:
    policy = new.rules()
    if policy is None or known.input_id == new.input_id:
        return False
    return policy.on_other_content is OnOtherContent.ORIGINAL
