"""How a job's runner ends its holding: the final command, a lost lease, and the Drain of what it had started.

Spec: specs/job-runner.md.
"""

from __future__ import annotations

from typing import Any

from ..commands import Complete, Drain, FailJob, JobEnded, LetGo
from ..failure import ErrorKind, Failure
from ..outcome import Stepped
from ..queries import Command, Question
from ..replace import replace
from ..runner.protocol import Reply, RunnerStopReason, SetTimer, StoreBroken
from ..runner.states import PendingCall, SupervisionStage, send
from .answers import (
    CallRefused,
    Fenced,
    JobClosed,
    JobMissing,
    JobOver,
    JobParked,
    RenewalRefused,
    StageOver,
)
from .protocol import (
    Abandoned,
    Effect,
    InterruptWork,
    JobLeft,
    NotifyWork,
    Returned,
    Stop,
    WorkEnded,
    WorkExit,
    WorkReply,
)
from .states import (
    HOLDING,
    Closing,
    Core,
    Ending,
    HeldJob,
    Losing,
    Outcome,
    Stopped,
    Supervision,
    Working,
    WorkStopReason,
    next_id,
)

__all__ = [
    "abandon_lost",
    "call",
    "close_lost",
    "closed_by_drain",
    "conclude",
    "end_bound",
    "end_holding",
    "fail_instead",
    "give_back",
    "interrupt",
    "is_bound",
    "is_not_bound",
    "leave",
    "let_go_of",
    "lose",
    "lose_over",
    "lose_parked",
    "notify",
    "output_refused",
    "refused_finally",
    "stop",
    "fail",
    "stop_closed",
    "stop_lost",
    "stop_over",
    "stop_refused",
]


def call(
    core: Core, what: Command[Any, Any] | Question[Any], now_ms: int
) -> tuple[Core, PendingCall, Effect]:
    """Send a command or a question."""
    id, core = next_id(core)
    pending, effect = send(what, id, now_ms)
    return core, pending, effect


def stop(stop: Stop, clause: str) -> Outcome:
    """Stop."""
    return Stepped(Stopped(), clause, (stop,))


# -- the final command


def drain_of(core: Core) -> Drain:
    """Return the command that ends what this owner has started."""
    config = core.config
    return Drain(config.job_id, config.owner, config.lease_id)


def final_command(s: Working, work_exit: WorkExit) -> Command[Any, Any]:
    """JOBRUN-30, JOBRUN-31, JOBRUN-32: return the final command for work that has ended."""
    fence = s.held.fence
    if isinstance(work_exit, Returned):
        return Complete(fence.session_id, work_exit.output, fence)
    if s.stop_reason is WorkStopReason.CANCELLED:
        failed = Failure(ErrorKind.TRANSIENT, "the job was cancelled")
        return FailJob(fence.session_id, failed, fence)
    if s.stop_reason is WorkStopReason.DRAINING or isinstance(work_exit, Abandoned):
        return return_of(s.core, s.held)
    return FailJob(fence.session_id, work_exit.failure, fence)


def return_of(core: Core, held: HeldJob) -> Command[Any, Any]:
    """Return the command that gives a job back: it can run again, or was not started, or ends as drained."""
    return drain_of(core) if held.bound else LetGo(held.fence.session_id, held.fence)


def send_final(
    core: Core,
    held: HeldJob,
    command: Command[Any, Any],
    now_ms: int,
    clause: str,
    effects: tuple[Effect, ...] = (),
) -> Outcome:
    """Send the final command, after `effects`."""
    core, pending, effect = call(core, command, now_ms)
    return Stepped(Ending(core, held, pending), clause, (*effects, effect))


def give_back(
    core: Core, held: HeldJob, now_ms: int, clause: str, effects: tuple[Effect, ...] = ()
) -> Outcome:
    """Give the job back."""
    return send_final(core, held, return_of(core, held), now_ms, clause, effects)


