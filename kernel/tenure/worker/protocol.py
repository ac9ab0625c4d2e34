"""What a worker is, and what it and its host say to each other.  Spec: specs/worker.md."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final, TypeAlias

from attrs import frozen

from ..indexes import FUTURE
from ..outcome import Stepped
from ..queries import First, Query, Question
from ..records import Session
from ..runner.protocol import RunnerStopReason

LOOK_MAX: Final = 256


@frozen
class HeldLeases(Question[tuple[Session, ...]]):
    """Sessions with a lease on their row, live or not, in pages: whose holder may be dead?"""

    after: tuple[int, str] | None = None
    limit: int = LOOK_MAX

    def steps(self) -> Generator[Query[Any], Any, tuple[Session, ...]]:
        found: tuple[Session, ...] = yield First(FUTURE, (), self.limit, self.after or ())
        return found


# -- states


@frozen
class Cooling:
    """Taking it led to nothing, `times` in a row; not before `until_ms`, unless there is a hint."""

    session_id: str
    until_ms: int
    times: int


@frozen
class Serving:
    slots: int
    timer: int = 0  # of the next look
    looking: int = 0  # the look under way; 0: none
    again: bool = False  # something changed since it began
    more: bool = True  # there may be more that is due than we know
    running: frozenset[str] = frozenset()
    nudged: frozenset[str] = frozenset()  # of those, what was hinted at meanwhile
    backlog: tuple[str, ...] = ()
    cooling: tuple[Cooling, ...] = ()
    next_id: int = 1


@frozen
class Draining:
    running: frozenset[str]


@frozen
class Finished:
    pass


State: TypeAlias = Serving | Draining | Finished

# -- events


@frozen
class Connected:
    """At start, and whenever hints may have been missed."""

    now_ms: int


@frozen
class Looked:
    """`next_in_ms`: when something will be due that is not yet; `full`: there may be more than these."""

    now_ms: int
    id: int
    session_ids: tuple[str, ...]
    full: bool
    next_in_ms: int | None


@frozen
class LookFailed:
    now_ms: int
    id: int


@frozen
class Hinted:
    """`session_id` empty: somewhere.  `at_once`: something can be done for it now."""

    now_ms: int
    session_id: str
    at_once: bool


@frozen
class RunnerStopped:
    now_ms: int
    session_id: str
    reason: RunnerStopReason


@frozen
class TimerFired:
    now_ms: int
    id: int


@frozen
class Drain:
    now_ms: int


# -- effects


@frozen
class Look:
    """For up to `limit` sessions that are due; `thorough`: also for those whose holder is dead."""

    id: int
    limit: int
    thorough: bool


@frozen
class Take:
    """Run this session."""

    session_id: str


@frozen
class SetTimer:
    """It replaces the one before."""

    id: int
    at_ms: int


@frozen
class DrainRunners:
    pass


@frozen
class Finish:
    """Nothing runs any more."""


Effect: TypeAlias = Look | Take | SetTimer | DrainRunners | Finish
Outcome: TypeAlias = Stepped[State, Effect]
