"""The publisher machine: which sessions have their events given to a sink, and when.  Spec: specs/publisher.md.

The host of a publisher looks for sessions in the store, calls the sink, and moves cursors.  An event that cannot change
anything is ignored before the table (`is_ignored`, PUBLISHER-16).  The comment of a row names the state that follows
("same": the state of the row); a test compares it with the table.
"""

from __future__ import annotations

from typing import Final

from ..outcome import Stepped
from ..replace import replace
from ..rules import Row, Table, always
from .protocol import (
    LOOK_MAX,
    Adopt,
    Adopted,
    AdoptFailed,
    Cooling,
    Drain,
    Draining,
    Effect,
    Event,
    Finish,
    Finished,
    Give,
    GiveFailed,
    Given,
    Look,
    Looked,
    LookFailed,
    Noticed,
    Outcome,
    Publishing,
    ReadFailed,
    Record,
    Recorded,
    SetTimer,
    Started,
    State,
    TimerFired,
)

__all__ = ["RULES", "is_ignored", "step"]


POLL_MS: Final = 1_000
NOTICE_MS: Final = 20  # one look for all events that are appended in this time
RETRY_MS: Final = 5_000  # after an adoption that failed
REST_MS: Final = 100
REST_MS_MAX: Final = 30_000
Ending = Given | GiveFailed | ReadFailed | Recorded

# -- guards


def has_taken(s: Publishing | Draining, e: Given) -> bool:
    """True if the sink has taken events."""
    return e.through is not None


def had_none(s: Publishing, e: Given) -> bool:
    """True if the session had no unpublished events."""
    return e.through is None


def lacks_cursors(s: Publishing, e: Looked) -> bool:
    """True if a look has found sessions without a cursor."""
    return bool(e.found.unadopted)


def has_cursors(s: Publishing, e: Looked) -> bool:
    """True if every session that a look has found has a cursor."""
    return not e.found.unadopted


def is_busy(s: Publishing, e: Drain) -> bool:
    """True if the events of a session are being given."""
    return bool(s.giving)


def is_idle(s: Publishing, e: Drain) -> bool:
    """True if no events are being given."""
    return not s.giving


def is_last(s: Draining, e: Ending) -> bool:
    """True if no other session is left."""
    return s.giving == {e.session_id}


def is_not_last(s: Draining, e: Ending) -> bool:
    """True if another session is left."""
    return s.giving != {e.session_id}


def was_last(s: Draining, e: Given) -> bool:
    """True if the session had no unpublished events, and no other is left."""
    return e.through is None and is_last(s, e)


def was_not_last(s: Draining, e: Given) -> bool:
    """True if the session had no unpublished events, and another is left."""
    return e.through is None and is_not_last(s, e)


# -- looking and giving


def look(s: Publishing, now_ms: int) -> tuple[Publishing, tuple[Effect, ...]]:
    """Look: one at a time, and none while enough sessions are known (PUBLISHER-2)."""
    if s.looking or len(s.backlog) >= LOOK_MAX or now_ms < s.look_from_ms:
        return s, ()
    effect = Look(s.next_id, s.after, s.feed.next_pass(now_ms))
    s = replace(s, looking=s.next_id, noticed=False, next_id=s.next_id + 1)
    return s, (effect,)


def set_timer(s: Publishing, now_ms: int, wait_ms: int = POLL_MS) -> tuple[Publishing, Effect]:
    """Set the timer: after `wait_ms`, or earlier when the sink has been left alone long enough."""
    at_ms = now_ms + wait_ms
    if now_ms < s.rest_until_ms < at_ms:
        at_ms = s.rest_until_ms
    timer = SetTimer(s.next_id, at_ms)
    return replace(s, timer=s.next_id, next_id=s.next_id + 1), timer


def fill(s: Publishing, now_ms: int) -> tuple[Publishing, tuple[Effect, ...]]:
    """Give events of known sessions, of one at a time while the sink fails (PUBLISHER-3, PUBLISHER-11)."""
    if now_ms < s.rest_until_ms:
        return s, ()
    free = max((1 if s.failures else s.at_once) - len(s.giving), 0)
    taken, rest = s.backlog[:free], s.backlog[free:]
    if not taken:
        return s, ()
    s = replace(s, backlog=rest, giving=s.giving | set(taken))
    return s, tuple([Give(session_id) for session_id in taken])


