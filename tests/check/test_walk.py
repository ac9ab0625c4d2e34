"""A long random walk over all commands, judged by the properties of the explorer.

The walk has what the models of the explorer leave out: many inputs, long histories, a clock that moves by any time, and
all rows.  It also shows that from wherever it is the work can be finished.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from check.test_mutants import MUTANTS, Mutant
from pg_server import drop, empty, shared

from tenure import scheduling
from tenure.check.invariants import PROPERTIES
from tenure.check.session.decision_properties import DECISION_PROPERTIES
from tenure.check.session.ending_properties import ENDS_AS_MARKED, taken_back_after
from tenure.check.session.snapshot import snapshot_of
from tenure.check.session.state_properties import DETAIL_PROPERTIES
from tenure.check.session.steering_properties import TAKES_ALL, takes_all
from tenure.check.session.step import Step
from tenure.check.session.transitions import NEVER_REPLAYED, refused_for_a_reason, same_answer
from tenure.commands import (
    Admit,
    Admitted,
    Begin,
    Begun,
    Checkpoint,
    Commit,
    Decide,
    DropScraps,
    Forget,
    GoOn,
    Intend,
    Interrupt,
    NewInput,
    NothingDue,
    RequestCancel,
    Sweep,
    Swept,
    admit,
    cancel,
    commit,
    profile,
    transaction,
)
from tenure.limits import COMMANDS_FOR_MS_MIN
from tenure.machines.input import Ended, How
from tenure.machines.lease import Held
from tenure.machines.run import Termination, Waiting
from tenure.machines.ticket import Action
from tenure.outcome import Decided, Refused
from tenure.policy import KeyScope, Lane, Policy
from tenure.queries import Command, Get
from tenure.records import Phase, QueueEntry, Run, Session, Ticket
from tenure.scheduling import take_group
from tenure.world import World, world_of
from tenure_drivers.stores.base import Store
from tenure_drivers.stores.files.store import FilesStore
from tenure_drivers.stores.memory import MemoryStore
from tenure_drivers.stores.postgres.store import PostgresStore
from tenure_drivers.stores.sqlite.store import SqliteStore
from tenure_drivers.testing.command_generator import OWNERS, CommandGenerator
from tenure_drivers.testing.fixtures import ManualClock, executed

STEPS = int(os.environ.get("TENURE_WALK_STEPS", "6000"))
SEED = int(os.environ.get("TENURE_WALK_SEED", "1"))
CHAPTER = 250  # commands before a new session: later ones collide with ever more rows
MUTANT_CHAPTERS = 1_000
FEW = 8
# A random run seldom waits again when one of its tickets is settled and another one awaits work.
SHOWN = [mutant for mutant in MUTANTS if mutant.name != "the rest works on"]
SEEDS = Path(__file__).with_name("walk_seeds.json")
STATES = PROPERTIES | DETAIL_PROPERTIES


def is_known(command: Command[Any, Any], outcome: object) -> bool:
    """Return whether the command, executed again at any later time, changes nothing.

    Not so: a Begin that found nothing, a Park after which the holder goes on, and an Admit for which the input of an
    open key stands, which may have ended.
    """
    if isinstance(command, Admit):
        assert isinstance(outcome, Admitted)
        found = [receipt.input_id for receipt in outcome.admissions]
        return found == [new.input_id for new in command.inputs]
    named_by_a_row = (Intend, Forget, DropScraps)  # which a later command may have changed
    return not isinstance(command, (*NEVER_REPLAYED, *named_by_a_row)) and not isinstance(
        outcome, NothingDue | GoOn
    )


def session_of(world: World) -> Session | None:
    return world.answer(Get(Session, ("s",)))


class Walk:
    """One session, with the commands that led to its rows."""

    def __init__(self, seed: int, *, prunes: bool = False) -> None:
        """`prunes`: the session is pruned, and sometimes days pass."""
        self.seed, self.prunes = seed, prunes
        self.dice = random.Random(seed)
        self.now_ms = 1_000_000
        self.generator = CommandGenerator(
            self.dice.choice,
            ("s",),
            ids=self.dice.choice((4, 40, 4_000)),
            bulk=self.dice.choice((1, 1, 2, 9, 80)),
            calm=self.dice.choice((2, 6, 30)),
            prunes=prunes,
        )
        self.taken_back: tuple[tuple[str, str], ...] = ()  # superseded inputs that have not ended
        self.trace: list[tuple[int, Command[Any, Any]]] = []
        self.done: list[Command[Any, Any]] = []
        self.clauses: Counter[str] = Counter()

    @property
    def world(self) -> World:
        return self.generator.world

    def execute(self, command: Command[Any, Any]) -> Decided[Any] | Refused:
        self.trace.append((self.now_ms, command))
        old = self.world
        answer: Decided[Any] | Refused = command.decide(old.load(command.reads()), self.now_ms)
        self.clauses[answer.clause] += 1
        if isinstance(answer, Refused):
            if session_of(old) is not None:
                reason = refused_for_a_reason(snapshot_of(-1, old, self.now_ms), answer)
                assert reason, f"a lease that is not live keeps others out: {answer}"
                self.judge_steering(old, command, answer)
        elif answer.writes:
            self.generator.observe(command, answer)
            self.judge(old, command, answer)
            if session_of(old) is not None:
                self.judge_steering(old, command, answer)
            if is_known(command, answer.outcome):
                self.done.append(command)
        return answer

    def judge_steering(self, old: World, command: Command[Any, Any], answer: Any) -> None:
        """The property of what a run could take holds of refusals too."""
        run = old.answer(Get(Run, ("s", getattr(command, "run_id", ""))))
        if isinstance(command, Checkpoint | Commit) and run is not None:
            before, after = (snapshot_of(-1, w, self.now_ms) for w in (old, self.world))
            assert takes_all(before, after, command, answer), f"{TAKES_ALL}: {answer}"

    def judge(self, old: World, command: Command[Any, Any], answer: Decided[Any]) -> None:
        """The properties of the explorer hold of every decision and of all rows after it."""
        after = snapshot_of(-1, self.world, self.now_ms)
        broken = [sentence for sentence, holds in STATES.items() if not holds(after)]
        if session_of(old) is not None:
            before = snapshot_of(-1, old, self.now_ms)
            step = Step(before, after, command, answer)
            broken += [text for text, holds in DECISION_PROPERTIES.items() if not holds(step)]
            self.taken_back, kept = taken_back_after(before, after, self.taken_back)
            broken += [] if kept else [ENDS_AS_MARKED]
        assert not broken, f"{'; '.join(broken)}: {answer}"

    def chapter(self, steps: int) -> None:
        for _ in range(steps):
            self.wait()
            command = self.generator.send(self.now_ms)
            answer = self.execute(command)
            if isinstance(answer, Decided) and answer.writes and is_known(command, answer.outcome):
                again = self.execute(command)
                assert same_answer(answer, again), f"not a replay: {answer} {again}"
            if self.done and self.dice.random() < 0.2:
                late = self.execute(self.dice.choice(self.done))
                changed = isinstance(late, Decided) and late.writes
                assert not changed, f"executed again, it writes: {late}"
            if self.dice.random() < 0.02:
                self.rests()
        self.rests()

    def wait(self) -> None:
        """Mostly a short time; sometimes exactly until the lease ends, or one millisecond longer."""
        row = session_of(self.world)
        if row is not None and isinstance(row.lease, Held) and self.dice.random() < 0.05:
            self.now_ms = row.lease.expires_at_ms + self.dice.choice((0, 1))
        elif self.prunes and self.dice.random() < 0.01:
            self.now_ms += COMMANDS_FOR_MS_MIN
        else:
            self.now_ms += self.dice.choice((0, 0, 0, 1, 5, 30, 61, 400, 2_000, -25, -1_500))

    def rests(self) -> None:
        """A worker that looks at due sessions finishes everything, in steps that each change something."""
        kept = self.generator, self.now_ms, self.taken_back, list(self.trace), list(self.done)
        self.generator = CommandGenerator(self.dice.choice, ("s",))  # it generates nothing
        self.generator.world = kept[0].world
        for at in range(4_000):
            row = session_of(self.world)
            if row is None or (row.due_at_ms is None and not self.somebody_acts(row, at)):
                break
            if row.due_at_ms is None:
                continue
            self.now_ms = max(self.now_ms, row.due_at_ms)
            before = self.world
            name = f"rest-{at}"
            begin = Begin("s", name, name, OWNERS[0], ttl_ms=60, limit=64)
            answer = self.execute(begin)
            if isinstance(answer, Decided) and isinstance(answer.outcome, Begun):
                self.finish(answer.outcome)
            elif isinstance(answer, Refused) or row.sweep or self.world == before:
                swept = self.execute(Sweep("s"))
                assert isinstance(swept, Decided) and isinstance(swept.outcome, Swept)
            assert self.world != before, f"due {row.due_at_ms}, but nothing changes: {row}"
        else:
            raise AssertionError("not finished after 4,000 steps")
        row = session_of(self.world)
        if row is not None and row.phase not in (Phase.STOPPED, Phase.IMPORTING):
            left = [e for e in self.world.all(QueueEntry) if not isinstance(e.state, Ended)]
            assert not left, f"never ends: {left}"
        self.generator, self.now_ms, self.taken_back, self.trace, self.done = kept

    def somebody_acts(self, row: Session, at: int) -> bool:
        """Answer the run that waits, or cancel it where nobody was asked; return whether a run waits."""
        run = self.world.answer(Get(Run, ("s", row.open_run or "")))
        if run is None or not isinstance(run.state, Waiting):
            return False
        asked = [self.world.answer(Get(Ticket, ("s", each))) for each in run.state.tickets]
        offered = [t for t in asked if t is not None and t.offers]
        command: Command[Any, Any] = RequestCancel("s", f"act-{at}", run.run_id)
        if offered and row.phase in (Phase.OPEN, Phase.RETIRED):
            command = Decide("s", offered[0].ticket_id, f"act-{at}", Action(offered[0].offers[0]))
        answer = self.execute(command)
        assert isinstance(answer, Decided) and answer.writes, f"it waits for nobody: {answer}"
        return True

    def finish(self, begun: Begun) -> None:
        how = Termination.FINISHED if begun.cancel is None else Termination.CANCELLED
        commit = Commit("s", begun.fence, begun.run_id, begun.turn, begun.n, begun.revision, how)
        answer = self.execute(commit)
        assert isinstance(answer, Decided), f"cannot be finished: {answer}"
        for input_id in begun.inputs:
            entry = next(e for e in self.world.all(QueueEntry) if e.input_id == input_id)
            assert isinstance(entry.state, Ended), entry
            if how is Termination.FINISHED:
                assert entry.state.how is How.CONSUMED, entry


def told(walk: Walk, error: BaseException, last: int = 40) -> str:
    lines = [f"{at}: {command}" for at, command in walk.trace[-last:]]
    return "\n".join([f"seed {walk.seed}: {error!r}, after", *lines])


def test_a_long_walk() -> None:
    """TENURE_WALK_STEPS and TENURE_WALK_SEED make it longer, or another one."""
    for at in range(STEPS // CHAPTER):
        walk = Walk(SEED * 1_000_000 + at, prunes=at % 2 == 1)
        try:
            walk.chapter(CHAPTER)
        except Exception as error:
            pytest.fail(told(walk, error))


@pytest.mark.parametrize("mutant", SHOWN, ids=lambda m: m.name)
def test_the_walk_finds_the_bug(
    mutant: Mutant, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A wrong kernel violates a property, or an assertion of its own.

    `walk_seeds.json` has a walk for each bug, as some need hundreds.  It is written by `--rewrite`, which is due when the
    generator of commands has changed.
    """
    seeds: dict[str, int] = json.loads(SEEDS.read_text(encoding="utf-8"))
    mutant.patch(monkeypatch)
    if request.config.getoption("--rewrite"):
        known = seeds.get(mutant.name, 0)
        seeds[mutant.name] = next(s for s in (known, *range(MUTANT_CHAPTERS)) if finds(s))
        names = [each.name for each in SHOWN]
        kept = {name: seeds[name] for name in sorted(seeds) if name in names}
        SEEDS.write_text(json.dumps(kept, indent=4) + "\n", encoding="utf-8")

    assert finds(seeds.get(mutant.name, 0)), (
        "not found by its walk; search another one: add --rewrite"
    )


