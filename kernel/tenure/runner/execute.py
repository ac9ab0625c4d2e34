"""Execution of a turn: the requests of its code, their writes, and its end.  Spec: specs/runner.md."""

from __future__ import annotations

from typing import Any

from ..commands import Checkpoint, NewEntry, Park, Parked
from ..limits import CHECKPOINT_ENTRIES_MAX
from ..outcome import Stepped
from ..queries import Command
from ..questions.core import LoadInputs
from ..records import Cancel
from ..replace import replace
from ..turn_end import Record, TurnWait
from .answers import (
    CallRefused,
    CheckpointWritten,
    CommitRefused,
    Fenced,
    InputsLoaded,
    NeedNotWait,
    NextTaken,
    RunCancelled,
    RunEnded,
)
from .ending import begin_next, commit, conclude, end_turn, renew_now, run_finished, take_next
from .protocol import (
    Effect,
    EndTurn,
    MayStart,
    NotifyTurn,
    Reply,
    RunnerStopReason,
    SteeringSeen,
    Stop,
    Taken,
    TurnEnded,
    TurnReply,
    TurnRequested,
)
from .states import (
    LeaseLost,
    Outcome,
    Request,
    Stopped,
    TurnCommitted,
    TurnRunning,
    TurnStopReason,
    next_id,
    send,
)
from .supervision import cancel, lose, replies

__all__ = [
    "brings_some",
    "brings_none",
    "end",
    "enqueue",
    "finish",
    "give_inputs",
    "linger",
    "read_inputs",
    "lose_lease",
    "need_not_wait",
    "nothing_pending",
    "park",
    "proceed",
    "refuse",
    "return_refusal",
    "starts_late",
    "starts_on_time",
    "steers",
    "steers_nobody",
    "stop_requested",
    "stopped",
    "strange",
    "go_on",
    "tell_steered",
    "write",
    "write_pending",
    "writes",
    "writes_later",
]


# -- guards on requests


def own(s: TurnRunning, e: TurnRequested) -> bool:
    """True if the code that is running makes the request."""
    return s.supervision.turn_id == e.turn_id and s.exit is None


def strange(s: TurnRunning, e: TurnRequested) -> bool:
    """True if the code of an earlier turn makes the request."""
    return not own(s, e)


def barred(s: TurnRunning, e: TurnRequested) -> bool:
    """True if the request would begin something, or end the turn, against its stop reason (RUNNER-51)."""
    if s.stop_reason is None or s.stop_reason is TurnStopReason.DRAINING:
        return False
    if isinstance(e.request, Record):
        return e.request.starts or e.request.only_takes
    if isinstance(e.request, EndTurn):
        return s.stop_reason is TurnStopReason.CANCELLED and not e.request.end.closes
    return True


def stopped(s: TurnRunning, e: TurnRequested) -> bool:
    """True if the turn has to end instead."""
    return own(s, e) and barred(s, e)


def starts_on_time(s: TurnRunning, e: TurnRequested) -> bool:
    """True if an effect may begin now."""
    return isinstance(e.request, MayStart) and allowed(s, e) and s.held_run.on_time(e.now_ms)


def starts_late(s: TurnRunning, e: TurnRequested) -> bool:
    """True if an effect has to wait for the renewal."""
    return isinstance(e.request, MayStart) and allowed(s, e) and not s.held_run.on_time(e.now_ms)


def writes(s: TurnRunning, e: TurnRequested) -> bool:
    """True if the write may be sent now."""
    return s.pending is None and not isinstance(e.request, MayStart) and allowed(s, e)


def writes_later(s: TurnRunning, e: TurnRequested) -> bool:
    """True if the write has to wait for the previous one."""
    return s.pending is not None and not isinstance(e.request, MayStart) and allowed(s, e)


def allowed(s: TurnRunning, e: TurnRequested) -> bool:
    """True if the code that is running may do this."""
    return own(s, e) and not barred(s, e)


# -- requests


def refuse(s: TurnRunning, e: TurnRequested, clause: str) -> Outcome:
    """Reply why the turn has to end."""
    cancelled = s.stop_reason is TurnStopReason.CANCELLED
    reply = TurnReply.CANCELLED if cancelled else TurnReply.TIMED_OUT
    return Stepped(s, clause, (Reply(e.id, reply),))


def proceed(s: TurnRunning, e: TurnRequested, clause: str) -> Outcome:
    """Reply that the effect may begin."""
    return Stepped(s, clause, (Reply(e.id, TurnReply.PROCEED),))


def park(s: TurnRunning, e: TurnRequested, clause: str) -> Outcome:
    """Renew the lease, and reply after that."""
    core, held_run, effects = renew_now(s.core, s.held_run, e.now_ms)
    s = replace(s, core=core, held_run=held_run, parked=(*s.parked, e.id))
    return Stepped(s, clause, effects)


