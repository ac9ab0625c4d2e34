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
    Reason,
    Reply,
    Said,
    SetTimer,
    Stop,
    StoreUnavailable,
    TimerFired,
)
from .states import (
    Closing,
    Core,
    Hold,
    Loading,
    Outcome,
    Outlived,
    Pause,
    Settled,
    Stopped,
    Working,
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
    return isinstance(s, Loading | Settled) or (isinstance(s, Working) and not ending(s))


def last_words(s: Any) -> bool:
    return isinstance(s, Closing) or (isinstance(s, Working) and ending(s))


def renews(s: Any, e: TimerFired) -> bool:
    return begins_renewal(s, e) and at_rest(s)


def postpones(s: Any, e: TimerFired) -> bool:
    return begins_renewal(s, e) and last_words(s)


def renewed(s: Any, e: Answered) -> bool:
    return of_renewal(s, e) and isinstance(e.answer, Renewed)


def unrenewed(s: Any, e: Answered) -> bool:
    return of_renewal(s, e) and isinstance(e.answer, Refused) and at_rest(s)


def crossed(s: Any, e: Answered) -> bool:
    return of_renewal(s, e) and isinstance(e.answer, Refused) and last_words(s)


def hinted(s: Any, e: CancelSeen) -> bool:
    return s.hold.begun.run_id == e.run_id and not asked_to_stop(s.hold) and at_rest(s)


def unhinted(s: Any, e: CancelSeen) -> bool:
    return s.hold.begun.run_id != e.run_id or asked_to_stop(s.hold) or last_words(s)


def send_renewal(s: Any, e: Any, clause: str) -> Outcome:
    id, core = number(s.core)
    hold, effect = renew(s.hold, id, e.now_ms)
    return Stepped(replace(s, core=core, hold=hold), clause, (effect,))


def postpone(s: Any, e: TimerFired, clause: str) -> Outcome:
    timer = SetTimer(s.hold.renewal.id, e.now_ms + s.hold.begun.ttl_ms // 3)
    return Stepped(s, clause, (timer,))


def pause(core: Core, hold: Hold, at_ms: int, tries: int = 0) -> tuple[Core, Hold, Effect]:
    id, core = number(core)
    return core, replace(hold, renewal=Pause(id, tries)), SetTimer(id, at_ms)


def prolong(s: Any, e: Answered, clause: str) -> Outcome:
    """Each renewal is a command of its own: our time counts from the sending that was answered."""
    sent, ttl_ms = s.hold.renewal.sent_ms, e.answer.ttl_ms
    core, hold, timer = pause(s.core, s.hold, sent + ttl_ms // 3)
    hold = replace(hold, deadline_ms=sent + ttl_ms, cancel=e.answer.cancel or hold.cancel)
    s = replace(s, core=core, hold=hold)
    if isinstance(s, Working):
        return freed(s, e, clause, timer)
    if isinstance(s, Loading) and s.carried is not None:
        if asked_to_stop(hold) or core.draining_ms is not None:
            return begin_next(core, hold, e.now_ms, clause, (timer,))
        if hold.on_time(e.now_ms):
            return launch(core, hold, s.carried, e.now_ms, clause, (timer,))
    return Stepped(s, clause, (timer,))


def freed(s: Working, e: Answered, clause: str, timer: Effect) -> Outcome:
    """RUNNER-71: effects that waited for our time may begin, unless the run is to stop."""
    effects: tuple[Effect, ...] = (timer,)
    if s.hold.cancel is not None:
        s, told = cancel(s, s.hold.cancel, e.now_ms)
        effects += told
    if s.parked and s.hold.on_time(e.now_ms):
        effects += tuple([Reply(id, Said.GO) for id in s.parked])
        s = replace(s, parked=())
    return Stepped(s, clause, effects)


def give_up_lease(s: Any, e: Answered, clause: str) -> Outcome:
    stop = Stop(Reason.FENCED, e.answer)
    return without_lease(s, stop, e.now_ms, clause)


def without_lease(s: Any, stop: Stop, now_ms: int, clause: str) -> Outcome:
    if isinstance(s, Working):
        return lose(s, stop, now_ms, clause)
    if isinstance(s, Settled):
        core, watch, effects = warn(s.core, s.watch, now_ms + s.core.plan.grace_ms)
        return Stepped(Outlived(core, watch, Said.COMMITTED, stop), clause, effects)
    return Stepped(Stopped(), clause, (stop,))


def ignore_crossed(s: Any, e: Answered, clause: str) -> Outcome:
    core, hold, timer = pause(s.core, s.hold, e.now_ms + s.hold.begun.ttl_ms // 3)
    return Stepped(replace(s, core=core, hold=hold), clause, (timer,))


def renew_later(s: Any, e: Any, clause: str) -> Outcome:
    tries = s.hold.renewal.tries
    core, hold, timer = pause(s.core, s.hold, e.now_ms + again_ms(tries), tries + 1)
    return Stepped(replace(s, core=core, hold=hold), clause, (timer,))


def keep(s: Any, e: Any, clause: str) -> Outcome:
    return Stepped(s, clause)


KEEP: tuple[Row[Any, Any, Outcome], ...] = tuple(
    row
    for state in (Loading, Working, Settled, Closing)
    for row in (
        Row("RUNNER-70", state, TimerFired, renews, send_renewal),
        Row("RUNNER-72", state, TimerFired, postpones, postpone),
        Row("RUNNER-73", state, Answered, renewed, prolong),
        Row("RUNNER-74", state, Answered, unrenewed, give_up_lease),
        Row("RUNNER-75", state, Answered, crossed, ignore_crossed),
        Row("RUNNER-76", state, StoreUnavailable, of_renewal, renew_later),
        Row("RUNNER-76", state, OutcomeUnknown, of_renewal, renew_later),
        Row("RUNNER-77", state, CancelSeen, hinted, send_renewal),
        Row("RUNNER-78", state, CancelSeen, unhinted, keep),
    )
)
