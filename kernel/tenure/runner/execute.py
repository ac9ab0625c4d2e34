"""While the code of a turn is at work: what it asks for, and how it ends.  Spec: specs/runner.md."""

from __future__ import annotations

from typing import Any

from ..commands import Checkpoint, Checkpointed, Commit, Committed
from ..outcome import Refusal, Refused, Stepped
from ..queries import Command
from ..records import Cancel
from ..replace import replace
from ..rules import Row
from .ending import begin_next, commit, conclude, renew_now, run_finished, take_next
from .protocol import (
    Answered,
    Effect,
    EndTurn,
    MayStart,
    Record,
    Reply,
    RunnerStopReason,
    Stop,
    TurnEnded,
    TurnExit,
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
    number,
    reports,
    send,
)
from .supervision import cancel, lose, replies

ENTRIES_MAX = 64

# -- what it asks for


def own(s: TurnRunning, e: TurnRequested) -> bool:
    return s.supervision.turn_id == e.turn_id and s.exit is None


def strange(s: TurnRunning, e: TurnRequested) -> bool:
    return s.supervision.turn_id != e.turn_id or s.exit is not None


def barred(s: TurnRunning, e: TurnRequested) -> bool:
    """A turn that is to end may record what has been done and commit in time; it may begin nothing."""
    if s.stop_reason is None or s.stop_reason is TurnStopReason.DRAINING:
        return False
    if isinstance(e.request, Record):
        return e.request.starts
    if isinstance(e.request, EndTurn):
        return s.stop_reason is TurnStopReason.CANCELLED and not e.request.closes
    return True


def stopped(s: TurnRunning, e: TurnRequested) -> bool:
    return own(s, e) and barred(s, e)


def startable(s: TurnRunning, e: TurnRequested) -> bool:
    on_time = s.held_run.on_time(e.now_ms)
    return own(s, e) and not barred(s, e) and isinstance(e.request, MayStart) and on_time


def late(s: TurnRunning, e: TurnRequested) -> bool:
    on_time = s.held_run.on_time(e.now_ms)
    return own(s, e) and not barred(s, e) and isinstance(e.request, MayStart) and not on_time


def _writes(s: TurnRunning, e: TurnRequested) -> bool:
    return own(s, e) and not barred(s, e) and isinstance(e.request, Record | EndTurn)


def writable(s: TurnRunning, e: TurnRequested) -> bool:
    return _writes(s, e) and s.pending is None


def busy(s: TurnRunning, e: TurnRequested) -> bool:
    return _writes(s, e) and s.pending is not None


def turn_away(s: TurnRunning, e: TurnRequested, clause: str) -> Outcome:
    reply = (
        TurnReply.CANCELLED if s.stop_reason is TurnStopReason.CANCELLED else TurnReply.TIMED_OUT
    )
    return Stepped(s, clause, (Reply(e.id, reply),))


def go(s: TurnRunning, e: TurnRequested, clause: str) -> Outcome:
    return Stepped(s, clause, (Reply(e.id, TurnReply.PROCEED),))


def park(s: TurnRunning, e: TurnRequested, clause: str) -> Outcome:
    core, held_run, effects = renew_now(s.core, s.held_run, e.now_ms)
    return Stepped(
        replace(s, core=core, held_run=held_run, parked=(*s.parked, e.id)), clause, effects
    )


def write(s: TurnRunning, e: TurnRequested, clause: str) -> Outcome:
    after, effects = next_write(replace(s, queue=(Request(e.id, e.request),)), e.now_ms)
    return Stepped(after, clause, effects)


def enqueue(s: TurnRunning, e: TurnRequested, clause: str) -> Outcome:
    return Stepped(replace(s, queue=(*s.queue, Request(e.id, e.request))), clause)


def lost(s: Any, e: TurnRequested, clause: str) -> Outcome:
    return Stepped(s, clause, (Reply(e.id, TurnReply.LEASE_LOST),))


