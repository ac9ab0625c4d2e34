"""Makes the fixtures of a release: stores and an export with every record in every state.

    python tests/support/schema_fixture.py tests/fixtures/schema/N

They are made once, by release N itself, before release N + 1 changes anything; later releases only read them
(specs/schema.md).  The sessions are random walks; as few of them are kept as show every shape that some walk reached.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import attrs

from tenure.commands import Admit, Amend, Begin, Begun, Checkpoint, Commit, Fail, NewEntry, NewInput
from tenure.commands.fence import FenceOff
from tenure.event import EventKind
from tenure.failure import ErrorKind
from tenure.machines.input import How
from tenure.machines.lease import Owner
from tenure.machines.run import Termination
from tenure.outcome import Decided
from tenure.policy import Lane
from tenure.queries import Command, Record
from tenure.records import EntryKind, Phase
from tenure.transcript import Form, NewNode, Role, UsageDelta
from tenure.world import EMPTY, World, evolve
from tenure_drivers.stores.export import exported
from tenure_drivers.stores.files.store import FilesStore
from tenure_drivers.stores.sqlite.store import SqliteStore
from tenure_drivers.testing.command_generator import CommandGenerator
from tenure_drivers.testing.fixtures import START_MS, ManualClock

WALKS = 600
STEPS = 60

Timed = tuple[int, Command[Any, Any]]
Shape = tuple[object, ...]


# -- what is there: classes, members, and values that may be missing


def shapes_of(records: Iterable[Record]) -> frozenset[Shape]:
    """Return every class, enum member and missing value in the records, each with the field that holds it."""
    return frozenset(shape for record in records for shape in _shapes(record, ()))


def _shapes(value: object, at: Shape) -> Iterator[Shape]:
    if attrs.has(type(value)):
        here = (*at, type(value).__name__)
        yield here
        for field in attrs.fields(cast(Any, type(value))):
            yield from _shapes(getattr(value, field.name), (*here[-1:], field.name))
    elif isinstance(value, tuple):
        yield (*at, "some" if value else "none")
        for part in value:
            yield from _shapes(part, at)
    elif value is None or isinstance(value, bool | str) and type(value) is not str:
        yield (*at, value)
    else:
        yield (*at, "value")


# -- sessions that are written by hand, so that tests can repeat their commands


def known() -> list[Timed]:
    """Return the commands of session `known`: a finished turn, an open one, and inputs of every kind that wait."""
    s, now = "known", START_MS
    owner = Owner("worker", "first")
    turn = NewNode(Role.ASSISTANT, "hello")
    world = EMPTY
    timed: list[Timed] = []

    def run(command: Command[Any, Any]) -> Any:
        nonlocal world
        answer = command.decide(world.load(command.reads()), now)
        assert isinstance(answer, Decided), answer
        world = evolve(world, answer.writes)
        timed.append((now, command))
        return answer.outcome

    run(Admit(s, (NewInput("input-1", "prompt", "hello", key="key-1"),)))
    begun = run(Begin(s, "lease-1", "run-1", owner, 60_000))
    assert isinstance(begun, Begun)
    entry = NewEntry(EntryKind.REPORT, "step-1", '{"value":1}')
    run(Checkpoint(s, begun.fence, "run-1", 1, 0, (entry,), environment="an environment"))
    usage = (UsageDelta("model", "m", 1, 20, 30),)
    run(
        Commit(
            *(s, begun.fence, "run-1", 1, 1, 0, Termination.FINISHED),
            nodes=(turn,),
            usage=usage,
            state="a state",
        )
    )
    run(
        Admit(
            s,
            (
                NewInput("input-2", "prompt", "again", key="key-2", correlation_id="request-2"),
                NewInput("input-3", "wake", "wake up", available_at_ms=now + 3_600_000),
                NewInput("input-4", "prompt", "the same", supersession_key="slot"),
            ),
        )
    )
    return timed


def lost() -> list[Timed]:
    """Return the commands of session `lost`: its run is given up, since every lease on it ends without a word."""
    s, now = "lost", START_MS
    world = EMPTY
    timed: list[Timed] = []
    commands: list[Command[Any, Any]] = [Admit(s, (NewInput("input-1", "prompt", "poison"),))]
    commands += [Begin(s, f"lease-{at}", f"run-{at}", Owner("w", str(at)), 1) for at in range(40)]
    for command in commands:
        answer = command.decide(world.load(command.reads()), now)
        now += 60_000
        if isinstance(answer, Decided) and answer.writes:
            world = evolve(world, answer.writes)
            timed.append((now - 60_000, command))
    return timed


# -- walks


def walk(seed: int) -> tuple[list[Timed], World]:
    """Return the commands of a random walk over a session of its own, and its rows."""
    session = f"walk-{seed}"
    dice = random.Random(seed)
    now = START_MS
    generator = CommandGenerator(
        dice.choice, (session,), ids=dice.choice((4, 40)), bulk=2, calm=dice.choice((3, 6, 30))
    )
    timed: list[Timed] = []
    for _ in range(dice.choice((12, STEPS, 2 * STEPS))):
        now += dice.choice((0, 1, 1, 30, 400, 20_000))
        command: Command[Any, Any] = generator.send(now)
        if dice.random() < 0.01:
            command = FenceOff(session, f"fence-{now}", 5)
        command = varied(command, dice)
        if command.session_id != session:
            continue
        answer = command.decide(generator.world.load(command.reads()), now)
        if isinstance(answer, Decided) and answer.writes:
            generator.observe(command, answer)
            timed.append((now, command))
    return timed, generator.world


def varied(command: Any, dice: random.Random) -> Any:
    """Return the command with values that the generator does not use."""
    if isinstance(command, Fail):
        kind = dice.choice(tuple(ErrorKind))
        return attrs.evolve(command, failure=attrs.evolve(command.failure, kind=kind))
    if isinstance(command, Amend | Checkpoint | Commit) and dice.random() < 0.3:
        form, role = dice.choice(tuple(Form)), Role.IMPORTED
        nodes = [
            attrs.evolve(node, form=form, role=role if isinstance(command, Amend) else node.role)
            for node in command.nodes
        ]
        return attrs.evolve(command, nodes=tuple(nodes))
    return command


def chosen() -> list[list[Timed]]:
    """Return as few walks as show every shape that any of them shows, and report what none shows."""
    walks = [walk(seed) for seed in range(WALKS)]
    shapes = [shapes_of(world) for _, world in walks]
    left = set().union(*shapes)
    found: list[list[Timed]] = []
    while left:
        best = max(range(WALKS), key=lambda at: len(shapes[at] & left) / (10 + len(walks[at][0])))
        left -= shapes[best]
        found.append(walks[best][0])
    _report(set().union(*shapes))
    return found


def _report(seen: set[Shape]) -> None:
    kinds = {shape[-1] for shape in seen}
    for enums in (Phase, How, Termination, EntryKind, EventKind, ErrorKind, Form, Role, Lane):
        for member in enums:
            if member not in kinds:
                print(f"not in the fixtures: {member!r}")


# -- stores


def make(folder: Path) -> None:
    """Write `files/`, `store.sqlite` and `export.jsonl` into a new folder."""
    folder.mkdir(parents=True)
    sessions = [known(), lost(), *chosen()]
    clock = ManualClock()
    files = FilesStore(folder / "files", clock=clock)
    sqlite = SqliteStore(folder / "store.sqlite", clock=clock)
    for number, session in enumerate(sessions):
        for at, command in session:
            clock.now_ms = at
            one, other = files.decide_now(command), sqlite.decide_now(command)
            assert one == other, (command, one, other)
        if number == len(sessions) // 2:
            files.snapshot_now()
    records = sqlite.dump_now()
    lines = list(exported(records))
    (folder / "export.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    files.close()
    sqlite.close()
    (folder / "files" / "lock").unlink()
    shutil.rmtree(folder / "store.sqlite-peers", ignore_errors=True)
    print(f"{len(sessions)} sessions, {len(records)} rows, {len(shapes_of(records))} shapes")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
