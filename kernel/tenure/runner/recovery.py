"""Sending again, time that is up, drain, and reports that nobody waits for.  Spec: specs/runner.md."""

from __future__ import annotations

from typing import Any

from ..commands import Release
from ..outcome import Stepped
from ..replace import replace
from ..rules import Row
from .ending import begin_next, stop
from .execute import end_turn, lost
from .protocol import (
    Abandoned,
    Answered,
    CancelSeen,
    Drain,
    NotifyTurn,
    OutcomeUnknown,
    ProcessChecked,
    Reply,
    RunnerStopReason,
    Stop,
    StoreBroken,
    StoreUnavailable,
    TimerFired,
    TurnEnded,
    TurnReply,
    TurnRequested,
)
from .renewal import no_change, without_lease
from .states import (
    Acquiring,
    CheckingHolder,
    Ending,
    LeaseLost,
    Loading,
    Outcome,
    Stopped,
    SupervisionStage,
    TurnCommitted,
    TurnRunning,
    TurnStopReason,
    awake,
    begins_renewal,
    of_renewal,
    reports,
    sleep,
    wakes,
)
from .supervision import cut, warn

ORDERING = (Acquiring, Loading, TurnRunning, Ending)
WATCHING = (TurnRunning, TurnCommitted, LeaseLost)
STATES = (
    Acquiring,
    CheckingHolder,
    Loading,
    TurnRunning,
    TurnCommitted,
    LeaseLost,
    Ending,
    Stopped,
)

# -- the same again


def should_give_up(s: Any, now_ms: int) -> bool:
    """Nobody is served by waiting longer for this answer: a lease that was granted is over by itself."""
    pending, core = s.pending, s.core
    draining = core.draining_ms is not None
    if isinstance(s, Acquiring):
        over = now_ms > pending.first_ms + core.config.ttl_ms
        return over or (draining and not pending.unsure)
    if isinstance(s, TurnRunning) and s.exit is None:
        return False
    letting_go = draining or isinstance(pending.what, Release)
    return letting_go and not s.held_run.on_time(now_ms)


def again(s: Any, e: TimerFired) -> bool:
    return wakes(s, e) and not should_give_up(s, e.now_ms)


def too_late(s: Any, e: TimerFired) -> bool:
    return wakes(s, e) and should_give_up(s, e.now_ms)


def retry(s: Any, e: TimerFired, clause: str) -> Outcome:
    pending, effect = awake(s.pending, e.now_ms)
    return Stepped(replace(s, pending=pending), clause, (effect,))


def give_up(s: Any, e: TimerFired, clause: str) -> Outcome:
    return Stepped(Stopped(), clause, (Stop(RunnerStopReason.UNAVAILABLE),))


def wait_unavailable(s: Any, e: StoreUnavailable, clause: str) -> Outcome:
    pending, effect = sleep(s.pending, e.now_ms, unsure=False)
    return Stepped(replace(s, pending=pending), clause, (effect,))


def wait_unsure(s: Any, e: OutcomeUnknown, clause: str) -> Outcome:
    pending, effect = sleep(s.pending, e.now_ms, unsure=True)
    return Stepped(replace(s, pending=pending), clause, (effect,))


def awaited(s: Any, e: Any) -> bool:
    """This report is waited for, by whatever."""
    ordered = hasattr(s, "pending") and reports(s, e)
    return ordered or (hasattr(s, "held_run") and of_renewal(s, e))


def stray(s: Any, e: Any) -> bool:
    return not awaited(s, e)


def break_off(s: Any, e: StoreBroken, clause: str) -> Outcome:
    return without_lease(s, Stop(RunnerStopReason.BROKEN, e.message), e.now_ms, clause)


RETRY_ROWS: tuple[Row[Any, Any, Outcome], ...] = tuple(
    row
    for state in ORDERING
    for row in (
        Row("RUNNER-80", state, StoreUnavailable, reports, wait_unavailable),
        Row("RUNNER-81", state, OutcomeUnknown, reports, wait_unsure),
        Row("RUNNER-82", state, TimerFired, again, retry),
        Row("RUNNER-83", state, TimerFired, too_late, give_up),
    )
)
BROKEN_ROWS: tuple[Row[Any, Any, Outcome], ...] = tuple(
    Row("RUNNER-84", state, StoreBroken, awaited, break_off) for state in (*ORDERING, TurnCommitted)
)

# -- time that is up


def watched(s: Any) -> bool:
    return not isinstance(s, TurnRunning) or s.exit is None


def _up(s: Any, e: TimerFired) -> bool:
    return watched(s) and bool(s.supervision.timer == e.id)


def out_of_time(s: TurnRunning, e: TimerFired) -> bool:
    return _up(s, e) and s.supervision.stage is SupervisionStage.RUNNING


def grace_over(s: TurnRunning, e: TimerFired) -> bool:
    return _up(s, e) and s.supervision.stage is SupervisionStage.NOTIFIED


def lingers(s: TurnCommitted | LeaseLost, e: TimerFired) -> bool:
    return _up(s, e) and s.supervision.stage is not SupervisionStage.INTERRUPTED


def hangs(s: Any, e: TimerFired) -> bool:
    return _up(s, e) and s.supervision.stage is SupervisionStage.INTERRUPTED


def time_out(s: TurnRunning, e: TimerFired, clause: str) -> Outcome:
    core, supervision, effects = cut(s.core, s.supervision, e.now_ms)
    s = replace(s, core=core, supervision=supervision, stop_reason=TurnStopReason.TIMED_OUT)
    return Stepped(s, clause, (NotifyTurn(supervision.turn_id, TurnReply.TIMED_OUT), *effects))


