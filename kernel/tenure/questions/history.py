"""All that a store says of one session, from one snapshot, and the holdings that its events tell of."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Final

from attrs import frozen

from ..event import Happened, Happening
from ..indexes import ENTRIES, EVENTS, PLACES, SESSIONS
from ..machines import run as run_
from ..machines.input import Bound, Ended
from ..queries import First, Get, Index, Query, Question
from ..records import Entry, Event, Input, Place, Run, Session
from ..replace import replace
from .core import Path

PAGE: Final = 256
Steps = Generator[Query[Any], Any, Any]


@frozen
class Chronicle:
    """`answered` are the inputs in the order of the transcript: an input stands before the node that answers it."""

    session: Session
    places: tuple[Place, ...]
    inputs: tuple[Input, ...]
    runs: tuple[Run, ...]
    entries: tuple[Entry, ...]
    events: tuple[Event, ...]
    answered: tuple[str, ...]


@frozen
class Chronicled(Question[Chronicle | None]):
    """Everything of a session; None: no such session."""

    session_id: str

    def steps(self) -> Steps:
        session = yield Get(Session, (self.session_id,))
        if session is None:
            return None
        places = yield from self._all(PLACES)
        places.sort(key=lambda place: place.seq)
        inputs = []
        for place in places:
            inputs.append((yield Get(Input, (self.session_id, place.input_id))))
        runs = []
        for run_id in dict.fromkeys(run for place in places if (run := run_of(place)) is not None):
            runs.append((yield Get(Run, (self.session_id, run_id))))
        entries = yield from self._all(ENTRIES)
        events = yield from self._all(EVENTS)
        lines = yield from Path(self.session_id).steps()
        answered = tuple(i.input_id for line in lines for i in line.inputs)
        return Chronicle(
            session, tuple(places), tuple(inputs), tuple(runs), tuple(entries), tuple(events),
            answered,
        )  # fmt: skip

    def _all(self, index: Index[Any]) -> Steps:
        found: list[Any] = []
        after: tuple[Any, ...] = ()
        while True:
            page = yield First(index, (self.session_id,), PAGE, after)
            found += page
            if len(page) < PAGE:
                return found
            after = tuple(getattr(page[-1], column) for column in index.columns[1:])


@frozen
class Roll(Question[tuple[Session, ...]]):
    """Every session row, by id."""

    def steps(self) -> Steps:
        found: list[Session] = []
        while True:
            after = (found[-1].session_id,) if found else ()
            page = yield First(SESSIONS, (), PAGE, after)
            found += page
            if len(page) < PAGE:
                return tuple(found)


def run_of(place: Place) -> str | None:
    """The run that an input is or was bound to."""
    state = place.state
    return state.run_id if isinstance(state, Bound | Ended) else None


def happenings(events: tuple[Event, ...]) -> Iterator[tuple[int, Event, Happened]]:
    """Every event with its number and the row that it came in."""
    for event in events:
        for number, happened in enumerate(event.happened, event.seq):
            yield number, event, happened


# -- who held the session, and what for


@frozen
class Stretch:
    """One run under one lease.  `how`: what ended it, a termination or `lost` or `rescheduled`; None: it goes on."""

    run_id: str
    from_ms: int
    resumed: bool
    until_ms: int | None = None
    how: str | None = None


@frozen
class Holding:
    """One lease, as long as it was on the session's row."""

    generation: int
    lease_id: str
    from_ms: int
    stretches: tuple[Stretch, ...]

    @property
    def until_ms(self) -> int | None:
        return self.stretches[-1].until_ms

    @property
    def lost(self) -> bool:
        """It was ended by somebody else than its holder."""
        return self.stretches[-1].how == "lost"


ENDS: Final = (Happening.RUN_FINISHED, Happening.RUN_RESCHEDULED, Happening.LEASE_LOST)
BEGINS: Final = (Happening.RUN_STARTED, Happening.RUN_RESUMED)


def holdings(events: tuple[Event, ...]) -> tuple[Holding, ...]:
    """The leases that runs were carried out under, oldest first; those of Acquire leave no events."""
    done: list[Holding] = []
    open_: Holding | None = None
    for event in events:
        for happened in event.happened:
            if happened.kind in BEGINS:
                if open_ is not None and open_.generation != int(happened.detail):
                    done.append(open_)
                    open_ = None
                open_ = _begin(open_, event, happened)
            elif happened.kind in ENDS and open_ is not None:
                open_ = _end(open_, event, happened)
        if open_ is not None and open_.stretches[-1].until_ms is not None:
            done.append(open_)
            open_ = None
    return tuple(done) if open_ is None else (*done, open_)


def _begin(open_: Holding | None, event: Event, happened: Happened) -> Holding:
    resumed = happened.kind is Happening.RUN_RESUMED
    stretch = Stretch(happened.run_id or "", event.at_ms, resumed)
    generation = int(happened.detail)
    if open_ is not None:
        return replace(open_, stretches=(*open_.stretches, stretch))
    return Holding(generation, event.causation_id, event.at_ms, (stretch,))


def _end(open_: Holding, event: Event, happened: Happened) -> Holding:
    last = open_.stretches[-1]
    if happened.run_id != last.run_id or last.until_ms is not None:
        return open_
    if happened.kind is Happening.LEASE_LOST:
        how = "lost"
    elif happened.kind is Happening.RUN_RESCHEDULED:
        how = "rescheduled"
    else:
        how = happened.detail.partition(":")[0]
    ended = replace(last, until_ms=event.at_ms, how=how)
    return replace(open_, stretches=(*open_.stretches[:-1], ended))


def finished(run: Run | None) -> bool:
    """It is done, and ended well."""
    return (
        run is not None
        and isinstance(run.state, run_.Done)
        and run.state.termination is run_.Termination.FINISHED
    )
