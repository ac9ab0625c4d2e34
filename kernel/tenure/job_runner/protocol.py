"""The effects of a job's runner, and the events that its host reports.  Spec: specs/job-runner.md.

Calls of the store, timers and replies are those of the runner of a session (`tenure.runner.protocol`).
"""

from __future__ import annotations

import enum
from typing import Any, TypeAlias

from attrs import frozen

from ..commands import NewEntry
from ..failure import Failure
from ..machines.lease import Evidence, Fence, LocalProcess
from ..questions.job_work import LoadedWork
from ..runner.protocol import (
    Answered,
    Ask,
    Drain,
    Execute,
    OutcomeUnknown,
    Reply,
    RunnerStopReason,
    SetTimer,
    StoreBroken,
    StoreUnavailable,
    TimerFired,
)

__all__ = [
    "Abandoned",
    "AwaitSignal",
    "BeginWork",
    "Effect",
    "EmitEvent",
    "Event",
    "InterruptWork",
    "JobHinted",
    "JobLeft",
    "MayGoOn",
    "NotifyWork",
    "ObserveOwners",
    "OwnersObserved",
    "Raised",
    "RecordEntries",
    "Returned",
    "StartWork",
    "Stop",
    "WorkEnded",
    "WorkExit",
    "WorkReply",
    "WorkRequest",
    "WorkRequested",
]


# -- requests of the work


@frozen
class BeginWork:
    """Mark the start of the job, before its first effect.  `process`: a child process that waits for the reply."""

    process: LocalProcess | None = None


@frozen
class MayGoOn:
    """Ask if an effect may begin now."""


@frozen
class RecordEntries:
    """Write entries of the journal."""

    entries: tuple[NewEntry, ...]


@frozen
class EmitEvent:
    """Append an event to the job's log.  With `wake` the wake target is told too."""

    type: str
    body: str
    key: str | None = None
    wake: bool = False


@frozen
class AwaitSignal:
    """Wait for the n-th signal of a name."""

    name: str
    n: int


WorkRequest: TypeAlias = BeginWork | MayGoOn | RecordEntries | EmitEvent | AwaitSignal


class WorkReply(enum.StrEnum):
    """What the runner replies to the work, besides the store's answers."""

    PROCEED = "proceed"
    CANCELLED = "cancelled"  # the job was asked to end
    DRAINING = "draining"  # the worker stops
    LEASE_LOST = "lease_lost"  # the job belongs to another owner
    ENDED = "ended"  # the job has ended
    PARKED = "parked"  # the job waits for a signal, and this attempt of it is over
    OUT_OF_ORDER = "out_of_order"  # the first request is BeginWork, and no other one is


# -- how work ends


@frozen
class Returned:
    """The work came to its end; `output` is what it returned, as text."""

    output: str


@frozen
class Raised:
    """The work failed."""

    failure: Failure


@frozen
class Abandoned:
    """The work ended without a result."""


WorkExit: TypeAlias = Returned | Raised | Abandoned


# -- effects


@frozen
class ObserveOwners:
    """Find out which of these processes are certainly dead, and report the evidence in the same order."""

    id: int
    processes: tuple[LocalProcess | None, ...]


@frozen
class StartWork:
    """Start the work of a job.  The host reports WorkEnded once, when it has ended.

    The work may prepare, but causes no effect before its BeginWork was replied with PROCEED.
    """

    id: int
    fence: Fence
    loaded: LoadedWork


@frozen
class NotifyWork:
    """Notify the work that it has to end, with the reason."""

    work_id: int
    reply: WorkReply


@frozen
class InterruptWork:
    """Interrupt the work: cancel its task, kill its process."""

    work_id: int


class JobLeft(enum.StrEnum):
    """JOBRUN-70: how a runner has left a job that it had taken."""

    ENDED = "ended"  # its end is stored
    DRAINED = "drained"  # it was ended as abandoned by its own owner
    RELEASED = "released"  # it is due again, or waits for a signal
    GIVEN_UP = "given_up"  # nothing more was written


@frozen
class Stop:
    """The runner has stopped.  This is its last effect.  `left`: None if it had not taken the job."""

    reason: RunnerStopReason
    detail: Any = None
    left: JobLeft | None = None


Effect: TypeAlias = (
    Execute | Ask | ObserveOwners | StartWork | Reply | NotifyWork | InterruptWork | SetTimer | Stop
)


# -- events


@frozen
class OwnersObserved:
    """The evidence about the processes, in the order of the request."""

    now_ms: int
    id: int
    evidence: tuple[Evidence, ...]


@frozen
class WorkRequested:
    """The work makes a request; a Reply answers it."""

    now_ms: int
    work_id: int
    id: int
    request: WorkRequest


@frozen
class WorkEnded:
    """The work has ended."""

    now_ms: int
    work_id: int
    exit: WorkExit


@frozen
class JobHinted:
    """A hint: the job may have been asked to end, or a signal may have come."""

    now_ms: int


Event: TypeAlias = (
    Answered
    | StoreUnavailable
    | OutcomeUnknown
    | StoreBroken
    | OwnersObserved
    | TimerFired
    | WorkRequested
    | WorkEnded
    | JobHinted
    | Drain
)