def conclude(
    s: Working, work_exit: WorkExit, now_ms: int, clause: str, effects: tuple[Effect, ...] = ()
) -> Outcome:
    """Send the final command of work that has ended."""
    return send_final(s.core, s.held, final_command(s, work_exit), now_ms, clause, effects)


def output_refused(s: Ending, e: CallRefused) -> bool:
    """True if the output of the work cannot be stored."""
    return isinstance(s.pending.what, Complete)


def refused_finally(s: Ending, e: CallRefused) -> bool:
    """True if no other command can end the job."""
    return not output_refused(s, e)


def fail_instead(s: Ending, e: CallRefused, clause: str) -> Outcome:
    """Fail the job: its output can never be stored, but a failure can."""
    fence = s.held.fence
    failure = Failure(ErrorKind.INVALID_REQUEST, f"the output was refused: {e.answer}"[:500])
    command = FailJob(fence.session_id, failure, fence)
    return send_final(s.core, s.held, command, e.now_ms, clause)


def left_by(command: object, answer: object) -> JobLeft:
    """Return how a job is left whose final command was accepted."""
    if isinstance(command, Drain):
        return JobLeft.DRAINED
    return JobLeft.ENDED if isinstance(answer, JobEnded) else JobLeft.RELEASED


def stop_closed(s: Ending, e: JobClosed, clause: str) -> Outcome:
    """Stop: the final command was accepted."""
    left = left_by(s.pending.what, e.answer)
    return stop(Stop(RunnerStopReason.DONE, e.answer, left), clause)


def stop_over(s: Ending | Closing, e: JobOver, clause: str) -> Outcome:
    """Stop: another command has ended the job."""
    return stop(Stop(RunnerStopReason.DONE, e.answer, JobLeft.ENDED), clause)


def stop_refused(s: Ending, e: CallRefused, clause: str) -> Outcome:
    """Stop without another write."""
    return stop(Stop(RunnerStopReason.REFUSED, e.answer, JobLeft.GIVEN_UP), clause)


# -- the lease is lost


def is_bound(s: Any, e: object) -> bool:
    """True if something was started that nobody else may carry on."""
    return bool(s.bound if isinstance(s, Losing) else s.held.bound)


def is_not_bound(s: Any, e: object) -> bool:
    """True if another owner may carry the job on, or nothing was started."""
    return not is_bound(s, e)


def close_with(core: Core, stop: Stop, now_ms: int, clause: str) -> Outcome:
    """End what was started by a Drain."""
    core, pending, effect = call(core, drain_of(core), now_ms)
    return Stepped(Closing(core, pending, stop), clause, (effect,))


def end_bound(s: Ending, e: Fenced, clause: str) -> Outcome:
    """End what was started: its outcome can no longer be written under the lease."""
    lost = Stop(RunnerStopReason.FENCED, e.answer, JobLeft.GIVEN_UP)
    return close_with(s.core, lost, e.now_ms, clause)


def stop_lost(s: Any, e: Fenced, clause: str) -> Outcome:
    """Stop without another write."""
    return stop(Stop(RunnerStopReason.FENCED, e.answer, JobLeft.GIVEN_UP), clause)


def close_lost(s: Losing, e: Any, clause: str) -> Outcome:
    """End what was started, after its work has ended."""
    return close_with(s.core, s.stop, e.now_ms, clause)


def leave(s: Losing | Closing, e: Any, clause: str) -> Outcome:
    """Stop for the reason for which the lease ended."""
    return stop(s.stop, clause)


def closed_by_drain(s: Closing, e: JobClosed, clause: str) -> Outcome:
    """Stop: what was started has ended as drained."""
    return stop(replace(s.stop, left=JobLeft.DRAINED), clause)


