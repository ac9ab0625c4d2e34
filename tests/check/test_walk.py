"""A long random walk over all commands; everything it leads to is counted again, by hand.

What must hold is worked out from the bare rows, without the kernel's functions: what conserves inputs, who
may write, what comes next, when something is due, and that work which can be finished is finished.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from check.test_mutants import MUTANTS, Mutant
from pg_server import drop, empty, shared
from walk_ledger import Ledger
from walk_order import session_of
from walk_sender import OWNERS, Sender

from tenure.commands import (
    Admit,
    Admitted,
    Begin,
    Begun,
    Commit,
    NothingDue,
    Renew,
    Sweep,
    Swept,
)
from tenure.machines.input import Ended, How
from tenure.machines.lease import Held
from tenure.machines.run import Termination
from tenure.outcome import Decided, Refused
from tenure.queries import Command
from tenure.records import Phase, QueueEntry
from tenure.world import EMPTY, World, evolve, world_of
from tenure_drivers.stores.base import Store
from tenure_drivers.stores.files.store import FilesStore
from tenure_drivers.stores.memory import MemoryStore
from tenure_drivers.stores.postgres.store import PostgresStore
from tenure_drivers.stores.sqlite.store import SqliteStore
from tenure_drivers.testing.fixtures import ManualClock, executed

STEPS = int(os.environ.get("TENURE_WALK_STEPS", "6000"))
SEED = int(os.environ.get("TENURE_WALK_SEED", "1"))
CHAPTER = 250  # commands until everything starts anew: places soon collide with everything
MUTANT_CHAPTERS = 100
UNNOTICED = frozenset(  # what the rows do not show: the explorer remembers what each worker knows
    (
        *("requeue instead of resume", "an interrupt without its flag"),
        *("a cancelled run sits out its backoff", "no hint at the end of a lease"),
    )
)
MONOTONE = (Renew, Sweep)  # carried out again they are new commands (STORE-2)


def is_known(command: Command[Any, Any], outcome: object) -> bool:
    """Carried out again, at once or at any time, it changes nothing.

    Not so: a Begin that found nothing, and an input that an open key made another one, which may be over by then.
    """
    if isinstance(command, Admit):
        assert isinstance(outcome, Admitted)
        found = [receipt.input_id for receipt in outcome.admissions]
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

    def execute(self, command: Command[Any, Any]) -> Decided[Any] | Refused:
        self.trace.append((self.now_ms, command))
        old = self.world
        answer: Decided[Any] | Refused = command.decide(old.load(command.reads()), self.now_ms)
        self.clauses[answer.clause] += 1
        if isinstance(answer, Refused):
            self.ledger.refused(answer, old, self.now_ms)
        if isinstance(answer, Decided):
            self.world = evolve(old, answer.writes)
            self.ledger.step(command, answer, old, self.world, self.now_ms)
            if answer.writes:
                self.ledger.laws.check(self.world)
                if is_known(command, answer.outcome):
                    self.done.append(command)
        return answer

    def again(self, command: Command[Any, Any]) -> Decided[Any] | Refused:
        answer = self.execute(command)
        if isinstance(answer, Decided):
            assert not answer.writes, f"carried out again it writes {answer}"
        return answer

    def chapter(self, steps: int) -> None:
        for _ in range(steps):
            self.wait()
            command = self.sender.send(self.world, self.now_ms)
            answer = self.execute(command)
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

    def wait(self) -> None:
        """Mostly somewhat; sometimes to the very end of the lease, or just over it."""
        row = session_of(self.world)
        if row is not None and isinstance(row.lease, Held) and self.dice.random() < 0.05:
            self.now_ms = row.lease.expires_at_ms + self.dice.choice((0, 1))
        else:
            self.now_ms += self.dice.choice((0, 0, 0, 1, 5, 30, 61, 400, 2_000, -25, -1_500))

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
            answer = self.execute(begin)
            if isinstance(answer, Decided) and isinstance(answer.outcome, Begun):
                self.finish(answer.outcome)
            elif isinstance(answer, Refused) or row.sweep or self.world == before:
                swept = self.execute(Sweep("s"))
                assert isinstance(swept, Decided) and isinstance(swept.outcome, Swept)
            assert self.world != before, f"due {row.due_at_ms}, but nothing changes: {row}"
        else:
            raise AssertionError("does not come to rest")
        row = session_of(self.world)
        if row is not None and row.phase is not Phase.STOPPED:
            left = [p for p in self.world.all(QueueEntry) if not isinstance(p.state, Ended)]
            assert not left, f"never ends: {left}"
        self.world, self.now_ms, self.ledger, self.trace, self.done = kept

    def finish(self, begun: Begun) -> None:
        how = Termination.FINISHED if begun.cancel is None else Termination.CANCELLED
        commit = Commit("s", begun.fence, begun.run_id, begun.turn, begun.n, begun.revision, how)
        answer = self.execute(commit)
        assert isinstance(answer, Decided), f"cannot be finished: {answer}"
        for input_id in begun.inputs:
            place = next(p for p in self.world.all(QueueEntry) if p.input_id == input_id)
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


@pytest.mark.parametrize(
    "mutant", [m for m in MUTANTS if m.name not in UNNOTICED], ids=lambda m: m.name
)
def test_the_walk_finds_the_bug(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts by hand must not agree with a kernel that is wrong."""
    mutant.patch(monkeypatch)

    with pytest.raises(Exception):  # noqa: B017, PT011 - a kernel that is wrong may meet itself
        for at in range(MUTANT_CHAPTERS):
            Walk(at).chapter(CHAPTER)


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
    walk, clock = Walk(seed), ManualClock()
    stores = stores_in(folder, schema, clock)
    try:
        for _ in range(30):
            clock.now_ms = walk.now_ms = walk.now_ms + walk.dice.choice((0, 5, 61, 400, -25))
            commands = [
                walk.sender.send(walk.world, walk.now_ms) for _ in range(walk.dice.choice((1, 7)))
            ]
            commands = [c for c in commands if not isinstance(c, Renew)]  # they go first
            expected = []
            for command in commands:
                expected.append(walk.execute(command))
                if isinstance(found := expected[-1], Decided):
                    walk.sender.heard(found.outcome)
            for store in stores:
                answers = await asyncio.gather(*[executed(store, c) for c in commands])
                assert answers == expected, f"{store}: {answers} {expected}"
                assert world_of(await store.dump()) == walk.world, store
    except Exception as error:
        pytest.fail(told(walk, error))
    finally:
        for store in stores:
            await store.aclose()
