"""The relay machine: which outbound commands are executed for their targets, and when.  Spec: specs/relay.md.

The host of a relay looks for rows in the store of the senders, executes their commands for the targets, and stores what
came of it.  An event that cannot change anything is ignored before the table (`is_ignored`, RELAY-18).  The comment of
a row names the state that follows ("same": the state of the row); a test compares it with the table.
"""

from __future__ import annotations

from typing import Final

from ..commands.sent import LINED_MAX, LineUp, SendFailed, SendRefused, Sent
from ..outcome import Stepped
from ..replace import replace
from ..rules import Row, Table, always
from .protocol import (
    LOOK_MAX,
    Deliver,
    Delivered,
    Drain,
    Draining,
    Effect,
    Event,
    Failed,
    Finish,
    Finished,
    Look,
    Looked,
    LookFailed,
    NotDue,
    Nothing,
    Noticed,
    Outcome,
    ReadFailed,
    Record,
    Recorded,
    RefusedForGood,
    Relaying,
    Route,
    Sending,
    SetTimer,
    Started,
    State,
    TimerFired,
)

__all__ = ["POLL_MS", "RULES", "is_at_rest", "is_ignored", "step"]


POLL_MS: Final = 5_000
REST_MS: Final = 500  # after the own store has not answered
REST_MS_MAX: Final = 30_000
Answered = Delivered | RefusedForGood | Failed
Ending = Nothing | NotDue | ReadFailed | Recorded

# -- guards


def is_busy(s: Relaying, e: Drain) -> bool:
    """True if rows are being sent."""
    return bool(s.sending)


def is_idle(s: Relaying, e: Drain) -> bool:
    """True if no row is being sent."""
    return not s.sending


def is_last(s: Draining, e: Ending) -> bool:
    """True if no other route is left."""
    return len(s.sending) == 1


def is_not_last(s: Draining, e: Ending) -> bool:
    """True if another route is left."""
    return len(s.sending) > 1


def knows_rows(s: Relaying, e: NotDue) -> bool:
    """True if looks have found rows of the route, which then are behind the first one."""
    return bool(numbers_of(s, e.route))


def knows_none(s: Relaying, e: NotDue) -> bool:
    """True if no look has found rows of the route."""
    return not numbers_of(s, e.route)


def numbers_of(s: Relaying, route: Route) -> tuple[int, ...]:
    """Return the rows of a route that looks have found, as long as it is being sent."""
    return next((each.numbers for each in s.sending if each.route == route), ())


def is_looking(s: Relaying, e: Noticed) -> bool:
    """True if a look is in progress, which may have begun too early."""
    return bool(s.looking)


def is_not_looking(s: Relaying, e: Noticed) -> bool:
    """True if no look is in progress."""
    return not s.looking


# -- looking and sending


def look(s: Relaying, now_ms: int) -> tuple[Relaying, tuple[Effect, ...]]:
    """Look: one at a time, and none while enough is known (RELAY-2)."""
    if s.looking or len(s.backlog) >= LOOK_MAX or now_ms < s.look_from_ms:
        return s, ()
    if s.noticed:  # what was sent may be before the place
        s = replace(s, peer=0, after=None)
    effect = Look(s.next_id, s.peers[s.peer], s.after)
    return replace(s, looking=s.next_id, noticed=False, next_id=s.next_id + 1), (effect,)


def set_timer(
    s: Relaying, now_ms: int, wait_ms: int | None = POLL_MS
) -> tuple[Relaying, tuple[Effect, ...]]:
    """Let the timer fire after `wait_ms` at the latest (RELAY-4)."""
    if wait_ms is None:
        return s, ()
    at_ms = max(now_ms + max(wait_ms, 1), s.look_from_ms)
    if now_ms < s.timer_at_ms <= at_ms:
        return s, ()
    timer = SetTimer(s.next_id, at_ms)
    s = replace(s, timer=s.next_id, timer_at_ms=at_ms, next_id=s.next_id + 1)
    return s, (timer,)


def fill(s: Relaying) -> tuple[Relaying, tuple[Effect, ...]]:
    """Send the first rows of known routes (RELAY-3)."""
    free = max(s.at_once - len(s.sending), 0)
    taken, rest = s.backlog[:free], s.backlog[free:]
    if not taken:
        return s, ()
    s = replace(s, backlog=rest, sending=s.sending + taken)
    return s, tuple([Deliver(each.route) for each in taken])