def write(s: TurnRunning, e: TurnRequested, clause: str) -> Outcome:
    """Send the write."""
    s, effects = next_write(replace(s, queue=(Request(e.id, e.request),)), e.now_ms)
    return Stepped(s, clause, effects)


def enqueue(s: TurnRunning, e: TurnRequested, clause: str) -> Outcome:
    """Queue the write."""
    return Stepped(replace(s, queue=(*s.queue, Request(e.id, e.request))), clause)


def next_write(s: TurnRunning, now_ms: int) -> tuple[TurnRunning, tuple[Effect, ...]]:
    """Send the first queued write, with the reports that may share its checkpoint (RUNNER-45)."""
    first = s.queue[0].request
    count = 1
    command: Command[Any, Any]
    assert not isinstance(first, MayStart)
    if isinstance(first, EndTurn):
        command = commit(s.core, s.held_run, first, yields=first.end.yields)
    elif isinstance(first, TurnWait):
        command = park_command(s, first)
    else:
        entries = list(first.entries)
        for queued in s.queue[1:]:
            record = queued.request
            if not isinstance(record, Record) or record.alone or first.alone:
                break
            if len(entries) + len(record.entries) > CHECKPOINT_ENTRIES_MAX:
                break
            entries += record.entries
            count += 1
        command = checkpoint(s, first, tuple(entries))
    id, core = next_id(s.core)
    pending, effect = send(command, id, now_ms)
    asked, queue = s.queue[:count], s.queue[count:]
    return replace(s, core=core, pending=pending, asked=asked, queue=queue), (effect,)


def checkpoint(s: TurnRunning, record: Record, entries: tuple[NewEntry, ...]) -> Checkpoint:
    """Return the checkpoint of a record.  A turn that has reached its time limit takes nothing (RUNNER-117)."""
    begun, take = s.held_run.begun, record.take
    command = Checkpoint(
        s.core.config.session_id, begun.fence, begun.run_id, begun.turn, s.held_run.n, entries,
        record.nodes, record.usage, record.environment, tickets=record.tickets,
        attach=record.attach,
        outbound=record.outbound,
    )  # fmt: skip
    if take is None or s.stop_reason is TurnStopReason.TIMED_OUT:
        return command
    return replace(command, take=take.boundary, take_max=take.most, take_id=take.effect_id)


def park_command(s: TurnRunning, wait: TurnWait) -> Park:
    """Return the Park of a turn that waits (RUNNER-131)."""
    begun, record = s.held_run.begun, wait.record
    return Park(
        s.core.config.session_id, begun.fence, begun.run_id, begun.turn, s.held_run.n, wait.effect_id,
        wait.reason, wait.waits_for, wait.needs, wait.on_input,
        record.entries, record.nodes, wait.tickets, record.usage, record.environment, wait.rest,
    )  # fmt: skip


def allowed_after_cancel(queued: Request) -> bool:
    """True if a cancelled turn may still write this: what has been done, or its end as cancelled."""
    request = queued.request
    if isinstance(request, EndTurn):
        return request.end.closes
    return isinstance(request, Record) and not request.starts and not request.only_takes


def continue_writing(
    s: TurnRunning, now_ms: int, clause: str, effects: tuple[Effect, ...]
) -> Outcome:
    """Send the next write after an answer, or the final command if the code has ended."""
    s = replace(s, pending=None, asked=())
    if s.exit is not None:
        return conclude(s, s.exit, now_ms, clause, effects)
    if not s.queue:
        return Stepped(s, clause, effects)
    if s.stop_reason is TurnStopReason.CANCELLED:
        keep = [r for r in s.queue if allowed_after_cancel(r)]
        drop = tuple([r for r in s.queue if r not in keep])
        s, effects = replace(s, queue=tuple(keep)), effects + replies(drop, TurnReply.CANCELLED)
        if not keep:
            return Stepped(s, clause, effects)
    s, more = next_write(s, now_ms)
    return Stepped(s, clause, effects + more)


# -- answers to writes


def brings_none(s: TurnRunning, e: CheckpointWritten) -> bool:
    """True if the requests can be answered at once."""
    return not e.inputs or s.exit is not None


def brings_some(s: TurnRunning, e: CheckpointWritten) -> bool:
    """True if the code needs the inputs that the checkpoint has taken."""
    return bool(e.inputs) and s.exit is None


def go_on(s: TurnRunning, e: CheckpointWritten, clause: str) -> Outcome:
    """Reply to the requests that the checkpoint contains."""
    asked = s.asked
    s, notice = note_checkpoint(s, e)
    effects = notice + replies(asked, TurnReply.PROCEED)
    return continue_writing(s, e.now_ms, clause, effects)


