"""The events of the table of a job's runner: what an answer, a failed call or a timer means.  Spec: specs/job-runner.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import frozen

from ..commands import (
    Complete,
    Drain,
    Emit,
    FailJob,
    JobCheckpoint,
    JobEnded,
    LetGo,
    NotSignalled,
    Signalled,
    Start,
    Take,
    Taken,
    Wait,
)
from ..commands.holder import Renew, Renewed
from ..job_records import Job
from ..machines.lease import Held
from ..outcome import Refusal, Refused
from ..questions.job_work import LoadedWork, LoadWork
from ..questions.jobs import JobItem, JobStatus
from ..runner.protocol import (
    Answered,
    OutcomeUnknown,
    StoreBroken,
    StoreUnavailable,
    TimerFired,
)
from ..runner.states import PendingCall, RenewalTimer
from .protocol import OwnersObserved, WorkEnded
from .states import CALLING, HOLDING, Losing, Observing, Working

__all__ = [
    "CallRefused",
    "Fenced",
    "Granted",
    "JobClosed",
    "JobFound",
    "JobLoaded",
    "JobMissing",
    "JobOver",
    "JobParked",
    "LeaseRenewed",
    "NotTaken",
    "RenewalDue",
    "RenewalRefused",
    "RenewalUnanswered",
    "RetryDue",
    "SignalAwaited",
    "SignalCame",
    "StageOver",
    "Written",
    "classify",
]


# -- before the lease


@frozen
class JobFound:
    """The job, and the lease on its row, live or not."""

    now_ms: int
    job: Job
    held: Held | None


@frozen
class JobMissing:
    """There is no such job."""

    now_ms: int


@frozen
class Granted:
    """The job is taken."""

    now_ms: int
    taken: Taken


@frozen
class NotTaken:
    """The Take has done what there was to do, or has left the job: the answer or the refusal."""

    now_ms: int
    answer: Any


# -- under the lease


@frozen
class JobLoaded:
    """What the work needs."""

    now_ms: int
    loaded: LoadedWork


@frozen
class Written:
    """A write of the work is durable."""

    now_ms: int
    answer: Any


@frozen
class SignalCame:
    """The signal that the work waits for."""

    now_ms: int
    answer: Any


@frozen
class SignalAwaited:
    """The signal has not come, and the lease is kept."""

    now_ms: int


@frozen
class JobParked:
    """The signal has not come, and the lease is released."""

    now_ms: int
    answer: Any


@frozen
class JobOver:
    """The job has ended, by another command."""

    now_ms: int
    answer: Any


@frozen
class JobClosed:
    """The final command was accepted."""

    now_ms: int
    answer: Any


@frozen
class Fenced:
    """The lease is not this runner's any more."""

    now_ms: int
    answer: Refused


@frozen
class CallRefused:
    """A call was refused for another reason."""

    now_ms: int
    answer: Refused


# -- the renewal, and other timers


@frozen
class RenewalDue:
    """It is time for the next renewal."""

    now_ms: int


@frozen
class LeaseRenewed:
    """The lease was renewed."""

    now_ms: int
    answer: Renewed


@frozen
class RenewalRefused:
    """A renewal was refused."""

    now_ms: int
    answer: Refused


@frozen
class RenewalUnanswered:
    """A renewal may or may not have been executed."""

    now_ms: int


@frozen
class RetryDue:
    """It is time to send the pending call again."""

    now_ms: int


@frozen
class StageOver:
    """A grace period of the work is over."""

    now_ms: int


# -- what an answer means


def _of_reading(answer: JobItem | None, now_ms: int) -> Any:
    if answer is None:
        return JobMissing(now_ms)
    lease = answer.session.lease
    return JobFound(now_ms, answer.job, lease if isinstance(lease, Held) else None)


def _of_take(answer: Any, now_ms: int) -> Any:
    return Granted(now_ms, answer) if isinstance(answer, Taken) else NotTaken(now_ms, answer)


def _of_load(answer: LoadedWork | None, now_ms: int) -> Any:
    return JobMissing(now_ms) if answer is None else JobLoaded(now_ms, answer)


def _of_renewal(answer: Any, now_ms: int) -> Any:
    refused = isinstance(answer, Refused)
    return (RenewalRefused if refused else LeaseRenewed)(now_ms, answer)


