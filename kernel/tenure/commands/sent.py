"""What a relay stores of the rows that it sends: Sent, SendFailed, SendRefused, LineUp.  Spec: specs/outbound.md.

They need no lease and do not change when the session is due, so they serve every kind of session in every phase.
"""

from __future__ import annotations

from typing import ClassVar, Final, TypeVar

from attrs import frozen

from ..event import Event, EventKind
from ..indexes import OUTBOUND_ROUTE
from ..machines import outbound as outbound_
from ..outbound_records import Behind, Due, Outbound, Undeliverable, route_of
from ..outcome import Decided, Drop, Insert, Refusal, Refused, Stepped, Update, Write
from ..queries import Command, Each, First, Get, Reads, read
from ..records import EventBatch, Session
from ..replace import replace
from ..scheduling import unpublished_since_ms
from .validation import sanitize

__all__ = [
    "OutboundDelayed",
    "LineUp",
    "SendFailed",
    "SendRefused",
    "Sent",
    "OutboundSettled",
    "with_event",
]


O = TypeVar("O")
BACKOFF_BASE_MS: Final = 1_000
BACKOFF_CAP_MS: Final = 300_000
LINED_MAX: Final = 128  # rows that are set behind the first one in one command
TEXT_MAX: Final = 1_000  # characters of an error, or of a refusal's detail


@frozen
class OutboundSettled:
    """The row needs to be sent no more: it was, or it is undeliverable."""

    since: ClassVar = 2
    number: int


@frozen
class OutboundDelayed:
    """The first row of the route is due at `due_at_ms`; None: the row needs to be sent no more."""

    since: ClassVar = 2
    due_at_ms: int | None


@frozen
class SentView:
    """The session, the row, and the first rows of its route that are to be sent."""

    session: Session | None
    row: Outbound | None
    first: tuple[Outbound, ...]


class _OfRow(Command[SentView, O]):
    """A command about a row that was sent."""

    __slots__ = ()
    serves_all: ClassVar = True
    number: int
    to: str
    peer: str

    def reads(self) -> Reads[SentView]:
        s = self.session_id
        return read(
            SentView,
            Get(Session, (s,)),
            Get(Outbound, (s, self.number)),
            First(OUTBOUND_ROUTE, (s, route_of(self.to, self.peer)), 2),
        )

    def find(self, view: SentView) -> tuple[Session, Outbound | None] | Refused:
        """OUTBOUND-30, OUTBOUND-31: return the row; None if it was dropped before."""
        session, row = view.session, view.row
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "OUTBOUND-30", self.session_id)
        if not 0 < self.number < (session.next_outbound or 1):
            return Refused(Refusal.UNKNOWN_OUTBOUND, "OUTBOUND-30", self.number)
        if row is None:
            return session, None
        if row.route != route_of(self.to, self.peer):
            return Refused(Refusal.UNKNOWN_OUTBOUND, "OUTBOUND-30", row.route)
        if row.waiting_route is not None and view.first[0].number != self.number:
            return Refused(Refusal.NOT_NEXT, "OUTBOUND-31", view.first[0].number)
        return session, row


@frozen
class Sent(_OfRow[OutboundSettled]):
    """Drop a row: its target has executed it, or what it wanted no longer matters.  The next of its route is due.

    Writes at most two rows.  Refusals: UNKNOWN_SESSION, UNKNOWN_OUTBOUND, NOT_NEXT.
    """

    since: ClassVar = 2
    session_id: str
    number: int
    to: str
    peer: str = ""

    def decide(self, view: SentView, now_ms: int) -> Decided[OutboundSettled] | Refused:
        found = self.find(view)
        if isinstance(found, Refused):
            return found
        row, settled = found[1], OutboundSettled(self.number)
        if row is None:
            return Decided(settled, "OUTBOUND-33", replayed=True)
        via: list[str] = []
        drop = Drop(Outbound, (self.session_id, self.number))
        writes = (drop, *_promote_next(row, view, via))
        return Decided(settled, "OUTBOUND-32", writes, via=tuple(via))


@frozen
class SendRefused(_OfRow[OutboundSettled]):
    """Keep a row as undeliverable.  The next of its route is due.

    Writes at most four rows.  Refusals: UNKNOWN_SESSION, UNKNOWN_OUTBOUND, NOT_NEXT.
    """

    since: ClassVar = 2
    session_id: str
    number: int
    to: str
    refusal: str
    clause: str
    detail: str = ""
    peer: str = ""

    def decide(self, view: SentView, now_ms: int) -> Decided[OutboundSettled] | Refused:
        found = self.find(view)
        if isinstance(found, Refused):
            return found
        session, row = found
        settled = OutboundSettled(self.number)
        if row is None or row.waiting_route is None:
            return Decided(settled, "OUTBOUND-33", replayed=True)
        refusal, clause, detail = map(_short, (self.refusal, self.clause, self.detail))
        how = Undeliverable(now_ms, refusal, clause, detail)
        stepped = outbound_.step(row.state, outbound_.Refuse(how))
        via = [stepped.clause]
        words = f"{self.number} {row.route} {refusal}"
        cause = f"outbound:{self.number}"
        session, batch = with_event(session, EventKind.UNDELIVERABLE, words, cause, now_ms)
        writes = (
            Update(session),
            Update(replace(row, state=stepped.state, attempts=row.attempts + 1)),
            *_promote_next(row, view, via),
            batch,
        )
        return Decided(settled, "OUTBOUND-34", writes, via=tuple(via))


