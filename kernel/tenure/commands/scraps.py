"""Scraps: who deletes the bytes of forgotten attachments claims them first.  Spec: specs/attachment.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from ..indexes import ATTACHMENT_BYTES
from ..limits import ATTACHMENTS_MAX, SCRAP_CLAIM_MS
from ..outcome import Decided, Drop, Refusal, Refused, Update, Write
from ..queries import Command, Each, First, Get, Reads, read
from ..records import Attachment, Scrap, Session
from ..replace import replace
from .attached import attachment_queries, validate_ids
from .attachment_counts import count_attachments
from .validation import validate_id

__all__ = ["ClaimScraps", "DropScraps", "ScrapsClaimed", "ScrapsDropped"]


@frozen
class ScrapsClaimed:
    """The scraps whose bytes the caller deletes now, with nobody beside it before `until_ms`."""

    since: ClassVar = 2
    attachment_ids: tuple[str, ...]
    until_ms: int


@frozen
class ScrapsDropped:
    """The claimed scraps are gone."""

    since: ClassVar = 2


@frozen
class ClaimScrapsView:
    """The session, the attachments, and for each digest who holds its bytes, or else a scrap of it."""

    session: Session | None
    known: tuple[Attachment | None, ...]
    first: tuple[tuple[Attachment, ...], ...]


@frozen
class ClaimScraps(Command[ClaimScrapsView, ScrapsClaimed]):
    """Claim scraps, before their bytes are deleted: at most 64, as pairs of an id and its digest.

    A repetition renews the claim of the caller.  Writes a row for each, and the session's.
    Refusals: UNKNOWN_SESSION, ILLEGAL.
    """

    since: ClassVar = 2
    session_id: str
    claim_id: str
    scraps: tuple[tuple[str, str], ...]

    def reads(self) -> Reads[ClaimScrapsView]:
        s = self.session_id
        return read(
            ClaimScrapsView,
            Get(Session, (s,)),
            attachment_queries(s, [attachment_id for attachment_id, _ in self.scraps]),
            Each(tuple([First(ATTACHMENT_BYTES, (s, digest), 1) for _, digest in self.scraps])),
        )

    def decide(self, view: ClaimScrapsView, now_ms: int) -> Decided[ScrapsClaimed] | Refused:
        session = view.session
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "ATTACH-1", self.session_id)
        ids = [attachment_id for attachment_id, _ in self.scraps]
        problem = validate_id("claim_id", self.claim_id) or validate_ids(ids, ATTACHMENTS_MAX)
        if problem is not None:
            return Refused(Refusal.ILLEGAL, "ATTACH-41", problem)
        until_ms = now_ms + SCRAP_CLAIM_MS
        writes: list[Write] = []
        claimed: list[str] = []
        for (_, digest), row, first in zip(self.scraps, view.known, view.first, strict=True):
            if row is None or not isinstance(row.state, Scrap) or row.digest != digest:
                continue
            if first[0].held:  # ATTACH-43
                writes.append(Drop(Attachment, (self.session_id, row.attachment_id)))
            elif self._may_claim(row.state, now_ms):
                claimed.append(row.attachment_id)
                after = replace(row, state=Scrap(self.claim_id, until_ms))
                writes += [] if after == row else [Update(after)]
        answer = ScrapsClaimed(tuple(claimed), until_ms)
        if not writes:
            return Decided(answer, "ATTACH-42", replayed=True)
        return Decided(answer, "ATTACH-42", (*_counted(session, writes, now_ms), *writes))

    def _may_claim(self, scrap: Scrap, now_ms: int) -> bool:
        """ATTACH-42: return whether nobody else deletes its bytes."""
        mine = scrap.claim_id in (None, self.claim_id)
        return mine or scrap.until_ms is None or scrap.until_ms < now_ms


@frozen
class DropScrapsView:
    """The session, and the attachments."""

    session: Session | None
    known: tuple[Attachment | None, ...]


@frozen
class DropScraps(Command[DropScrapsView, ScrapsDropped]):
    """Drop claimed scraps, after their bytes were deleted: at most 64.

    Those that another one has claimed meanwhile stay.  Writes a row for each, and the session's.
    Refusals: UNKNOWN_SESSION, ILLEGAL.
    """

    since: ClassVar = 2
    session_id: str
    claim_id: str
    attachment_ids: tuple[str, ...]

    def reads(self) -> Reads[DropScrapsView]:
        s = self.session_id
        ids = attachment_queries(s, self.attachment_ids)
        return read(DropScrapsView, Get(Session, (s,)), ids)

    def decide(self, view: DropScrapsView, now_ms: int) -> Decided[ScrapsDropped] | Refused:
        session = view.session
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "ATTACH-1", self.session_id)
        if problem := validate_ids(self.attachment_ids, ATTACHMENTS_MAX):
            return Refused(Refusal.ILLEGAL, "ATTACH-41", problem)
        drops: list[Write] = [
            Drop(Attachment, (self.session_id, row.attachment_id))
            for row in view.known
            if row is not None
            and isinstance(row.state, Scrap)
            and row.state.claim_id == self.claim_id
        ]
        if not drops:
            return Decided(ScrapsDropped(), "ATTACH-45", replayed=True)
        return Decided(ScrapsDropped(), "ATTACH-44", (*_counted(session, drops, now_ms), *drops))


def _counted(session: Session, writes: list[Write], now_ms: int) -> list[Write]:
    """Return the write of the session, if scraps are dropped."""
    dropped = sum(isinstance(write, Drop) for write in writes)
    changed = count_attachments(session, 0, -dropped, now_ms)
    return [] if changed == session else [Update(changed)]
