"""The worker: which due sessions to take, how many at once, when to look again, and drain.  Spec: specs/worker.md."""

from __future__ import annotations

from typing import Any, Final

from ..outcome import Stepped
from ..replace import replace
from ..rules import Row, Table, always
from ..runner.protocol import RunnerStopReason
from .protocol import (
    LOOK_MAX,
    Connected,
    Cooling,
    Drain,
    Draining,
    DrainRunners,
    Effect,
    Finish,
    Finished,
    Hinted,
    Look,
    Looked,
    LookFailed,
    Outcome,
    RunnerStopped,
    Serving,
    SetTimer,
    Take,
    TimerFired,
)

POLL_MS_MAX: Final = 5_000
SOON_MS: Final = 2  # no timer is nearer than this: nothing spins
COOL_MS: Final = 50

# -- guards


def under_way(s: Serving, e: Looked | LookFailed) -> bool:
    return s.looking == e.id


def forgotten(s: Serving, e: Looked | LookFailed) -> bool:
    return s.looking != e.id


def runs_on(s: Serving, e: Hinted) -> bool:
    return e.at_once and e.session_id in s.running


def idle_now(s: Serving, e: Hinted) -> bool:
    return e.at_once and e.session_id not in s.running and e.session_id != ""


def later(s: Serving, e: Hinted) -> bool:
    return not e.at_once or e.session_id == ""


def mine(s: Serving, e: TimerFired) -> bool:
    return s.timer == e.id


def old(s: Serving, e: TimerFired) -> bool:
    return s.timer != e.id


def last(s: Draining, e: RunnerStopped) -> bool:
    return s.running == {e.session_id}


def not_last(s: Draining, e: RunnerStopped) -> bool:
    return s.running != {e.session_id}


def busy(s: Serving, e: Drain) -> bool:
    return bool(s.running)


def at_rest(s: Serving, e: Drain) -> bool:
    return not s.running


# -- actions


def no_change(s: Any, e: Any, clause: str) -> Outcome:
    return Stepped(s, clause)


def look(s: Serving, *, thorough: bool = False) -> tuple[Serving, tuple[Effect, ...]]:
    """WORKER-2: one look at a time, and none while there is no room."""
    free = s.slots - len(s.running)
    if s.looking:
        return replace(s, again=True), ()
    if free <= 0:
        return replace(s, more=True), ()
    limit = min(max(2 * free, 16), LOOK_MAX)
    return replace(s, looking=s.next_id, again=False, next_id=s.next_id + 1), (
        Look(s.next_id, limit, thorough),
    )


def fill(s: Serving, now_ms: int) -> tuple[Serving, tuple[Effect, ...]]:
    """WORKER-3: as many as there is room for, and none twice."""
    taken: list[str] = []
    rest = list(s.backlog)
    cool = {c.session_id for c in s.cooling if c.until_ms > now_ms}
    while rest and len(s.running) + len(taken) < s.slots:
        session_id = rest.pop(0)
        if session_id not in s.running and session_id not in cool and session_id not in taken:
            taken.append(session_id)
    s = replace(s, backlog=tuple(rest), running=s.running | set(taken))
    return s, tuple([Take(t) for t in taken])


def look_again(s: Serving, e: Connected, clause: str) -> Outcome:
    after, effects = look(s, thorough=True)
    return Stepped(after, clause, effects)


def poll(s: Serving, e: TimerFired, clause: str) -> Outcome:
    after, effects = look(s, thorough=True)
    after, timer = arm(after, e.now_ms, None)
    return Stepped(after, clause, (*effects, timer))


def arm(s: Serving, now_ms: int, next_in_ms: int | None) -> tuple[Serving, Effect]:
    """WORKER-5: the next look is at the first moment at which something may be due, and in 5 s at the latest."""
    wait = POLL_MS_MAX if next_in_ms is None else min(next_in_ms, POLL_MS_MAX)
    for c in s.cooling:
        if c.until_ms > now_ms:
            wait = min(wait, c.until_ms - now_ms)
    timer = SetTimer(s.next_id, now_ms + max(wait, SOON_MS))
    return replace(s, timer=s.next_id, next_id=s.next_id + 1), timer


def seen(s: Serving, e: Looked, clause: str) -> Outcome:
    known = set(s.backlog) | s.running
    fresh = tuple([i for i in dict.fromkeys(e.session_ids) if i not in known])
    again = s.again
    s = replace(s, looking=0, again=False, more=e.full, backlog=s.backlog + fresh)
    s, taken = fill(s, e.now_ms)
    s, timer = arm(s, e.now_ms, e.next_in_ms)
    s, looks = look(s) if again else (s, ())
    return Stepped(s, clause, (*taken, timer, *looks))