def proceed(s: Relaying, now_ms: int) -> tuple[Relaying, tuple[Effect, ...]]:
    """Send, and look again if the pass over the stores has not ended, or something was sent meanwhile."""
    s, sends = fill(s)
    if s.after is None and s.peer == 0 and not s.noticed:
        return s, sends
    s, looks = look(s, now_ms)
    return s, (*sends, *looks)


def start(s: Relaying, e: Started | TimerFired, clause: str) -> Outcome:
    """Send, look, and set the next timer."""
    s, sends = fill(replace(s, timer_at_ms=0))
    s, looks = look(s, e.now_ms)
    s, timer = set_timer(s, e.now_ms)
    return Stepped(s, clause, (*sends, *looks, *timer))


def look_now(s: Relaying, e: Noticed, clause: str) -> Outcome:
    """Look at once.  If it cannot be now, the next step does."""
    s, looks = look(replace(s, noticed=True), e.now_ms)
    return Stepped(s, clause, looks)


def look_again(s: Relaying, e: Noticed, clause: str) -> Outcome:
    """Look again after the look in progress."""
    return Stepped(replace(s, noticed=True), clause)


def take_found(s: Relaying, e: Looked, clause: str) -> Outcome:
    """Remember what was found, and go on: behind it, or with the next store."""
    found = e.found
    peer = s.peer if found.after is not None else (s.peer + 1) % len(s.peers)
    s = replace(s, looking=0, after=found.after, peer=peer, failures=0)
    s, effects = proceed(add(s, found.rows), e.now_ms)
    s, timer = set_timer(s, e.now_ms, found.wait_ms)
    return Stepped(s, clause, (*effects, *timer))


def add(s: Relaying, rows: tuple[tuple[Route, int], ...]) -> Relaying:
    """Remember rows, by their routes.  A route that is being sent is left out: its end tells what is next."""
    busy = {each.route for each in s.sending}
    known: dict[Route, dict[int, None]] = {
        each.route: dict.fromkeys(each.numbers) for each in s.backlog
    }
    for route, number in rows:
        if route not in busy:
            known.setdefault(route, {})[number] = None
    return replace(s, backlog=tuple([Sending(r, tuple(numbers)) for r, numbers in known.items()]))


def look_later(s: Relaying, e: LookFailed, clause: str) -> Outcome:
    """End the look, and repeat it later."""
    s, timer = rest(replace(s, looking=0), e.now_ms)
    return Stepped(s, clause, timer)


def rest(s: Relaying, now_ms: int) -> tuple[Relaying, tuple[Effect, ...]]:
    """Leave the store of the senders alone, for twice as long each time in a row."""
    wait: int = REST_MS * 2 ** min(s.failures, 20)
    s = replace(s, failures=s.failures + 1, look_from_ms=now_ms + min(wait, REST_MS_MAX))
    return set_timer(s, now_ms, 0)


# -- what came of a row


def record(s: Relaying | Draining, e: Answered, clause: str) -> Outcome:
    """Store what came of it."""
    route = e.route
    at = (route.session_id, e.number, route.to)
    match e:
        case Delivered():
            return Stepped(s, clause, (Record(route, Sent(*at, route.peer), e.more),))
        case RefusedForGood():
            words = (e.refusal, e.clause, e.detail)
            return Stepped(
                s, clause, (Record(route, SendRefused(*at, *words, route.peer), e.more),)
            )
        case Failed():
            failed = SendFailed(*at, e.attempts, e.error, route.peer)
            return Stepped(s, clause, (Record(route, failed, False),))


def line_up(s: Relaying, e: NotDue, clause: str) -> Outcome:
    """Set the rows that were found behind the first one, so that they are found no more."""
    route, numbers = e.route, numbers_of(s, e.route)[:LINED_MAX]
    command = LineUp(route.session_id, route.to, numbers, route.peer)
    return Stepped(s, clause, (Record(route, command, False),))


def go_on(s: Relaying, e: Nothing | NotDue | Recorded, clause: str) -> Outcome:
    """Release the route; if it has more, it waits for its turn behind the others."""
    s = replace(s, sending=without(s.sending, e.route))
    wait_ms = None
    if isinstance(e, Recorded):
        wait_ms = e.wait_ms
        s = replace(s, failures=0)
        if e.more:
            s = replace(s, backlog=(*without(s.backlog, e.route), Sending(e.route, ())))
    s, effects = proceed(s, e.now_ms)
    s, timer = set_timer(s, e.now_ms, wait_ms)
    return Stepped(s, clause, (*effects, *timer))


