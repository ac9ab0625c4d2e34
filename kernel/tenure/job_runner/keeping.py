"""Renewal of a job's lease, hints, and retries of calls that were not answered.  Spec: specs/job-runner.md."""

from __future__ import annotations

from typing import Any

from ..commands import LetGo
from ..outcome import Stepped
from ..replace import replace
from ..runner.protocol import (
    OutcomeUnknown,
    Reply,
    RunnerStopReason,
    SetTimer,
    StoreUnavailable,
)
from ..runner.states import RenewalTimer, resend, retry_delay_ms, wait
from .answers import LeaseRenewed, RenewalDue, RenewalRefused, RenewalUnanswered, RetryDue
from .ending import stop
from .protocol import Effect, JobHinted, JobLeft, Stop, WorkReply, WorkRequested
from .states import (
    Core,
    Ending,
    HeldJob,
    Outcome,
    Reading,
    Request,
    Taking,
    Working,
    next_id,
    renew,
)
from .work import cancel, follow, park

__all__ = [
    "ask_again",
    "extend",
    "extend_work",
    "give_up",
    "ignore_late_refusal",
    "park_and_renew",
    "postpone",
    "renew_later",
    "retry",
    "send_renewal",
    "should_give_up",
    "should_retry",
    "wait_unavailable",
    "wait_unsure",
]


# -- the renewal


def send_renewal(s: Any, e: RenewalDue | JobHinted | WorkRequested, clause: str) -> Outcome:
    """Send a renewal now."""
    id, core = next_id(s.core)
    held, effect = renew(s.held, id, e.now_ms)
    return Stepped(replace(s, core=core, held=held), clause, (effect,))


def park_and_renew(s: Working, e: WorkRequested, clause: str) -> Outcome:
    """Let an effect wait for a renewal, which is in progress or is sent now."""
    parked = park(s, e, clause)
    if not isinstance(s.held.renewal, RenewalTimer):
        return parked
    return send_renewal(parked.state, e, clause)


def postpone(s: Ending, e: RenewalDue, clause: str) -> Outcome:
    """Set the timer again."""
    at_ms = e.now_ms + s.held.ttl_ms // 3
    return Stepped(s, clause, (SetTimer(s.held.renewal.id, at_ms),))


def set_renewal_timer(
    core: Core, held: HeldJob, at_ms: int, tries: int = 0
) -> tuple[Core, HeldJob, Effect]:
    """Set the timer for the next renewal."""
    id, core = next_id(core)
    return core, replace(held, renewal=RenewalTimer(id, tries)), SetTimer(id, at_ms)


def renewed(s: Any, e: LeaseRenewed) -> tuple[Any, Effect]:
    """Set the deadline from the renewal's own sending, and note a cancel."""
    sent_ms, ttl_ms = s.held.renewal.sent_ms, e.answer.ttl_ms
    core, held, timer = set_renewal_timer(s.core, s.held, sent_ms + ttl_ms // 3)
    cancelled = held.cancelled or e.answer.cancel is not None
    held = replace(held, deadline_ms=sent_ms + ttl_ms, cancelled=cancelled)
    return replace(s, core=core, held=held), timer


def extend(s: Any, e: LeaseRenewed, clause: str) -> Outcome:
    """Set the deadline and the next timer."""
    s, timer = renewed(s, e)
    return Stepped(s, clause, (timer,))


def extend_work(s: Working, e: LeaseRenewed, clause: str) -> Outcome:
    """Also notify the work of a cancel, begin what waited, and ask again for signals that have not come."""
    s, timer = renewed(s, e)
    effects: tuple[Effect, ...] = (timer,)
    if s.held.cancelled:
        s, notice = cancel(s, e.now_ms)
        effects += notice
    if s.late and s.held.on_time(e.now_ms):
        effects += tuple([Reply(id, WorkReply.PROCEED) for id in s.late])
        s = replace(s, late=())
    return _ask_again(s, e.now_ms, clause, effects)


def ask_again(s: Working, e: JobHinted, clause: str) -> Outcome:
    """Renew, to find out if the job was asked to end, and ask again for signals that have not come."""
    outcome = send_renewal(s, e, clause)
    return _ask_again(outcome.state, e.now_ms, clause, outcome.effects)


def _ask_again(s: Any, now_ms: int, clause: str, effects: tuple[Effect, ...]) -> Outcome:
    awaiting: tuple[Request, ...] = s.awaiting
    s = replace(s, queue=(*s.queue, *awaiting), awaiting=())
    if s.pending is None and s.queue:
        return follow(s, now_ms, clause, effects)
    return Stepped(s, clause, effects)


def renew_later(s: Any, e: RenewalUnanswered, clause: str) -> Outcome:
    """Set the timer for the next attempt.  An unanswered renewal is no lost lease."""
    tries = s.held.renewal.tries
    at_ms = e.now_ms + retry_delay_ms(tries)
    core, held, timer = set_renewal_timer(s.core, s.held, at_ms, tries + 1)
    return Stepped(replace(s, core=core, held=held), clause, (timer,))


def ignore_late_refusal(s: Ending, e: RenewalRefused, clause: str) -> Outcome:
    """Wait for the answer to the final command, which may have overtaken the renewal."""
    core, held, timer = set_renewal_timer(s.core, s.held, e.now_ms + s.held.ttl_ms // 3)
    return Stepped(replace(s, core=core, held=held), clause, (timer,))


# -- retries


def should_give_up(s: Any, e: RetryDue) -> bool:
    """True if the answer is useless by now: even if the call succeeded, its lease has expired."""
    pending, core = s.pending, s.core
    if isinstance(s, Reading | Taking):
        expired = e.now_ms > pending.first_ms + core.config.ttl_ms
        return expired or (core.draining and not pending.unsure)
    gives_back = isinstance(s, Ending) and isinstance(pending.what, LetGo)
    return gives_back and not s.held.on_time(e.now_ms)


def should_retry(s: Any, e: RetryDue) -> bool:
    """True if the answer is still needed."""
    return not should_give_up(s, e)


def retry(s: Any, e: RetryDue, clause: str) -> Outcome:
    """Send the same call again."""
    pending, effect = resend(s.pending, e.now_ms)
    return Stepped(replace(s, pending=pending), clause, (effect,))


def give_up(s: Any, e: RetryDue, clause: str) -> Outcome:
    """Stop.  If a lease was granted, it lapses."""
    left = JobLeft.GIVEN_UP if isinstance(s, Ending) else None
    return stop(Stop(RunnerStopReason.UNAVAILABLE, None, left), clause)


def wait_unavailable(s: Any, e: StoreUnavailable, clause: str) -> Outcome:
    """Wait for the next attempt at a call that was certainly not executed."""
    pending, effect = wait(s.pending, e.now_ms, unsure=False)
    return Stepped(replace(s, pending=pending), clause, (effect,))


def wait_unsure(s: Any, e: OutcomeUnknown, clause: str) -> Outcome:
    """Wait for the next attempt at a call that may have been executed."""
    pending, effect = wait(s.pending, e.now_ms, unsure=True)
    return Stepped(replace(s, pending=pending), clause, (effect,))
