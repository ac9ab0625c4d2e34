"""Attachments: Intend and Forget, and what Commit, Checkpoint, Amend and Sweep do with them.  Spec: specs/attachment.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Final

from attrs import frozen

from ..attachment_records import Stage
from ..indexes import ATTACHMENT_BYTES, ATTACHMENT_STAGES
from ..limits import (
    ATTACHMENTS_MAX,
    INTENT_AGE_MS,
    INTENTS_MAX,
    SWEEP_INTENTS_MAX,
    SWEEP_ROWS_MAX,
)
from ..machines import lease as lease_
from ..outcome import Decided, Insert, Refusal, Refused, Update
from ..queries import Command, Each, First, Query, Reads, read
from ..records import Attachment, Intent, Phase, Scrap, Session
from ..replace import replace
from .attached import attachment_queries, validate_ids
from .checkpoint import check_fence
from .session_view import SessionView, session_queries
from .transaction import Transaction
from .validation import validate_text

__all__ = [
    "Forget",
    "Forgotten",
    "Intend",
    "Intended",
    "NewAttachment",
    "drop_aged",
    "forget",
    "intents_query",
]


SIZE_MAX: Final = 2**53
MEDIA_TYPE_MAX: Final = 200
DIGEST_DIGITS: Final = frozenset("0123456789abcdef")


@frozen
class NewAttachment:
    """An attachment as it is announced, before its bytes are stored.  `digest`: the SHA-256 of the bytes."""

    since: ClassVar = 2
    attachment_id: str
    digest: str
    size: int
    media_type: str

    def is_like(self, row: Attachment) -> bool:
        """Return whether a stored attachment has the same content."""
        known = (row.digest, row.size, row.media_type)
        return known == (self.digest, self.size, self.media_type)


@frozen
class Intended:
    """The session holds the attachments, so their bytes may be stored."""

    since: ClassVar = 2


@frozen
class Forgotten:
    """The session does not hold the attachments any more."""

    since: ClassVar = 2


@frozen
class IntendView(SessionView):
    """The session, what is stored under the ids, and a scrap of each digest whose bytes are being deleted."""

    known: tuple[Attachment | None, ...]
    claimed: tuple[tuple[Attachment, ...], ...]


@frozen
class Intend(Command[IntendView, Intended]):
    """Announce at most 64 attachments before their bytes are stored.

    With a fence and a run they age with the run, otherwise after a day (ATTACH-30).  Writes a row for each, and the
    session's.  Refusals: UNKNOWN_SESSION, PHASE, FENCED, ILLEGAL, KEY_CONFLICT, DELETING, FULL.
    """

    since: ClassVar = 2
    session_id: str
    attachments: tuple[NewAttachment, ...]
    fence: lease_.Fence | None = None
    run_id: str | None = None

    def reads(self) -> Reads[IntendView]:
        s = self.session_id
        return read(
            IntendView,
            *session_queries(s),
            attachment_queries(s, [new.attachment_id for new in self.attachments]),
            Each(
                tuple(
                    [
                        First(ATTACHMENT_BYTES, (s, new.digest, Stage.CLAIMED.value), 1)
                        for new in self.attachments
                    ]
                )
            ),
        )

    def decide(self, view: IntendView, now_ms: int) -> Decided[Intended] | Refused:
        session = view.session
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "ATTACH-1", self.session_id)
        if refused := self._refused(view, session):
            return refused
        fresh = [
            (new, row)
            for new, row in zip(self.attachments, view.known, strict=True)
            if row is None or not row.held
        ]
        if not fresh:
            return Decided(Intended(), "ATTACH-6", replayed=True)
        if (count := (session.intent_count or 0) + len(fresh)) > INTENTS_MAX:
            problem = f"{count} attachments whose bytes are being stored; at most {INTENTS_MAX}"
            return Refused(Refusal.FULL, "ATTACH-4", problem)
        tx = Transaction.on(view, session, now_ms, "intend")
        for new, row in fresh:
            made = Attachment(
                self.session_id, new.attachment_id, new.digest, new.size, new.media_type, now_ms,
                Intent(self.run_id),
            )  # fmt: skip
            tx.write(Insert(made) if row is None else Update(made))
            tx.intents_added += 1
            tx.scraps_added -= row is not None
        aged_ms, known_ms = now_ms + INTENT_AGE_MS, session.intents_at_ms
        if self.run_id is None and (known_ms is None or aged_ms < known_ms):
            tx.update(intents_at_ms=aged_ms)  # earlier than others if the clock was set back
        return tx.decided(Intended(), "ATTACH-7")

    def _refused(self, view: IntendView, session: Session) -> Refused | None:
        if session.phase is Phase.DESTROYED:
            return Refused(Refusal.PHASE, "ATTACH-2", session.phase.value)
        if self.fence is not None and (refused := check_fence(session, self.fence, self.run_id)):
            return refused
        if problem := self._validate():
            return Refused(Refusal.ILLEGAL, "ATTACH-3", problem)
        for new, row, claimed in zip(self.attachments, view.known, view.claimed, strict=True):
            if row is not None and not self._may_be(new, row):
                return Refused(Refusal.KEY_CONFLICT, "ATTACH-5", new.attachment_id)
            if claimed:
                return Refused(Refusal.DELETING, "ATTACH-8", new.digest)
        return None

    def _may_be(self, new: NewAttachment, row: Attachment) -> bool:
        """ATTACH-5: return whether a stored attachment is the new one, or may become it."""
        if isinstance(row.state, Scrap):
            return new.digest == row.digest
        if isinstance(row.state, Intent) and row.state.run_id != self.run_id:
            return False
        return new.is_like(row)

    def _validate(self) -> str | None:
        if self.run_id is not None and self.fence is None:
            return f"run {self.run_id} without a fence"
        ids = [new.attachment_id for new in self.attachments]
        if problem := validate_ids(ids, ATTACHMENTS_MAX):
            return problem
        if not ids:
            return "no attachment"
        return next((p for p in map(_validate, self.attachments) if p), None)


def _validate(new: NewAttachment) -> str | None:
    if not is_digest(new.digest):
        return f"digest {new.digest[:80]!r}: expected 64 hexadecimal digits"
    if not 0 <= new.size <= SIZE_MAX:
        return f"size {new.size}: expected 0 to {SIZE_MAX}"
    if not new.media_type:
        return "media_type '': expected one such as image/png"
    return validate_text("media_type", new.media_type, MEDIA_TYPE_MAX)


def is_digest(text: str) -> bool:
    """Return whether a text is a SHA-256 as 64 hexadecimal digits in lower case."""
    return len(text) == 64 and DIGEST_DIGITS.issuperset(text)


@frozen
class ForgetView(SessionView):
    """The session, and the attachments."""

    known: tuple[Attachment | None, ...]


@frozen
class Forget(Command[ForgetView, Forgotten]):
    """Let go of at most 64 attachments, in whatever state they are.  Unknown ones are passed over.

    Needs no lease.  Writes a row for each, and the session's.  Refusals: UNKNOWN_SESSION, ILLEGAL.
    """

    since: ClassVar = 2
    session_id: str
    attachment_ids: tuple[str, ...]

    def reads(self) -> Reads[ForgetView]:
        s = self.session_id
        ids = attachment_queries(s, self.attachment_ids)
        return read(ForgetView, *session_queries(s), ids)

    def decide(self, view: ForgetView, now_ms: int) -> Decided[Forgotten] | Refused:
        session = view.session
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "ATTACH-1", self.session_id)
        if problem := validate_ids(self.attachment_ids, ATTACHMENTS_MAX):
            return Refused(Refusal.ILLEGAL, "ATTACH-20", problem)
        if not any(row is not None and row.held for row in view.known):
            return Decided(Forgotten(), "ATTACH-22", replayed=True)
        tx = Transaction.on(view, session, now_ms, "forget")
        forget(tx, view.known)
        return tx.decided(Forgotten(), "ATTACH-21")


# -- what other commands do with attachments


def forget(tx: Transaction, rows: Iterable[Attachment | None]) -> None:
    """ATTACH-21: let go of the attachments that the session holds."""
    for row in rows:
        if row is not None and row.held:
            tx.write(Update(replace(row, state=Scrap(), at_ms=tx.now_ms)))
            tx.intents_added -= isinstance(row.state, Intent)
            tx.scraps_added += 1


def intents_query(session_id: str) -> Query[tuple[Attachment, ...]]:
    """Return the query of all intents of a session."""
    at = (session_id, Stage.INTENT.value)
    return First(ATTACHMENT_STAGES, at, INTENTS_MAX, counted="intent_count")


def drop_aged(tx: Transaction, intents: Sequence[Attachment]) -> bool:
    """ATTACH-30: let go of aged intents, as many as there is room for.  Return whether some are left.

    `intents`: all of the session.
    """
    if not intents:
        if tx.session.intents_at_ms is not None:  # a checkpoint has attached the last one
            tx.update(intents_at_ms=None)
        return False
    aged = [row for row in intents if _is_aged(tx, row)]
    room = min(SWEEP_INTENTS_MAX, max(SWEEP_ROWS_MAX - len(tx.changes), 0))
    forget(tx, aged[:room])
    gone = {row.attachment_id for row in aged[:room]}
    kept = [row.at_ms for row in intents if row.attachment_id not in gone and _is_free(row)]
    tx.update(intents_at_ms=min(kept) + INTENT_AGE_MS if kept else None)
    return len(aged) > room


def _is_free(row: Attachment) -> bool:
    return isinstance(row.state, Intent) and row.state.run_id is None


def _is_aged(tx: Transaction, row: Attachment) -> bool:
    assert isinstance(row.state, Intent), row
    if row.state.run_id is None:
        return row.at_ms + INTENT_AGE_MS <= tx.now_ms
    return row.state.run_id not in tx.runs