def read_inputs(s: TurnRunning, e: CheckpointWritten, clause: str) -> Outcome:
    """Read the inputs that the checkpoint has taken, and reply after that."""
    s, notice = note_checkpoint(s, e)
    id, core = next_id(s.core)
    pending, effect = send(LoadInputs(core.config.session_id, e.inputs), id, e.now_ms)
    return Stepped(replace(s, core=core, pending=pending), clause, (*notice, effect))


def note_checkpoint(s: TurnRunning, e: CheckpointWritten) -> tuple[TurnRunning, tuple[Effect, ...]]:
    """Take over the number of the next checkpoint, the inputs that were taken, and the cancel flag."""
    begun = s.held_run.begun
    begun = replace(begun, inputs=(*begun.inputs, *e.inputs))
    s = replace(s, held_run=replace(s.held_run, n=e.n, begun=begun))
    return (s, ()) if e.cancel is None else cancel(s, e.cancel, e.now_ms)


def give_inputs(s: TurnRunning, e: InputsLoaded, clause: str) -> Outcome:
    """Reply with the inputs that the checkpoint has taken."""
    return continue_writing(s, e.now_ms, clause, replies(s.asked, Taken(e.inputs)))


# -- hints of steering


def steers(s: TurnRunning, e: SteeringSeen) -> bool:
    """True if a hint is about the turn code that is running."""
    return s.held_run.begun.run_id == e.run_id and s.exit is None


def steers_nobody(s: TurnRunning, e: SteeringSeen) -> bool:
    """True if a hint is about another run, or the code has ended."""
    return not steers(s, e)


def tell_steered(s: TurnRunning, e: SteeringSeen, clause: str) -> Outcome:
    """Notify the turn code that it may take inputs."""
    return Stepped(s, clause, (NotifyTurn(s.supervision.turn_id, TurnReply.STEERED),))


def lose_lease(s: TurnRunning, e: Fenced, clause: str) -> Outcome:
    """End the holding without another write."""
    return lose(s, Stop(RunnerStopReason.FENCED, e.answer, True), e.now_ms, clause)


def _reply_to_all(s: TurnRunning, e: RunEnded | NextTaken) -> tuple[Effect, ...]:
    """Answer the request to commit or to park; every other open request is too late."""
    reply = over(e)
    late = replies(s.queue, reply)
    parked = tuple([Reply(id, reply) for id in s.parked])
    return (*replies(s.asked, e.answer), *late, *parked, run_finished(s.held_run))


def over(e: RunEnded | NextTaken) -> TurnReply:
    """Return the reply to what the code still asks for after this answer."""
    return TurnReply.PARKED if isinstance(e.answer, Parked) else TurnReply.COMMITTED


def finish(s: TurnRunning, e: RunEnded, clause: str) -> Outcome:
    """Wait for the end of the code after a commit that released the lease, or after a Park."""
    stop = Stop(RunnerStopReason.DONE, e.answer)
    if s.exit is not None:
        return Stepped(Stopped(), clause, (run_finished(s.held_run), stop))
    state = LeaseLost(s.core, s.supervision, over(e), stop)
    return Stepped(state, clause, _reply_to_all(s, e))


def linger(s: TurnRunning, e: NextTaken, clause: str) -> Outcome:
    """Wait for the end of the code after a commit that took the next run."""
    core, held_run = take_next(s.core, s.held_run, e.next)
    if s.exit is not None:
        return begin_next(core, held_run, e.now_ms, clause, (run_finished(s.held_run),))
    return Stepped(TurnCommitted(core, held_run, s.supervision), clause, _reply_to_all(s, e))


def stop_requested(s: TurnRunning, e: RunCancelled, clause: str) -> Outcome:
    """Notify the turn code that its run was asked to stop."""
    effects = replies(s.asked, TurnReply.CANCELLED)
    flag = e.answer.detail
    if isinstance(flag, Cancel):
        s, notice = cancel(s, flag, e.now_ms)
        effects = notice + effects
    return continue_writing(s, e.now_ms, clause, effects)


def return_refusal(s: TurnRunning, e: CommitRefused | CallRefused, clause: str) -> Outcome:
    """Return the refusal to the turn code."""
    return continue_writing(s, e.now_ms, clause, replies(s.asked, e.answer))


def need_not_wait(s: TurnRunning, e: NeedNotWait, clause: str) -> Outcome:
    """Reply that the turn goes on."""
    return continue_writing(s, e.now_ms, clause, replies(s.asked, e.answer))


# -- the end of the code


def nothing_pending(s: TurnRunning, e: TurnEnded) -> bool:
    """True if no write is in progress."""
    return s.pending is None


def write_pending(s: TurnRunning, e: TurnEnded) -> bool:
    """True if a write is in progress."""
    return s.pending is not None


def end(s: TurnRunning, e: TurnEnded, clause: str) -> Outcome:
    """End the turn as its code ended."""
    return end_turn(s, e.exit, e.now_ms, clause)
