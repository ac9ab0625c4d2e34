"""The states of a worker, the events that its host reports, and its effects.  Spec: specs/worker.md."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final, TypeAlias

from attrs import frozen

from ..indexes import FUTURE
from ..outcome import Stepped
from ..queries import Each, First, Get, Query, Question
from ..records import Session
from ..runner.protocol import RunnerStopReason
from .limits import Keys, Usage

__all__ = [
    "LOOK_MAX",
    "Apart",
    "Connected",
    "Cooling",
    "Drain",
    "DrainRunners",
    "Draining",
    "Effect",
    "Event",
    "Finish",
    "Finished",
    "Frames",
    "HeldLeases",
    "Hinted",
    "HolderEnded",
    "Look",
    "LookFailed",
    "Looked",
    "Outcome",
    "RunnerStopped",
    "Serving",
    "SetTimer",
    "State",
    "Take",
    "TimerFired",
]


LOOK_MAX: Final = 256


@frozen
class HeldLeases(Question[tuple[Session, ...]]):
    """Read a page of the sessions with a lease on their row, live or not.  A worker looks there for dead holders.

    Sessions without a lease whose retry waits for its time are among them (DUE-63).
    """

    after: tuple[int, str] | None = None
    limit: int = LOOK_MAX

    def steps(self) -> Generator[Query[Any], Any, tuple[Session, ...]]:
        found: tuple[Session, ...] = yield First(FUTURE, (), self.limit, self.after or ())
        return found


@frozen
class Frames(Question[tuple[str, ...]]):
    """Read the agents that sessions are given to, in order.  "" for the first one, and if a session does not exist."""

    session_ids: tuple[str, ...]

    def steps(self) -> Generator[Query[Any], Any, tuple[str, ...]]:
        found = yield Each(tuple([Get(Session, (session_id,)) for session_id in self.session_ids]))
        return tuple(["" if session is None else session.agent for session in found])


# -- states


@frozen
class Cooling:
    """A session that was taken in vain `times` in a row.  It is taken again after `until_ms`, or after a hint."""

    session_id: str
    until_ms: int
    times: int


@frozen
class Apart:
    """A session whose run was lost before: at most `others` other sessions run beside it.  It waits unless it runs."""

    session_id: str
    others: int


@frozen
class Serving:
    """The worker takes sessions.  `looking` is the look in progress; 0: none."""

    slots: int
    timer: int = 0  # of the next look
    looking: int = 0
    look_again: bool = False  # there was a reason to look during the look
    more_due: bool = True  # there may be more due sessions than those known
    running: frozenset[str] = frozenset()
    hinted: frozenset[str] = frozenset()  # running sessions with a hint meanwhile
    backlog: tuple[str, ...] = ()  # known sessions without a slot
    cooling: tuple[Cooling, ...] = ()
    next_id: int = 1
    apart: tuple[Apart, ...] = ()
    thorough: bool = False  # the next look is also for dead holders
    usage: Usage | None = None  # of the limits; None: there are none
    aside: tuple[str, ...] = ()  # known sessions whose limits are full
    wake_ms: int | None = None  # when the first of them may begin, if that is known
    timer_ms: int = 0  # the time of the timer


@frozen
class Draining:
    """The worker waits for the runners that are left."""

    running: frozenset[str]


@frozen
class Finished:
    """The final state."""


State: TypeAlias = Serving | Draining | Finished

# -- events


@frozen
class Connected:
    """The worker has started, or hints may have been missed."""

    now_ms: int


@frozen
class Looked:
    """A look found these sessions; with `full` there may be more.  `next_in_ms`: when the next one will be due.

    `keys`: of each session, if there are limits.  `dead`: those of them whose holder is dead.
    """

    now_ms: int
    id: int
    session_ids: tuple[str, ...]
    full: bool
    next_in_ms: int | None
    keys: tuple[Keys, ...] = ()
    dead: tuple[str, ...] = ()


@frozen
class LookFailed:
    """The store did not answer a look."""

    now_ms: int
    id: int


@frozen
class Hinted:
    """A session has work, now (`at_once`) or later.  An empty `session_id` means any session.

    `keys`: those of the session, if there are limits.
    """

    now_ms: int
    session_id: str
    at_once: bool
    keys: Keys = ()


@frozen
class RunnerStopped:
    """The runner of this session has stopped.  `others`: how many others may run beside it, if it needs room."""

    now_ms: int
    session_id: str
    reason: RunnerStopReason
    others: int = 0


@frozen
class TimerFired:
    """The time of this timer has come."""

    now_ms: int
    id: int


@frozen
class HolderEnded:
    """The process of a holder, on this machine, has ended."""

    now_ms: int


@frozen
class Drain:
    """Take no more sessions."""

    now_ms: int


Event: TypeAlias = (
    Connected | Looked | LookFailed | Hinted | RunnerStopped | TimerFired | HolderEnded | Drain
)


# -- effects


@frozen
class Look:
    """Look for up to `limit` due sessions; with `thorough` also for sessions whose holder is dead."""

    id: int
    limit: int
    thorough: bool


@frozen
class Take:
    """Start a runner for this session.  At most `others` other sessions will run beside it."""

    session_id: str
    others: int


@frozen
class SetTimer:
    """Report TimerFired at this time.  It replaces the previous timer."""

    id: int
    at_ms: int


@frozen
class DrainRunners:
    """Drain every runner of this worker."""


@frozen
class Finish:
    """The worker has finished: no runner is left."""


Effect: TypeAlias = Look | Take | SetTimer | DrainRunners | Finish
Outcome: TypeAlias = Stepped[State, Effect]
