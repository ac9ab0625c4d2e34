"""The states of a job's runner.  Spec: specs/job-runner.md."""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

from attrs import frozen

from ..commands.grant import TTL_MS_DEFAULT
from ..commands.holder import Renew
from ..job_records import Job
from ..machines.lease import Fence, Owner
from ..outcome import Stepped
from ..replace import replace
from ..runner.states import PendingCall, RenewalTimer, SupervisionStage, send
from .protocol import Effect, Stop, WorkExit, WorkReply, WorkRequest

__all__ = [
    "CALLING",
    "HOLDING",
    "SUPERVISING",
    "Closing",
    "Core",
    "Ending",
    "HeldJob",
    "JobRunnerConfig",
    "Loading",
    "Losing",
    "Observing",
    "Outcome",
    "Reading",
    "Request",
    "State",
    "Stopped",
    "Supervision",
    "Taking",
    "WorkStopReason",
    "Working",
    "next_id",
    "renew",
]


@frozen
class JobRunnerConfig:
    """The ids and limits of one runner.  `runners`: the names of those that this worker has.

    `grace_ms`: how long work has to end after a notice, and again after its interruption.
    """

    job_id: str
    lease_id: str
    owner: Owner
    runners: frozenset[str]
    ttl_ms: int = TTL_MS_DEFAULT
    grace_ms: int = 10_000


@frozen
class Core:
    """The part that all states share.  `draining_ms` is the drain's grace period; None: the runner is not draining."""

    config: JobRunnerConfig
    next_id: int = 1
    draining_ms: int | None = None

    @property
    def draining(self) -> bool:
        """True after a drain."""
        return self.draining_ms is not None

    def drain(self, grace_ms: int) -> Core:
        """Remember a drain (JOBRUN-60)."""
        return replace(self, draining_ms=grace_ms)


@frozen
class HeldJob:
    """The lease, and what is known of the job under it.  `n` is the number of the next checkpoint."""

    fence: Fence
    ttl_ms: int
    deadline_ms: int
    renewal: PendingCall | RenewalTimer
    owner_bound: bool
    cancelled: bool = False
    started: bool = False  # under this lease
    n: int = 0

    def on_time(self, now_ms: int) -> bool:
        """True until the deadline of the lease."""
        return now_ms <= self.deadline_ms

    @property
    def bound(self) -> bool:
        """True if nobody else may carry on what was started."""
        return self.owner_bound and self.started


class WorkStopReason(enum.StrEnum):
    """Why work has to end."""

    DRAINING = "draining"
    CANCELLED = "cancelled"


@frozen
class Supervision:
    """The work that is running, and the timer for its next stage; 0: none."""

    work_id: int
    timer: int = 0
    stage: SupervisionStage = SupervisionStage.RUNNING


@frozen
class Request:
    """A request of the work that is not answered yet."""

    id: int
    request: WorkRequest


# -- states


@frozen
class Reading:
    """The job and its lease are read."""

    core: Core
    pending: PendingCall


@frozen
class Observing:
    """The host finds out if the holder and the starter are dead."""

    core: Core
    id: int
    job: Job
    owners: tuple[Owner, ...]


@frozen
class Taking:
    """The Take is in progress."""

    core: Core
    pending: PendingCall


@frozen
class Loading:
    """The job is taken, and what its work needs is read."""

    core: Core
    held: HeldJob
    pending: PendingCall


@frozen
class Working:
    """The work is running.  `pending` is the write for the request `asked`; those in `queue` follow it.

    `awaiting` are requests for signals that have not come.  After the end of the work, `exit` waits for the write.
    """

    core: Core
    held: HeldJob
    supervision: Supervision
    pending: PendingCall | None = None
    asked: Request | None = None
    queue: tuple[Request, ...] = ()
    late: tuple[int, ...] = ()  # effects that may begin after the renewal
    awaiting: tuple[Request, ...] = ()
    stop_reason: WorkStopReason | None = None
    exit: WorkExit | None = None


@frozen
class Losing:
    """The lease has ended and the work is still running.  `answer` replies to its requests."""

    core: Core
    supervision: Supervision
    answer: WorkReply
    stop: Stop
    bound: bool  # what was started is ended by a Drain


@frozen
class Ending:
    """No work is running, and the final command is in progress under the lease."""

    core: Core
    held: HeldJob
    pending: PendingCall


@frozen
class Closing:
    """The lease has ended, and a Drain ends what was started under it."""

    core: Core
    pending: PendingCall
    stop: Stop


@frozen
class Stopped:
    """The final state."""


State: TypeAlias = (
    Reading | Observing | Taking | Loading | Working | Losing | Ending | Closing | Stopped
)
Outcome: TypeAlias = Stepped[State, Effect]

CALLING: Final = (Reading, Taking, Loading, Working, Ending, Closing)  # may have a pending call
HOLDING: Final = (Loading, Working, Ending)  # hold the lease and renew it
SUPERVISING: Final = (Working, Losing)  # have work


def next_id(core: Core) -> tuple[int, Core]:
    """Return a new id for an effect, and the core without it."""
    return core.next_id, replace(core, next_id=core.next_id + 1)


def renew(held: HeldJob, id: int, now_ms: int) -> tuple[HeldJob, Effect]:
    """Send a renewal.  Each renewal is a command of its own (JOBRUN-41)."""
    pending, effect = send(Renew(held.fence.session_id, held.fence), id, now_ms)
    return replace(held, renewal=replace(pending, tries=held.renewal.tries)), effect