def _of_refusal(answer: Refused, now_ms: int) -> Any:
    if answer.reason is Refusal.FENCED:
        return Fenced(now_ms, answer)
    if answer.reason is Refusal.ENDED:
        return JobOver(now_ms, answer)
    return CallRefused(now_ms, answer)


def _of_write(answer: Any, now_ms: int) -> Any:
    if isinstance(answer, Refused):
        return _of_refusal(answer, now_ms)
    return (JobOver if isinstance(answer, JobEnded) else Written)(now_ms, answer)


def _of_wait(answer: Any, now_ms: int) -> Any:
    match answer:
        case Signalled():
            return SignalCame(now_ms, answer)
        case NotSignalled(held=True):
            return SignalAwaited(now_ms)
        case NotSignalled():
            return JobParked(now_ms, answer)
        case _:
            return _of_write(answer, now_ms)


def _of_final(answer: Any, now_ms: int) -> Any:
    if isinstance(answer, Refused):
        return _of_refusal(answer, now_ms)
    return JobClosed(now_ms, answer)


_OF_CALL: Final[dict[type, Callable[[Any, int], Any]]] = {
    JobStatus: _of_reading,
    Take: _of_take,
    LoadWork: _of_load,
    Renew: _of_renewal,
    Start: _of_write,
    Emit: _of_write,
    JobCheckpoint: _of_write,
    Wait: _of_wait,
    Complete: _of_final,
    FailJob: _of_final,
    LetGo: _of_final,
    Drain: _of_final,
}

# -- what a report is about


def pending_call(s: Any, id: int) -> PendingCall | None:
    """Return the call of this state with this id, if an attempt of it is in progress."""
    if isinstance(s, CALLING):
        pending: PendingCall | None = s.pending
        if pending is not None and pending.id == id and not pending.waiting:
            return pending
    return renewal_call(s, id)


def renewal_call(s: Any, id: int) -> PendingCall | None:
    """Return the renewal of this state with this id, if one is in progress."""
    if isinstance(s, HOLDING):
        renewal = s.held.renewal
        if isinstance(renewal, PendingCall) and renewal.id == id:
            return renewal
    return None


def classify(s: Any, e: Any) -> Any:
    """Return the event for the table.  None: nothing awaits this report (JOBRUN-65)."""
    of_report = _OF_REPORT.get(e.__class__)
    return e if of_report is None else of_report(s, e)


def _of_answer(s: Any, e: Answered) -> Any:
    call = pending_call(s, e.id)
    return None if call is None else _OF_CALL[call.what.__class__](e.answer, e.now_ms)


def _of_failed_call(s: Any, e: StoreUnavailable | OutcomeUnknown) -> Any:
    if renewal_call(s, e.id) is not None:
        return RenewalUnanswered(e.now_ms)
    return None if pending_call(s, e.id) is None else e


def _of_broken_call(s: Any, e: StoreBroken) -> Any:
    return None if pending_call(s, e.id) is None else e


def _of_observation(s: Any, e: OwnersObserved) -> Any:
    return e if isinstance(s, Observing) and s.id == e.id else None


def _of_end(s: Any, e: WorkEnded) -> Any:
    return e if work_runs(s) and s.supervision.work_id == e.work_id else None


def _of_timer(s: Any, e: TimerFired) -> Any:
    if isinstance(s, CALLING) and s.pending is not None:
        if s.pending.waiting and s.pending.id == e.id:
            return RetryDue(e.now_ms)
    if isinstance(s, HOLDING) and isinstance(s.held.renewal, RenewalTimer):
        if s.held.renewal.id == e.id:
            return RenewalDue(e.now_ms)
    if work_runs(s) and s.supervision.timer == e.id:
        return StageOver(e.now_ms)
    return None


def work_runs(s: Any) -> bool:
    """True if the work of this state is still running."""
    return isinstance(s, Losing) or (isinstance(s, Working) and s.exit is None)


_OF_REPORT: Final[dict[type, Callable[[Any, Any], Any]]] = {
    Answered: _of_answer,
    StoreUnavailable: _of_failed_call,
    OutcomeUnknown: _of_failed_call,
    StoreBroken: _of_broken_call,
    OwnersObserved: _of_observation,
    TimerFired: _of_timer,
    WorkEnded: _of_end,
}
