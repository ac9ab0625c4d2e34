"""The work of a job: its requests, their answers, a cancel, a drain and its end.  Spec: specs/job-runner.md."""

from __future__ import annotations

from typing import Any

from ..commands import Emit, JobCheckpoint, JobCheckpointed, Start, Wait
from ..outcome import Stepped
from ..queries import Command
from ..replace import replace
from ..runner.protocol import Drain, Reply
from ..runner.states import SupervisionStage
from .answers import CallRefused, SignalAwaited, SignalCame, StageOver, Written
from .ending import call, conclude, notify
from .protocol import (
    Abandoned,
    AwaitSignal,
    BeginWork,
    Effect,
    EmitEvent,
    MayGoOn,
    NotifyWork,
    RecordEntries,
    WorkEnded,
    WorkExit,
    WorkReply,
    WorkRequest,
    WorkRequested,
)
from .states import Losing, Outcome, Request, Working, WorkStopReason

__all__ = [
    "abandon",
    "await_signal",
    "cancel",
    "drain_work",
    "end_work",
    "enqueue",
    "ends_already",
    "follow",
    "goes_on_late",
    "goes_on_on_time",
    "grace_over",
    "interrupted",
    "may_work_on",
    "nothing_pending",
    "out_of_order",
    "own_request",
    "park",
    "proceed",
    "refuse_order",
    "refuse_stopped",
    "remember_drain",
    "reply_lost",
    "reply_why",
    "return_refusal",
    "signal",
    "stopped",
    "strange",
    "strange_request",
    "write",
    "write_pending",
    "writes",
    "writes_later",
    "written",
]


# -- guards on requests


def strange(s: Working, e: WorkRequested) -> bool:
    """True if other work, or work that has ended, makes the request."""
    return e.work_id != s.supervision.work_id or s.exit is not None


def out_of_order(s: Working, e: WorkRequested) -> bool:
    """True if the start is marked already, or has to be marked first."""
    return not strange(s, e) and isinstance(e.request, BeginWork) == begun(s)


def begun(s: Working) -> bool:
    """True if the start is marked, or its mark is being written."""
    asked = s.asked is not None and isinstance(s.asked.request, BeginWork)
    return s.held.started or asked


def ordered(s: Working, e: WorkRequested) -> bool:
    return not strange(s, e) and not out_of_order(s, e)


def stopped(s: Working, e: WorkRequested) -> bool:
    """True if the work has to end, and the request would begin something."""
    if not ordered(s, e):
        return False
    if s.stop_reason is WorkStopReason.CANCELLED:
        return isinstance(e.request, BeginWork | MayGoOn | AwaitSignal)
    return s.stop_reason is not None and isinstance(e.request, BeginWork)


def asks_to_go_on(s: Working, e: WorkRequested) -> bool:
    return ordered(s, e) and not stopped(s, e) and isinstance(e.request, MayGoOn)


def goes_on_on_time(s: Working, e: WorkRequested) -> bool:
    """True if an effect may begin now."""
    return asks_to_go_on(s, e) and s.held.on_time(e.now_ms)


def goes_on_late(s: Working, e: WorkRequested) -> bool:
    """True if the lease has to be renewed before an effect begins."""
    return asks_to_go_on(s, e) and not s.held.on_time(e.now_ms)


def asks_to_write(s: Working, e: WorkRequested) -> bool:
    return ordered(s, e) and not stopped(s, e) and not isinstance(e.request, MayGoOn)


def writes(s: Working, e: WorkRequested) -> bool:
    """True if no other write is in progress."""
    return asks_to_write(s, e) and s.pending is None


def writes_later(s: Working, e: WorkRequested) -> bool:
    """True if another write is in progress."""
    return asks_to_write(s, e) and s.pending is not None


def own_request(s: Losing, e: WorkRequested) -> bool:
    """True if the work of this state makes the request."""
    return s.supervision.work_id == e.work_id


def strange_request(s: Losing, e: WorkRequested) -> bool:
    """True if other work makes the request."""
    return not own_request(s, e)