def finds(seed: int) -> bool:
    try:
        Walk(seed).chapter(CHAPTER)
    except Exception:  # it may fail in its own code
        return True
    return False


# -- bugs that the models of the explorer cannot show


def limit_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        scheduling, "take_group", lambda ready, *_: take_group(ready, 64, 1_000_000, _[-1])
    )


def numbered_again(patch: pytest.MonkeyPatch) -> None:
    """The counter of the session is not moved by a run that ends."""
    patch.setattr(transaction, "first_number", lambda session: 0)


def numbers_skipped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transaction, "first_number", lambda session: (session.next_node or 1) + 1)


def calls_left_open(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(commit, "closing_nodes", lambda *_: ())


def labels_left_behind(patch: pytest.MonkeyPatch) -> None:
    write = profile._write_labels

    def none_dropped(tx: Any, changed: Any, before: dict[str, str]) -> None:
        kept = {name: before[name] for name, _ in changed.labels if name in before}
        write(tx, changed, kept)

    patch.setattr(profile, "_write_labels", none_dropped)


@pytest.mark.parametrize(
    ("patch", "sentence"),
    [
        (labels_left_behind, "the rows of labels are those of the profile"),
        (limit_ignored, "a new run binds inputs in order, up to the limit"),
        (calls_left_open, "has no open calls"),
        (numbered_again, "the number of every node is below the next one"),
        (numbers_skipped, "nodes are numbered in the order of writing"),
    ],
)
def test_the_walk_violates_the_property(
    patch: Callable[[pytest.MonkeyPatch], None], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(monkeypatch)

    with pytest.raises(AssertionError, match=sentence):
        for at in range(MUTANT_CHAPTERS):
            Walk(at).chapter(CHAPTER)


def test_an_interrupt_that_supersedes_its_replacement_violates_the_property(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look_up, walk = admit.look_up, Walk(0)
    monkeypatch.setattr(cancel, "look_up", lambda _, view, new: look_up(view.session, view, new))
    policy = Policy(Lane.USER, key_scope=KeyScope.OPEN)
    walk.execute(Admit("s", (NewInput("i1", "custom", "hello", key="k", policy=policy),)))

    with pytest.raises(AssertionError, match="an interrupt does not supersede its replacement"):
        walk.execute(
            Interrupt("s", "c1", NewInput("i2", "custom", "hello", key="k", policy=policy))
        )


# -- the same on every store


@pytest.fixture
def schema() -> Iterator[str]:
    name = f"walk_{os.getpid()}"
    yield name
    drop(shared(), name)


@pytest.mark.postgres
def test_stores_go_the_same_way(tmp_path: Path, schema: str) -> None:
    """The same commands, in groups that hold the session many times."""
    for at in range(max(2, STEPS // 1_000)):
        asyncio.run(in_stores(tmp_path / str(at), schema, SEED * 1_000_000 + at))


def stores_in(folder: Path, schema: str, clock: ManualClock) -> tuple[Store, ...]:
    """Empty, all of them."""
    server = PostgresStore(shared(), schema=schema, clock=clock)
    empty(shared(), schema)
    return (
        MemoryStore(clock=clock),
        SqliteStore(folder / "s.db", clock=clock),
        FilesStore(folder / "f", clock=clock, log_bytes_max=30_000),
        server,
    )


async def in_stores(folder: Path, schema: str, seed: int) -> None:
    folder.mkdir()
    walk, clock = Walk(seed, prunes=seed % 2 == 1), ManualClock()
    stores = stores_in(folder, schema, clock)
    try:
        for _ in range(30):
            clock.now_ms = walk.now_ms = walk.now_ms + walk.dice.choice((0, 5, 61, 400, -25))
            count = walk.dice.choice((1, 7))
            commands = [walk.generator.send(walk.now_ms) for _ in range(count)]
            expected = [walk.execute(command) for command in commands]
            for store in stores:
                answers = await asyncio.gather(*[executed(store, c) for c in commands])
                assert answers == expected, f"{store}: {answers} {expected}"
                assert world_of(await store.dump()) == walk.world, store
    except Exception as error:
        pytest.fail(told(walk, error))
    finally:
        for store in stores:
            await store.aclose()