def proceed(s: Publishing, now_ms: int) -> tuple[Publishing, tuple[Effect, ...]]:
    """Give events, and look again if the last look has not read to the end."""
    s, gives = fill(s, now_ms)
    if s.after is None and s.feed.after is None:
        return s, gives
    s, looks = look(s, now_ms)
    return s, (*gives, *looks)


def add(s: Publishing, now_ms: int, session_ids: tuple[str, ...]) -> Publishing:
    """Remember sessions, each once, and none that is left alone."""
    known = {*s.backlog, *s.giving, *[c.session_id for c in s.cooling if c.until_ms > now_ms]}
    new = tuple([i for i in dict.fromkeys(session_ids) if i not in known])
    return replace(s, backlog=s.backlog + new)


def start(s: Publishing, e: Started | TimerFired, clause: str) -> Outcome:
    """Give, look, and set the next timer."""
    s, gives = fill(s, e.now_ms)
    s, looks = look(s, e.now_ms)
    s, timer = set_timer(s, e.now_ms)
    return Stepped(s, clause, (*gives, *looks, timer))


def look_soon(s: Publishing, e: Noticed, clause: str) -> Outcome:
    """Look a little later, once for all that is appended meanwhile."""
    if s.noticed:
        return Stepped(s, clause)
    s, timer = set_timer(replace(s, noticed=True), e.now_ms, NOTICE_MS)
    return Stepped(s, clause, (timer,))


def take_found(s: Publishing, e: Looked, clause: str) -> Outcome:
    """Remember what was found, and go on."""
    found = e.found
    s = replace(s, looking=0, after=found.after, feed=found.feed)
    s, effects = proceed(add(s, e.now_ms, found.unpublished), e.now_ms)
    return Stepped(s, clause, effects)


def adopt(s: Publishing, e: Looked, clause: str) -> Outcome:
    """Remember what was found, and make cursors.  The look ends when that is done."""
    found = e.found
    s = add(replace(s, after=found.after), e.now_ms, found.unpublished)
    s, gives = fill(s, e.now_ms)
    return Stepped(s, clause, (*gives, Adopt(e.id, found.unadopted, found.feed)))


def take_adopted(s: Publishing, e: Adopted, clause: str) -> Outcome:
    """End the look: the changes were read, and their sessions have cursors."""
    s = replace(s, looking=0, feed=e.feed)
    s, effects = proceed(add(s, e.now_ms, e.session_ids), e.now_ms)
    return Stepped(s, clause, effects)


def look_later(s: Publishing, e: LookFailed | AdoptFailed, clause: str) -> Outcome:
    """End the look, and repeat it later: nothing was read."""
    wait_ms = RETRY_MS if isinstance(e, AdoptFailed) else POLL_MS
    s = replace(s, looking=0, look_from_ms=e.now_ms + wait_ms)
    s, timer = set_timer(s, e.now_ms, wait_ms)
    return Stepped(s, clause, (timer,))


# -- the ends of giving


def record(s: Publishing | Draining, e: Given, clause: str) -> Outcome:
    """Note what was published.  The sink works again."""
    assert e.through is not None
    effect = Record(e.session_id, e.through, e.more)
    if isinstance(s, Draining):
        return Stepped(s, clause, (effect,))
    s, gives = fill(replace(s, failures=0, rest_until_ms=0), e.now_ms)
    return Stepped(s, clause, (effect, *gives))


def go_on(s: Publishing, e: Given | Recorded, clause: str) -> Outcome:
    """Release the session; if it has more events, it waits for its turn behind the others."""
    cooling = tuple([c for c in s.cooling if c.session_id != e.session_id])
    s = replace(s, giving=s.giving - {e.session_id}, cooling=cooling)
    if e.more:
        s = add(s, e.now_ms, (e.session_id,))
    s, effects = proceed(s, e.now_ms)
    return Stepped(s, clause, effects)


def cool(s: Publishing, now_ms: int, session_id: str) -> Publishing:
    """Leave a session alone, for twice as long each time in a row (PUBLISHER-12)."""
    before = next((c for c in s.cooling if c.session_id == session_id), None)
    times = 1 if before is None else before.times + 1
    others = [c for c in s.cooling if c is not before and c.until_ms + REST_MS_MAX > now_ms]
    cooling = (*others, Cooling(session_id, now_ms + rest_ms(times), times))
    return replace(s, giving=s.giving - {session_id}, cooling=cooling)