# -- requests


def reply_lost(s: Any, e: WorkRequested, clause: str) -> Outcome:
    """Reply to work that is not this one that its lease is lost."""
    return Stepped(s, clause, (Reply(e.id, WorkReply.LEASE_LOST),))


def reply_why(s: Losing, e: WorkRequested, clause: str) -> Outcome:
    """Reply why the holding has ended."""
    return Stepped(s, clause, (Reply(e.id, s.answer),))


def refuse_order(s: Working, e: WorkRequested, clause: str) -> Outcome:
    """Reply that the start is marked first, and once."""
    return Stepped(s, clause, (Reply(e.id, WorkReply.OUT_OF_ORDER),))


def refuse_stopped(s: Working, e: WorkRequested, clause: str) -> Outcome:
    """Reply why the work has to end."""
    assert s.stop_reason is not None
    return Stepped(s, clause, (Reply(e.id, WorkReply(s.stop_reason.value)),))


def proceed(s: Working, e: WorkRequested, clause: str) -> Outcome:
    """Let an effect begin."""
    return Stepped(s, clause, (Reply(e.id, WorkReply.PROCEED),))


def park(s: Working, e: WorkRequested, clause: str) -> Outcome:
    """Let an effect wait for the renewal, which is in progress or follows at once."""
    return Stepped(replace(s, late=(*s.late, e.id)), clause)


def command_of(s: Working, request: WorkRequest) -> Command[Any, Any]:
    """Return the command for a request."""
    fence = s.held.fence
    job_id = fence.session_id
    match request:
        case BeginWork(process):
            return Start(job_id, fence, process)
        case RecordEntries(entries):
            return JobCheckpoint(job_id, fence, s.held.n, entries)
        case EmitEvent(type, body, key, wake):
            return Emit(job_id, fence, type, body, key, wake)
        case AwaitSignal(name, n):
            return Wait(job_id, fence, name, n)
        case MayGoOn():
            raise AssertionError("nothing is written for MayGoOn")


def send_write(
    s: Working, request: Request, now_ms: int, clause: str, effects: tuple[Effect, ...] = ()
) -> Outcome:
    """Send the write for a request."""
    core, pending, effect = call(s.core, command_of(s, request.request), now_ms)
    s = replace(s, core=core, pending=pending, asked=request)
    return Stepped(s, clause, (*effects, effect))


def write(s: Working, e: WorkRequested, clause: str) -> Outcome:
    """Send the write.  It is sent even if the runner is late: the fence decides."""
    return send_write(s, Request(e.id, e.request), e.now_ms, clause)


def enqueue(s: Working, e: WorkRequested, clause: str) -> Outcome:
    """Let the write wait for the one in progress."""
    return Stepped(replace(s, queue=(*s.queue, Request(e.id, e.request))), clause)


# -- answers


def follow(s: Working, now_ms: int, clause: str, effects: tuple[Effect, ...] = ()) -> Outcome:
    """Go on after an answered write: with the end of the work, with the next write, or with nothing."""
    s = replace(s, pending=None, asked=None)
    if s.exit is not None:
        return conclude(s, s.exit, now_ms, clause, effects)
    if s.queue:
        first, *rest = s.queue
        return send_write(replace(s, queue=tuple(rest)), first, now_ms, clause, effects)
    return Stepped(s, clause, effects)


def replied(s: Working, answer: Any) -> tuple[Effect, ...]:
    """Return the reply to the request whose write was answered."""
    return () if s.asked is None or s.exit is not None else (Reply(s.asked.id, answer),)


def written(s: Working, e: Written, clause: str) -> Outcome:
    """Reply that the write is durable."""
    assert s.pending is not None
    held, effects = s.held, replied(s, WorkReply.PROCEED)
    if isinstance(s.pending.what, Start):
        held = replace(held, started=True)
    elif isinstance(e.answer, JobCheckpointed):
        held = replace(held, n=e.answer.n, cancelled=held.cancelled or e.answer.cancel)
    s = replace(s, held=held)
    if held.cancelled:
        s, notice = cancel(s, e.now_ms)
        effects += notice
    return follow(s, e.now_ms, clause, effects)


