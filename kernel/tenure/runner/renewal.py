"""Keeping the lease while it is needed.  Spec: specs/runner.md."""

from __future__ import annotations

from typing import Any

from ..commands import Renewed
from ..outcome import Refused, Stepped
from ..replace import replace
from ..rules import Row
from .ending import asked_to_stop, begin_next, launch
from .execute import ending
from .protocol import (
    Answered,
    CancelSeen,
    Effect,
    OutcomeUnknown,
    Reply,
    RunnerStopReason,
    SetTimer,
    Stop,
    StoreUnavailable,
    TimerFired,
    TurnReply,
)
from .states import (
    Core,
    Ending,
    HeldRun,
    LeaseLost,
    Loading,
    Outcome,
    RenewalTimer,
    Stopped,
    TurnCommitted,
    TurnRunning,
    again_ms,
    begins_renewal,
    number,
    of_renewal,
    renew,
)
from .supervision import cancel, lose, warn

# -- renewal


def at_rest(s: Any) -> bool:
    """The lease matters for longer than the answer that is awaited."""
    return isinstance(s, Loading | TurnCommitted) or (isinstance(s, TurnRunning) and not ending(s))


def ending_call_pending(s: Any) -> bool:
    return isinstance(s, Ending) or (isinstance(s, TurnRunning) and ending(s))


def renews(s: Any, e: TimerFired) -> bool:
    return begins_renewal(s, e) and at_rest(s)


def postpones(s: Any, e: TimerFired) -> bool:
    return begins_renewal(s, e) and ending_call_pending(s)


def renewed(s: Any, e: Answered) -> bool:
    return of_renewal(s, e) and isinstance(e.answer, Renewed)


def unrenewed(s: Any, e: Answered) -> bool:
    return of_renewal(s, e) and isinstance(e.answer, Refused) and at_rest(s)


def crossed(s: Any, e: Answered) -> bool:
    return of_renewal(s, e) and isinstance(e.answer, Refused) and ending_call_pending(s)


def hinted(s: Any, e: CancelSeen) -> bool:
    return s.held_run.begun.run_id == e.run_id and not asked_to_stop(s.held_run) and at_rest(s)


def unhinted(s: Any, e: CancelSeen) -> bool:
    return (
        s.held_run.begun.run_id != e.run_id or asked_to_stop(s.held_run) or ending_call_pending(s)
    )


def send_renewal(s: Any, e: Any, clause: str) -> Outcome:
    id, core = number(s.core)
    held_run, effect = renew(s.held_run, id, e.now_ms)
    return Stepped(replace(s, core=core, held_run=held_run), clause, (effect,))


def postpone(s: Any, e: TimerFired, clause: str) -> Outcome:
    timer = SetTimer(s.held_run.renewal.id, e.now_ms + s.held_run.begun.ttl_ms // 3)
    return Stepped(s, clause, (timer,))


def pause(
    core: Core, held_run: HeldRun, at_ms: int, tries: int = 0
) -> tuple[Core, HeldRun, Effect]:
    id, core = number(core)
    return core, replace(held_run, renewal=RenewalTimer(id, tries)), SetTimer(id, at_ms)


def prolong(s: Any, e: Answered, clause: str) -> Outcome:
    """Each renewal is a command of its own: our time counts from the sending that was answered."""
    sent, ttl_ms = s.held_run.renewal.sent_ms, e.answer.ttl_ms
    core, held_run, timer = pause(s.core, s.held_run, sent + ttl_ms // 3)
    held_run = replace(
        held_run, deadline_ms=sent + ttl_ms, cancel=e.answer.cancel or held_run.cancel
    )
    s = replace(s, core=core, held_run=held_run)
    if isinstance(s, TurnRunning):
        return freed(s, e, clause, timer)
    if isinstance(s, Loading) and s.loaded is not None:
        if asked_to_stop(held_run) or core.draining_ms is not None:
            return begin_next(core, held_run, e.now_ms, clause, (timer,))
        if held_run.on_time(e.now_ms):
            return launch(core, held_run, s.loaded, e.now_ms, clause, (timer,))
    return Stepped(s, clause, (timer,))


def freed(s: TurnRunning, e: Answered, clause: str, timer: Effect) -> Outcome:
    """RUNNER-71: effects that waited for our time may begin, unless the run is to stop."""
    effects: tuple[Effect, ...] = (timer,)
    if s.held_run.cancel is not None:
        s, effects_before = cancel(s, s.held_run.cancel, e.now_ms)
        effects += effects_before
    if s.parked and s.held_run.on_time(e.now_ms):
        effects += tuple([Reply(id, TurnReply.PROCEED) for id in s.parked])
        s = replace(s, parked=())
    return Stepped(s, clause, effects)


def give_up_lease(s: Any, e: Answered, clause: str) -> Outcome:
    stop = Stop(RunnerStopReason.FENCED, e.answer)
    return without_lease(s, stop, e.now_ms, clause)


def without_lease(s: Any, stop: Stop, now_ms: int, clause: str) -> Outcome:
    if isinstance(s, TurnRunning):
        return lose(s, stop, now_ms, clause)
    if isinstance(s, TurnCommitted):
        core, supervision, effects = warn(s.core, s.supervision, now_ms + s.core.config.grace_ms)
        return Stepped(LeaseLost(core, supervision, TurnReply.COMMITTED, stop), clause, effects)
    return Stepped(Stopped(), clause, (stop,))


def ignore_late_refusal(s: Any, e: Answered, clause: str) -> Outcome:
    core, held_run, timer = pause(s.core, s.held_run, e.now_ms + s.held_run.begun.ttl_ms // 3)
    return Stepped(replace(s, core=core, held_run=held_run), clause, (timer,))


def renew_later(s: Any, e: Any, clause: str) -> Outcome:
    tries = s.held_run.renewal.tries
    core, held_run, timer = pause(s.core, s.held_run, e.now_ms + again_ms(tries), tries + 1)
    return Stepped(replace(s, core=core, held_run=held_run), clause, (timer,))


def no_change(s: Any, e: Any, clause: str) -> Outcome:
    return Stepped(s, clause)


RENEWAL_ROWS: tuple[Row[Any, Any, Outcome], ...] = tuple(
    row
    for state in (Loading, TurnRunning, TurnCommitted, Ending)
    for row in (
        Row("RUNNER-70", state, TimerFired, renews, send_renewal),
        Row("RUNNER-72", state, TimerFired, postpones, postpone),
        Row("RUNNER-73", state, Answered, renewed, prolong),
        Row("RUNNER-74", state, Answered, unrenewed, give_up_lease),
        Row("RUNNER-75", state, Answered, crossed, ignore_late_refusal),
        Row("RUNNER-76", state, StoreUnavailable, of_renewal, renew_later),
        Row("RUNNER-76", state, OutcomeUnknown, of_renewal, renew_later),
        Row("RUNNER-77", state, CancelSeen, hinted, send_renewal),
        Row("RUNNER-78", state, CancelSeen, unhinted, no_change),
    )
)