def rest_ms(times: int) -> int:
    """Return how long to wait after so many failures in a row."""
    wait: int = REST_MS * 2 ** min(times - 1, 20)
    return min(wait, REST_MS_MAX)


def rest(s: Publishing, e: GiveFailed, clause: str) -> Outcome:
    """Leave the sink alone, for twice as long each time in a row, and the session too."""
    failures = s.failures + 1
    s = cool(s, e.now_ms, e.session_id)
    s = replace(s, failures=failures, rest_until_ms=e.now_ms + rest_ms(failures))
    s, timer = set_timer(s, e.now_ms)
    return Stepped(s, clause, (timer,))


def leave_alone(s: Publishing, e: ReadFailed, clause: str) -> Outcome:
    """Leave the session alone: the store did not answer."""
    s, effects = proceed(cool(s, e.now_ms, e.session_id), e.now_ms)
    return Stepped(s, clause, effects)


# -- drain


def drain(s: Publishing, e: Drain, clause: str) -> Outcome:
    """Give no more; what the sink takes now is still noted."""
    return Stepped(Draining(s.giving), clause)


def finish(s: Publishing | Draining, e: Drain | Ending, clause: str) -> Outcome:
    """Finish: no session is left."""
    return Stepped(Finished(), clause, (Finish(),))


def release(s: Draining, e: Ending, clause: str) -> Outcome:
    """Wait for the other sessions."""
    return Stepped(Draining(s.giving - {e.session_id}), clause)


# -- the table


def is_ignored(s: State, e: object) -> bool:
    """True for an earlier look, an earlier timer, and for nearly all events after a drain (PUBLISHER-16)."""
    if isinstance(s, Publishing):
        if isinstance(e, Looked | LookFailed | Adopted | AdoptFailed):
            return s.looking != e.id
        return isinstance(e, TimerFired) and s.timer != e.id
    return isinstance(s, Finished) or not isinstance(e, Ending)


RULES: Table[Outcome] = Table(
    (
        Row("PUBLISHER-1", Publishing, Started, always, start),  # same
        Row("PUBLISHER-4", Publishing, TimerFired, always, start),  # same
        Row("PUBLISHER-5", Publishing, Noticed, always, look_soon),  # same
        Row("PUBLISHER-6", Publishing, Looked, has_cursors, take_found),  # same
        Row("PUBLISHER-7", Publishing, Looked, lacks_cursors, adopt),  # same
        Row("PUBLISHER-8", Publishing, LookFailed, always, look_later),  # same
        Row("PUBLISHER-7", Publishing, Adopted, always, take_adopted),  # same
        Row("PUBLISHER-8", Publishing, AdoptFailed, always, look_later),  # same
        Row("PUBLISHER-9", Publishing, Given, has_taken, record),  # same
        Row("PUBLISHER-10", Publishing, Given, had_none, go_on),  # same
        Row("PUBLISHER-11", Publishing, GiveFailed, always, rest),  # same
        Row("PUBLISHER-13", Publishing, ReadFailed, always, leave_alone),  # same
        Row("PUBLISHER-10", Publishing, Recorded, always, go_on),  # same
        Row("PUBLISHER-14", Publishing, Drain, is_busy, drain),  # Draining
        Row("PUBLISHER-15", Publishing, Drain, is_idle, finish),  # Finished
        Row("PUBLISHER-9", Draining, Given, has_taken, record),  # same
        Row("PUBLISHER-15", Draining, Given, was_last, finish),  # Finished
        Row("PUBLISHER-14", Draining, Given, was_not_last, release),  # same
        Row("PUBLISHER-15", Draining, GiveFailed, is_last, finish),  # Finished
        Row("PUBLISHER-14", Draining, GiveFailed, is_not_last, release),  # same
        Row("PUBLISHER-15", Draining, ReadFailed, is_last, finish),  # Finished
        Row("PUBLISHER-14", Draining, ReadFailed, is_not_last, release),  # same
        Row("PUBLISHER-15", Draining, Recorded, is_last, finish),  # Finished
        Row("PUBLISHER-14", Draining, Recorded, is_not_last, release),  # same
    )
)


def step(state: State, event: Event) -> Outcome:
    """Return the next state and effects.  An ignored event changes nothing."""
    if is_ignored(state, event):
        return Stepped(state, "PUBLISHER-16")
    return RULES.step(state, event)