def look_later(s: Serving, e: LookFailed, clause: str) -> Outcome:
    s = replace(s, looking=0, again=False, more=True)
    s, timer = arm(s, e.now_ms, 500)
    return Stepped(s, clause, (timer,))


def nudge(s: Serving, e: Hinted, clause: str) -> Outcome:
    return Stepped(replace(s, nudged=s.nudged | {e.session_id}), clause)


def take_hinted(s: Serving, e: Hinted, clause: str) -> Outcome:
    cooling = tuple([c for c in s.cooling if c.session_id != e.session_id])
    rest = tuple([i for i in s.backlog if i != e.session_id])
    s = replace(s, backlog=(e.session_id, *rest) if len(rest) < LOOK_MAX else rest, cooling=cooling)
    s, taken = fill(replace(s, more=s.more or len(rest) >= LOOK_MAX), e.now_ms)
    return Stepped(s, clause, taken)


def look_hinted(s: Serving, e: Hinted, clause: str) -> Outcome:
    after, effects = look(s)
    return Stepped(after, clause, effects)


def free_slot(s: Serving, e: RunnerStopped, clause: str) -> Outcome:
    """What was hinted at meanwhile is taken again; what led to nothing cools down, and we look when it is due."""
    again = e.session_id in s.nudged
    s = replace(s, running=s.running - {e.session_id}, nudged=s.nudged - {e.session_id})
    s = cool(s, e)
    if again:
        calm = tuple([c for c in s.cooling if c.session_id != e.session_id])
        s = replace(s, backlog=(e.session_id, *s.backlog), cooling=calm)
    s, effects = fill(s, e.now_ms)
    if (s.more and not s.backlog) or e.reason is not RunnerStopReason.DONE:
        s, looks = look(s)
        effects += looks
    return Stepped(s, clause, effects)


def cool(s: Serving, e: RunnerStopped) -> Serving:
    """WORKER-10: the wait doubles with every time in a row, up to the poll."""
    before = next((c for c in s.cooling if c.session_id == e.session_id), None)
    live = [c for c in s.cooling if c is not before and c.until_ms + POLL_MS_MAX > e.now_ms]
    if e.reason is not RunnerStopReason.DONE:
        times = before.times + 1 if before is not None else 1
        wait = min(COOL_MS * 2 ** min(times - 1, 10), POLL_MS_MAX)
        live.append(Cooling(e.session_id, e.now_ms + wait, times))
    return replace(s, cooling=tuple(live))


def drain(s: Serving, e: Drain, clause: str) -> Outcome:
    return Stepped(Draining(s.running), clause, (DrainRunners(),))


def finish(s: Serving | Draining, e: Any, clause: str) -> Outcome:
    return Stepped(Finished(), clause, (Finish(),))


def drop(s: Draining, e: RunnerStopped, clause: str) -> Outcome:
    return Stepped(Draining(s.running - {e.session_id}), clause)


RULES: Table[Outcome] = Table(
    (
        Row("WORKER-1", Serving, Connected, always, look_again),
        Row("WORKER-4", Serving, TimerFired, mine, poll),
        Row("WORKER-6", Serving, Looked, under_way, seen),
        Row("WORKER-7", Serving, LookFailed, under_way, look_later),
        Row("WORKER-8", Serving, Hinted, runs_on, nudge),
        Row("WORKER-11", Serving, Hinted, idle_now, take_hinted),
        Row("WORKER-12", Serving, Hinted, later, look_hinted),
        Row("WORKER-9", Serving, RunnerStopped, always, free_slot),
        Row("WORKER-13", Serving, Drain, busy, drain),
        Row("WORKER-14", Serving, Drain, at_rest, finish),
        Row("WORKER-14", Draining, RunnerStopped, last, finish),
        Row("WORKER-15", Draining, RunnerStopped, not_last, drop),
        Row("WORKER-16", Serving, Looked, forgotten, no_change),
        Row("WORKER-16", Serving, LookFailed, forgotten, no_change),
        Row("WORKER-16", Serving, TimerFired, old, no_change),
        *[
            Row("WORKER-16", state, event, always, no_change)
            for state in (Draining, Finished)
            for event in (Connected, Looked, LookFailed, Hinted, TimerFired, Drain)
        ],
        Row("WORKER-16", Finished, RunnerStopped, always, no_change),
    )
)
step = RULES.step
