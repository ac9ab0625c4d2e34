"""Supervision of turn code: notice, interruption, the end of its lease, time limits and drain.  Spec: specs/runner.md."""

from __future__ import annotations

from typing import Any

from ..outcome import Stepped
from ..records import Cancel
from ..replace import replace
from .answers import StageTimeOver
from .ending import begin_next, end_turn, stop
from .protocol import (
    Abandoned,
    Drain,
    Effect,
    InterruptTurn,
    NotifyTurn,
    Reply,
    SetTimer,
    Stop,
    TurnReply,
    TurnRequested,
)
from .states import (
    Core,
    LeaseLost,
    Outcome,
    Request,
    Stopped,
    SupervisionStage,
    TurnCommitted,
    TurnRunning,
    TurnStopReason,
    TurnSupervision,
    next_id,
)

__all__ = [
    "abandon",
    "cancel",
    "drain_turn",
    "end_holding",
    "ends_already",
    "grace_over",
    "interrupt_turn",
    "interrupted",
    "limit_over",
    "lose",
    "may_work_on",
    "not_interrupted",
    "own_request",
    "remember_drain",
    "replies",
    "reply_committed",
    "reply_ended",
    "reply_lost",
    "strange_request",
    "time_out",
]


def notify(
    core: Core, supervision: TurnSupervision, at_ms: int
) -> tuple[Core, TurnSupervision, tuple[Effect, ...]]:
    """Start the grace period, which ends at `at_ms` (RUNNER-41)."""
    if supervision.stage is SupervisionStage.INTERRUPTED:
        return core, supervision, ()
    id, core = next_id(core)
    supervision = replace(supervision, timer=id, stage=SupervisionStage.NOTIFIED)
    return core, supervision, (SetTimer(id, at_ms),)


def interrupt(
    core: Core, supervision: TurnSupervision, now_ms: int
) -> tuple[Core, TurnSupervision, tuple[Effect, ...]]:
    """Interrupt the turn code.  It has the grace period again, before it is abandoned (RUNNER-42)."""
    id, core = next_id(core)
    effects = (InterruptTurn(supervision.turn_id), SetTimer(id, now_ms + core.config.grace_ms))
    return core, replace(supervision, timer=id, stage=SupervisionStage.INTERRUPTED), effects


def replies(requests: tuple[Request, ...], answer: Any) -> tuple[Effect, ...]:
    """Return the same reply to several requests."""
    return tuple([Reply(r.id, answer) for r in requests])


def cancel(s: TurnRunning, flag: Cancel, now_ms: int) -> tuple[TurnRunning, tuple[Effect, ...]]:
    """Notify the turn code once that its run was asked to stop (RUNNER-43)."""
    if (
        s.stop_reason is TurnStopReason.CANCELLED
        or s.exit is not None
        or flag.run_id != s.held_run.begun.run_id
    ):
        return s, ()
    core, supervision, timer = notify(s.core, s.supervision, now_ms + s.core.config.grace_ms)
    notice = NotifyTurn(supervision.turn_id, TurnReply.CANCELLED)
    parked = tuple([Reply(id, TurnReply.CANCELLED) for id in s.parked])
    s = replace(
        s, core=core, supervision=supervision, stop_reason=TurnStopReason.CANCELLED, parked=()
    )
    return s, (notice, *timer, *parked)


def lose(s: TurnRunning, stop: Stop, now_ms: int, clause: str) -> Outcome:
    """End the holding without another write: the lease belongs to another owner (RUNNER-44)."""
    if s.exit is not None:
        return Stepped(Stopped(), clause, (stop,))
    core, supervision, timer = notify(s.core, s.supervision, now_ms + s.core.config.grace_ms)
    lost = replies(s.asked + s.queue, TurnReply.LEASE_LOST)
    parked = tuple([Reply(id, TurnReply.LEASE_LOST) for id in s.parked])
    notice = NotifyTurn(supervision.turn_id, TurnReply.LEASE_LOST)
    state = LeaseLost(core, supervision, TurnReply.LEASE_LOST, stop)
    return Stepped(state, clause, (notice, *lost, *parked, *timer))


def end_holding(s: Any, stop: Stop, now_ms: int, clause: str) -> Outcome:
    """End the holding in any state without another write."""
    if isinstance(s, TurnRunning):
        return lose(s, stop, now_ms, clause)
    if isinstance(s, TurnCommitted):
        core, supervision, timer = notify(s.core, s.supervision, now_ms + s.core.config.grace_ms)
        return Stepped(LeaseLost(core, supervision, TurnReply.COMMITTED, stop), clause, timer)
    return Stepped(Stopped(), clause, (stop,))


