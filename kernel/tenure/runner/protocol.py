"""The effects of a runner, and the events that its host reports.  Spec: specs/runner.md.

An effect whose report is awaited has an id, and its report names that id.  Every `now_ms` is read from the host's own
clock, which keeps running while the machine sleeps.  It is never compared with a store's clock.
"""

from __future__ import annotations

import enum
from typing import Any, TypeAlias

from attrs import frozen

from ..commands import Begun, Ended
from ..failure import Failure
from ..machines.lease import Evidence, LocalProcess
from ..queries import Command, Question
from ..questions.core import LoadedRun
from ..records import Input
from ..transcript import UsageDelta
from ..turn_end import Record, TurnEnd, TurnWait

__all__ = [
    "Abandoned",
    "Answered",
    "Ask",
    "CancelSeen",
    "CheckProcess",
    "Drain",
    "Effect",
    "EndTurn",
    "Event",
    "Execute",
    "Failed",
    "Finished",
    "InterruptTurn",
    "Left",
    "MayStart",
    "NotifyTurn",
    "OutcomeUnknown",
    "ProcessChecked",
    "Reply",
    "RunFinished",
    "RunnerStopReason",
    "SetTimer",
    "StartTurn",
    "SteeringSeen",
    "Stop",
    "StoreBroken",
    "StoreUnavailable",
    "Taken",
    "TimerFired",
    "TurnEnded",
    "TurnExit",
    "TurnReply",
    "TurnRequest",
    "TurnRequested",
]


# -- requests of the turn code


@frozen
class MayStart:
    """Ask if an effect may begin now.  Also a checkpoint without content: it asks if the turn has to end."""


@frozen
class EndTurn:
    """Commit the turn.  `next_run_id` is the id of a run that may follow under the same lease."""

    next_run_id: str
    end: TurnEnd = TurnEnd()


TurnRequest: TypeAlias = MayStart | Record | TurnWait | EndTurn


class TurnReply(enum.StrEnum):
    """What the runner replies to the turn code, besides the store's answers."""

    PROCEED = "proceed"
    CANCELLED = "cancelled"  # the run was asked to stop
    TIMED_OUT = "timed_out"  # the turn has reached its time limit
    LEASE_LOST = "lease_lost"  # the session belongs to another owner
    STEERED = "steered"  # a notice: inputs may be addressed to the run
    COMMITTED = "committed"  # the turn has committed already
    PARKED = "parked"  # the run waits, and this attempt of its turn is over


@frozen
class Taken:
    """The reply to a record that has taken inputs."""

    inputs: tuple[Input, ...]


# -- how turn code ends


@frozen
class Finished:
    """The code came to its end without a commit of its own; this is its commit."""

    end: EndTurn


@frozen
class Failed:
    """The code failed, after models had used `usage`."""

    failure: Failure
    usage: tuple[UsageDelta, ...] = ()


@frozen
class Abandoned:
    """The code ended without a result."""


TurnExit: TypeAlias = Finished | Failed | Abandoned


# -- effects: a host performs them in the order in which it receives them


@frozen
class Execute:
    """Execute a command, durably, and report its answer.

    AFTER earlier Execute and Ask effects were answered, unless the command is urgent (a renewal, which runs beside
    them).  BEFORE its answer nothing may begin that depends on the command: the runner sends the Reply, StartTurn or
    Stop that depends on it as an effect of the answer.  The host may perform every other effect meanwhile.
    """

    id: int
    command: Command[Any, Any]


@frozen
class Ask:
    """Ask the store a question and report its answer.  AFTER earlier Execute and Ask effects were answered."""

    id: int
    question: Question[Any]


@frozen
class CheckProcess:
    """Check if this process is alive, and report the evidence."""

    id: int
    process: LocalProcess


@frozen
class StartTurn:
    """Start the code of a turn.  The run is begun durably.  The host reports TurnEnded once, when the code ends."""

    id: int
    begun: Begun
    loaded: LoadedRun