def next_write(s: TurnRunning, now_ms: int) -> tuple[TurnRunning, tuple[Effect, ...]]:
    """RUNNER-45: one write at a time, in the order they were asked for; reports that wait go together."""
    first = s.queue[0].request
    count = 1
    command: Command[Any, Any]
    assert not isinstance(first, MayStart)
    if isinstance(first, EndTurn):
        command = commit(s.core, s.held_run, first)
    else:
        entries = list(first.entries)
        for request in s.queue[1:]:
            want = request.request
            if not isinstance(want, Record) or want.alone or first.alone:
                break
            if len(entries) + len(want.entries) > ENTRIES_MAX:
                break
            entries += want.entries
            count += 1
        begun, n = s.held_run.begun, s.held_run.n
        command = Checkpoint(
            s.core.config.session_id, begun.fence, begun.run_id, begun.turn, n, tuple(entries),
            first.nodes, first.usage, first.environment,
        )  # fmt: skip
    id, core = number(s.core)
    pending, effect = send(command, id, now_ms)
    asked, queue = s.queue[:count], s.queue[count:]
    return replace(s, core=core, pending=pending, asked=asked, queue=queue), (effect,)


def harmless(request: Request) -> bool:
    """What a turn that was asked to stop may still write: what has been done, and its own end as cancelled."""
    want = request.request
    return (
        want.closes if isinstance(want, EndTurn) else isinstance(want, Record) and not want.starts
    )


def go_on(s: TurnRunning, now_ms: int, clause: str, effects: tuple[Effect, ...]) -> Outcome:
    """The write under way was answered: the next one, or the end."""
    s = replace(s, pending=None, asked=())
    if s.exit is not None:
        return conclude(s, s.exit, now_ms, clause, effects)
    if not s.queue:
        return Stepped(s, clause, effects)
    if s.stop_reason is TurnStopReason.CANCELLED:
        keep = [r for r in s.queue if harmless(r)]
        drop = tuple([r for r in s.queue if r not in keep])
        s, effects = replace(s, queue=tuple(keep)), effects + replies(drop, TurnReply.CANCELLED)
        if not keep:
            return Stepped(s, clause, effects)
    s, more = next_write(s, now_ms)
    return Stepped(s, clause, effects + more)


# -- the answers to its writes


def wrote(s: TurnRunning, e: Answered) -> bool:
    return reports(s, e) and isinstance(e.answer, Checkpointed) and e.answer.held


def fenced(s: TurnRunning, e: Answered) -> bool:
    if not reports(s, e):
        return False
    if isinstance(e.answer, Checkpointed):
        return not e.answer.held
    return isinstance(e.answer, Refused) and e.answer.reason is Refusal.FENCED


def committed(s: TurnRunning, e: Answered) -> bool:
    return reports(s, e) and isinstance(e.answer, Committed) and e.answer.next is None


def committed_on(s: TurnRunning, e: Answered) -> bool:
    return reports(s, e) and isinstance(e.answer, Committed) and e.answer.next is not None


def cancelled(s: TurnRunning, e: Answered) -> bool:
    return reports(s, e) and isinstance(e.answer, Refused) and e.answer.reason is Refusal.CANCELLED


def declined(s: TurnRunning, e: Answered) -> bool:
    handled = (Refusal.CANCELLED, Refusal.FENCED)
    return reports(s, e) and isinstance(e.answer, Refused) and e.answer.reason not in handled


def carry_on(s: TurnRunning, e: Answered, clause: str) -> Outcome:
    effects = replies(s.asked, TurnReply.PROCEED)
    s = replace(s, held_run=replace(s.held_run, n=e.answer.n))
    if e.answer.cancel is not None:
        s, effects_before = cancel(s, e.answer.cancel, e.now_ms)
        effects = effects_before + effects
    return go_on(s, e.now_ms, clause, effects)


def lose_lease(s: TurnRunning, e: Answered, clause: str) -> Outcome:
    return lose(s, Stop(RunnerStopReason.FENCED, e.answer), e.now_ms, clause)