# -- requests after the end of a turn


def own_request(s: TurnCommitted | LeaseLost, e: TurnRequested) -> bool:
    """True if the code of this state makes the request."""
    return s.supervision.turn_id == e.turn_id


def strange_request(s: TurnCommitted | LeaseLost, e: TurnRequested) -> bool:
    """True if the code of an earlier turn makes the request."""
    return s.supervision.turn_id != e.turn_id


def reply_committed(s: TurnCommitted, e: TurnRequested, clause: str) -> Outcome:
    """Reply that the turn has committed."""
    return Stepped(s, clause, (Reply(e.id, TurnReply.COMMITTED),))


def reply_ended(s: LeaseLost, e: TurnRequested, clause: str) -> Outcome:
    """Reply how the turn ended."""
    return Stepped(s, clause, (Reply(e.id, s.answer),))


def reply_lost(s: Any, e: TurnRequested, clause: str) -> Outcome:
    """Reply to the code of an earlier turn that its lease is lost."""
    return Stepped(s, clause, (Reply(e.id, TurnReply.LEASE_LOST),))


# -- time limits


def limit_over(s: TurnRunning, e: StageTimeOver) -> bool:
    """True if the turn has reached its time limit."""
    return s.supervision.stage is SupervisionStage.RUNNING


def grace_over(s: TurnRunning, e: StageTimeOver) -> bool:
    """True if the grace period after a notice is over."""
    return s.supervision.stage is SupervisionStage.NOTIFIED


def not_interrupted(s: TurnCommitted | LeaseLost, e: StageTimeOver) -> bool:
    """True if the code was not interrupted yet."""
    return s.supervision.stage is not SupervisionStage.INTERRUPTED


def interrupted(s: TurnRunning | TurnCommitted | LeaseLost, e: StageTimeOver) -> bool:
    """True if the code was interrupted and did not end."""
    return s.supervision.stage is SupervisionStage.INTERRUPTED


def time_out(s: TurnRunning, e: StageTimeOver, clause: str) -> Outcome:
    """Notify and interrupt a turn that has reached its time limit."""
    core, supervision, effects = interrupt(s.core, s.supervision, e.now_ms)
    s = replace(s, core=core, supervision=supervision, stop_reason=TurnStopReason.TIMED_OUT)
    return Stepped(s, clause, (NotifyTurn(supervision.turn_id, TurnReply.TIMED_OUT), *effects))


def interrupt_turn(s: Any, e: StageTimeOver, clause: str) -> Outcome:
    """Interrupt the turn code after its grace period."""
    core, supervision, effects = interrupt(s.core, s.supervision, e.now_ms)
    return Stepped(replace(s, core=core, supervision=supervision), clause, effects)


def abandon(s: Any, e: StageTimeOver, clause: str) -> Outcome:
    """Abandon turn code that did not stop in time.  Its later requests are answered with LEASE_LOST."""
    if isinstance(s, TurnRunning):
        return end_turn(s, Abandoned(), e.now_ms, clause)
    if isinstance(s, TurnCommitted):
        return begin_next(s.core, s.held_run, e.now_ms, clause)
    return stop(s, e, clause)


# -- drain


def may_work_on(s: TurnRunning, e: Drain) -> bool:
    """True if the turn is not ending yet."""
    return s.stop_reason is None and s.exit is None


def ends_already(s: TurnRunning, e: Drain) -> bool:
    """True if the turn is ending for another reason."""
    return not may_work_on(s, e)


def remember_drain(s: Any, e: Drain, clause: str) -> Outcome:
    """Remember the drain for later decisions."""
    return Stepped(replace(s, core=s.core.drain(e.grace_ms)), clause)


def drain_turn(s: Any, e: Drain, clause: str) -> Outcome:
    """Give the turn code the drain's grace period."""
    core, supervision, timer = notify(
        s.core.drain(e.grace_ms), s.supervision, e.now_ms + e.grace_ms
    )
    s = replace(s, core=core, supervision=supervision)
    if isinstance(s, TurnRunning):
        s = replace(s, stop_reason=TurnStopReason.DRAINING)
    return Stepped(s, clause, timer)