def end_holding(s: Any, answer: WorkReply, stop_: Stop, now_ms: int, clause: str) -> Outcome:
    """End the holding in any state: first the work, then what it had started."""
    bound = s.held.bound and answer is WorkReply.LEASE_LOST
    if isinstance(s, Working) and s.exit is None:
        core, supervision, timer = notify(s.core, s.supervision, now_ms + s.core.config.grace_ms)
        asked = () if s.asked is None else (s.asked,)
        ids = [*[r.id for r in (*asked, *s.queue, *s.awaiting)], *s.late]
        replies = tuple([Reply(id, answer) for id in ids])
        notice = NotifyWork(supervision.work_id, answer)
        state = Losing(core, supervision, answer, stop_, bound)
        return Stepped(state, clause, (notice, *replies, *timer))
    if bound:
        return close_with(s.core, stop_, now_ms, clause)
    return stop(stop_, clause)


def lose(s: Any, e: Fenced | RenewalRefused, clause: str) -> Outcome:
    """End the work: the job belongs to another owner, or its lease was ended."""
    lost = Stop(RunnerStopReason.FENCED, e.answer, JobLeft.GIVEN_UP)
    return end_holding(s, WorkReply.LEASE_LOST, lost, e.now_ms, clause)


def lose_over(s: Any, e: JobOver, clause: str) -> Outcome:
    """End the work: the job has ended."""
    over = Stop(RunnerStopReason.DONE, e.answer, JobLeft.ENDED)
    return end_holding(s, WorkReply.ENDED, over, e.now_ms, clause)


def lose_parked(s: Working, e: JobParked, clause: str) -> Outcome:
    """End this attempt: the job waits for a signal, without a lease."""
    parked = Stop(RunnerStopReason.DONE, e.answer, JobLeft.RELEASED)
    return end_holding(s, WorkReply.PARKED, parked, e.now_ms, clause)


def let_go_of(s: Any, e: JobMissing, clause: str) -> Outcome:
    """Stop: the job that was taken cannot be read."""
    message = f"job {s.core.config.job_id} was taken, but it has no record"
    return stop(Stop(RunnerStopReason.BROKEN, message, JobLeft.GIVEN_UP), clause)


def fail(s: Any, e: StoreBroken, clause: str) -> Outcome:
    """End the holding: the call can never be executed."""
    if not isinstance(s, HOLDING):
        left = JobLeft.GIVEN_UP if isinstance(s, Closing) else None
        return stop(Stop(RunnerStopReason.BROKEN, e.message, left), clause)
    broken = Stop(RunnerStopReason.BROKEN, e.message, JobLeft.GIVEN_UP)
    return end_holding(s, WorkReply.LEASE_LOST, broken, e.now_ms, clause)


# -- supervision of the work


def notify(
    core: Core, supervision: Supervision, at_ms: int
) -> tuple[Core, Supervision, tuple[Effect, ...]]:
    """Start the grace period, which ends at `at_ms` (JOBRUN-50)."""
    if supervision.stage is SupervisionStage.INTERRUPTED:
        return core, supervision, ()
    id, core = next_id(core)
    supervision = replace(supervision, timer=id, stage=SupervisionStage.NOTIFIED)
    return core, supervision, (SetTimer(id, at_ms),)


def interrupt(s: Any, e: StageOver, clause: str) -> Outcome:
    """Interrupt the work.  It has the grace period again, before it is abandoned (JOBRUN-51)."""
    id, core = next_id(s.core)
    supervision = replace(s.supervision, timer=id, stage=SupervisionStage.INTERRUPTED)
    effects = (
        InterruptWork(supervision.work_id),
        SetTimer(id, e.now_ms + core.config.grace_ms),
    )
    return Stepped(replace(s, core=core, supervision=supervision), clause, effects)


def abandon_lost(s: Losing, e: StageOver | WorkEnded, clause: str) -> Outcome:
    """Go on without work that does not end."""
    return close_lost(s, e, clause) if s.bound else leave(s, e, clause)
