"""Questions of operators: summaries and details of sessions, each answered from one snapshot."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, Final, TypeAlias

from attrs import frozen

from ..indexes import AGED, OPEN_RUNS
from ..machines.input import Bound, Delayed
from ..policy import LANES
from ..queries import First, Get, Query, Question, existing
from ..records import Frame, Input, JournalEntry, QueueEntry, Run, Session
from .core import (
    DeadLetters,
    InputStatus,
    Journal,
    LoadOverview,
    LoadTranscript,
    Overview,
    TranscriptLine,
)
from .frames import LoadFrames
from .sessions import SessionRows

__all__ = [
    "ListSessions",
    "LoadSessionDetail",
    "SessionDetail",
    "SessionSummary",
    "Steps",
    "Waiting",
    "load_waiting",
]


Steps: TypeAlias = Generator[Query[Any], Any, Any]

COUNTED_MAX: Final = 1000


@frozen
class SessionSummary:
    """A session, its unfinished runs, and the number of its inputs that have not ended."""

    session: Session
    runs: tuple[Run, ...]
    unended: int
    more: bool  # there are more than `unended`


@frozen
class ListSessions(Question[tuple[SessionSummary, ...]]):
    """Load a page of session summaries, ordered by id, starting after `after`."""

    after: str = ""
    limit: int = 64

    def steps(self) -> Steps:
        summaries = []
        sessions = yield from SessionRows(self.after, self.limit).steps()
        for session in sessions:
            runs = yield First(OPEN_RUNS, (session.session_id,), COUNTED_MAX)
            unended, more = 0, False
            for lane in LANES:
                found = yield First(AGED, (session.session_id, lane), COUNTED_MAX)
                unended, more = unended + len(found), more or len(found) == COUNTED_MAX
            summaries.append(SessionSummary(session, runs, unended, more))
        return tuple(summaries)


@frozen
class Waiting:
    """An input that has not ended, with its queue entry and its status."""

    status: InputStatus
    queue_entry: QueueEntry
    input: Input

    @property
    def order(self) -> tuple[bool, int, int]:
        """Sort key in the order of processing: by priority and rank; delayed inputs last, by time."""
        state = self.queue_entry.state
        if isinstance(state, Delayed):
            return (True, state.until_ms, self.queue_entry.seq)
        rank = state.rank if isinstance(state, Bound) else getattr(state, "ready_rank", 0)
        return (False, self.queue_entry.priority, rank)


def load_waiting(session_id: str, statuses: Iterable[InputStatus]) -> Steps:
    """Load the queue entries and inputs of these statuses, in the order of processing."""
    found = []
    for status in statuses:
        key = (session_id, status.input_id)
        queue_entry = existing((yield Get(QueueEntry, key)), f"queue entry of input {key[1]}")
        found.append(
            Waiting(status, queue_entry, existing((yield Get(Input, key)), f"input {key[1]}"))
        )
    return tuple(sorted(found, key=lambda waiting: waiting.order))


@frozen
class SessionDetail:
    """A session with its inbox, unfinished runs and their journals, dead letters and the end of its transcript.

    `frames`: those that were opened, and the first one; empty if none was opened.
    """

    overview: Overview
    inbox: tuple[Waiting, ...]
    journals: tuple[tuple[Run, tuple[JournalEntry, ...]], ...]
    dead: tuple[tuple[InputStatus, Input], ...]
    transcript: tuple[TranscriptLine, ...]
    frames: tuple[Frame, ...] = ()


@frozen
class LoadSessionDetail(Question[SessionDetail | None]):
    """Load a session in full: the last `tail` nodes of its transcript, and at most `limit` inputs.

    Answers None if there is no such session.
    """

    session_id: str
    tail: int = 20
    limit: int = 256

    def steps(self) -> Steps:
        overview = yield from LoadOverview(self.session_id, self.limit).steps()
        if overview is None:
            return None
        inbox = yield from load_waiting(self.session_id, overview.waiting)
        journals = []
        for run in overview.runs:
            journals.append((run, (yield from Journal(self.session_id, run.run_id).steps())))
        dead = []
        letters = yield from DeadLetters(self.session_id, self.limit).steps()
        for letter in letters:
            found = yield self._input(letter.input_id)
            dead.append((letter, existing(found, f"input {letter.input_id}")))
        transcript = yield from LoadTranscript(self.session_id, self.tail).steps()
        frames: tuple[Frame, ...] = ()
        current = overview.session.current_frame
        if current is not None and current.frame_count:
            frames = yield from LoadFrames(self.session_id).steps()
        return SessionDetail(overview, inbox, tuple(journals), tuple(dead), transcript, frames)

    def _input(self, input_id: str) -> Get[Input]:
        return Get(Input, (self.session_id, input_id))
