"""While the code of a turn is at work: what it asks for, and how it ends.  Spec: specs/runner.md."""

from __future__ import annotations

from typing import Any

from ..commands import Checkpoint, Checkpointed, Commit, Committed
from ..outcome import Refusal, Refused, Stepped
from ..queries import Command
from ..records import Cancel
from ..replace import replace
from ..rules import Row
from .ending import begin_next, commit, conclude, hurry, over, take_next
from .protocol import (
    Answered,
    Effect,
    End,
    How,
    Reason,
    Record,
    Reply,
    Said,
    Start,
    Stop,
    TurnAsked,
    TurnEnded,
)
from .states import (
    Outcome,
    Outlived,
    Request,
    Settled,
    Stopped,
    Why,
    Working,
    number,
    reports,
    send,
)
from .supervision import cancel, lose, replies

ENTRIES_MAX = 64

# -- what it asks for


def own(s: Working, e: TurnAsked) -> bool:
    return s.watch.turn_id == e.turn_id and s.over is None


def strange(s: Working, e: TurnAsked) -> bool:
    return s.watch.turn_id != e.turn_id or s.over is not None


def barred(s: Working, e: TurnAsked) -> bool:
    """A turn that is to end may record what has been done and commit in time; it may begin nothing."""
    if s.why is None or s.why is Why.DRAINING:
        return False
    if isinstance(e.want, Record):
        return e.want.starts
    if isinstance(e.want, End):
        return s.why is Why.CANCELLED and not e.want.closes
    return True


def stopped(s: Working, e: TurnAsked) -> bool:
    return own(s, e) and barred(s, e)


def startable(s: Working, e: TurnAsked) -> bool:
    on_time = s.hold.on_time(e.now_ms)
    return own(s, e) and not barred(s, e) and isinstance(e.want, Start) and on_time


def late(s: Working, e: TurnAsked) -> bool:
    on_time = s.hold.on_time(e.now_ms)
    return own(s, e) and not barred(s, e) and isinstance(e.want, Start) and not on_time


def _writes(s: Working, e: TurnAsked) -> bool:
    return own(s, e) and not barred(s, e) and isinstance(e.want, Record | End)


def writable(s: Working, e: TurnAsked) -> bool:
    return _writes(s, e) and s.order is None


def busy(s: Working, e: TurnAsked) -> bool:
    return _writes(s, e) and s.order is not None


def turn_away(s: Working, e: TurnAsked, clause: str) -> Outcome:
    said = Said.CANCELLED if s.why is Why.CANCELLED else Said.TIMED_OUT
    return Stepped(s, clause, (Reply(e.id, said),))


def go(s: Working, e: TurnAsked, clause: str) -> Outcome:
    return Stepped(s, clause, (Reply(e.id, Said.GO),))


def park(s: Working, e: TurnAsked, clause: str) -> Outcome:
    core, hold, effects = hurry(s.core, s.hold, e.now_ms)
    return Stepped(replace(s, core=core, hold=hold, parked=(*s.parked, e.id)), clause, effects)


def write(s: Working, e: TurnAsked, clause: str) -> Outcome:
    after, effects = next_write(replace(s, queue=(Request(e.id, e.want),)), e.now_ms)
    return Stepped(after, clause, effects)


def enqueue(s: Working, e: TurnAsked, clause: str) -> Outcome:
    return Stepped(replace(s, queue=(*s.queue, Request(e.id, e.want))), clause)


def lost(s: Any, e: TurnAsked, clause: str) -> Outcome:
    return Stepped(s, clause, (Reply(e.id, Said.LOST),))


def next_write(s: Working, now_ms: int) -> tuple[Working, tuple[Effect, ...]]:
    """RUNNER-45: one write at a time, in the order they were asked for; reports that wait go together."""
    first = s.queue[0].want
    count = 1
    command: Command[Any, Any]
    assert not isinstance(first, Start)
    if isinstance(first, End):
        command = commit(s.core, s.hold, first)
    else:
        entries = list(first.entries)
        for request in s.queue[1:]:
            want = request.want
            if not isinstance(want, Record) or want.alone or first.alone:
                break
            if len(entries) + len(want.entries) > ENTRIES_MAX:
                break
            entries += want.entries
            count += 1
        begun, n = s.hold.begun, s.hold.n
        command = Checkpoint(
            s.core.plan.session_id, begun.fence, begun.run_id, begun.turn, n, tuple(entries),
            first.nodes, first.usage, first.environment,
        )  # fmt: skip
    id, core = number(s.core)
    order, effect = send(command, id, now_ms)
    asked, queue = s.queue[:count], s.queue[count:]
    return replace(s, core=core, order=order, asked=asked, queue=queue), (effect,)


def harmless(request: Request) -> bool:
    """What a turn that was asked to stop may still write: what has been done, and its own end as cancelled."""
    want = request.want
    return want.closes if isinstance(want, End) else isinstance(want, Record) and not want.starts


def go_on(s: Working, now_ms: int, clause: str, effects: tuple[Effect, ...]) -> Outcome:
    """The write under way was answered: the next one, or the end."""
    s = replace(s, order=None, asked=())
    if s.over is not None:
        return conclude(s, s.over, now_ms, clause, effects)
    if not s.queue:
        return Stepped(s, clause, effects)
    if s.why is Why.CANCELLED:
        keep = [r for r in s.queue if harmless(r)]
        drop = tuple([r for r in s.queue if r not in keep])
        s, effects = replace(s, queue=tuple(keep)), effects + replies(drop, Said.CANCELLED)
        if not keep:
            return Stepped(s, clause, effects)
    s, more = next_write(s, now_ms)
    return Stepped(s, clause, effects + more)


