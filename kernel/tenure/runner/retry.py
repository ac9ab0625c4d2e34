"""Retries of calls that were not answered, and calls that can never be executed.  Spec: specs/runner.md."""

from __future__ import annotations

from typing import Any

from ..commands import Release
from ..outcome import Stepped
from ..replace import replace
from .answers import RetryDue
from .protocol import OutcomeUnknown, RunnerStopReason, Stop, StoreBroken, StoreUnavailable
from .states import HOLDING, Acquiring, Outcome, Stopped, TurnRunning, resend, wait
from .supervision import end_holding

__all__ = [
    "give_up",
    "retry",
    "should_give_up",
    "should_retry",
    "stop_broken",
    "wait_unavailable",
    "wait_unsure",
]


# -- guards


def should_give_up(s: Any, e: RetryDue) -> bool:
    """True if the answer is useless by now: even if the call succeeded, its lease has expired."""
    pending, core, now_ms = s.pending, s.core, e.now_ms
    if isinstance(s, Acquiring):
        expired = now_ms > pending.first_ms + core.config.ttl_ms
        return expired or (core.draining and not pending.unsure)
    if isinstance(s, TurnRunning) and s.exit is None:
        return False
    gives_back = core.draining or isinstance(pending.what, Release)
    return gives_back and not s.held_run.on_time(now_ms)


def should_retry(s: Any, e: RetryDue) -> bool:
    """True if the answer is still needed."""
    return not should_give_up(s, e)


# -- actions


def retry(s: Any, e: RetryDue, clause: str) -> Outcome:
    """Send the same call again."""
    pending, effect = resend(s.pending, e.now_ms)
    return Stepped(replace(s, pending=pending), clause, (effect,))


def give_up(s: Any, e: RetryDue, clause: str) -> Outcome:
    """Stop.  If a lease was granted, it lapses."""
    stop = Stop(RunnerStopReason.UNAVAILABLE, begun=isinstance(s, HOLDING))
    return Stepped(Stopped(), clause, (stop,))


def wait_unavailable(s: Any, e: StoreUnavailable, clause: str) -> Outcome:
    """Wait for the next attempt at a call that was certainly not executed."""
    pending, effect = wait(s.pending, e.now_ms, unsure=False)
    return Stepped(replace(s, pending=pending), clause, (effect,))


def wait_unsure(s: Any, e: OutcomeUnknown, clause: str) -> Outcome:
    """Wait for the next attempt at a call that may have been executed."""
    pending, effect = wait(s.pending, e.now_ms, unsure=True)
    return Stepped(replace(s, pending=pending), clause, (effect,))


def stop_broken(s: Any, e: StoreBroken, clause: str) -> Outcome:
    """End the holding: the call can never be executed."""
    stop = Stop(RunnerStopReason.BROKEN, e.message, isinstance(s, HOLDING))
    return end_holding(s, stop, e.now_ms, clause)
