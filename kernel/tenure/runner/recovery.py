"""Sending again, time that is up, drain, and reports that nobody waits for.  Spec: specs/runner.md."""

from __future__ import annotations

from typing import Any

from ..commands import Release
from ..outcome import Stepped
from ..replace import replace
from ..rules import Row
from .ending import begin_next, depart
from .execute import leave, lost
from .protocol import (
    Answered,
    CancelSeen,
    Drain,
    Examined,
    Left,
    OutcomeUnknown,
    Reason,
    Reply,
    Said,
    Stop,
    StoreBroken,
    StoreUnavailable,
    Tell,
    TimerFired,
    TurnAsked,
    TurnEnded,
)
from .renewal import keep, without_lease
from .states import (
    Closing,
    Examining,
    Loading,
    Outcome,
    Outlived,
    Settled,
    Stage,
    Stopped,
    Taking,
    Why,
    Working,
    awake,
    begins_renewal,
    of_renewal,
    reports,
    sleep,
    wakes,
)
from .supervision import cut, warn

ORDERING = (Taking, Loading, Working, Closing)
WATCHING = (Working, Settled, Outlived)
STATES = (Taking, Examining, Loading, Working, Settled, Outlived, Closing, Stopped)

# -- the same again


def hopeless(s: Any, now_ms: int) -> bool:
    """Nobody is served by waiting longer for this answer: a lease that was granted is over by itself."""
    order, core = s.order, s.core
    draining = core.draining_ms is not None
    if isinstance(s, Taking):
        over = now_ms > order.first_ms + core.plan.ttl_ms
        return over or (draining and not order.unsure)
    if isinstance(s, Working) and s.over is None:
        return False
    letting_go = draining or isinstance(order.what, Release)
    return letting_go and not s.hold.on_time(now_ms)


def again(s: Any, e: TimerFired) -> bool:
    return wakes(s, e) and not hopeless(s, e.now_ms)


def too_late(s: Any, e: TimerFired) -> bool:
    return wakes(s, e) and hopeless(s, e.now_ms)


def retry(s: Any, e: TimerFired, clause: str) -> Outcome:
    order, effect = awake(s.order, e.now_ms)
    return Stepped(replace(s, order=order), clause, (effect,))


def give_up(s: Any, e: TimerFired, clause: str) -> Outcome:
    return Stepped(Stopped(), clause, (Stop(Reason.UNAVAILABLE),))


def wait_unavailable(s: Any, e: StoreUnavailable, clause: str) -> Outcome:
    order, effect = sleep(s.order, e.now_ms, unsure=False)
    return Stepped(replace(s, order=order), clause, (effect,))


def wait_unsure(s: Any, e: OutcomeUnknown, clause: str) -> Outcome:
    order, effect = sleep(s.order, e.now_ms, unsure=True)
    return Stepped(replace(s, order=order), clause, (effect,))


def awaited(s: Any, e: Any) -> bool:
    """This report is waited for, by whatever."""
    ordered = hasattr(s, "order") and reports(s, e)
    return ordered or (hasattr(s, "hold") and of_renewal(s, e))


def stray(s: Any, e: Any) -> bool:
    return not awaited(s, e)


def break_off(s: Any, e: StoreBroken, clause: str) -> Outcome:
    return without_lease(s, Stop(Reason.BROKEN, e.message), e.now_ms, clause)


AGAIN: tuple[Row[Any, Any, Outcome], ...] = tuple(
    row
    for state in ORDERING
    for row in (
        Row("RUNNER-80", state, StoreUnavailable, reports, wait_unavailable),
        Row("RUNNER-81", state, OutcomeUnknown, reports, wait_unsure),
        Row("RUNNER-82", state, TimerFired, again, retry),
        Row("RUNNER-83", state, TimerFired, too_late, give_up),
    )
)
BROKEN: tuple[Row[Any, Any, Outcome], ...] = tuple(
    Row("RUNNER-84", state, StoreBroken, awaited, break_off) for state in (*ORDERING, Settled)
)

# -- time that is up


def watched(s: Any) -> bool:
    return not isinstance(s, Working) or s.over is None


def _up(s: Any, e: TimerFired) -> bool:
    return watched(s) and bool(s.watch.timer == e.id)


def out_of_time(s: Working, e: TimerFired) -> bool:
    return _up(s, e) and s.watch.stage is Stage.FREE


def grace_over(s: Working, e: TimerFired) -> bool:
    return _up(s, e) and s.watch.stage is Stage.TOLD


def lingers(s: Settled | Outlived, e: TimerFired) -> bool:
    return _up(s, e) and s.watch.stage is not Stage.CUT


def hangs(s: Any, e: TimerFired) -> bool:
    return _up(s, e) and s.watch.stage is Stage.CUT


def time_out(s: Working, e: TimerFired, clause: str) -> Outcome:
    core, watch, effects = cut(s.core, s.watch, e.now_ms)
    s = replace(s, core=core, watch=watch, why=Why.TIMED_OUT)
    return Stepped(s, clause, (Tell(watch.turn_id, Said.TIMED_OUT), *effects))