def interrupt(s: Any, e: TimerFired, clause: str) -> Outcome:
    core, supervision, effects = cut(s.core, s.supervision, e.now_ms)
    return Stepped(replace(s, core=core, supervision=supervision), clause, effects)


def abandon(s: Any, e: TimerFired, clause: str) -> Outcome:
    """Its code does not end: we do.  Whatever it asks later is told that it is lost."""
    if isinstance(s, TurnRunning):
        return end_turn(s, Abandoned(), e.now_ms, clause)
    if isinstance(s, TurnCommitted):
        return begin_next(s.core, s.held_run, e.now_ms, clause)
    return stop(s, e, clause)


DEADLINE_ROWS: tuple[Row[Any, Any, Outcome], ...] = (
    Row("RUNNER-85", TurnRunning, TimerFired, out_of_time, time_out),
    Row("RUNNER-86", TurnRunning, TimerFired, grace_over, interrupt),
    Row("RUNNER-86", TurnCommitted, TimerFired, lingers, interrupt),
    Row("RUNNER-86", LeaseLost, TimerFired, lingers, interrupt),
    Row("RUNNER-87", TurnRunning, TimerFired, hangs, abandon),
    Row("RUNNER-87", TurnCommitted, TimerFired, hangs, abandon),
    Row("RUNNER-87", LeaseLost, TimerFired, hangs, abandon),
)

# -- drain


def at_work(s: TurnRunning, e: Drain) -> bool:
    return s.stop_reason is None and s.exit is None


def ending_already(s: TurnRunning, e: Drain) -> bool:
    return s.stop_reason is not None or s.exit is not None


def any_drain(s: Any, e: Drain) -> bool:
    return True


def note_drain(s: Any, e: Drain, clause: str) -> Outcome:
    return Stepped(replace(s, core=s.core.drain(e.grace_ms)), clause)


def drain_turn(s: Any, e: Drain, clause: str) -> Outcome:
    core, supervision, effects = warn(
        s.core.drain(e.grace_ms), s.supervision, e.now_ms + e.grace_ms
    )
    s = replace(s, core=core, supervision=supervision)
    return Stepped(
        replace(s, stop_reason=TurnStopReason.DRAINING) if isinstance(s, TurnRunning) else s,
        clause,
        effects,
    )


DRAIN_ROWS: tuple[Row[Any, Any, Outcome], ...] = (
    *[
        Row("RUNNER-88", s, Drain, any_drain, note_drain)
        for s in (Acquiring, CheckingHolder, Loading, Ending)
    ],
    Row("RUNNER-88", TurnRunning, Drain, ending_already, note_drain),
    Row("RUNNER-89", TurnRunning, Drain, at_work, drain_turn),
    Row("RUNNER-89", TurnCommitted, Drain, any_drain, drain_turn),
    Row("RUNNER-89", LeaseLost, Drain, any_drain, drain_turn),
    Row("RUNNER-90", Stopped, Drain, any_drain, no_change),
)

# -- what nobody waits for


def stray_timer(s: Any, e: TimerFired) -> bool:
    expected = (
        (hasattr(s, "pending") and wakes(s, e))
        or (hasattr(s, "held_run") and begins_renewal(s, e))
        or (hasattr(s, "supervision") and _up(s, e))
    )
    return not expected


def stray_proof(s: Any, e: ProcessChecked) -> bool:
    return not isinstance(s, CheckingHolder) or s.id != e.id


def stray_end(s: Any, e: TurnEnded) -> bool:
    own = hasattr(s, "supervision") and watched(s) and s.supervision.turn_id == e.turn_id
    return not own


def elsewhere(s: Any, e: CancelSeen) -> bool:
    return True


def own_request(s: Any, e: TurnRequested) -> bool:
    return bool(s.supervision.turn_id == e.turn_id)


def strange_request(s: Any, e: TurnRequested) -> bool:
    return bool(s.supervision.turn_id != e.turn_id)


def any_request(s: Any, e: TurnRequested) -> bool:
    return True


def answer_settled(s: TurnCommitted, e: TurnRequested, clause: str) -> Outcome:
    return Stepped(s, clause, (Reply(e.id, TurnReply.COMMITTED),))


def answer_outlived(s: LeaseLost, e: TurnRequested, clause: str) -> Outcome:
    return Stepped(s, clause, (Reply(e.id, s.answer),))


STALE_ROWS: tuple[Row[Any, Any, Outcome], ...] = (
    *[
        Row("RUNNER-90", state, report, stray, no_change)
        for state in STATES
        for report in (Answered, StoreUnavailable, OutcomeUnknown, StoreBroken)
    ],
    *[Row("RUNNER-90", state, TimerFired, stray_timer, no_change) for state in STATES],
    *[Row("RUNNER-90", state, ProcessChecked, stray_proof, no_change) for state in STATES],
    *[Row("RUNNER-90", state, TurnEnded, stray_end, no_change) for state in STATES],
    *[
        Row("RUNNER-78", s, CancelSeen, elsewhere, no_change)
        for s in (Acquiring, CheckingHolder, LeaseLost, Stopped)
    ],
    Row("RUNNER-91", TurnCommitted, TurnRequested, own_request, answer_settled),
    Row("RUNNER-91", LeaseLost, TurnRequested, own_request, answer_outlived),
    *[
        Row("RUNNER-50", s, TurnRequested, strange_request, lost)
        for s in (TurnCommitted, LeaseLost)
    ],
    *[
        Row("RUNNER-50", s, TurnRequested, any_request, lost)
        for s in (Acquiring, CheckingHolder, Loading, Ending, Stopped)
    ],
)
