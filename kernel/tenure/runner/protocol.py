"""What a runner and its host say to each other: effects go out, events come in.  Spec: specs/runner.md.

Every effect whose report matters has an id, every event names the effect that it reports.  All `now_ms` are of the
host's own clock, which runs on while the machine sleeps and is never compared with a store's.
"""

from __future__ import annotations

import enum
from typing import Any, TypeAlias

from attrs import frozen

from ..commands import Begun, NewEntry, NewInput
from ..failure import Failure
from ..machines.lease import Evidence, LocalProcess
from ..machines.run import Termination
from ..queries import Command, Question
from ..questions.core import LoadedRun
from ..records import EntryKind
from ..transcript import NewNode, UsageDelta

# -- what the code of a turn wants


@frozen
class MayStart:
    """May an effect begin now?  Also a bare checkpoint: is there a reason to stop?"""


@frozen
class Record:
    """Make this durable."""

    entries: tuple[NewEntry, ...]
    nodes: tuple[NewNode, ...] = ()
    usage: tuple[UsageDelta, ...] = ()
    environment: str | None = None

    @property
    def alone(self) -> bool:
        """It goes into a checkpoint of its own."""
        return self.starts or bool(self.nodes or self.usage or self.environment)

    @property
    def starts(self) -> bool:
        """It marks a once step, which would run after it."""
        return any([e.kind is EntryKind.START for e in self.entries])


@frozen
class EndTurn:
    """Commit the turn.  `next_run_id` is for the run that may follow under the same lease."""

    next_run_id: str
    nodes: tuple[NewNode, ...] = ()
    state: str | None = None
    usage: tuple[UsageDelta, ...] = ()
    termination: Termination = Termination.FINISHED
    reason: str = ""
    hand_off: NewInput | None = None
    frame: str | None = None

    @property
    def closes(self) -> bool:
        """It does what a cancel asks for."""
        return self.termination is Termination.CANCELLED


TurnRequest: TypeAlias = MayStart | Record | EndTurn


class TurnReply(enum.StrEnum):
    """What the code of a turn is told, besides what a store answered."""

    PROCEED = "proceed"
    CANCELLED = "cancelled"  # somebody asked this run to stop
    TIMED_OUT = "timed_out"  # the turn has used up its time
    LEASE_LOST = "lease_lost"  # the session is another's by now
    COMMITTED = "committed"  # the turn has committed already


# -- how its code ended


@frozen
class Finished:
    """It came to its end and did not commit itself; this is its commit."""

    end: EndTurn


@frozen
class Failed:
    failure: Failure
    usage: tuple[UsageDelta, ...] = ()


@frozen
class Abandoned:
    """It was let go without a verdict."""


TurnExit: TypeAlias = Finished | Failed | Abandoned


# -- effects


@frozen
class Execute:
    id: int
    command: Command[Any, Any]


@frozen
class Ask:
    id: int
    question: Question[Any]


@frozen
class CheckProcess:
    """Is this process alive?"""

    id: int
    process: LocalProcess


@frozen
class StartTurn:
    id: int
    begun: Begun
    loaded: LoadedRun


@frozen
class Reply:
    """To a request of the turn's code: a word, a `Committed`, or the store's refusal."""

    id: int
    answer: Any


@frozen
class NotifyTurn:
    """Let the turn's code know, without a request: it may look at it whenever it likes."""

    turn_id: int
    reply: TurnReply


@frozen
class InterruptTurn:
    """Interrupt the turn's code where it stands."""

    turn_id: int


@frozen
class SetTimer:
    """There is no other timer of this id: a later one replaces it."""

    id: int
    at_ms: int


@frozen
class RunFinished:
    """For those who wait in this process: look at what became of these inputs."""

    run_id: str
    input_ids: tuple[str, ...]


class RunnerStopReason(enum.StrEnum):
    DONE = "done"  # the lease was given back, with what it was taken for
    NOTHING_DUE = "nothing_due"
    HELD = "held"  # another owner is at it
    REFUSED = "refused"
    FENCED = "fenced"  # another owner took over
    UNAVAILABLE = "unavailable"  # the store did not answer in time
    BROKEN = "broken"  # what is stored cannot be worked with


@frozen
class Stop:
    reason: RunnerStopReason
    detail: Any = None


Effect: TypeAlias = (
    Execute
    | Ask
    | CheckProcess
    | StartTurn
    | Reply
    | NotifyTurn
    | InterruptTurn
    | SetTimer
    | RunFinished
    | Stop
)


# -- events


@frozen
class Answered:
    """By the store: to an Execute its outcome or a Refused, to an Ask what was asked."""

    now_ms: int
    id: int
    answer: Any


@frozen
class StoreUnavailable:
    """It was not done."""

    now_ms: int
    id: int


@frozen
class OutcomeUnknown:
    now_ms: int
    id: int


@frozen
class StoreBroken:
    """It cannot be done, now or later."""

    now_ms: int
    id: int
    message: str


@frozen
class ProcessChecked:
    now_ms: int
    id: int
    evidence: Evidence
    command_id: str  # for a Reclaim


@frozen
class TimerFired:
    now_ms: int
    id: int


@frozen
class TurnRequested:
    now_ms: int
    turn_id: int
    id: int
    request: TurnRequest


@frozen
class TurnEnded:
    now_ms: int
    turn_id: int
    exit: TurnExit


@frozen
class CancelSeen:
    """A hint: this run may have been asked to stop."""

    now_ms: int
    run_id: str


@frozen
class Drain:
    """Take nothing new; what is under way has `grace_ms` to end."""

    now_ms: int
    grace_ms: int


Event: TypeAlias = (
    Answered
    | StoreUnavailable
    | OutcomeUnknown
    | StoreBroken
    | ProcessChecked
    | TimerFired
    | TurnRequested
    | TurnEnded
    | CancelSeen
    | Drain
)