def interrupt(s: Any, e: TimerFired, clause: str) -> Outcome:
    core, watch, effects = cut(s.core, s.watch, e.now_ms)
    return Stepped(replace(s, core=core, watch=watch), clause, effects)


def abandon(s: Any, e: TimerFired, clause: str) -> Outcome:
    """Its code does not end: we do.  Whatever it asks later is told that it is lost."""
    if isinstance(s, Working):
        return leave(s, Left(), e.now_ms, clause)
    if isinstance(s, Settled):
        return begin_next(s.core, s.hold, e.now_ms, clause)
    return depart(s, e, clause)


TIME: tuple[Row[Any, Any, Outcome], ...] = (
    Row("RUNNER-85", Working, TimerFired, out_of_time, time_out),
    Row("RUNNER-86", Working, TimerFired, grace_over, interrupt),
    Row("RUNNER-86", Settled, TimerFired, lingers, interrupt),
    Row("RUNNER-86", Outlived, TimerFired, lingers, interrupt),
    Row("RUNNER-87", Working, TimerFired, hangs, abandon),
    Row("RUNNER-87", Settled, TimerFired, hangs, abandon),
    Row("RUNNER-87", Outlived, TimerFired, hangs, abandon),
)

# -- drain


def at_work(s: Working, e: Drain) -> bool:
    return s.why is None and s.over is None


def ending_already(s: Working, e: Drain) -> bool:
    return s.why is not None or s.over is not None


def any_drain(s: Any, e: Drain) -> bool:
    return True


def note_drain(s: Any, e: Drain, clause: str) -> Outcome:
    return Stepped(replace(s, core=s.core.drain(e.grace_ms)), clause)


def drain_turn(s: Any, e: Drain, clause: str) -> Outcome:
    core, watch, effects = warn(s.core.drain(e.grace_ms), s.watch, e.now_ms + e.grace_ms)
    s = replace(s, core=core, watch=watch)
    return Stepped(replace(s, why=Why.DRAINING) if isinstance(s, Working) else s, clause, effects)


DRAIN: tuple[Row[Any, Any, Outcome], ...] = (
    *[
        Row("RUNNER-88", s, Drain, any_drain, note_drain)
        for s in (Taking, Examining, Loading, Closing)
    ],
    Row("RUNNER-88", Working, Drain, ending_already, note_drain),
    Row("RUNNER-89", Working, Drain, at_work, drain_turn),
    Row("RUNNER-89", Settled, Drain, any_drain, drain_turn),
    Row("RUNNER-89", Outlived, Drain, any_drain, drain_turn),
    Row("RUNNER-90", Stopped, Drain, any_drain, keep),
)

# -- what nobody waits for


def stray_timer(s: Any, e: TimerFired) -> bool:
    expected = (
        (hasattr(s, "order") and wakes(s, e))
        or (hasattr(s, "hold") and begins_renewal(s, e))
        or (hasattr(s, "watch") and _up(s, e))
    )
    return not expected


def stray_proof(s: Any, e: Examined) -> bool:
    return not isinstance(s, Examining) or s.id != e.id


def stray_end(s: Any, e: TurnEnded) -> bool:
    own = hasattr(s, "watch") and watched(s) and s.watch.turn_id == e.turn_id
    return not own


def elsewhere(s: Any, e: CancelSeen) -> bool:
    return True


def own_request(s: Any, e: TurnAsked) -> bool:
    return bool(s.watch.turn_id == e.turn_id)


def strange_request(s: Any, e: TurnAsked) -> bool:
    return bool(s.watch.turn_id != e.turn_id)


def any_request(s: Any, e: TurnAsked) -> bool:
    return True


def answer_settled(s: Settled, e: TurnAsked, clause: str) -> Outcome:
    return Stepped(s, clause, (Reply(e.id, Said.COMMITTED),))


def answer_outlived(s: Outlived, e: TurnAsked, clause: str) -> Outcome:
    return Stepped(s, clause, (Reply(e.id, s.answer),))


REST: tuple[Row[Any, Any, Outcome], ...] = (
    *[
        Row("RUNNER-90", state, report, stray, keep)
        for state in STATES
        for report in (Answered, StoreUnavailable, OutcomeUnknown, StoreBroken)
    ],
    *[Row("RUNNER-90", state, TimerFired, stray_timer, keep) for state in STATES],
    *[Row("RUNNER-90", state, Examined, stray_proof, keep) for state in STATES],
    *[Row("RUNNER-90", state, TurnEnded, stray_end, keep) for state in STATES],
    *[
        Row("RUNNER-78", s, CancelSeen, elsewhere, keep)
        for s in (Taking, Examining, Outlived, Stopped)
    ],
    Row("RUNNER-91", Settled, TurnAsked, own_request, answer_settled),
    Row("RUNNER-91", Outlived, TurnAsked, own_request, answer_outlived),
    *[Row("RUNNER-50", s, TurnAsked, strange_request, lost) for s in (Settled, Outlived)],
    *[
        Row("RUNNER-50", s, TurnAsked, any_request, lost)
        for s in (Taking, Examining, Loading, Closing, Stopped)
    ],
)