@frozen
class Reply:
    """Answer a request of the turn code: with a TurnReply, `Taken`, a `Committed`, or the store's refusal.

    What the request asked for is durable BEFORE a Reply with PROCEED, `Taken` or `Committed`.
    """

    id: int
    answer: Any


@frozen
class NotifyTurn:
    """Notify the turn code without a request.  The code may look at it whenever it is ready."""

    turn_id: int
    reply: TurnReply


@frozen
class InterruptTurn:
    """Interrupt the turn code at the point where it waits."""

    turn_id: int


@frozen
class SetTimer:
    """Report TimerFired at this time.  A later timer with the same id replaces this one."""

    id: int
    at_ms: int


@frozen
class RunFinished:
    """Notify the waiters of this process: the status of these inputs may have changed.  The end is durable."""

    run_id: str
    input_ids: tuple[str, ...]


class RunnerStopReason(enum.StrEnum):
    """Why a runner has stopped."""

    DONE = "done"  # the lease was released after the work
    NOTHING_DUE = "nothing_due"
    NO_RUNNER = "no_runner"  # this worker has no runner of the job
    NEEDS_ROOM = "needs_room"  # the run allows fewer other sessions beside it (detail: how many)
    HELD = "held"  # another owner holds the session
    REFUSED = "refused"
    FENCED = "fenced"  # another owner took over
    UNAVAILABLE = "unavailable"  # the store did not answer in time
    BROKEN = "broken"  # the stored records cannot be worked on


class Left(enum.StrEnum):
    """RUNNER-140: how a runner has left the turn that it held last."""

    ENDED = "ended"  # its end is stored: it has committed, failed or parked
    RELEASED = "released"  # it is due again at once, for any worker
    GIVEN_UP = "given_up"  # nothing more was written: its lease is lost, or has to expire


@frozen
class Stop:
    """The runner has stopped.  This is its last effect.  `begun`: it held a run, of which it does not know the end."""

    reason: RunnerStopReason
    detail: Any = None
    begun: bool = False

    @property
    def left(self) -> Left | None:
        """How it has left its turn; None: it had none."""
        if self.reason is not RunnerStopReason.DONE:
            return Left.GIVEN_UP if self.begun else None
        released = isinstance(self.detail, Ended) and self.detail.verdict == "released"
        return Left.RELEASED if released else Left.ENDED


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
    """The store's answer: the outcome of a command or a Refused, or the answer to a question."""

    now_ms: int
    id: int
    answer: Any


@frozen
class StoreUnavailable:
    """The store did not execute the call."""

    now_ms: int
    id: int


@frozen
class OutcomeUnknown:
    """The store may have executed the call."""

    now_ms: int
    id: int


@frozen
class StoreBroken:
    """The store can never execute the call."""

    now_ms: int
    id: int
    message: str


@frozen
class ProcessChecked:
    """The evidence about a process, and an id for a command that reclaims its lease."""

    now_ms: int
    id: int
    evidence: Evidence
    command_id: str


@frozen
class TimerFired:
    """The time of this timer has come."""

    now_ms: int
    id: int


@frozen
class TurnRequested:
    """The code of a turn makes a request; a Reply answers it."""

    now_ms: int
    turn_id: int
    id: int
    request: TurnRequest


@frozen
class TurnEnded:
    """The code of a turn has ended."""

    now_ms: int
    turn_id: int
    exit: TurnExit


@frozen
class CancelSeen:
    """A hint: this run may have been asked to stop."""

    now_ms: int
    run_id: str


@frozen
class SteeringSeen:
    """A hint: an input may be addressed to this run."""

    now_ms: int
    run_id: str


@frozen
class Drain:
    """Begin nothing new; a turn in progress has `grace_ms` to end."""

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
    | SteeringSeen
    | Drain
)