def _done(s: TurnRunning, e: Answered) -> tuple[Effect, ...]:
    """Its code hears that it has committed, and whatever it asked besides is too late."""
    late = replies(s.queue, TurnReply.COMMITTED) + tuple(
        [Reply(p, TurnReply.COMMITTED) for p in s.parked]
    )
    return (*replies(s.asked, e.answer), *late, run_finished(s.held_run))


def finish(s: TurnRunning, e: Answered, clause: str) -> Outcome:
    stop = Stop(RunnerStopReason.DONE, e.answer)
    if s.exit is not None:
        return Stepped(Stopped(), clause, (run_finished(s.held_run), stop))
    return Stepped(LeaseLost(s.core, s.supervision, TurnReply.COMMITTED, stop), clause, _done(s, e))


def settle(s: TurnRunning, e: Answered, clause: str) -> Outcome:
    core, held_run = take_next(s.core, s.held_run, e.answer.next)
    if s.exit is not None:
        return begin_next(core, held_run, e.now_ms, clause, (run_finished(s.held_run),))
    return Stepped(TurnCommitted(core, held_run, s.supervision), clause, _done(s, e))


def stop_requested(s: TurnRunning, e: Answered, clause: str) -> Outcome:
    refused = replies(s.asked, TurnReply.CANCELLED)
    flag = e.answer.detail
    if isinstance(flag, Cancel):
        s, effects_before = cancel(s, flag, e.now_ms)
        refused = effects_before + refused
    return go_on(s, e.now_ms, clause, refused)


def decline(s: TurnRunning, e: Answered, clause: str) -> Outcome:
    return go_on(s, e.now_ms, clause, replies(s.asked, e.answer))


# -- its end


def ends(s: TurnRunning, e: TurnEnded) -> bool:
    return own_end(s, e) and s.pending is None


def ends_early(s: TurnRunning, e: TurnEnded) -> bool:
    return own_end(s, e) and s.pending is not None


def own_end(s: TurnRunning, e: TurnEnded) -> bool:
    return s.supervision.turn_id == e.turn_id and s.exit is None


def end(s: TurnRunning, e: TurnEnded, clause: str) -> Outcome:
    return end_turn(s, e.exit, e.now_ms, clause)


def end_turn(s: TurnRunning, turn_exit: TurnExit, now_ms: int, clause: str) -> Outcome:
    """What it still waits for is not answered to anybody; a write under way is awaited."""
    if s.pending is None:
        return conclude(s, turn_exit, now_ms, clause)
    return Stepped(replace(s, exit=turn_exit, queue=(), parked=(), asked=()), clause)


EXECUTE_ROWS: tuple[Row[Any, Any, Outcome], ...] = (
    Row("RUNNER-50", TurnRunning, TurnRequested, strange, lost),
    Row("RUNNER-51", TurnRunning, TurnRequested, stopped, turn_away),
    Row("RUNNER-52", TurnRunning, TurnRequested, startable, go),
    Row("RUNNER-53", TurnRunning, TurnRequested, late, park),
    Row("RUNNER-54", TurnRunning, TurnRequested, writable, write),
    Row("RUNNER-55", TurnRunning, TurnRequested, busy, enqueue),
    Row("RUNNER-56", TurnRunning, Answered, wrote, carry_on),
    Row("RUNNER-57", TurnRunning, Answered, fenced, lose_lease),
    Row("RUNNER-58", TurnRunning, Answered, committed, finish),
    Row("RUNNER-59", TurnRunning, Answered, committed_on, settle),
    Row("RUNNER-60", TurnRunning, Answered, cancelled, stop_requested),
    Row("RUNNER-61", TurnRunning, Answered, declined, decline),
    Row("RUNNER-62", TurnRunning, TurnEnded, ends, end),
    Row("RUNNER-63", TurnRunning, TurnEnded, ends_early, end),
)


def ending(s: TurnRunning) -> bool:
    """The last word is on its way already; a lost lease would only say that it has arrived."""
    return s.exit is not None or (s.pending is not None and isinstance(s.pending.what, Commit))