def signal(s: Working, e: SignalCame, clause: str) -> Outcome:
    """Reply with the signal."""
    return follow(s, e.now_ms, clause, replied(s, e.answer))


def await_signal(s: Working, e: SignalAwaited, clause: str) -> Outcome:
    """Let the request wait: it is asked again after a hint or a renewal."""
    if s.asked is not None and s.exit is None:
        s = replace(s, awaiting=(*s.awaiting, s.asked))
    return follow(s, e.now_ms, clause)


def return_refusal(s: Working, e: CallRefused, clause: str) -> Outcome:
    """Return the refusal to the work."""
    return follow(s, e.now_ms, clause, replied(s, e.answer))


# -- a cancel, a drain, and the end of the work


def cancel(s: Working, now_ms: int) -> tuple[Working, tuple[Effect, ...]]:
    """Notify the work once that its job was asked to end (JOBRUN-46)."""
    if s.stop_reason is WorkStopReason.CANCELLED or s.exit is not None:
        return s, ()
    core, supervision, timer = notify(s.core, s.supervision, now_ms + s.core.config.grace_ms)
    ids = [*s.late, *[request.id for request in s.awaiting]]
    effects: tuple[Effect, ...] = (
        NotifyWork(supervision.work_id, WorkReply.CANCELLED),
        *[Reply(id, WorkReply.CANCELLED) for id in ids],
        *timer,
    )
    reason = WorkStopReason.CANCELLED
    s = replace(s, core=core, supervision=supervision, stop_reason=reason, late=(), awaiting=())
    return s, effects


def may_work_on(s: Working, e: Drain) -> bool:
    """True if the work is not ending yet."""
    return s.stop_reason is None and s.exit is None


def ends_already(s: Working, e: Drain) -> bool:
    """True if the work is ending."""
    return not may_work_on(s, e)


def remember_drain(s: Any, e: Drain, clause: str) -> Outcome:
    """Remember the drain for later decisions."""
    return Stepped(replace(s, core=s.core.drain(e.grace_ms)), clause)


def drain_work(s: Working, e: Drain, clause: str) -> Outcome:
    """Notify the work, and give it the drain's grace period."""
    core, supervision, timer = notify(
        s.core.drain(e.grace_ms), s.supervision, e.now_ms + e.grace_ms
    )
    s = replace(s, core=core, supervision=supervision, stop_reason=WorkStopReason.DRAINING)
    return Stepped(s, clause, (NotifyWork(supervision.work_id, WorkReply.DRAINING), *timer))


def nothing_pending(s: Working, e: WorkEnded) -> bool:
    """True if no write is in progress."""
    return s.pending is None


def write_pending(s: Working, e: WorkEnded) -> bool:
    """True if a write is in progress."""
    return s.pending is not None


def end_work(s: Working, e: WorkEnded, clause: str) -> Outcome:
    """End the work after the write in progress.  Its other requests are not answered any more."""
    return _end(s, e.exit, e.now_ms, clause)


def _end(s: Working, work_exit: WorkExit, now_ms: int, clause: str) -> Outcome:
    s = replace(s, queue=(), late=(), awaiting=())
    if s.pending is None:
        return conclude(s, work_exit, now_ms, clause)
    return Stepped(replace(s, exit=work_exit), clause)


def grace_over(s: Working | Losing, e: StageOver) -> bool:
    """True if the grace period after a notice is over."""
    return s.supervision.stage is not SupervisionStage.INTERRUPTED


def interrupted(s: Working | Losing, e: StageOver) -> bool:
    """True if the work was interrupted and did not end."""
    return not grace_over(s, e)


def abandon(s: Working, e: StageOver, clause: str) -> Outcome:
    """Go on without work that does not end."""
    return _end(s, Abandoned(), e.now_ms, clause)