def leave_alone(s: Relaying, e: ReadFailed, clause: str) -> Outcome:
    """Release the route, and leave the store of the senders alone."""
    s, timer = rest(replace(s, sending=without(s.sending, e.route)), e.now_ms)
    return Stepped(s, clause, timer)


def without(sending: tuple[Sending, ...], route: Route) -> tuple[Sending, ...]:
    """Return the routes without one."""
    return tuple([each for each in sending if each.route != route])


# -- drain


def is_at_rest(s: State | None) -> bool:
    """True if the relay has tried everything that it knows, and does not look (RELAY-22)."""
    return not isinstance(s, Relaying) or not (s.looking or s.noticed or s.backlog or s.sending)


def drain(s: Relaying, e: Drain, clause: str) -> Outcome:
    """Send no more; what came of the rows that are being sent is still stored."""
    return Stepped(Draining(s.sending), clause)


def finish(s: Relaying | Draining, e: Drain | Ending, clause: str) -> Outcome:
    """Finish: no route is left."""
    return Stepped(Finished(), clause, (Finish(),))


def release(s: Draining, e: Ending, clause: str) -> Outcome:
    """Wait for the other routes."""
    return Stepped(Draining(without(s.sending, e.route)), clause)


# -- the table


def is_ignored(s: State, e: object) -> bool:
    """True for an earlier look, an earlier timer, and for nearly all events after a drain (RELAY-18)."""
    if isinstance(s, Relaying):
        if isinstance(e, Looked | LookFailed):
            return s.looking != e.id
        return isinstance(e, TimerFired) and s.timer != e.id
    return isinstance(s, Finished) or not isinstance(e, Answered | Ending)


RULES: Table[Outcome] = Table(
    (
        Row("RELAY-1", Relaying, Started, always, start),  # same
        Row("RELAY-4", Relaying, TimerFired, always, start),  # same
        Row("RELAY-5", Relaying, Noticed, is_not_looking, look_now),  # same
        Row("RELAY-5", Relaying, Noticed, is_looking, look_again),  # same
        Row("RELAY-6", Relaying, Looked, always, take_found),  # same
        Row("RELAY-8", Relaying, LookFailed, always, look_later),  # same
        Row("RELAY-9", Relaying, Delivered, always, record),  # same
        Row("RELAY-10", Relaying, RefusedForGood, always, record),  # same
        Row("RELAY-11", Relaying, Failed, always, record),  # same
        Row("RELAY-12", Relaying, NotDue, knows_rows, line_up),  # same
        Row("RELAY-13", Relaying, NotDue, knows_none, go_on),  # same
        Row("RELAY-13", Relaying, Nothing, always, go_on),  # same
        Row("RELAY-14", Relaying, Recorded, always, go_on),  # same
        Row("RELAY-15", Relaying, ReadFailed, always, leave_alone),  # same
        Row("RELAY-16", Relaying, Drain, is_busy, drain),  # Draining
        Row("RELAY-17", Relaying, Drain, is_idle, finish),  # Finished
        Row("RELAY-9", Draining, Delivered, always, record),  # same
        Row("RELAY-10", Draining, RefusedForGood, always, record),  # same
        Row("RELAY-11", Draining, Failed, always, record),  # same
        Row("RELAY-17", Draining, NotDue, is_last, finish),  # Finished
        Row("RELAY-16", Draining, NotDue, is_not_last, release),  # same
        Row("RELAY-17", Draining, Nothing, is_last, finish),  # Finished
        Row("RELAY-16", Draining, Nothing, is_not_last, release),  # same
        Row("RELAY-17", Draining, Recorded, is_last, finish),  # Finished
        Row("RELAY-16", Draining, Recorded, is_not_last, release),  # same
        Row("RELAY-17", Draining, ReadFailed, is_last, finish),  # Finished
        Row("RELAY-16", Draining, ReadFailed, is_not_last, release),  # same
    )
)


def step(state: State, event: Event) -> Outcome:
    """Return the next state and effects.  An ignored event changes nothing."""
    if is_ignored(state, event):
        return Stepped(state, "RELAY-18")
    return RULES.step(state, event)
