"""Paths through the explored worlds, taken by every store: it answers and holds what the search says.

The search names rows anew after every step and leaves out what nobody asks for any more.  So before each step a store
is given the rows of the state that the search is in; the step itself is the command, at the clock of the search.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from pg_server import drop, shared

from tenure.check.session.configs import DEFAULT
from tenure.check.session.model import SessionModel
from tenure.check.session.snapshot import NOW, S, Snapshot
from tenure.check.session.states import ModelConfig
from tenure.check.session.transitions import Transition
from tenure.outcome import Decided, Drop, Insert, Update, Write
from tenure.queries import Command, Get, Reads, read
from tenure.records import Session
from tenure.world import EMPTY, World, key_of, world_of
from tenure_drivers.stores.base import Clock, Store
from tenure_drivers.stores.files.store import FilesStore
from tenure_drivers.stores.memory import MemoryStore
from tenure_drivers.stores.postgres.store import PostgresStore
from tenure_drivers.stores.sqlite.store import SqliteStore

pytestmark = pytest.mark.postgres

STEPS = 30  # of each world
BESIDE = 3  # and of what else could have been done there


@frozen
class Standing:
    session: Session | None


@frozen
class Become(Command[Standing, None]):
    """Make the rows of the session those of another world."""

    session_id: str
    writes: tuple[Write, ...]

    def reads(self) -> Reads[Standing]:
        return read(Standing, Get(Session, (self.session_id,)))

    def decide(self, view: Standing, now_ms: int) -> Decided[None]:
        return Decided(None, "TEST", self.writes)


def change(old: World, new: World) -> tuple[Write, ...]:
    before = {(r.__class__, key_of(r.__class__)(r)): r for r in old}
    after = {(r.__class__, key_of(r.__class__)(r)): r for r in new}
    writes: list[Write] = [Drop(kind, key) for kind, key in before.keys() - after.keys()]
    for at, record in after.items():
        if at not in before:
            writes.append(Insert(record))
        elif before[at] != record:
            writes.append(Update(record))
    return tuple(writes)


# -- the way


@frozen
class Step:
    """A command that the search carried out over some rows."""

    board: Snapshot
    command: Command[Any, Any]
    transition: Transition


def path(setting: ModelConfig, seed: int) -> Iterator[Step]:
    """Some way through a world, along what was not seen yet where that can be chosen; begun anew where it ends."""
    world, dice = SessionModel(setting), random.Random(seed)
    seen: set[str] = set()
    (state,) = world.initial()
    for _ in range(STEPS):
        found = list(world.actions(state))
        if not found:
            (state,) = world.initial()
            continue
        board = world.transitions.snapshots[state[0]]
        fresh = [each for each in found if clause_of(each[0][2]) not in seen]
        (_, _, transition), after = dice.choice(fresh or found)
        seen.add(clause_of(transition))
        world.broken(state)  # which carries out again whatever was carried out on the way
        tried = [Step(board, command, each) for command, each in board.transitions.items()]
        yield from dice.sample(tried, min(BESIDE, len(tried)))
        yield from [step for step in tried if step.transition is transition]
        state = world.canonical(after)


def clause_of(transition: object) -> str:
    answer = transition.answer if isinstance(transition, Transition) else None
    return "" if answer is None else answer.clause


# -- the stores


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[dict[str, Store]]:
    schema = f"explored_{os.getpid()}"
    clock: Clock = lambda: NOW  # noqa: E731
    found: dict[str, Store] = {
        "memory": MemoryStore(clock=clock),
        "files": FilesStore(tmp_path / "files", clock=clock),
        "sqlite": SqliteStore(tmp_path / "s.db", clock=clock),
        "postgres": PostgresStore(shared(), schema=schema, clock=clock),
    }
    yield found
    for store in found.values():
        asyncio.run(store.aclose())
    drop(shared(), schema)


async def take(store: Store, steps: list[Step]) -> str:
    """Where it goes another way."""
    held = EMPTY
    for step in steps:
        if writes := change(held, step.board.world):
            await store.execute(Become(S, writes))
        answer = await store.decide(step.command)
        if answer != step.transition.answer:
            return f"{step.command}: {answer}, and not {step.transition.answer}"
        held = world_of(await store.dump())
        if held != step.transition.after.world:
            return f"{step.command} leaves other rows"
    return ""


def test_every_store_takes_the_ways_of_the_explorer(stores: dict[str, Store]) -> None:
    seed = int(os.environ.get("TENURE_WALK_SEED", "1"))
    ways = [list(path(setting, seed + at)) for at, setting in enumerate(DEFAULT)]
    steps = [step for way in ways for step in way]
    clauses = {clause_of(step.transition) for step in steps}
    assert len(steps) > 10 * len(DEFAULT) and len(clauses) > 50, (len(steps), len(clauses))

    differences = {name: asyncio.run(take(store, steps)) for name, store in stores.items()}

    assert differences == dict.fromkeys(stores, "")
