"""A long random walk over all commands; everything it leads to is counted again, by hand.

What must hold is worked out from the bare rows, without the kernel's functions: what conserves inputs, who
may write, what comes next, when something is due, and that work which can be finished is finished.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tenure.commands import (
    Acquire,
    Acquired,
    Admit,
    Admitted,
    Amend,
    Begin,
    Begun,
    Checkpoint,
    Commit,
    Committed,
    Destroy,
    Fail,
    Interrupt,
    Interrupted,
    NewEntry,
    NewInput,
    NothingDue,
    Open,
    Reclaim,
    Release,
    ReleaseSession,
    Renew,
    Reopen,
    RequestCancel,
    Reset,
    Retire,
    Rewind,
    Stop,
    Sweep,
    Swept,
    Then,
    Withdraw,
    WithdrawFrom,
)
from tenure.evolve import EMPTY, World, evolve, world_of
from tenure.failure import ErrorKind, Failure
from tenure.input import Bound, Delayed, Ended, How, Ready
from tenure.lease import Evidence, Fence, Held, Owner
from tenure.outcome import Decided, Refused
from tenure.policy import Delivery, KeyScope, Lane, OnOtherContent, OnRetry, Policy
from tenure.queries import Command, Get
from tenure.records import (
    Entry,
    EntryKind,
    Event,
    Input,
    Node,
    OpenKey,
    Phase,
    Place,
    Raise,
    Run,
    Session,
)
from tenure.run import Done, Rescheduled, Running, Termination
from tenure.transcript import NewNode, Role, UsageDelta
from tenure_drivers.contract import Store
from tenure_drivers.files import FilesStore
from tenure_drivers.sqlite import SqliteStore
from tenure_drivers.trial import Watch, carried_out

STEPS = int(os.environ.get("TENURE_WALK_STEPS", "6000"))
SEED = int(os.environ.get("TENURE_WALK_SEED", "1"))
CHAPTER = 250  # commands until everything starts anew: places soon collide with everything
UNFINISHED_MAX = 32
BEGINNING = (Phase.OPEN, Phase.RETIRED)
MONOTONE = (Renew, Sweep)  # carried out again they are new commands (design law 2)
FENCED = (Renew, Checkpoint, Commit, Fail, Release, ReleaseSession, Amend)

OWNERS = (Owner("worker-1", "first"), Owner("worker-2", "second"))
KINDS = (*("prompt", "prompt", "prompt", "wake", "wake", "directive", "hand_off"),)
POLICIES = (
    Policy(Lane.USER, batch="b"),
    Policy(Lane.USER, on_retry=OnRetry.HOLD, key_scope=KeyScope.OPEN),
    Policy(
        Lane.USER, key_scope=KeyScope.OPEN, on_other_content=OnOtherContent.ORIGINAL, priority=7
    ),
    Policy(Lane.SYSTEM, Delivery.EARLIEST, batch="b", key_scope=KeyScope.OPEN, when_retired=True),
)
ERRORS = (
    *(ErrorKind.TRANSIENT, ErrorKind.TRANSIENT, ErrorKind.RATE_LIMITED),
    *(ErrorKind.INVALID_REQUEST, ErrorKind.TIMEOUT),
)


# -- what is sent


class Sender:
    """Sends what makes sense for the rows there are, what made sense a while ago, and what never did."""

    def __init__(self, dice: random.Random, session: str = "s") -> None:
        self.dice = dice
        self.session = session
        self.fences: list[tuple[Fence, str]] = []
        self.ids = dice.choice((4, 40, 4_000))
        self.bulk = dice.choice((1, 1, 2, 9, 80))
        self.calm = dice.choice(
            (2, 6, 30)
        )  # the higher, the less is interrupted, stopped, withdrawn
        self.next = 0

    def name(self, kind: str) -> str:
        """Mostly one that was used before, if there are few of them."""
        self.next += 1
        return f"{kind}{self.dice.randrange(self.ids) if self.dice.random() < 0.7 else -self.next}"

    def send(self, world: World, now_ms: int) -> Command[Any, Any]:
        pick = self.dice.choice
        row = session_of(world)
        if row is None or pick(range(4)) == 0:
            return self.admit(now_ms)
        if pick(range(self.calm)) == 0:
            return self.disturb(world, now_ms)
        if isinstance(row.lease, Held) and pick(range(4)) > 0:
            fence = Fence(self.session, row.lease.generation, row.lease.lease_id)
            return self.hold(world, row, fence, row.lease_run or "", now_ms)
        if self.fences and pick(range(6)) == 0:
            return self.hold(world, row, *pick(self.fences[-6:]), now_ms)
        return pick((self.begin, self.begin, self.begin, self.sweep, self.acquire))()

    def input(self, now_ms: int) -> NewInput:
        pick, policy = self.dice.choice, None
        if pick(range(3)) == 0:
            policy = pick(POLICIES)
        return NewInput(
            self.name("i"),
            "custom" if policy else pick(KINDS),
            pick(("hello", "hello", "else")),
            key=self.name("k") if pick(range(3)) == 0 else None,
            priority=pick((None, None, None, None, 0, 1, 200)),
            available_at_ms=now_ms + pick((-5, 1, 40, 40, 9_000)) if pick(range(4)) == 0 else None,
            supersession_key=pick(("x", "y")) if pick(range(6)) == 0 else None,
            policy=policy,
        )

    def admit(self, now_ms: int) -> Command[Any, Any]:
        count = self.dice.randint(1, self.bulk)
        inputs = {new.input_id: new for new in [self.input(now_ms) for _ in range(count)]}
        return Admit(
            self.session, tuple(inputs.values()), open=self.dice.choice((True, True, False))
        )

    def begin(self) -> Command[Any, Any]:
        pick = self.dice.choice
        return Begin(
            *(self.session, self.name("l"), self.name("r"), pick(OWNERS)),
            ttl_ms=pick((60, 60, 60, 1_000, 0)),
            limit=pick((1, 8, 64, 500)),
            limit_bytes=pick((8, 1_000_000)),
        )

    def sweep(self) -> Command[Any, Any]:
        return Sweep(self.session)

    def acquire(self) -> Command[Any, Any]:
        return Acquire(self.session, self.name("l"), self.dice.choice(OWNERS), 60)

    def nodes(self, run: Run | None) -> tuple[NewNode, ...]:
        pick = self.dice.choice
        if run is not None and run.open_calls and pick(range(3)):
            return (NewNode(Role.TOOL, "result", run.open_calls[:1]),)
        calling = NewNode(Role.ASSISTANT, "calls", ("c1", "c2"))
        answer = NewNode(Role.ASSISTANT, pick(("answer", "another")))
        return pick(((), (answer,), (answer,), (answer, calling)))

    def hold(
        self, world: World, row: Session, fence: Fence, run_id: str, now_ms: int
    ) -> Command[Any, Any]:
        """What the holder of this fence may send, or one that has lost it."""
        pick, s = self.dice.choice, self.session
        run = next((r for r in world.all(Run) if r.run_id == run_id), None)
        if pick(range(30)) == 0:
            fence = Fence(pick((s, "other")), fence.generation - pick((0, 1)), pick(("l?", "l1")))
        if run is None:
            return pick(
                (
                    ReleaseSession(s, fence),
                    self.amend(world, row, fence),
                    self.amend(world, row, fence),
                    Renew(s, fence),
                )
            )
        turn, n = run.turn + pick((0,) * 19 + (1,)), run.n - pick((0,) * 9 + (1,))
        cancelled = row.cancel is not None and pick(range(4)) > 0
        commit = Commit(
            *(s, fence, run_id, turn, n, row.revision + pick((0,) * 19 + (1,))),
            Termination.CANCELLED if cancelled else pick(tuple(Termination)[:4]),
            nodes=self.nodes(run),
            usage=pick(((), (UsageDelta("model", "m", 1, 2, 3),))),
            state=pick((None, None, "state", "other state")),
            then=pick((Then.NEXT, Then.RELEASE)),
            next_run_id=self.name("r"),
            limit=pick((1, 8, 64)),
            hand_off=NewInput(self.name("i"), "hand_off", "go") if pick(range(8)) == 0 else None,
            frame=pick((None, None, "planner")),
        )
        kinds = (EntryKind.START, EntryKind.REPORT, EntryKind.UNKNOWN, EntryKind.NOTE)
        checkpoint = Checkpoint(
            *(s, fence, run_id, turn, n),
            (NewEntry(pick(kinds), self.name("e"), "{}"),)[: pick((0, 1, 1))],
            self.nodes(run),
            environment=pick((None, None, "state", "prompts")),
        )
        fail = Fail(
            *(s, fence, run_id, turn, Failure(pick(ERRORS), "no", pick((0, 0, 900)), pick((0, 7))))
        )
        found: Command[Any, Any] = pick(
            (
                *(commit, commit, commit, checkpoint, checkpoint, fail, fail),
                *(Renew(s, fence), Release(s, fence, run_id)),
                Reclaim(s, self.name("c"), fence, pick(tuple(Evidence))),
            )
        )
        return found

    def amend(self, world: World, row: Session, fence: Fence) -> Command[Any, Any]:
        pick = self.dice.choice
        nodes = [node.node_id for node in world.all(Node)]
        rewind = Rewind(pick((None, "none", *nodes))) if pick(range(3)) == 0 else None
        return Amend(self.session, self.name("c"), fence, row.revision, self.nodes(None), rewind)

    def disturb(self, world: World, now_ms: int) -> Command[Any, Any]:
        pick, s, c = self.dice.choice, self.session, self.name("c")
        places = [p.input_id for p in world.all(Place)] or ["i?"]
        runs = [r.run_id for r in world.all(Run)] or ["r?"]
        phases = (
            *(Retire(s, c, pick((True, False))), Stop(s, c, pick((True, False)))),
            *(Reset(s, c), Reopen(s, c), Reopen(s, c)),
        )
        found: Command[Any, Any] = pick(
            (
                Interrupt(s, c, pick((None, self.input(now_ms)))),
                Interrupt(s, c, pick((None, self.input(now_ms)))),
                RequestCancel(s, c, pick(runs)),
                RequestCancel(s, c, pick(runs[-2:])),
                *(Withdraw(s, c, pick(places)), Withdraw(s, c, pick(places[-3:]))),
                WithdrawFrom(s, c, pick(places), pick(tuple(Lane))),
                *(Sweep(s), Open(s), pick(phases), pick(phases)),
                Destroy(s, c) if pick(range(12)) == 0 else Sweep(s),
            )
        )
        return found

    def heard(self, outcome: object) -> None:
        found = outcome.next if isinstance(outcome, Committed) else outcome
        if isinstance(found, Begun):
            self.fences.append((found.fence, found.run_id))
        elif isinstance(found, Acquired):
            self.fences.append((found.fence, ""))


# -- what must be so


def live(lease: object, now_ms: int) -> bool:
    if not isinstance(lease, Held) or lease.ttl_ms == 0:
        return False
    return lease.expires_at_ms - 2 * lease.ttl_ms <= now_ms <= lease.expires_at_ms


def mark(row: Session, lane: Lane) -> int:
    return row.user_mark if lane is Lane.USER else row.system_mark


def order(row: Session, runs: Iterable[Run], places: Iterable[Place]) -> list[tuple[Any, ...]]:
    """All that may come next: (priority, rank, run or lane's head) of what no mark has taken back."""
    found: list[tuple[Any, ...]] = [
        (r.contributors[0].priority, r.contributors[0].rank, r)
        for r in runs
        if r.mark == mark(row, r.lane)
    ]
    found += [
        (p.priority, p.state.ready_rank, p)
        for p in places
        if isinstance(p.state, Ready) and p.state.mark == mark(row, p.lane)
    ]
    return sorted(found, key=lambda each: each[:2])


def comes_next(row: Session, runs: list[Run], places: list[Place], now_ms: int) -> Any:
    """A run to take up, the place that heads a new one, or when there may be something (None: never)."""
    by_id = {r.run_id: r for r in runs}
    if row.open_run is not None:
        at = getattr(by_id[row.open_run].state, "due_at_ms", None)
        return by_id[row.open_run] if at is None or at <= now_ms else at
    if row.phase not in BEGINNING:
        return None
    waiting: list[int] = []
    for _, _, each in order(row, runs, places):
        if isinstance(each, Place):
            if len(runs) < UNFINISHED_MAX:
                return each
            continue
        assert isinstance(each.state, Rescheduled), each
        if each.state.due_at_ms is None or each.state.due_at_ms <= now_ms:
            return each
        waiting.append(each.state.due_at_ms)
        if each.hold or each.state.hold_all:
            break
    return min(waiting, default=None)


def due(row: Session, runs: list[Run], places: list[Place]) -> int | None:
    if row.sweep:
        return 0
    found = [p.state.until_ms for p in places if isinstance(p.state, Delayed)]
    times: list[int | None] = [min(found)] if found and row.phase in BEGINNING else []
    if isinstance(row.lease, Held):
        times.append(row.lease.expires_at_ms + 1)
    else:
        step = comes_next(row, runs, places, -1)
        times.append(step if step is None or isinstance(step, int) else 0)
    return min([t for t in times if t is not None], default=None)


class Ledger:
    """Checks each step against the one before, and every world by itself."""

    def __init__(self) -> None:
        self.ends: dict[str, Ended] = {}
        self.ranks: dict[str, int] = {}
        self.events: dict[int, Event] = {}
        self.taken_back: set[str] = set()

    def step(
        self, command: Command[Any, Any], decided: Decided[Any], old: World, new: World, now: int
    ) -> None:
        before, after = session_of(old), session_of(new)
        if decided.replayed:
            assert not decided.writes, "a replay writes"
        if not decided.writes:
            return
        assert after is not None, "rows without a session"
        assert len(decided.writes) <= 1_100, f"{len(decided.writes)} writes"
        if isinstance(command, Interrupt) and isinstance(decided.outcome, Interrupted):
            self.replaced(command, decided.outcome, after, new)
        if before is None:
            return
        self.marked(before, after, new, now)
        was, lease = before.lease, after.lease
        assert after.revision - before.revision in (0, 1), "the revision jumps"
        assert lease.generation - was.generation in (0, 1), "the generation jumps"
        for name in ("user_mark", "system_mark", "next_rank", "next_event", "changed_at_ms"):
            assert getattr(after, name) >= getattr(before, name), f"{name} falls"
        if isinstance(command, FENCED):
            fence = command.fence
            assert isinstance(was, Held), "a write under no lease"
            assert (fence.generation, fence.lease_id) == (was.generation, was.lease_id), "stale"
            assert fence.session_id == before.session_id, "another session's fence"
        if lease.generation > was.generation:
            assert not live(was, now), "two holders"
            assert isinstance(command, Begin | Acquire), "a grant by another command"
        elif live(was, now) and not isinstance(lease, Held):
            allowed = (*FENCED, Reclaim, Destroy)
            assert isinstance(command, allowed), "a live lease is ended by somebody else"
        if isinstance(command, Begin):
            self.begun(command, decided.outcome, old, new, now)
        if before.phase is Phase.DESTROYED:
            assert after.phase is Phase.DESTROYED, "back from the dead"
        if before.phase not in BEGINNING and after.open_run is None:
            started = {r.run_id for r in new.all(Run)} - {r.run_id for r in old.all(Run)}
            assert not started, f"begun in {before.phase}"

    def marked(self, before: Session, after: Session, world: World, now: int) -> None:
        """What a mark takes back while nobody works on it is never consumed."""
        progress = {r.run_id for r in world.all(Run) if r.progress}
        working = after.lease_run if live(after.lease, now) else None
        for place in world.all(Place):
            state = place.state
            if isinstance(state, Ended):
                if place.input_id in self.taken_back:
                    assert state.how is not How.CONSUMED, f"taken back, and consumed: {place}"
            elif getattr(state, "mark", 0) < mark(after, place.lane) > mark(before, place.lane):
                run_id = getattr(state, "run_id", None)
                if run_id is None or (run_id not in progress and run_id != working):
                    self.taken_back.add(place.input_id)

    def replaced(
        self, command: Interrupt, outcome: Interrupted, row: Session, world: World
    ) -> None:
        """What stands for the replacement is not what the interrupt takes back, unless its key is retained."""
        policy = None if command.replacement is None else command.replacement.rules()
        if command.replacement is None or policy is None or policy.key_scope is KeyScope.RETAINED:
            return
        assert outcome.replacement is not None, "no receipt"
        found = outcome.replacement
        place = world.answer(Get(Place, (row.session_id, found.input_id)))
        assert place is not None, "a receipt for nothing"
        if found.input_id != command.replacement.input_id and place.lane is Lane.USER:
            state = place.state
            assert isinstance(state, Ended) or state.mark == row.user_mark, f"lost: {place}"

    def begun(self, command: Begin, outcome: object, old: World, new: World, now: int) -> None:
        """Of what is there once lapsed leases have ended and what is due is ready, the first is taken."""
        row = session_of(new)
        assert row is not None
        runs = {r.run_id: r for r in old.all(Run)}
        after = {r.run_id: r for r in new.all(Run)}
        places = {p.input_id: p for p in new.all(Place)}
        if not isinstance(outcome, Begun):
            assert isinstance(outcome, NothingDue), outcome
            left = [r for r in after.values() if not isinstance(r.state, Done)]
            step = comes_next(row, left, list(places.values()), now)
            assert step is None or isinstance(step, int), f"nothing due, but {step}"
            assert outcome.due_at_ms == row.due_at_ms, "another due time than the row's"
            return
        taken = after[outcome.run_id]
        if row.open_run is not None:
            assert row.open_run == taken.run_id, "an open turn is overtaken"
            return
        others = [
            r for r in after.values() if not isinstance(r.state, Done) and r.run_id != taken.run_id
        ]
        place = (taken.contributors[0].priority, taken.contributors[0].rank)
        for priority, rank, each in order(row, others, places.values()):
            if (priority, rank) >= place:
                break
            assert isinstance(each, Run) or len(others) >= UNFINISHED_MAX, f"overtook {each}"
            if isinstance(each, Run):
                state = each.state
                assert isinstance(state, Rescheduled) and state.due_at_ms is not None, each
                assert state.due_at_ms > now and not each.hold and not state.hold_all, each
        if taken.run_id in runs:
            return
        assert outcome.inputs == tuple([c.input_id for c in taken.contributors])
        assert len(taken.contributors) <= min(command.limit, 64), "too many are grouped"
        standing = [(c.priority, c.rank) for c in taken.contributors]
        assert standing == sorted(standing), "a group out of order"

    def world(self, world: World) -> None:
        row = session_of(world)
        if row is None:
            assert not list(world), "rows without a session"
            return
        runs = [r for r in world.all(Run) if not isinstance(r.state, Done)]
        places = list(world.all(Place))
        self.counts(row, runs, places)
        self.inputs(world, row, runs, places)
        self.lease(row, runs)
        self.history(world, row)
        assert row.due_at_ms == due(row, runs, places), f"due {row.due_at_ms}"

    def counts(self, row: Session, runs: list[Run], places: list[Place]) -> None:
        ready = Counter(p.lane for p in places if isinstance(p.state, Ready))
        assert row.unfinished_runs == len(runs) <= UNFINISHED_MAX, "unfinished_runs"
        assert row.ready_users == ready[Lane.USER], "ready_users"
        assert row.ready_systems == ready[Lane.SYSTEM], "ready_systems"
        assert row.delayed == sum(isinstance(p.state, Delayed) for p in places), "delayed"

    def inputs(self, world: World, row: Session, runs: list[Run], places: list[Place]) -> None:
        assert {i.input_id for i in world.all(Input)} == {p.input_id for p in places}, (
            "input, place"
        )
        bound: dict[str, set[str]] = {r.run_id: set() for r in runs}
        ranks: dict[int, str] = {}
        for place in places:
            state = place.state
            if isinstance(state, Ended):
                known = self.ends.setdefault(place.input_id, state)
                assert known == state, f"ended twice: {known}, {state}"
                continue
            assert place.input_id not in self.ends, f"{place.input_id} came back"
            if isinstance(state, Bound):
                assert state.run_id in bound, f"bound to what is over: {place}"
                bound[state.run_id].add(place.input_id)
            if isinstance(state, Delayed):
                continue
            rank = state.rank if isinstance(state, Bound) else state.ready_rank
            assert self.ranks.setdefault(place.input_id, rank) == rank, "another rank"
            assert ranks.setdefault(rank, place.input_id) == place.input_id, "two of a rank"
            assert rank < row.next_rank, "a rank not given yet"
        missing = self.ends.keys() - {p.input_id for p in places}
        assert not missing, f"lost: {missing}"
        for run in runs:
            assert {c.input_id for c in run.contributors} == bound[run.run_id], (
                f"contributors {run}"
            )
        held = {
            (p.state.open_key, p.lane, p.state.mark, p.input_id)
            for p in places
            if not isinstance(p.state, Ended) and p.state.open_key is not None
        }
        keys = {(k.key_value, k.lane, k.mark, k.input_id) for k in world.all(OpenKey)}
        assert keys == held, f"open keys {keys ^ held}"
        self.aged(world, row, places)

    def aged(self, world: World, row: Session, places: list[Place]) -> None:
        """What a mark has taken back is written out by Sweep, which knows how it ends; or its run goes on."""
        raises = {(r.lane, r.mark) for r in world.all(Raise)}
        kept = {row.open_run, row.lease_run} - {None}
        for place in places:
            state = place.state
            if isinstance(state, Ended) or state.mark == mark(row, place.lane):
                continue
            assert (place.lane, state.mark + 1) in raises, f"nobody says how {place} ends"
            goes_on = isinstance(state, Bound) and state.run_id in kept
            assert row.sweep or goes_on, f"left over: {place}"

    def lease(self, row: Session, runs: list[Run]) -> None:
        running = [r for r in runs if isinstance(r.state, Running)]
        if row.lease_run is not None:
            assert isinstance(row.lease, Held), "a run under no lease"
            assert [r.run_id for r in running] == [row.lease_run], f"running {running}"
            assert isinstance(running[0].state, Running)
            assert running[0].state.generation == row.lease.generation
        else:
            assert not running, f"running without a lease: {running}"
        progress = [r.run_id for r in runs if r.progress]
        assert progress == ([] if row.open_run is None else [row.open_run]), "open turns"
        if row.cancel is not None:
            known = {r.run_id for r in runs}
            assert row.cancel.run_id in known, "a flag for a run that is over"
            if row.phase is not Phase.DESTROYED:
                assert row.cancel.run_id in (row.lease_run, row.open_run), "a flag for nobody"
        if row.phase in (Phase.STOPPED, Phase.DESTROYED):
            assert not isinstance(row.lease, Held) and row.open_run is None, "not at rest"

    def history(self, world: World, row: Session) -> None:
        seq = 1
        for event in world.all(Event):
            assert event.seq == seq, f"a gap before event {event.seq}"
            assert self.events.setdefault(seq, event) == event, "an event was rewritten"
            seq += len(event.happened)
        assert row.next_event == seq, "next_event"
        nodes = {n.node_id: n for n in world.all(Node)}
        if row.leaf is not None:
            leaf = nodes[row.leaf.node_id]
            assert not leaf.open_calls and leaf.path_digest == row.leaf.path_digest, leaf
        for node in nodes.values():
            assert node.parent is None or node.parent in nodes, f"no parent: {node}"
        numbers: dict[tuple[str, int], set[int]] = {}
        for entry in world.all(Entry):
            numbers.setdefault((entry.run_id, entry.turn), set()).add(entry.n)
        for (run_id, _), ns in numbers.items():
            assert ns == set(range(len(ns))), f"a gap in the journal of {run_id}"


def session_of(world: World) -> Session | None:
    found: Session | None = world.answer(Get(Session, ("s",)))
    return found


# -- the walk


def is_known(command: Command[Any, Any], outcome: object) -> bool:
    """Carried out again, at once or at any time, it changes nothing.

    Not so: a Begin that found nothing, and an input that an open key made another one, which may be over by then.
    """
    if isinstance(command, Admit):
        assert isinstance(outcome, Admitted)
        found = [receipt.input_id for receipt in outcome.receipts]
        return found == [new.input_id for new in command.inputs]
    return not isinstance(command, MONOTONE) and not isinstance(outcome, NothingDue)


class Walk:
    """One world, or a list of them with the commands that led there."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.dice = random.Random(seed)
        self.world: World = EMPTY
        self.now_ms = 1_000_000
        self.sender = Sender(self.dice)
        self.ledger = Ledger()
        self.trace: list[tuple[int, Command[Any, Any]]] = []
        self.done: list[Command[Any, Any]] = []
        self.clauses: Counter[str] = Counter()

    def carry_out(self, command: Command[Any, Any]) -> Decided[Any] | Refused:
        self.trace.append((self.now_ms, command))
        old = self.world
        answer: Decided[Any] | Refused = command.decide(old.load(command.reads()), self.now_ms)
        self.clauses[answer.clause] += 1
        if isinstance(answer, Decided):
            self.world = evolve(old, answer.writes)
            self.ledger.step(command, answer, old, self.world, self.now_ms)
            if answer.writes:
                self.ledger.world(self.world)
                if is_known(command, answer.outcome):
                    self.done.append(command)
        return answer

    def again(self, command: Command[Any, Any]) -> Decided[Any] | Refused:
        answer = self.carry_out(command)
        if isinstance(answer, Decided):
            assert not answer.writes, f"carried out again it writes {answer}"
        return answer

    def chapter(self, steps: int) -> None:
        for _ in range(steps):
            self.now_ms += self.dice.choice((0, 0, 0, 1, 5, 30, 61, 400, 2_000, -25, -1_500))
            command = self.sender.send(self.world, self.now_ms)
            answer = self.carry_out(command)
            if isinstance(answer, Decided):
                self.sender.heard(answer.outcome)
                if answer.writes and self.done and self.done[-1] is command:
                    same = self.again(command)
                    assert isinstance(same, Decided), f"not a replay: {same}"
                    if not isinstance(command, Admit):  # which then says that it is known
                        assert same.outcome == answer.outcome, f"{same.outcome} {answer.outcome}"
            if self.done and self.dice.random() < 0.2:
                self.again(self.dice.choice(self.done))
            if self.dice.random() < 0.02:
                self.rests()
        self.rests()

    def rests(self) -> None:
        """Whoever looks at what is due gets everything done, in steps that each change something."""
        kept = self.world, self.now_ms, self.ledger, list(self.trace), list(self.done)
        self.ledger = Ledger()
        for at in range(4_000):
            row = session_of(self.world)
            if row is None or row.due_at_ms is None:
                break
            self.now_ms = max(self.now_ms, row.due_at_ms)
            before = self.world
            name = f"rest-{at}"
            begin = Begin("s", name, name, OWNERS[0], ttl_ms=60, limit=64)
            answer = self.carry_out(begin)
            if isinstance(answer, Decided) and isinstance(answer.outcome, Begun):
                self.finish(answer.outcome)
            elif isinstance(answer, Refused) or row.sweep or self.world == before:
                swept = self.carry_out(Sweep("s"))
                assert isinstance(swept, Decided) and isinstance(swept.outcome, Swept)
            assert self.world != before, f"due {row.due_at_ms}, but nothing changes: {row}"
        else:
            raise AssertionError("does not come to rest")
        row = session_of(self.world)
        if row is not None and row.phase is not Phase.STOPPED:
            left = [p for p in self.world.all(Place) if not isinstance(p.state, Ended)]
            assert not left, f"never ends: {left}"
        self.world, self.now_ms, self.ledger, self.trace, self.done = kept

    def finish(self, begun: Begun) -> None:
        how = Termination.FINISHED if begun.cancel is None else Termination.CANCELLED
        commit = Commit("s", begun.fence, begun.run_id, begun.turn, begun.n, begun.revision, how)
        answer = self.carry_out(commit)
        assert isinstance(answer, Decided), f"cannot be finished: {answer}"
        for input_id in begun.inputs:
            place = next(p for p in self.world.all(Place) if p.input_id == input_id)
            assert isinstance(place.state, Ended), place
            if how is Termination.FINISHED:
                assert place.state.how is How.CONSUMED, place


def told(walk: Walk, error: BaseException, last: int = 40) -> str:
    lines = [f"{at}: {command}" for at, command in walk.trace[-last:]]
    return "\n".join([f"seed {walk.seed}: {error!r}, after", *lines])


def test_a_long_walk() -> None:
    """TENURE_WALK_STEPS and TENURE_WALK_SEED make it longer, or another one."""
    for at in range(STEPS // CHAPTER):
        walk = Walk(SEED * 1_000_000 + at)
        try:
            walk.chapter(CHAPTER)
        except Exception as error:
            pytest.fail(told(walk, error))


def test_stores_go_the_same_way(tmp_path: Path) -> None:
    """The same commands, in groups that hold the session many times."""
    for at in range(max(2, STEPS // 1_000)):
        asyncio.run(in_stores(tmp_path / str(at), SEED * 1_000_000 + at))


async def in_stores(folder: Path, seed: int) -> None:
    folder.mkdir()
    walk, clock = Walk(seed), Watch()
    stores: tuple[Store, ...] = (
        SqliteStore(folder / "s.db", clock=clock),
        FilesStore(folder / "f", clock=clock, log_bytes_max=30_000),
    )
    try:
        for _ in range(30):
            clock.now_ms = walk.now_ms = walk.now_ms + walk.dice.choice((0, 5, 61, 400, -25))
            commands = [
                walk.sender.send(walk.world, walk.now_ms) for _ in range(walk.dice.choice((1, 7)))
            ]
            commands = [c for c in commands if not isinstance(c, Renew)]  # they go first
            expected = []
            for command in commands:
                expected.append(walk.carry_out(command))
                if isinstance(found := expected[-1], Decided):
                    walk.sender.heard(found.outcome)
            for store in stores:
                answers = await asyncio.gather(*[carried_out(store, c) for c in commands])
                assert answers == expected, f"{store}: {answers} {expected}"
                assert world_of(await store.dump()) == walk.world, store
    except Exception as error:
        pytest.fail(told(walk, error))
    finally:
        for store in stores:
            await store.aclose()
