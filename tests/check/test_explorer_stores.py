"""Random paths through the session models, executed on every store: answers and rows are those of the model.

The model converts the rows to their canonical form after every step.  So before each step the test writes the rows of
the model's state into the store.  The step is the command, at the time of the model's clock.
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

STEPS = 30  # on each path
OTHERS_MAX = 3  # other commands that are tried in each state


@frozen
class CurrentSession:
    session: Session | None


@frozen
class ReplaceRows(Command[CurrentSession, None]):
    """Replace the rows of the session by those of another world."""

    session_id: str
    writes: Any  # a list of Write: its values are not checked, for a key may have members of enumerations

    def reads(self) -> Reads[CurrentSession]:
        return read(CurrentSession, Get(Session, (self.session_id,)))

    def decide(self, view: CurrentSession, now_ms: int) -> Decided[None]:
        return Decided(None, "TEST", tuple(self.writes))


def change(old: World, new: World) -> list[Write]:
    """Return the writes that turn one world into another."""
    before = {(r.__class__, key_of(r.__class__)(r)): r for r in old}
    after = {(r.__class__, key_of(r.__class__)(r)): r for r in new}
    writes: list[Write] = [Drop(kind, key) for kind, key in before.keys() - after.keys()]
    for at, record in after.items():
        if at not in before:
            writes.append(Insert(record))
        elif before[at] != record:
            writes.append(Update(record))
    return writes


# -- the path


@frozen
class Step:
    """A command that the model executed on some rows."""

    snapshot: Snapshot
    command: Command[Any, Any]
    transition: Transition


def path(config: ModelConfig, seed: int) -> Iterator[Step]:
    """Yield a random path through a model.  It prefers clauses that it has not seen, and restarts at a dead end."""
    model, dice = SessionModel(config), random.Random(seed)
    seen: set[str] = set()
    (state,) = model.initial()
    for _ in range(STEPS):
        found = list(model.actions(state))
        if not found:
            (state,) = model.initial()
            continue
        snapshot = model.transitions.snapshots[state[0]]
        new = [each for each in found if clause_of(each[0][2]) not in seen]
        (_, _, transition), after = dice.choice(new or found)
        seen.add(clause_of(transition))
        model.broken(state)  # it sends all executed commands again
        tried = [Step(snapshot, command, each) for command, each in snapshot.transitions.items()]
        yield from dice.sample(tried, min(OTHERS_MAX, len(tried)))
        yield from [step for step in tried if step.transition is transition]
        state = model.canonical(after)


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


async def first_difference(store: Store, steps: list[Step]) -> str:
    """Execute the steps on a store.  Return the first difference to the model, or an empty text."""
    held = EMPTY
    for step in steps:
        if writes := change(held, step.snapshot.world):
            replaced = await store.execute(ReplaceRows(S, writes))
            assert replaced is None, replaced
        answer = await store.decide(step.command)
        if answer != step.transition.answer:
            return f"{step.command}: {answer}, expected {step.transition.answer}"
        held = world_of(await store.dump())
        if held != step.transition.after.world:
            return f"{step.command}: the rows differ"
    return ""


def test_every_store_agrees_with_the_session_models(stores: dict[str, Store]) -> None:
    seed = int(os.environ.get("TENURE_WALK_SEED", "1"))
    paths = [list(path(config, seed + at)) for at, config in enumerate(DEFAULT)]
    steps = [step for each in paths for step in each]
    clauses = {clause_of(step.transition) for step in steps}
    assert len(steps) > 10 * len(DEFAULT) and len(clauses) > 50, (len(steps), len(clauses))

    differences = {
        name: asyncio.run(first_difference(store, steps)) for name, store in stores.items()
    }

    assert differences == dict.fromkeys(stores, "")
