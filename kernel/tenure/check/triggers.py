"""Small systems of a trigger: workers that fire it, senders, people who change what it starts, and a relay.

All commands are real ones; the calendar is the model's.  A worker reads the trigger, computes times and sends them later, or
crashes.  Answers may be lost: a sender may send again.  Events are left out of the states, as no decision reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen

from .. import commands as c
from ..commands.sent_commands import command_of
from ..commands.triggers.firing import ON_TIME_MS
from ..event_records import EventBatch
from ..machines import subscription as subscription_
from ..outbound_records import Outbound
from ..outcome import Decided, Drop, Refused, Update
from ..queries import Get
from ..records import Input, Job, Occurrence, Phase, Session, Subscription, Trigger
from ..release import RELEASE, decide_at
from ..replace import replace
from ..trigger_records import Missed, Schedule, StartsInput, StartsJob
from ..world import EMPTY, World, evolve
from .explorer import Model
from .trace import Line

__all__ = ["TRIGGER_SYSTEMS", "TriggerModel", "TriggerSystem"]


T: Final = "t"
STEP_MS: Final = ON_TIME_MS  # so a time is a minute old when the next one comes
START_MS: Final = 1_000_000_000_000

AS_THEN: Final = (
    "an occurrence starts one thing for each subscription that was enabled, as it was then"
)
ONCE: Final = "nothing is started twice"
NEVER_TWICE: Final = "what has occurred never changes, and never occurs again"
LISTED: Final = (
    "what an occurrence starts is to be sent, was started, or is listed as undeliverable"
)
BY_REVISION: Final = "a subscription changes only for who knows its revision, which never falls"
OF_SCHEDULE: Final = "what occurs at a time is of the schedule as it is then, and has come"
MISSED: Final = "of missed times occur those that the trigger says"
DUE: Final = "a trigger is due at its next time, and never after it was deleted"
NO_ERROR: Final = "no command writes what cannot be written"

TWICE: Final = "two workers fire one time"
STALE: Final = "a change of an older revision is refused"
OLD_SCHEDULE: Final = "times of an older schedule are refused"
PASSED: Final = "a time is passed over"
LATE: Final = "what was reserved is delivered after its subscription is gone"
UNDELIVERABLE: Final = "something cannot be delivered"
REVIVED: Final = "a revived subscription gets what occurs"


@frozen
class TriggerSystem:
    """What may happen.  `ends`: how many times the clock moves on.  `edits`: commands, each executed once, in this order.

    `sent`: occurrences that senders bring, the first one of several at most twice.
    `period`: between two times of the schedule, in minutes.  `workers`: how many fire.
    """

    name: str
    description: str
    missed: Missed = Missed.ONE
    ends: int = 2
    period: int = 1
    workers: int = 2
    edits: tuple[Any, ...] = ()
    sent: tuple[c.Occur, ...] = ()
    sometimes: tuple[str, ...] = ()


def _changed(
    number: int, name: str, change: c.SubscriptionChange, expected: int, **more: Any
) -> Any:
    return c.ChangeSubscription(T, f"c{number}", name, change, expected, **more)


JOB_A: Final = c.Subscribe(T, "a", "a", StartsJob("a"), "{key}")
INPUT_B: Final = c.Subscribe(T, "b", "b", StartsInput("s"), "{key}")
OTHER_SCHEDULE: Final = Schedule("every", "1m")
RESCHEDULE: Final = c.SetTrigger(
    T, "r", 1, OTHER_SCHEDULE, START_MS + STEP_MS + STEP_MS // 3, Missed.ONE
)

TRIGGER_SYSTEMS: Final = (
    TriggerSystem(
        "trigger",
        "two workers fire a schedule while a subscription is disabled, deleted and revived; crashes and lost answers",
        edits=(
            JOB_A,
            _changed(1, "a", c.SubscriptionChange.DISABLE, 1),
            _changed(2, "a", c.SubscriptionChange.DELETE, 1),
            _changed(3, "a", c.SubscriptionChange.DELETE, 2),
            _changed(4, "a", c.SubscriptionChange.REVIVE, 3),
        ),
        sometimes=(TWICE, STALE, PASSED, LATE, REVIVED),
    ),
    TriggerSystem(
        "trigger-all",
        "all missed times of a schedule occur, until the schedule is changed",
        missed=Missed.ALL,
        ends=2,
        edits=(JOB_A, RESCHEDULE),
        sometimes=(TWICE, OLD_SCHEDULE),
    ),
    TriggerSystem(
        "trigger-none",
        "missed times do not occur; the trigger is deleted",
        missed=Missed.NONE,
        ends=3,
        period=2,
        workers=1,
        edits=(JOB_A, c.DeleteTrigger(T, "d")),
        sent=(c.Occur(T, "x", "k"),),
        sometimes=(PASSED, LATE),
    ),
    TriggerSystem(
        "trigger-sent",
        "two senders bring occurrences, while subscriptions are made and updated and the target is destroyed",
        ends=0,
        workers=0,
        edits=(
            INPUT_B,
            JOB_A,
            _changed(1, "a", c.SubscriptionChange.UPDATE, 1, starts=StartsJob("a2"), text="{key}"),
            c.Destroy("s", "d"),
        ),
        sent=(c.Occur(T, "x", "k"), c.Occur(T, "x", "k", "other"), c.Occur(T, "y", "k")),
        sometimes=(UNDELIVERABLE, LATE),
    ),
)


@frozen
class State:
    """The rows, the time, what the workers are about to send, and which edits and occurrences were sent.

    `told`: the row whose command the relay has executed.
    """

    world: World
    clock: int = 0
    pending: tuple[Any, ...] = ()
    edited: int = 0
    sent: tuple[int, ...] = ()
    told: int | None = None
    broken: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()

    @property
    def now_ms(self) -> int:
        """The time of the store."""
        return START_MS + self.clock * STEP_MS


Next: TypeAlias = Iterator[tuple[Any, State]]


@define(eq=False)
class TriggerModel(Model[State]):
    """The model of a trigger for the explorer.  `clauses` counts how often each was the answer."""

    system: TriggerSystem
    clauses: Counter[str] = field(factory=Counter)

    @property
    def name(self) -> str:
        """The name of the system."""
        return self.system.name

    @property
    def always(self) -> tuple[str, ...]:
        """The properties."""
        return (
            *(AS_THEN, ONCE, NEVER_TWICE, LISTED, BY_REVISION, OF_SCHEDULE, MISSED, DUE),
            NO_ERROR,
        )

    @property
    def sometimes(self) -> tuple[str, ...]:
        """What must happen."""
        return self.system.sometimes

    def initial(self) -> Iterable[State]:
        """Yield a trigger without subscriptions, and an open session."""
        schedule, next_ms = (None, None)
        if self.system.workers:
            schedule, next_ms = Schedule("every", "60s"), START_MS + STEP_MS
        state = State(EMPTY, pending=(None,) * self.system.workers)
        made = c.SetTrigger(T, "t", 0, schedule, next_ms, self.system.missed)
        for command in (made, c.Open("s")):
            answer = self._decide(state, command)
            assert isinstance(answer, Decided), answer
            state = replace(state, world=without_events(evolve(state.world, answer.writes)))
        yield state

    def actions(self, state: State) -> Next:
        """Yield every action with the state after it."""
        if state.edited < len(self.system.edits):
            command = self.system.edits[state.edited]
            yield self._send(replace(state, edited=state.edited + 1), "user", command)
        for at, command in enumerate(self.system.sent):
            if state.sent.count(at) < 1 + (at == 0 and len(self.system.sent) > 1):
                after = replace(state, sent=tuple(sorted((*state.sent, at))))
                yield self._send(after, "sender", command)
        for slot, pending in enumerate(state.pending):
            yield from self._work(state, slot, pending)
        if state.clock < self.system.ends:
            yield ("clock", "a minute passes"), replace(state, clock=state.clock + 1, seen=())
        yield from self._relay(state)

    def canonical(self, state: State) -> State:
        """Return the state with its workers in one order: which of them is which does not matter."""
        pending = tuple(sorted(state.pending, key=place_of))
        return state if pending == state.pending else replace(state, pending=pending)

    def describe(self, label: Any) -> Line:
        """Return the line of a trace for an action."""
        return Line(*label)

    # -- processes

    def _work(self, state: State, slot: int, pending: Any) -> Next:
        """Yield what a worker does: it reads the trigger, and sends the times that have come; or crashes in between."""
        who = f"worker {slot}"
        if pending is None:
            fire = self._fire(state)
            if fire is not None:
                yield (who, f"computes {len(fire.times_ms)} times"), put(state, slot, fire)
            return
        yield (who, "crashes"), put(state, slot, None)
        yield self._send(put(state, slot, None), who, pending)

    def _fire(self, state: State) -> c.Fire | None:
        """Return the Fire of a worker that reads the trigger now; None if it is not due."""
        trigger, period_ms = trigger_of(state.world), self.system.period * STEP_MS
        if trigger.next_at_ms is None or trigger.next_at_ms > state.now_ms:
            return None
        times = tuple(range(trigger.next_at_ms, state.now_ms + 1, period_ms))
        return c.Fire(T, trigger.revision, times, times[-1] + period_ms)

    def _relay(self, state: State) -> Next:
        """Yield what the relay does with the first row: it executes the command, then drops the row; or crashes."""
        rows = sorted(state.world.all(Outbound), key=lambda row: row.number)
        waiting = [row for row in rows if row.waiting_route is not None]
        if not waiting:
            return
        row = waiting[0]
        if state.told == row.number:
            yield ("relay", "crashes"), replace(state, told=None, seen=())
            yield self._send(replace(state, told=None), "relay", c.Sent(T, row.number, row.to))
            return
        answer = self._decide(state, command_of(row))
        if isinstance(answer, Refused):
            kept = c.SendRefused(T, row.number, row.to, answer.reason.value, answer.clause)
            yield self._send(state, "relay", kept)
            return
        world = without_events(evolve(state.world, answer.writes))
        seen = (LATE,) if gone_of(state.world, row) else ()
        after = replace(state, world=world, told=row.number, seen=seen)
        yield ("relay", f"sends row {row.number}", answer.clause, "target"), after

    # -- commands

    def _decide(self, state: State, command: Any) -> Decided[Any] | Refused:
        view = state.world.load(command.reads())
        answer = decide_at(RELEASE, command, view, state.now_ms)
        self.clauses[answer.clause] += 1
        return answer

    def _send(self, state: State, who: str, command: Any) -> tuple[Any, State]:
        answer = self._decide(state, command)
        label = (who, command.__class__.__name__, answer.clause, "trigger")
        if isinstance(answer, Refused):
            seen = REFUSED.get(answer.clause)
            return label, replace(state, seen=() if seen is None else (seen,))
        try:
            rows = evolve(state.world, answer.writes)
        except AssertionError:
            return label, replace(state, broken=(NO_ERROR,))
        world = without_events(rows)
        broken = tuple(broken_by(state, world, command, self.system.period * STEP_MS))
        return label, replace(state, world=world, broken=broken, seen=tuple(seen_in(world, answer)))

    # -- properties

    def broken(self, state: State) -> Collection[str]:
        """Return the properties that a state violates."""
        found, world = list(state.broken), state.world
        if not all(is_listed(world, row) for row in world.all(Occurrence)):
            found.append(LISTED)
        reserved = [
            (each.started_id, (row.source, row.key_value, each.subscription_id))
            for row in world.all(Occurrence)
            for each in row.reservations
        ]
        started = [job.session_id for job in world.all(Job)]
        started += [row.input_id for row in world.all(Input)]
        ids = [started_id for started_id, _ in reserved]
        if any(len(set(each)) < len(reserved) for each in zip(*reserved, strict=True)):
            found.append(ONCE)
        if not set(started) <= set(ids):
            found.append(ONCE)
        session, trigger = session_of(world), trigger_of(world)
        deleted = session.phase is Phase.DESTROYED
        if session.due_at_ms != (None if deleted else trigger.next_at_ms):
            found.append(DUE)
        return found

    def seen(self, state: State) -> Collection[str]:
        """Return what has happened."""
        return state.seen

    def finished(self, state: State) -> bool:
        """Return True if all times have been fired, and everything was delivered or is listed."""
        rest = state.edited == len(self.system.edits) and state.clock == self.system.ends
        waiting = any(row.waiting_route is not None for row in state.world.all(Outbound))
        return rest and not any(state.pending) and not waiting and self._fire(state) is None


REFUSED: Final = {"TRIGGER-17": STALE, "TRIGGER-42": OLD_SCHEDULE}


def place_of(pending: c.Fire | None) -> tuple[int, tuple[int, ...]]:
    return (0, ()) if pending is None else (pending.revision, pending.times_ms)


def put(state: State, slot: int, pending: c.Fire | None) -> State:
    before, after = state.pending[:slot], state.pending[slot + 1 :]
    return replace(state, pending=(*before, pending, *after), seen=())


# -- reading the rows


def without_events(world: World) -> World:
    """Return the rows without events and without what counts them."""
    drops = [Drop(EventBatch, (row.session_id, row.seq)) for row in world.all(EventBatch)]
    heads = [
        Update(replace(row, next_event=1, changed_at_ms=0))
        for row in world.all(Session)
        if row.next_event > 1
    ]
    return evolve(world, (*drops, *heads))


def session_of(world: World) -> Session:
    found = world.answer(Get(Session, (T,)))
    assert found is not None
    return found


def trigger_of(world: World) -> Trigger:
    (found,) = world.all(Trigger)
    return found


def gone_of(world: World, row: Outbound) -> bool:
    """Return True if a row is of a subscription that has changed since, or of a trigger that was deleted."""
    now = {each.subscription_id: each.state for each in world.all(Subscription)}
    for occurrence in world.all(Occurrence):
        for each in occurrence.reservations:
            if each.number == row.number:
                state = now[each.subscription_id]
                deleted = session_of(world).phase is Phase.DESTROYED
                return deleted or (each.incarnation, each.revision) != (
                    state.incarnation,
                    state.revision,
                )
    return False


def is_listed(world: World, occurrence: Occurrence) -> bool:
    """Return True if everything that an occurrence starts is to be sent, was started, or is undeliverable."""
    rows = {row.number for row in world.all(Outbound)}
    started = {job.session_id for job in world.all(Job)}
    started |= {row.input_id for row in world.all(Input)}
    return all(e.number in rows or e.started_id in started for e in occurrence.reservations)


# -- what a command may do


def broken_by(state: State, after: World, command: Any, period_ms: int) -> Iterator[str]:
    """Yield the properties that a command has violated."""
    before = state.world
    known = {(row.source, row.key_value): row for row in before.all(Occurrence)}
    now = {(row.source, row.key_value): row for row in after.all(Occurrence)}
    if any(now.get(key) != row for key, row in known.items()):
        yield NEVER_TWICE
    new = [row for key, row in now.items() if key not in known]
    if len(new) > 1:
        yield NEVER_TWICE
    enabled = {
        (row.subscription_id, row.state.incarnation, row.state.revision)
        for row in before.all(Subscription)
        if isinstance(row.state, subscription_.Live) and row.state.enabled
    }
    deleted = session_of(before).phase is Phase.DESTROYED
    for row in new:
        made = [(e.subscription_id, e.incarnation, e.revision) for e in row.reservations]
        if deleted or len(made) != len(enabled) or set(made) != enabled:
            yield AS_THEN
    if not all(changed_by_revision(before, row, command) for row in after.all(Subscription)):
        yield BY_REVISION
    if isinstance(command, c.Fire):
        yield from broken_by_fire(state, after, new, period_ms)


def changed_by_revision(before: World, row: Subscription, command: Any) -> bool:
    """Return True if a subscription is as it was, or has changed for who knew its revision."""
    old = before.answer(Get(Subscription, (row.session_id, row.subscription_id)))
    if old is None or old == row:
        return True
    known = isinstance(command, c.ChangeSubscription) and command.expected == old.state.revision
    return known and row.state.revision == old.state.revision + 1


def broken_by_fire(
    state: State, after: World, new: Collection[Occurrence], period_ms: int
) -> Iterator[str]:
    """Yield the properties that a Fire has violated, by the calendar and the clock of the model."""
    before, trigger = trigger_of(state.world), trigger_of(after)
    if before.next_at_ms is None:
        return
    until = trigger.next_at_ms or 0
    passed = list(range(before.next_at_ms, until, period_ms))
    occurred = [int(row.key_value) for row in new]
    of_schedule = all(at_ms in passed and at_ms <= state.now_ms for at_ms in occurred)
    if not of_schedule or (until - before.next_at_ms) % period_ms or until < before.next_at_ms:
        yield OF_SCHEDULE
    come = [at_ms for at_ms in passed if at_ms <= state.now_ms]
    last = come[-1:] if until > state.now_ms else []  # the time after it has not come
    if before.missed is Missed.NONE and last and state.now_ms - last[0] >= ON_TIME_MS:
        last = []
    known = {row.key_value for row in state.world.all(Occurrence) if row.source == "schedule"}
    wanted = come if before.missed is Missed.ALL else last
    if occurred != [at_ms for at_ms in wanted if str(at_ms) not in known]:
        yield MISSED


def seen_in(world: World, answer: Decided[Any]) -> Iterator[str]:
    """Yield what an answer shows."""
    outcome = answer.outcome
    if isinstance(outcome, c.Fired):
        if answer.clause == "TRIGGER-41":
            yield TWICE
        if outcome.passed_over:
            yield PASSED
        if any(each.incarnation > 1 for each in outcome.reservations):
            yield REVIVED
    if isinstance(outcome, c.OutboundSettled) and answer.clause == "OUTBOUND-34":
        yield UNDELIVERABLE
