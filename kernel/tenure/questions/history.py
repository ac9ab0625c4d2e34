"""The whole history of a session, loaded from one snapshot, and the leases that its events record."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Final

from attrs import frozen

from ..event import Event, EventKind
from ..indexes import EVENT_BATCHES, JOURNAL_ENTRIES, QUEUE_ENTRIES, SESSIONS
from ..machines import run as run_
from ..machines.input import Bound, Ended
from ..queries import First, Get, Index, Query, Question
from ..records import EventBatch, Input, JournalEntry, QueueEntry, Run, Session
from ..replace import replace
from .core import LoadTranscript

__all__ = [
    "AllSessions",
    "LeaseSpan",
    "LoadHistory",
    "RunSpan",
    "SessionHistory",
    "finished",
    "flat_events",
    "lease_spans",
    "load_session_rows",
    "run_of",
]


PAGE: Final = 256
Steps = Generator[Query[Any], Any, Any]


def all_rows(index: Index[Any], session_id: str) -> Steps:
    """Load all rows of a session in the order of an index, page by page."""
    found: list[Any] = []
    after: tuple[Any, ...] = ()
    while True:
        page = yield First(index, (session_id,), PAGE, after)
        found += page
        if len(page) < PAGE:
            return found
        after = tuple([getattr(page[-1], column) for column in index.columns[1:]])


def load_session_rows(session_id: str) -> Steps:
    """Load the session, its queue entries, their inputs (None if missing) and its event batches.

    Answers None if there is no such session.
    """
    session = yield Get(Session, (session_id,))
    if session is None:
        return None
    queue_entries = yield from all_rows(QUEUE_ENTRIES, session_id)
    queue_entries.sort(key=lambda queue_entry: queue_entry.seq)
    inputs = []
    for queue_entry in queue_entries:
        inputs.append((yield Get(Input, (session_id, queue_entry.input_id))))
    events = yield from all_rows(EVENT_BATCHES, session_id)
    return session, queue_entries, inputs, events


@frozen
class SessionHistory:
    """All rows of a session.  `answered` are the ids of the inputs in the order of the transcript."""

    session: Session
    queue_entries: tuple[QueueEntry, ...]
    inputs: tuple[Input, ...]
    runs: tuple[Run, ...]
    entries: tuple[JournalEntry, ...]
    events: tuple[EventBatch, ...]
    answered: tuple[str, ...]


@frozen
class LoadHistory(Question[SessionHistory | None]):
    """Load all rows of a session.  Answers None if there is no such session."""

    session_id: str

    def steps(self) -> Steps:
        rows = yield from load_session_rows(self.session_id)
        if rows is None:
            return None
        session, queue_entries, inputs, events = rows
        runs = []
        for run_id in dict.fromkeys(
            run for queue_entry in queue_entries if (run := run_of(queue_entry)) is not None
        ):
            runs.append((yield Get(Run, (self.session_id, run_id))))
        entries = yield from all_rows(JOURNAL_ENTRIES, self.session_id)
        lines = yield from LoadTranscript(self.session_id).steps()
        answered = tuple(i.input_id for line in lines for i in line.inputs)
        return SessionHistory(
            session, tuple(queue_entries), tuple(inputs), tuple(runs), tuple(entries), tuple(events),
            answered,
        )  # fmt: skip


@frozen
class AllSessions(Question[tuple[Session, ...]]):
    """Load every session row, ordered by id."""

    def steps(self) -> Steps:
        found: list[Session] = []
        while True:
            after = (found[-1].session_id,) if found else ()
            page = yield First(SESSIONS, (), PAGE, after)
            found += page
            if len(page) < PAGE:
                return tuple(found)


def run_of(queue_entry: QueueEntry) -> str | None:
    """Return the run that an input is or was bound to, or None."""
    state = queue_entry.state
    return state.run_id if isinstance(state, Bound | Ended) else None


def flat_events(events: tuple[EventBatch, ...]) -> Iterator[tuple[int, EventBatch, Event]]:
    """Yield every event with its number and its batch."""
    for batch in events:
        for number, event in enumerate(batch.events, batch.seq):
            yield number, batch, event


# -- leases and runs over time


@frozen
class RunSpan:
    """One run under one lease.  `how` it ended: a termination, `lost`, `rescheduled` or `waiting`; None while it is running."""

    run_id: str
    from_ms: int
    resumed: bool
    until_ms: int | None = None
    how: str | None = None


@frozen
class LeaseSpan:
    """One lease, from its first run to the end of its last."""

    generation: int
    lease_id: str
    from_ms: int
    run_spans: tuple[RunSpan, ...]

    @property
    def until_ms(self) -> int | None:
        """When the last run ended; None while it is running."""
        return self.run_spans[-1].until_ms

    @property
    def lost(self) -> bool:
        """True if the lease was ended by another party than its holder."""
        return self.run_spans[-1].how == "lost"


ENDS: Final = (
    *(EventKind.RUN_FINISHED, EventKind.RUN_RESCHEDULED, EventKind.LEASE_LOST),
    EventKind.RUN_WAITING,
)
BEGINS: Final = (EventKind.RUN_STARTED, EventKind.RUN_RESUMED)


def lease_spans(events: tuple[EventBatch, ...]) -> tuple[LeaseSpan, ...]:
    """Return the leases under which runs worked, oldest first.  A lease of Acquire leaves no events, so it is missing."""
    done: list[LeaseSpan] = []
    open_: LeaseSpan | None = None
    for batch in events:
        for event in batch.events:
            if event.kind in BEGINS:
                if open_ is not None and open_.generation != int(event.detail):
                    done.append(open_)
                    open_ = None
                open_ = _begin(open_, batch, event)
            elif event.kind in ENDS and open_ is not None:
                open_ = _end(open_, batch, event)
        if open_ is not None and open_.run_spans[-1].until_ms is not None:
            done.append(open_)
            open_ = None
    return tuple(done) if open_ is None else (*done, open_)


def _begin(open_: LeaseSpan | None, batch: EventBatch, event: Event) -> LeaseSpan:
    resumed = event.kind is EventKind.RUN_RESUMED
    span = RunSpan(event.run_id or "", batch.at_ms, resumed)
    generation = int(event.detail)
    if open_ is not None:
        return replace(open_, run_spans=(*open_.run_spans, span))
    return LeaseSpan(generation, batch.causation_id, batch.at_ms, (span,))


def _end(open_: LeaseSpan, batch: EventBatch, event: Event) -> LeaseSpan:
    last = open_.run_spans[-1]
    if event.run_id != last.run_id or last.until_ms is not None:
        return open_
    if event.kind is EventKind.LEASE_LOST:
        how = "lost"
    elif event.kind is EventKind.RUN_RESCHEDULED:
        how = "rescheduled"
    elif event.kind is EventKind.RUN_WAITING:
        how = "waiting"
    else:
        how = event.detail.partition(":")[0]
    ended = replace(last, until_ms=batch.at_ms, how=how)
    return replace(open_, run_spans=(*open_.run_spans[:-1], ended))


def finished(run: Run | None) -> bool:
    """Return True if the run is done and finished."""
    return (
        run is not None
        and isinstance(run.state, run_.Done)
        and run.state.termination is run_.Termination.FINISHED
    )
