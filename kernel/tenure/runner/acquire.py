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
from .protocol import Answered, CheckProcess, ProcessChecked, RunnerStopReason, SetTimer, Stop
from .states import (
    ROUNDS_MAX,
    Acquiring,
    CheckingHolder,
    Core,
    HeldRun,
    Outcome,
    RenewalTimer,
    RunnerConfig,
    Stopped,
    number,
    reports,
    send,
)


@frozen
class CurrentLease(Question[Held | None]):
    """The lease on the row of a session, live or not."""

    session_id: str

    def steps(self) -> Generator[Query[Any], Any, Held | None]:
        session = yield Get(Session, (self.session_id,))
        lease = None if session is None else session.lease
        return lease if isinstance(lease, Held) else None


def start(config: RunnerConfig, now_ms: int) -> Outcome:
    """RUNNER-1: the first order of a runner is its Begin."""
    return issue(Core(config), begin(config), now_ms, "RUNNER-1")


def begin(config: RunnerConfig) -> Begin:
    return Begin(
        config.session_id, config.lease_id, config.run_id, config.owner,
        config.ttl_ms, config.limit, config.limit_bytes,
    )  # fmt: skip


def issue(core: Core, what: Any, now_ms: int, clause: str) -> Outcome:
    id, core = number(core)
    sent, effect = send(what, id, now_ms)
    return Stepped(Acquiring(core, sent), clause, (effect,))


# -- guards


def same_place(mine: LocalProcess | None, other: LocalProcess | None) -> bool:
    """Can what I see of processes tell anything about that one?"""
    return (
        mine is not None
        and other is not None
        and (mine.host, mine.boot, mine.pid_namespace)
        == (other.host, other.boot, other.pid_namespace)
    )


def may_try(s: Acquiring) -> bool:
    return s.core.rounds < ROUNDS_MAX and s.core.draining_ms is None


def got(s: Acquiring, e: Answered) -> bool:
    return reports(s, e) and isinstance(e.answer, Begun)


def _swept(answer: Any) -> bool:
    """Something is due that needs no lease."""
    if isinstance(answer, Refused):
        detail = answer.detail
        return answer.reason is Refusal.HELD and isinstance(detail, Holder) and detail.sweep
    return isinstance(answer, NothingDue) and answer.sweep


def swept_first(s: Acquiring, e: Answered) -> bool:
    return reports(s, e) and isinstance(s.pending.what, Begin) and _swept(e.answer) and may_try(s)


def nothing(s: Acquiring, e: Answered) -> bool:
    return (
        reports(s, e) and isinstance(e.answer, NothingDue) and not (e.answer.sweep and may_try(s))
    )


def before(s: Acquiring, e: Answered) -> bool:
    return reports(s, e) and isinstance(e.answer, BegunBefore)


def _begin_refused(s: Acquiring, e: Answered) -> bool:
    return reports(s, e) and isinstance(s.pending.what, Begin) and isinstance(e.answer, Refused)


def held(s: Acquiring, e: Answered) -> bool:
    reason = Refusal.HELD
    return (
        _begin_refused(s, e) and e.answer.reason is reason and may_try(s) and not _swept(e.answer)
    )


def held_late(s: Acquiring, e: Answered) -> bool:
    return _begin_refused(s, e) and e.answer.reason is Refusal.HELD and not may_try(s)


def refused(s: Acquiring, e: Answered) -> bool:
    return _begin_refused(s, e) and e.answer.reason is not Refusal.HELD


def cleared(s: Acquiring, e: Answered) -> bool:
    return reports(s, e) and isinstance(s.pending.what, Sweep | Reclaim)


def near(s: Acquiring, e: Answered) -> bool:
    return (
        reports(s, e)
        and isinstance(e.answer, Held)
        and same_place(s.core.config.owner.process, e.answer.owner.process)
    )


def far(s: Acquiring, e: Answered) -> bool:
    return (
        reports(s, e)
        and isinstance(e.answer, Held)
        and not same_place(s.core.config.owner.process, e.answer.owner.process)
    )


def gone(s: Acquiring, e: Answered) -> bool:
    return reports(s, e) and isinstance(s.pending.what, CurrentLease) and e.answer is None


