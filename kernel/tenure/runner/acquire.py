"""From Begin to a lease, and what may have to go before it.  Spec: specs/runner.md."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from attrs import frozen

from ..commands import Begin, Begun, BegunBefore, NothingDue, Reclaim, Sweep
from ..machines.lease import Evidence, Fence, Held, Holder, LocalProcess
from ..outcome import Refusal, Refused, Stepped
from ..queries import Get, Query, Question
from ..records import Session
from ..replace import replace
from ..rules import Row
from .ending import begin_next
from .protocol import Answered, Examine, Examined, Reason, SetTimer, Stop
from .states import (
    ROUNDS_MAX,
    Core,
    Examining,
    Hold,
    Outcome,
    Pause,
    Plan,
    Stopped,
    Taking,
    number,
    reports,
    send,
)


@frozen
class WhoHolds(Question[Held | None]):
    """The lease on the row of a session, live or not."""

    session_id: str

    def steps(self) -> Generator[Query[Any], Any, Held | None]:
        session = yield Get(Session, (self.session_id,))
        lease = None if session is None else session.lease
        return lease if isinstance(lease, Held) else None


def start(plan: Plan, now_ms: int) -> Outcome:
    """RUNNER-1: the first order of a runner is its Begin."""
    return order(Core(plan), begin(plan), now_ms, "RUNNER-1")


def begin(plan: Plan) -> Begin:
    return Begin(
        plan.session_id, plan.lease_id, plan.run_id, plan.owner,
        plan.ttl_ms, plan.limit, plan.limit_bytes,
    )  # fmt: skip


def order(core: Core, what: Any, now_ms: int, clause: str) -> Outcome:
    id, core = number(core)
    sent, effect = send(what, id, now_ms)
    return Stepped(Taking(core, sent), clause, (effect,))


# -- guards


def same_place(mine: LocalProcess | None, other: LocalProcess | None) -> bool:
    """Can what I see of processes tell anything about that one?"""
    return (
        mine is not None
        and other is not None
        and (mine.host, mine.boot, mine.pid_namespace)
        == (other.host, other.boot, other.pid_namespace)
    )


def may_try(s: Taking) -> bool:
    return s.core.rounds < ROUNDS_MAX and s.core.draining_ms is None


def got(s: Taking, e: Answered) -> bool:
    return reports(s, e) and isinstance(e.answer, Begun)


def _swept(answer: Any) -> bool:
    """Something is due that needs no lease."""
    if isinstance(answer, Refused):
        detail = answer.detail
        return answer.reason is Refusal.HELD and isinstance(detail, Holder) and detail.sweep
    return isinstance(answer, NothingDue) and answer.sweep


def swept_first(s: Taking, e: Answered) -> bool:
    return reports(s, e) and isinstance(s.order.what, Begin) and _swept(e.answer) and may_try(s)


def nothing(s: Taking, e: Answered) -> bool:
    return (
        reports(s, e) and isinstance(e.answer, NothingDue) and not (e.answer.sweep and may_try(s))
    )


def before(s: Taking, e: Answered) -> bool:
    return reports(s, e) and isinstance(e.answer, BegunBefore)


def _begin_refused(s: Taking, e: Answered) -> bool:
    return reports(s, e) and isinstance(s.order.what, Begin) and isinstance(e.answer, Refused)


def held(s: Taking, e: Answered) -> bool:
    reason = Refusal.HELD
    return (
        _begin_refused(s, e) and e.answer.reason is reason and may_try(s) and not _swept(e.answer)
    )


def held_late(s: Taking, e: Answered) -> bool:
    return _begin_refused(s, e) and e.answer.reason is Refusal.HELD and not may_try(s)


def refused(s: Taking, e: Answered) -> bool:
    return _begin_refused(s, e) and e.answer.reason is not Refusal.HELD


def cleared(s: Taking, e: Answered) -> bool:
    return reports(s, e) and isinstance(s.order.what, Sweep | Reclaim)


def near(s: Taking, e: Answered) -> bool:
    return (
        reports(s, e)
        and isinstance(e.answer, Held)
        and same_place(s.core.plan.owner.process, e.answer.owner.process)
    )


def far(s: Taking, e: Answered) -> bool:
    return (
        reports(s, e)
        and isinstance(e.answer, Held)
        and not same_place(s.core.plan.owner.process, e.answer.owner.process)
    )


def gone(s: Taking, e: Answered) -> bool:
    return reports(s, e) and isinstance(s.order.what, WhoHolds) and e.answer is None


def dead(s: Examining, e: Examined) -> bool:
    return s.id == e.id and e.evidence is Evidence.DEAD


def alive(s: Examining, e: Examined) -> bool:
    return s.id == e.id and e.evidence is not Evidence.DEAD


# -- actions


def obtain(s: Taking, e: Answered, clause: str) -> Outcome:
    """Our time counts from the sending that may have granted."""
    begun = e.answer
    id, core = number(s.core)
    sent = s.order.sent_ms
    hold = Hold(begun, sent + begun.ttl_ms, Pause(id), begun.n, begun.cancel)
    timer = SetTimer(id, sent + begun.ttl_ms // 3)
    return begin_next(core, hold, e.now_ms, clause, (timer,))


def sweep(s: Taking, e: Answered, clause: str) -> Outcome:
    core = replace(s.core, rounds=s.core.rounds + 1)
    return order(core, Sweep(core.plan.session_id), e.now_ms, clause)


def begin_again(s: Taking, e: Answered, clause: str) -> Outcome:
    """No Begin so far left a record, so its ids are still unused."""
    return order(s.core, begin(s.core.plan), e.now_ms, clause)


def stop_idle(s: Taking, e: Answered, clause: str) -> Outcome:
    return Stepped(Stopped(), clause, (Stop(Reason.NOTHING_DUE, e.answer.due_at_ms),))


def stop_fenced(s: Taking, e: Answered, clause: str) -> Outcome:
    return Stepped(Stopped(), clause, (Stop(Reason.FENCED, e.answer),))


def stop_refused(s: Taking, e: Answered, clause: str) -> Outcome:
    return Stepped(Stopped(), clause, (Stop(Reason.REFUSED, e.answer),))


def stop_held(s: Taking, e: Answered, clause: str) -> Outcome:
    return Stepped(Stopped(), clause, (Stop(Reason.HELD, e.answer),))


def ask_who(s: Taking, e: Answered, clause: str) -> Outcome:
    core = replace(s.core, rounds=s.core.rounds + 1)
    return order(core, WhoHolds(core.plan.session_id), e.now_ms, clause)


def examine(s: Taking, e: Answered, clause: str) -> Outcome:
    id, core = number(s.core)
    return Stepped(Examining(core, id, e.answer), clause, (Examine(id, e.answer.owner.process),))


def reclaim(s: Examining, e: Examined, clause: str) -> Outcome:
    seen = Fence(s.core.plan.session_id, s.held.generation, s.held.lease_id)
    command = Reclaim(seen.session_id, e.command_id, seen, e.evidence)
    return order(s.core, command, e.now_ms, clause)


def give_way(s: Examining, e: Examined, clause: str) -> Outcome:
    return Stepped(Stopped(), clause, (Stop(Reason.HELD, s.held),))


TAKE: tuple[Row[Any, Any, Outcome], ...] = (
    Row("RUNNER-2", Taking, Answered, got, obtain),
    Row("RUNNER-3", Taking, Answered, swept_first, sweep),
    Row("RUNNER-4", Taking, Answered, nothing, stop_idle),
    Row("RUNNER-5", Taking, Answered, before, stop_fenced),
    Row("RUNNER-6", Taking, Answered, held, ask_who),
    Row("RUNNER-7", Taking, Answered, held_late, stop_held),
    Row("RUNNER-7", Taking, Answered, refused, stop_refused),
    Row("RUNNER-8", Taking, Answered, cleared, begin_again),
    Row("RUNNER-8", Taking, Answered, gone, begin_again),
    Row("RUNNER-9", Taking, Answered, near, examine),
    Row("RUNNER-10", Taking, Answered, far, stop_held),
    Row("RUNNER-11", Examining, Examined, dead, reclaim),
    Row("RUNNER-10", Examining, Examined, alive, give_way),
)
