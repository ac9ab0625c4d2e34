"""Renewal of the lease while it is needed.  Spec: specs/runner.md."""

from __future__ import annotations

from typing import Any

from ..outcome import Stepped
from ..replace import replace
from .answers import LeaseRenewed, RenewalDue, RenewalRefused, RenewalUnanswered
from .ending import begin_next, launch
from .protocol import (
    CancelSeen,
    Effect,
    NotifyTurn,
    Reply,
    RunnerStopReason,
    SetTimer,
    Stop,
    TurnReply,
)
from .states import (
    Core,
    HeldRun,
    Loading,
    Outcome,
    RenewalTimer,
    TurnRunning,
    final_call_pending,
    next_id,
    renew,
    retry_delay_ms,
)
from .supervision import cancel, end_holding

__all__ = [
    "ends_anyway",
    "extend",
    "ignore_late_refusal",
    "known_hint",
    "lose",
    "needs_lease",
    "new_hint",
    "postpone",
    "renew_later",
    "send_renewal",
]


# -- guards


def needs_lease(s: Any, e: RenewalDue | RenewalRefused) -> bool:
    """True if the lease is needed after the answer that is awaited."""
    return not final_call_pending(s)


def ends_anyway(s: Any, e: RenewalDue | RenewalRefused) -> bool:
    """True if the final command is in progress."""
    return final_call_pending(s)


def new_hint(s: Any, e: CancelSeen) -> bool:
    """True if a hint may report a new cancel flag of this run."""
    held_run = s.held_run
    return (
        held_run.begun.run_id == e.run_id and not held_run.cancelled and not final_call_pending(s)
    )


def known_hint(s: Any, e: CancelSeen) -> bool:
    """True if a hint reports nothing new."""
    return not new_hint(s, e)


# -- actions


def send_renewal(s: Any, e: RenewalDue | CancelSeen, clause: str) -> Outcome:
    """Send a renewal now."""
    id, core = next_id(s.core)
    held_run, effect = renew(s.held_run, id, e.now_ms)
    return Stepped(replace(s, core=core, held_run=held_run), clause, (effect,))


def postpone(s: Any, e: RenewalDue, clause: str) -> Outcome:
    """Set the timer again."""
    timer = SetTimer(s.held_run.renewal.id, e.now_ms + s.held_run.begun.ttl_ms // 3)
    return Stepped(s, clause, (timer,))


def set_renewal_timer(
    core: Core, held_run: HeldRun, at_ms: int, tries: int = 0
) -> tuple[Core, HeldRun, Effect]:
    """Set the timer for the next renewal."""
    id, core = next_id(core)
    return core, replace(held_run, renewal=RenewalTimer(id, tries)), SetTimer(id, at_ms)


def extend(s: Any, e: LeaseRenewed, clause: str) -> Outcome:
    """Set the deadline from the renewal's own sending, and begin what waited for it."""
    sent_ms, ttl_ms = s.held_run.renewal.sent_ms, e.answer.ttl_ms
    core, held_run, timer = set_renewal_timer(s.core, s.held_run, sent_ms + ttl_ms // 3)
    held_run = replace(
        held_run, deadline_ms=sent_ms + ttl_ms, cancel=e.answer.cancel or held_run.cancel
    )
    s = replace(s, core=core, held_run=held_run)
    if isinstance(s, TurnRunning):
        return start_parked(s, e, clause, timer)
    if isinstance(s, Loading) and s.loaded is not None:
        if held_run.cancelled or core.draining:
            return begin_next(core, held_run, e.now_ms, clause, (timer,))
        if held_run.on_time(e.now_ms):
            return launch(core, held_run, s.loaded, e.now_ms, clause, (timer,))
    return Stepped(s, clause, (timer,))


def start_parked(s: TurnRunning, e: LeaseRenewed, clause: str, timer: Effect) -> Outcome:
    """Begin the effects that waited for the renewal, unless the run was asked to stop (RUNNER-71).

    Tell the code if it may be steered (RUNNER-115).
    """
    effects: tuple[Effect, ...] = (timer,)
    if s.held_run.cancel is not None:
        s, notice = cancel(s, s.held_run.cancel, e.now_ms)
        effects += notice
    if e.answer.steering and s.exit is None:
        effects += (NotifyTurn(s.supervision.turn_id, TurnReply.STEERED),)
    if s.parked and s.held_run.on_time(e.now_ms):
        effects += tuple([Reply(id, TurnReply.PROCEED) for id in s.parked])
        s = replace(s, parked=())
    return Stepped(s, clause, effects)


def lose(s: Any, e: RenewalRefused, clause: str) -> Outcome:
    """End the holding without another write."""
    return end_holding(s, Stop(RunnerStopReason.FENCED, e.answer, True), e.now_ms, clause)


def ignore_late_refusal(s: Any, e: RenewalRefused, clause: str) -> Outcome:
    """Wait for the answer to the final command, which overtook the renewal."""
    at_ms = e.now_ms + s.held_run.begun.ttl_ms // 3
    core, held_run, timer = set_renewal_timer(s.core, s.held_run, at_ms)
    return Stepped(replace(s, core=core, held_run=held_run), clause, (timer,))


def renew_later(s: Any, e: RenewalUnanswered, clause: str) -> Outcome:
    """Set the timer for the next attempt."""
    tries = s.held_run.renewal.tries
    at_ms = e.now_ms + retry_delay_ms(tries)
    core, held_run, timer = set_renewal_timer(s.core, s.held_run, at_ms, tries + 1)
    return Stepped(replace(s, core=core, held_run=held_run), clause, (timer,))