def dead(s: CheckingHolder, e: ProcessChecked) -> bool:
    return s.id == e.id and e.evidence is Evidence.DEAD


def alive(s: CheckingHolder, e: ProcessChecked) -> bool:
    return s.id == e.id and e.evidence is not Evidence.DEAD


# -- actions


def obtain(s: Acquiring, e: Answered, clause: str) -> Outcome:
    """Our time counts from the sending that may have granted."""
    begun = e.answer
    id, core = number(s.core)
    sent = s.pending.sent_ms
    held_run = HeldRun(begun, sent + begun.ttl_ms, RenewalTimer(id), begun.n, begun.cancel)
    timer = SetTimer(id, sent + begun.ttl_ms // 3)
    return begin_next(core, held_run, e.now_ms, clause, (timer,))


def sweep(s: Acquiring, e: Answered, clause: str) -> Outcome:
    core = replace(s.core, rounds=s.core.rounds + 1)
    return issue(core, Sweep(core.config.session_id), e.now_ms, clause)


def begin_again(s: Acquiring, e: Answered, clause: str) -> Outcome:
    """No Begin so far left a record, so its ids are still unused."""
    return issue(s.core, begin(s.core.config), e.now_ms, clause)


def stop_idle(s: Acquiring, e: Answered, clause: str) -> Outcome:
    return Stepped(Stopped(), clause, (Stop(RunnerStopReason.NOTHING_DUE, e.answer.due_at_ms),))


def stop_fenced(s: Acquiring, e: Answered, clause: str) -> Outcome:
    return Stepped(Stopped(), clause, (Stop(RunnerStopReason.FENCED, e.answer),))


def stop_refused(s: Acquiring, e: Answered, clause: str) -> Outcome:
    return Stepped(Stopped(), clause, (Stop(RunnerStopReason.REFUSED, e.answer),))


def stop_held(s: Acquiring, e: Answered, clause: str) -> Outcome:
    return Stepped(Stopped(), clause, (Stop(RunnerStopReason.HELD, e.answer),))


def ask_who(s: Acquiring, e: Answered, clause: str) -> Outcome:
    core = replace(s.core, rounds=s.core.rounds + 1)
    return issue(core, CurrentLease(core.config.session_id), e.now_ms, clause)


def examine(s: Acquiring, e: Answered, clause: str) -> Outcome:
    id, core = number(s.core)
    return Stepped(
        CheckingHolder(core, id, e.answer), clause, (CheckProcess(id, e.answer.owner.process),)
    )


def reclaim(s: CheckingHolder, e: ProcessChecked, clause: str) -> Outcome:
    seen = Fence(s.core.config.session_id, s.held.generation, s.held.lease_id)
    command = Reclaim(seen.session_id, e.command_id, seen, e.evidence)
    return issue(s.core, command, e.now_ms, clause)


def give_way(s: CheckingHolder, e: ProcessChecked, clause: str) -> Outcome:
    return Stepped(Stopped(), clause, (Stop(RunnerStopReason.HELD, s.held),))


ACQUIRE_ROWS: tuple[Row[Any, Any, Outcome], ...] = (
    Row("RUNNER-2", Acquiring, Answered, got, obtain),
    Row("RUNNER-3", Acquiring, Answered, swept_first, sweep),
    Row("RUNNER-4", Acquiring, Answered, nothing, stop_idle),
    Row("RUNNER-5", Acquiring, Answered, before, stop_fenced),
    Row("RUNNER-6", Acquiring, Answered, held, ask_who),
    Row("RUNNER-7", Acquiring, Answered, held_late, stop_held),
    Row("RUNNER-7", Acquiring, Answered, refused, stop_refused),
    Row("RUNNER-8", Acquiring, Answered, cleared, begin_again),
    Row("RUNNER-8", Acquiring, Answered, gone, begin_again),
    Row("RUNNER-9", Acquiring, Answered, near, examine),
    Row("RUNNER-10", Acquiring, Answered, far, stop_held),
    Row("RUNNER-11", CheckingHolder, ProcessChecked, dead, reclaim),
    Row("RUNNER-10", CheckingHolder, ProcessChecked, alive, give_way),
)