# -- the answers to its writes


def wrote(s: Working, e: Answered) -> bool:
    return reports(s, e) and isinstance(e.answer, Checkpointed) and e.answer.held


def fenced(s: Working, e: Answered) -> bool:
    if not reports(s, e):
        return False
    if isinstance(e.answer, Checkpointed):
        return not e.answer.held
    return isinstance(e.answer, Refused) and e.answer.reason is Refusal.FENCED


def committed(s: Working, e: Answered) -> bool:
    return reports(s, e) and isinstance(e.answer, Committed) and e.answer.next is None


def committed_on(s: Working, e: Answered) -> bool:
    return reports(s, e) and isinstance(e.answer, Committed) and e.answer.next is not None


def cancelled(s: Working, e: Answered) -> bool:
    return reports(s, e) and isinstance(e.answer, Refused) and e.answer.reason is Refusal.CANCELLED


def declined(s: Working, e: Answered) -> bool:
    said = (Refusal.CANCELLED, Refusal.FENCED)
    return reports(s, e) and isinstance(e.answer, Refused) and e.answer.reason not in said


def carry_on(s: Working, e: Answered, clause: str) -> Outcome:
    effects = replies(s.asked, Said.GO)
    s = replace(s, hold=replace(s.hold, n=e.answer.n))
    if e.answer.cancel is not None:
        s, told = cancel(s, e.answer.cancel, e.now_ms)
        effects = told + effects
    return go_on(s, e.now_ms, clause, effects)


def lose_lease(s: Working, e: Answered, clause: str) -> Outcome:
    return lose(s, Stop(Reason.FENCED, e.answer), e.now_ms, clause)


def _done(s: Working, e: Answered) -> tuple[Effect, ...]:
    """Its code hears that it has committed, and whatever it asked besides is too late."""
    late = replies(s.queue, Said.COMMITTED) + tuple([Reply(p, Said.COMMITTED) for p in s.parked])
    return (*replies(s.asked, e.answer), *late, over(s.hold))


def finish(s: Working, e: Answered, clause: str) -> Outcome:
    stop = Stop(Reason.DONE, e.answer)
    if s.over is not None:
        return Stepped(Stopped(), clause, (over(s.hold), stop))
    return Stepped(Outlived(s.core, s.watch, Said.COMMITTED, stop), clause, _done(s, e))


def settle(s: Working, e: Answered, clause: str) -> Outcome:
    core, hold = take_next(s.core, s.hold, e.answer.next)
    if s.over is not None:
        return begin_next(core, hold, e.now_ms, clause, (over(s.hold),))
    return Stepped(Settled(core, hold, s.watch), clause, _done(s, e))


def told_to_stop(s: Working, e: Answered, clause: str) -> Outcome:
    refused = replies(s.asked, Said.CANCELLED)
    flag = e.answer.detail
    if isinstance(flag, Cancel):
        s, told = cancel(s, flag, e.now_ms)
        refused = told + refused
    return go_on(s, e.now_ms, clause, refused)


def decline(s: Working, e: Answered, clause: str) -> Outcome:
    return go_on(s, e.now_ms, clause, replies(s.asked, e.answer))


# -- its end


def ends(s: Working, e: TurnEnded) -> bool:
    return own_end(s, e) and s.order is None


def ends_early(s: Working, e: TurnEnded) -> bool:
    return own_end(s, e) and s.order is not None


def own_end(s: Working, e: TurnEnded) -> bool:
    return s.watch.turn_id == e.turn_id and s.over is None


def end(s: Working, e: TurnEnded, clause: str) -> Outcome:
    return leave(s, e.how, e.now_ms, clause)


def leave(s: Working, how: How, now_ms: int, clause: str) -> Outcome:
    """What it still waits for is not answered to anybody; a write under way is awaited."""
    if s.order is None:
        return conclude(s, how, now_ms, clause)
    return Stepped(replace(s, over=how, queue=(), parked=(), asked=()), clause)


WORK: tuple[Row[Any, Any, Outcome], ...] = (
    Row("RUNNER-50", Working, TurnAsked, strange, lost),
    Row("RUNNER-51", Working, TurnAsked, stopped, turn_away),
    Row("RUNNER-52", Working, TurnAsked, startable, go),
    Row("RUNNER-53", Working, TurnAsked, late, park),
    Row("RUNNER-54", Working, TurnAsked, writable, write),
    Row("RUNNER-55", Working, TurnAsked, busy, enqueue),
    Row("RUNNER-56", Working, Answered, wrote, carry_on),
    Row("RUNNER-57", Working, Answered, fenced, lose_lease),
    Row("RUNNER-58", Working, Answered, committed, finish),
    Row("RUNNER-59", Working, Answered, committed_on, settle),
    Row("RUNNER-60", Working, Answered, cancelled, told_to_stop),
    Row("RUNNER-61", Working, Answered, declined, decline),
    Row("RUNNER-62", Working, TurnEnded, ends, end),
    Row("RUNNER-63", Working, TurnEnded, ends_early, end),
)


def ending(s: Working) -> bool:
    """The last word is on its way already; a lost lease would only say that it has arrived."""
    return s.over is not None or (s.order is not None and isinstance(s.order.what, Commit))