@frozen
class SendFailed(_OfRow[OutboundDelayed]):
    """Try a row again later: its target has not answered, or refuses only for now.  The rows behind it wait with it.

    `attempts`: how often that had happened before, so that each attempt counts once.
    Writes one row.  Refusals: UNKNOWN_SESSION, UNKNOWN_OUTBOUND, NOT_NEXT.
    """

    since: ClassVar = 2
    session_id: str
    number: int
    to: str
    attempts: int
    error: str
    peer: str = ""

    def decide(self, view: SentView, now_ms: int) -> Decided[OutboundDelayed] | Refused:
        found = self.find(view)
        if isinstance(found, Refused):
            return found
        row = found[1]
        if row is None or row.waiting_route is None:
            return Decided(OutboundDelayed(None), "OUTBOUND-33", replayed=True)
        if row.attempts != self.attempts:
            due_at_ms = getattr(row.state, "due_at_ms", 0)
            return Decided(OutboundDelayed(due_at_ms), "OUTBOUND-33", replayed=True)
        until_ms = now_ms + backoff_ms(row.attempts + 1)
        stepped = outbound_.step(row.state, outbound_.Delay(until_ms))
        attempts, error = row.attempts + 1, _short(self.error)
        after = replace(row, state=stepped.state, attempts=attempts, error=error)
        return Decided(
            OutboundDelayed(until_ms), "OUTBOUND-35", (Update(after),), via=(stepped.clause,)
        )


@frozen
class LineUpView:
    """The session, the first row of the route, and the rows that are behind it."""

    session: Session | None
    first: tuple[Outbound, ...]
    rows: tuple[Outbound | None, ...]


@frozen
class LineUp(Command[LineUpView, OutboundDelayed]):
    """Set rows of a route behind its first one, which waits for its time.  Writes at most 128 rows.

    Refusals: UNKNOWN_SESSION, ILLEGAL.
    """

    since: ClassVar = 2
    serves_all: ClassVar = True
    session_id: str
    to: str
    numbers: tuple[int, ...]
    peer: str = ""

    def reads(self) -> Reads[LineUpView]:
        s = self.session_id
        return read(
            LineUpView,
            Get(Session, (s,)),
            First(OUTBOUND_ROUTE, (s, route_of(self.to, self.peer)), 1),
            Each(tuple([Get(Outbound, (s, number)) for number in self.numbers])),
        )

    def decide(self, view: LineUpView, now_ms: int) -> Decided[OutboundDelayed] | Refused:
        if view.session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "OUTBOUND-30", self.session_id)
        if len(self.numbers) > LINED_MAX or len(set(self.numbers)) < len(self.numbers):
            problem = f"{len(self.numbers)} numbers; at most {LINED_MAX}, each once"
            return Refused(Refusal.ILLEGAL, "OUTBOUND-36", problem)
        first = view.first[0] if view.first else None
        if first is None:
            return Decided(OutboundDelayed(None), "OUTBOUND-36")
        via: list[str] = []
        writes: list[Write] = []
        for row in view.rows:
            behind = row is not None and row.route == first.route and row.number > first.number
            if row is None or not behind or not isinstance(row.state, Due):
                continue
            state = _noted(outbound_.step(row.state, outbound_.Line()), via)
            writes.append(Update(replace(row, state=state)))
        due_at_ms = getattr(first.state, "due_at_ms", 0)
        return Decided(OutboundDelayed(due_at_ms), "OUTBOUND-36", tuple(writes), via=tuple(via))


def backoff_ms(attempts: int) -> int:
    """OUTBOUND-35: return how long a route waits after so many failures in a row."""
    wait: int = BACKOFF_BASE_MS * 2 ** min(attempts - 1, 20)
    return min(wait, BACKOFF_CAP_MS)


def _promote_next(row: Outbound, view: SentView, via: list[str]) -> list[Write]:
    """OUTBOUND-12: return the write that makes the next row of the route due, if it was behind this one."""
    if row.waiting_route is None or len(view.first) < 2:
        return []
    following = view.first[1]
    if not isinstance(following.state, Behind):
        return []
    state = _noted(outbound_.step(following.state, outbound_.Promote()), via)
    return [Update(replace(following, state=state))]


def _noted(stepped: Stepped[O, None], via: list[str]) -> O:
    if stepped.clause not in via:
        via.append(stepped.clause)
    return stepped.state


def _short(text: str) -> str:
    return sanitize(text[:TEXT_MAX])


def with_event(
    session: Session, kind: EventKind, detail: str, causation_id: str, now_ms: int
) -> tuple[Session, Insert]:
    """Return the session with one more event, and the row of the event.  Its due time stays (DUE-1)."""
    batch = EventBatch(
        session.session_id, session.next_event, now_ms, causation_id, (Event(kind, detail=detail),)
    )
    after = replace(
        session,
        next_event=session.next_event + 1,
        changed_at_ms=max(now_ms, session.changed_at_ms),  # FEED-1
        unpublished_since_ms=unpublished_since_ms(session, 1, now_ms),
    )
    return after, Insert(batch)
