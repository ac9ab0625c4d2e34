"""The states of a publisher, the events that its host reports, and its effects.  Spec: specs/publisher.md."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Final, TypeAlias

from attrs import frozen

from ..event import Event as SessionEvent
from ..event import EventKind, Origin
from ..indexes import UNPUBLISHED
from ..outcome import Stepped
from ..queries import First, Get, Query, Question
from ..questions.core import EventsAfter
from ..questions.feed import FROM_THE_BEGINNING, FeedPosition
from ..records import EventBatch, Session

__all__ = [
    "LOOK_MAX",
    "Adopt",
    "AdoptFailed",
    "Adopted",
    "Started",
    "Cooling",
    "Drain",
    "Draining",
    "Effect",
    "Event",
    "Finish",
    "Finished",
    "Found",
    "Give",
    "GiveFailed",
    "Given",
    "Look",
    "LookFailed",
    "Looked",
    "Noticed",
    "Outcome",
    "PublishedEvent",
    "Publishing",
    "ReadFailed",
    "Record",
    "Recorded",
    "SetTimer",
    "State",
    "TimerFired",
    "UnpublishedEvents",
    "UnpublishedPage",
]


LOOK_MAX: Final = 256
PAGE: Final = 64  # rows of events that are given at once


# -- what is read


@frozen
class PublishedEvent:
    """One event as a sink gets it.  `id` is `session_id:seq`; the same id always means the same event.

    `causation_id`: the command or lease that caused it.  `origin`: of the input that was admitted, if it has one.
    """

    id: str
    session_id: str
    seq: int
    at_ms: int
    causation_id: str
    event: SessionEvent
    origin: Origin | None = None


@frozen
class UnpublishedPage:
    """Events after the cursor of a session, in order.  `more`: there are others behind them."""

    events: tuple[PublishedEvent, ...]
    more: bool


def _events_of(batch: EventBatch) -> Iterator[PublishedEvent]:
    s, origins = batch.session_id, {each.input_id: each for each in batch.origins or ()}
    for seq, event in enumerate(batch.events, batch.seq):
        admitted = event.kind is EventKind.INPUT_ADMITTED
        origin = origins.get(event.input_ids[0]) if admitted else None
        id = f"{s}:{seq}"
        yield PublishedEvent(id, s, seq, batch.at_ms, batch.causation_id, event, origin)


@frozen
class UnpublishedEvents(Question[UnpublishedPage]):
    """The first events of a session after its cursor; none if it has no cursor."""

    session_id: str

    def steps(self) -> Generator[Query[Any], Any, UnpublishedPage]:
        s = self.session_id
        session: Session | None = yield Get(Session, (s,))
        if session is None or session.published is None:
            return UnpublishedPage((), False)
        batches = yield from EventsAfter(s, session.published, PAGE).steps()
        found = tuple(
            [e for batch in batches for e in _events_of(batch) if e.seq > session.published]
        )
        return UnpublishedPage(found, bool(found) and found[-1].seq < session.next_event - 1)


@frozen
class Found:
    """What a look has found: sessions with unpublished events, sessions without a cursor, and how far it has read.

    `after`: where the next look goes on; None: from the beginning.
    """

    unpublished: tuple[str, ...]
    after: tuple[int, str] | None
    unadopted: tuple[str, ...]
    feed: FeedPosition


@frozen
class Look(Question[Found]):
    """Look for sessions with unpublished events after `after`, and for changed sessions without a cursor."""

    id: int
    after: tuple[int, str] | None
    feed: FeedPosition
    wall_ms: int = 0  # the time now, which the host fills in
    limit: int = LOOK_MAX

    def steps(self) -> Generator[Query[Any], Any, Found]:
        waiting: tuple[Session, ...]
        waiting = yield First(UNPUBLISHED, (), self.limit, self.after or ())
        changed = yield from self.feed.question(self.wall_ms, self.limit).steps()
        after = None
        if len(waiting) >= self.limit:
            last = waiting[-1]
            assert last.unpublished_since_ms is not None
            after = (last.unpublished_since_ms, last.session_id)
        return Found(
            tuple([session.session_id for session in waiting]),
            after,
            tuple([session.session_id for session in changed if session.published is None]),
            self.feed.read(changed, self.limit),
        )


# -- states


@frozen
class Cooling:
    """A session whose events could not be given `times` in a row.  It is left alone until `until_ms`."""

    session_id: str
    until_ms: int
    times: int


@frozen
class Publishing:
    """The publisher gives events.  `looking`: the look in progress, with the adoption that follows it; 0: none."""

    at_once: int
    timer: int = 0
    looking: int = 0
    noticed: bool = False  # events may have been appended since the last look
    backlog: tuple[str, ...] = ()  # known sessions that wait for their turn
    giving: frozenset[str] = frozenset()  # sessions whose events are given, or noted as published
    cooling: tuple[Cooling, ...] = ()
    failures: int = 0  # of the sink, in a row
    rest_until_ms: int = 0  # the sink is left alone until then
    look_from_ms: int = 0  # a look has failed, so the store is left alone until then
    after: tuple[int, str] | None = None  # where the next look goes on
    feed: FeedPosition = FROM_THE_BEGINNING
    next_id: int = 1


@frozen
class Draining:
    """The publisher waits for the sessions that are left."""

    giving: frozenset[str]


@frozen
class Finished:
    """The final state."""


State: TypeAlias = Publishing | Draining | Finished

# -- events


@frozen
class Started:
    """The publisher has started."""

    now_ms: int


@frozen
class Noticed:
    """This process may have appended events."""

    now_ms: int


@frozen
class TimerFired:
    """The time of this timer has come."""

    now_ms: int
    id: int


@frozen
class Looked:
    """A look has ended.  The host has put the sessions with unpublished events in random order."""

    now_ms: int
    id: int
    found: Found


@frozen
class LookFailed:
    """The store did not answer a look."""

    now_ms: int
    id: int


@frozen
class Adopted:
    """These sessions have a cursor now."""

    now_ms: int
    id: int
    session_ids: tuple[str, ...]
    feed: FeedPosition


@frozen
class AdoptFailed:
    """Not all sessions of an adoption got a cursor."""

    now_ms: int
    id: int


@frozen
class Given:
    """The sink has taken the events of a session up to number `through`; None: there were none.  `more` are left."""

    now_ms: int
    session_id: str
    through: int | None
    more: bool = False


@frozen
class GiveFailed:
    """The sink has not taken the events of a session."""

    now_ms: int
    session_id: str


@frozen
class ReadFailed:
    """The store has not answered, or has not noted what was published."""

    now_ms: int
    session_id: str


@frozen
class Recorded:
    """The cursor of a session was moved.  `more`: there are other events behind it."""

    now_ms: int
    session_id: str
    more: bool


@frozen
class Drain:
    """Give no more events."""

    now_ms: int


Event: TypeAlias = (
    Started
    | Noticed
    | TimerFired
    | Looked
    | LookFailed
    | Adopted
    | AdoptFailed
    | Given
    | GiveFailed
    | ReadFailed
    | Recorded
    | Drain
)

# -- effects


@frozen
class Adopt:
    """Publish these sessions from number 0; then report `feed`, how far the changes were read."""

    id: int
    session_ids: tuple[str, ...]
    feed: FeedPosition


@frozen
class Give:
    """Read the unpublished events of a session, and give them to the sink."""

    session_id: str


@frozen
class Record:
    """Publish a session through this number."""

    session_id: str
    through: int
    more: bool


@frozen
class SetTimer:
    """Report TimerFired at this time.  It replaces the previous timer."""

    id: int
    at_ms: int


@frozen
class Finish:
    """The publisher has finished."""


Effect: TypeAlias = Look | Adopt | Give | Record | SetTimer | Finish
Outcome: TypeAlias = Stepped[State, Effect]
