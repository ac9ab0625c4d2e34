"""The worker machine: which due sessions are taken, how many at once, and drain.  Spec: specs/worker.md.

The host of a worker starts a runner for each session that is taken, looks for due sessions in the store, and passes on
the store's hints.  An event that cannot change anything is ignored before the table (`is_ignored`, WORKER-16).  The
comment of a row names the state that follows ("same": the state of the row); a test compares it with the table.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final

from ..outcome import Stepped
from ..replace import replace
from ..rules import Row, Table, always
from ..runner.protocol import RunnerStopReason
from .limits import Keys, Usage, admit
from .protocol import (
    LOOK_MAX,
    Apart,
    Connected,
    Cooling,
    Drain,
    Draining,
    DrainRunners,
    Effect,
    Event,
    Finish,
    Finished,
    Hinted,
    HolderEnded,
    Look,
    Looked,
    LookFailed,
    Outcome,
    RunnerStopped,
    Serving,
    SetTimer,
    State,
    Take,
    TimerFired,
)

__all__ = ["RULES", "is_ignored", "step"]


POLL_MS_MAX: Final = 5_000
TIMER_MS_MIN: Final = 20  # a due time in the past must not make the worker look in a busy loop
COOL_MS: Final = 50
LOOK_RETRY_MS: Final = 500
LOOK_ON_MS: Final = 100  # a full look left a slot free
LOOK_PAST_MS: Final = 1_000  # a full look found what is left alone
NO_RUNNER_MS: Final = 5_000  # how long a job without a runner is left alone, the first time
NO_RUNNER_MS_MAX: Final = 300_000

# -- guards


def runs_already(s: Serving, e: Hinted) -> bool:
    """True if the session of a hint for now is running."""
    return e.at_once and e.session_id in s.running


def can_take(s: Serving, e: Hinted) -> bool:
    """True if a hint for now names a session that is not running."""
    return e.at_once and e.session_id not in s.running and e.session_id != ""


def later_or_anywhere(s: Serving, e: Hinted) -> bool:
    """True if a hint is for later, or names no session."""
    return not e.at_once or e.session_id == ""


def needs_room(s: Serving, e: RunnerStopped) -> bool:
    """True if the run of the session allows fewer others than might have run beside it."""
    return e.reason is RunnerStopReason.NEEDS_ROOM


def has_stopped(s: Serving, e: RunnerStopped) -> bool:
    """True if the runner has stopped for any other reason."""
    return e.reason is not RunnerStopReason.NEEDS_ROOM


def is_last(s: Draining, e: RunnerStopped) -> bool:
    """True if no other runner is left."""
    return s.running == {e.session_id}


def is_not_last(s: Draining, e: RunnerStopped) -> bool:
    """True if another runner is left."""
    return s.running != {e.session_id}


def has_runners(s: Serving, e: Drain) -> bool:
    """True if a session is running."""
    return bool(s.running)


def has_no_runners(s: Serving, e: Drain) -> bool:
    """True if no session is running."""
    return not s.running


# -- looking


def look(s: Serving, *, thorough: bool = False) -> tuple[Serving, tuple[Effect, ...]]:
    """Look, or remember the reason: one look at a time, and none while all slots are taken (WORKER-2)."""
    free = 0 if waiting(s) else allowed(s) - len(s.running)
    s = replace(s, thorough=s.thorough or thorough)
    if s.looking:
        return replace(s, look_again=True), ()
    if free <= 0:
        return replace(s, more_due=True), ()
    limit = LOOK_MAX if s.aside or s.cooling else min(max(2 * free, 16), LOOK_MAX)
    effect = Look(s.next_id, limit, s.thorough)
    s = replace(s, looking=s.next_id, look_again=False, thorough=False, next_id=s.next_id + 1)
    return s, (effect,)


def set_timer(s: Serving, now_ms: int, next_in_ms: int | None) -> tuple[Serving, Effect]:
    """Set the timer for the next look: when something may be due, at most 5 s ahead (WORKER-5)."""
    wait = POLL_MS_MAX if next_in_ms is None else min(next_in_ms, POLL_MS_MAX)
    for c in s.cooling:
        if c.until_ms > now_ms:
            wait = min(wait, c.until_ms - now_ms)
    if s.wake_ms is not None:
        wait = min(wait, s.wake_ms - now_ms)
    timer = SetTimer(s.next_id, now_ms + max(wait, TIMER_MS_MIN))
    return replace(s, timer=timer.id, timer_ms=timer.at_ms, next_id=s.next_id + 1), timer


def wake_earlier(s: Serving, now_ms: int) -> tuple[Serving, tuple[Effect, ...]]:
    """Set the timer earlier if a session that was put aside may begin before it fires (WORKER-22)."""
    if s.wake_ms is None or s.wake_ms >= s.timer_ms:
        return s, ()
    s, timer = set_timer(s, now_ms, s.timer_ms - now_ms)
    return s, (timer,)


def look_thoroughly(s: Serving, e: Connected | HolderEnded, clause: str) -> Outcome:
    """Look for due sessions and for dead holders."""
    s, effects = look(s, thorough=True)
    return Stepped(s, clause, effects)


def poll(s: Serving, e: TimerFired, clause: str) -> Outcome:
    """Look, and set the next timer."""
    s, asked = ask_again(s)
    s, taken = fill(s, e.now_ms) if s.aside else (s, ())
    s, effects = look(s, thorough=True)
    s, timer = set_timer(s, e.now_ms, None)
    return Stepped(s, clause, (*asked, *taken, *effects, timer))


def look_hinted(s: Serving, e: Hinted, clause: str) -> Outcome:
    """Look because of a hint."""
    s, effects = look(s)
    return Stepped(s, clause, effects)


def look_later(s: Serving, e: LookFailed, clause: str) -> Outcome:
    """Look again after half a second."""
    s = replace(s, looking=0, look_again=False, more_due=True)
    s, timer = set_timer(s, e.now_ms, LOOK_RETRY_MS)
    return Stepped(s, clause, (timer,))


# -- taking


def waiting(s: Serving) -> tuple[Apart, ...]:
    """Return the sessions that wait for room."""
    return tuple([a for a in s.apart if a.session_id not in s.running])


def allowed(s: Serving) -> int:
    """Return how many sessions may run: all slots, unless a running session allows fewer others (WORKER-18)."""
    return min([s.slots, *[a.others + 1 for a in s.apart if a.session_id in s.running]])


def fill(s: Serving, now_ms: int) -> tuple[Serving, tuple[Effect, ...]]:
    """Take sessions that waited for room, then known ones, until no slot is free (WORKER-3, WORKER-17)."""
    taken: list[Effect] = []
    for apart in waiting(s):
        if len(s.running) > apart.others or len(s.running) >= allowed(s):
            return s, tuple(taken)  # no other session is taken, so that room is made
        s = replace(s, running=s.running | {apart.session_id})
        taken.append(Take(apart.session_id, apart.others))
    cooling = {c.session_id for c in s.cooling if c.until_ms > now_ms}
    if s.usage is not None:
        s, within = fill_within_limits(s, s.usage, cooling, now_ms)
        return s, (*taken, *within)
    rest = list(s.backlog)
    while rest and len(s.running) < allowed(s):
        session_id = rest.pop(0)
        if session_id not in s.running and session_id not in cooling:
            s = replace(s, running=s.running | {session_id})
            taken.append(Take(session_id, s.slots - 1))
    return replace(s, backlog=tuple(rest)), tuple(taken)


def fill_within_limits(
    s: Serving, usage: Usage, cooling: Container[str], now_ms: int
) -> tuple[Serving, list[Effect]]:
    """Take sessions that were put aside, then known ones, as far as their limits allow (WORKER-21, WORKER-22).

    While a slot is free, the others are put aside, at most LOOK_MAX; looks find the rest again (WORKER-23).
    """
    known = dict.fromkeys((*s.aside, *s.backlog))
    due = [i for i in known if i not in s.running and i not in cooling]
    room = max(0, allowed(s) - len(s.running))
    usage, taken, wake_ms = admit(usage, due, room, now_ms)
    left = [i for i in due if i not in taken]
    if len(taken) < room:
        aside, backlog = left[:LOOK_MAX], []
    else:
        was_aside = set(s.aside)
        aside = [i for i in left if i in was_aside]
        backlog = [i for i in left if i not in was_aside]
    s = replace(
        s,
        running=s.running.union(taken),
        usage=usage.forget((*aside, *backlog, *s.hinted)),
        aside=tuple(aside),
        backlog=tuple(backlog),
        wake_ms=wake_ms,
        more_due=s.more_due or len(aside) + len(backlog) < len(left),
    )
    return s, [Take(session_id, s.slots - 1) for session_id in taken]


def learn(s: Serving, ids: Iterable[str], keys: Iterable[Keys]) -> Serving:
    """Remember the keys of sessions, as far as they are given."""
    if s.usage is None:
        return s
    known = [(session_id, each) for session_id, each in zip(ids, keys, strict=False) if each]
    return replace(s, usage=s.usage.learn(known))


def release_usage(s: Serving, e: RunnerStopped) -> Serving:
    """Give back what a session used of its limits; one with a hint keeps its keys (WORKER-24)."""
    usage = s.usage
    if usage is None:
        return s
    if e.session_id in s.hinted and e.session_id not in usage.keys:
        held = usage.held.get(e.session_id)
        usage = usage.learn([(e.session_id, () if held is None else held.keys)])
    in_vain = e.reason is not RunnerStopReason.DONE
    return replace(s, usage=usage.release(e.session_id, e.now_ms, in_vain=in_vain))


def ask_again(s: Serving) -> tuple[Serving, tuple[Effect, ...]]:
    """Try the first waiting session beside those that run, in case another worker has taken it (WORKER-19)."""
    for apart in waiting(s)[:1]:
        if len(s.running) < allowed(s):
            take = Take(apart.session_id, len(s.running))
            return replace(s, running=s.running | {apart.session_id}), (take,)
    return s, ()


def take_found(s: Serving, e: Looked, clause: str) -> Outcome:
    """Take the sessions that a look found, and set the next timer."""
    s = learn(s, e.session_ids, e.keys)
    known = {*s.backlog, *s.running, *s.aside, *[a.session_id for a in s.apart]}
    new = tuple([i for i in dict.fromkeys(e.session_ids) if i not in known])
    look_again = s.look_again
    more_due = e.full or any(i in s.running for i in e.session_ids)
    s = replace(s, looking=0, look_again=False, more_due=more_due, backlog=s.backlog + new)
    s = replace(s, cooling=tuple([warm(c, e) for c in s.cooling]))
    s, taken = fill(s, e.now_ms)
    next_in_ms = e.next_in_ms
    if e.full and (s.aside or s.cooling) and len(s.running) < allowed(s):
        wait = LOOK_ON_MS if s.aside else LOOK_PAST_MS
        next_in_ms = wait if next_in_ms is None else min(wait, next_in_ms)
    s, timer = set_timer(s, e.now_ms, next_in_ms)
    s, looks = look(s) if look_again else (s, ())
    return Stepped(s, clause, (*taken, timer, *looks))


def warm(c: Cooling, e: Looked) -> Cooling:
    """End the long wait of a job without a runner, if its holder is dead now: its end needs no runner (WORKER-25)."""
    late = c.until_ms - e.now_ms > POLL_MS_MAX and c.session_id in e.dead
    return replace(c, until_ms=e.now_ms) if late else c


def remember_hint(s: Serving, e: Hinted, clause: str) -> Outcome:
    """Remember the hint until the session is released."""
    s = learn(s, (e.session_id,), (e.keys,))
    return Stepped(replace(s, hinted=s.hinted | {e.session_id}), clause)


def take_hinted(s: Serving, e: Hinted, clause: str) -> Outcome:
    """Take the session of a hint before other known sessions."""
    s = learn(s, (e.session_id,), (e.keys,))
    rest = tuple([i for i in s.backlog if i != e.session_id])
    full = len(rest) >= LOOK_MAX
    s = replace(
        uncool(s, e.session_id),
        backlog=rest if full else (e.session_id, *rest),
        more_due=s.more_due or full,
    )
    s, taken = fill(s, e.now_ms)
    s, timer = wake_earlier(s, e.now_ms)
    return Stepped(s, clause, (*taken, *timer))


def free_slot(s: Serving, e: RunnerStopped, clause: str) -> Outcome:
    """Release the session, and take it again or the next one."""
    again = e.session_id in s.hinted
    s = cool(end_runner(release_usage(s, e), e), e)
    if again:
        s = replace(uncool(s, e.session_id), backlog=(e.session_id, *s.backlog))
    s, effects = fill(s, e.now_ms)
    if (s.more_due and not s.backlog) or e.reason is not RunnerStopReason.DONE:
        s, looks = look(s)
        effects += looks
    s, timer = wake_earlier(s, e.now_ms)
    return Stepped(s, clause, (*effects, *timer))


def end_runner(s: Serving, e: RunnerStopped) -> Serving:
    """Release the slot of a runner."""
    return replace(
        s,
        running=s.running - {e.session_id},
        hinted=s.hinted - {e.session_id},
        apart=tuple([a for a in s.apart if a.session_id != e.session_id]),
    )


def make_room(s: Serving, e: RunnerStopped, clause: str) -> Outcome:
    """Let the session wait until few enough others run."""
    s = end_runner(s, e)
    s = replace(s, apart=(*s.apart, Apart(e.session_id, e.others)))
    s, taken = fill(s, e.now_ms)
    return Stepped(s, clause, taken)


def cool(s: Serving, e: RunnerStopped) -> Serving:
    """Leave a session that was taken in vain alone, for twice as long each time in a row (WORKER-10, WORKER-25)."""
    before = next((c for c in s.cooling if c.session_id == e.session_id), None)
    cooling = [c for c in s.cooling if c is not before and c.until_ms + POLL_MS_MAX > e.now_ms]
    if e.reason is not RunnerStopReason.DONE:
        times = before.times + 1 if before is not None else 1
        first, most = COOL_MS, POLL_MS_MAX
        if e.reason is RunnerStopReason.NO_RUNNER:
            first, most = NO_RUNNER_MS, NO_RUNNER_MS_MAX
        wait = min(first * 2 ** min(times - 1, 10), most)
        cooling.append(Cooling(e.session_id, e.now_ms + wait, times))
    return replace(s, cooling=tuple(cooling))


def uncool(s: Serving, session_id: str) -> Serving:
    """End the wait of a session, because of a hint."""
    return replace(s, cooling=tuple([c for c in s.cooling if c.session_id != session_id]))


# -- drain


def drain(s: Serving, e: Drain, clause: str) -> Outcome:
    """Drain the runners."""
    return Stepped(Draining(s.running), clause, (DrainRunners(),))


def finish(s: Serving | Draining, e: Drain | RunnerStopped, clause: str) -> Outcome:
    """Finish: no runner is left."""
    return Stepped(Finished(), clause, (Finish(),))


def release(s: Draining, e: RunnerStopped, clause: str) -> Outcome:
    """Wait for the other runners."""
    return Stepped(Draining(s.running - {e.session_id}), clause)


# -- the table


def is_ignored(s: State, e: object) -> bool:
    """True for an earlier look, an earlier timer, and for nearly all events after a drain (WORKER-16)."""
    if isinstance(s, Serving):
        if isinstance(e, Looked | LookFailed):
            return s.looking != e.id
        return isinstance(e, TimerFired) and s.timer != e.id
    return isinstance(s, Finished) or not isinstance(e, RunnerStopped)


RULES: Table[Outcome] = Table(
    (
        Row("WORKER-1", Serving, Connected, always, look_thoroughly),  # same
        Row("WORKER-20", Serving, HolderEnded, always, look_thoroughly),  # same
        Row("WORKER-4", Serving, TimerFired, always, poll),  # same
        Row("WORKER-6", Serving, Looked, always, take_found),  # same
        Row("WORKER-7", Serving, LookFailed, always, look_later),  # same
        Row("WORKER-8", Serving, Hinted, runs_already, remember_hint),  # same
        Row("WORKER-11", Serving, Hinted, can_take, take_hinted),  # same
        Row("WORKER-12", Serving, Hinted, later_or_anywhere, look_hinted),  # same
        Row("WORKER-9", Serving, RunnerStopped, has_stopped, free_slot),  # same
        Row("WORKER-17", Serving, RunnerStopped, needs_room, make_room),  # same
        Row("WORKER-13", Serving, Drain, has_runners, drain),  # Draining
        Row("WORKER-14", Serving, Drain, has_no_runners, finish),  # Finished
        Row("WORKER-14", Draining, RunnerStopped, is_last, finish),  # Finished
        Row("WORKER-15", Draining, RunnerStopped, is_not_last, release),  # same
    )
)


def step(state: State, event: Event) -> Outcome:
    """Return the next state and effects.  An ignored event changes nothing."""
    if is_ignored(state, event):
        return Stepped(state, "WORKER-16")
    return RULES.step(state, event)
