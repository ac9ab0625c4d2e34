"""Costs that may not grow: begin by the depth of the inbox, commit by the length of the transcript; a burst."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tenure import input as input_
from tenure.commands import Sweep
from tenure.evolve import EMPTY, evolve
from tenure.outcome import Decided, Refused
from tenure.policy import POLICIES, Lane
from tenure.queries import Get
from tenure.records import Input, Node, Place, Session
from tenure.replace import replace
from tenure.transcript import Role, Tip, hash_content
from tenure_drivers.rows import codec_of
from tenure_drivers.sql import insert_record
from tenure_drivers.sqlite import SqliteStore

from .items import BODY, PAYLOAD, Client
from .measure import Figure

NOW_MS = 1_000_000
SESSION = "session-000000"


def filled(folder: Path, records: Iterable[Any], clock: list[int]) -> SqliteStore:
    """A store that holds these records, written past the kernel."""
    path = folder / "growth.db"
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    store = SqliteStore(path, clock=lambda: clock[0])
    writer = store._writer
    writer.execute("PRAGMA synchronous=OFF")  # what is measured is work, not the disk
    writer.execute("BEGIN")
    for record in records:
        kind = type(record)
        writer.execute(insert_record(kind), codec_of(kind).encode(record))
    writer.execute("COMMIT")
    return store


def session_row(**changes: Any) -> Session:
    world, client = EMPTY, Client(0)
    command = client.admit()
    decided = command.decide(world.load(command.reads()), 1_000)
    assert isinstance(decided, Decided)
    row = evolve(world, decided.writes).answer(Get(Session, (SESSION,)))
    assert row is not None
    return replace(row, **changes)


def inbox(depth: int, delayed_until: int = 10**12) -> Iterable[Any]:
    """`depth` inputs of which a tenth is delayed."""
    yield session_row(next_rank=depth + 10, next_event=depth + 10)
    for number in range(1, depth + 1):
        input_id, digest = f"old-{number:08d}", hash_content("prompt", PAYLOAD)
        yield Input(
            SESSION, input_id, "prompt", "bench", None, None, digest, POLICIES["prompt"], 1, PAYLOAD
        )
        state: input_.Delayed | input_.Ready
        if number % 10 == 3:
            state = input_.Delayed(0, delayed_until, None, False, 200)
        else:
            state = input_.Ready(0, number, None, False, 200)
        yield Place(SESSION, input_id, number, Lane.USER, 128, state)


def transcript(length: int) -> Iterable[Any]:
    leaf = Tip(f"old-{length:08d}", "c1:old")
    yield session_row(revision=length, leaf=leaf, next_rank=1, next_event=10)
    for number in range(1, length + 1):
        yield Node(
            SESSION, f"old-{number:08d}", f"old-{number - 1:08d}", "old", number, Role.ASSISTANT,
            (), (), "c1:old", False, 1, BODY,
        )  # fmt: skip


def work(store: SqliteStore, times: int) -> dict[str, float]:
    client = Client(0, done=10_000_000)
    taken: dict[str, list[float]] = {"admit": [], "begin": [], "commit": []}

    def timed(name: str, command: Any) -> Any:
        begun = time.perf_counter_ns()
        outcome = store.execute_now(command)
        taken[name].append((time.perf_counter_ns() - begun) / 1_000)
        assert not isinstance(outcome, Refused), outcome
        return outcome

    for _ in range(times):
        timed("admit", client.admit())
        begun = timed("begin", client.begin())
        timed("commit", client.commit(begun))
    return {name: statistics.median(values[times // 5 :]) for name, values in taken.items()}


def curve(
    folder: Path,
    name: str,
    step: str,
    sizes: tuple[int, ...],
    make: Callable[[int], Iterable[Any]],
    say: Callable[[str], None],
) -> list[Figure]:
    out: list[Figure] = []
    for size in sizes:
        say(f"{name} {size:,}")
        store = filled(folder, make(size), [NOW_MS])
        value = work(store, 300)[step]
        asyncio.run(store.aclose())
        ratio = value / out[0].value if out else 1.0
        out.append(
            Figure(
                f"{step} at {name} {size:,}", value, "us", value, value,
                {f"{name} {sizes[0]:,}": ratio}, "<= 1.5 x the first", ratio <= 1.5,
            )
        )  # fmt: skip
    return out


def burst(folder: Path, depth: int, say: Callable[[str], None]) -> list[Figure]:
    """A tenth of a deep inbox falls due at once: a begin while it is promoted, beside a normal one."""
    say(f"burst in an inbox of {depth:,}")
    clock = [NOW_MS]
    store = filled(folder, inbox(depth, delayed_until=2 * NOW_MS), clock)
    normal = work(store, 200)["begin"]
    clock[0] = 3 * NOW_MS
    during = work(store, 200)["begin"]
    begun = time.perf_counter_ns()
    store.execute_now(Sweep(SESSION))
    swept = (time.perf_counter_ns() - begun) / 1_000
    asyncio.run(store.aclose())
    ratio = during / normal
    return [
        Figure(
            f"begin in a burst of {depth // 10:,} falling due", during, "us", during, during,
            {"a normal begin": ratio}, "<= 10 x a normal begin", ratio <= 10,
        ),
        Figure("sweep of a burst (96 promoted)", swept, "us", swept, swept),
    ]  # fmt: skip


def reopening(folder: Path, sessions: int, unfinished: int, say: Callable[[str], None]) -> Figure:
    """Open a database of many sessions of which some have a run whose lease is over; until the first begin."""
    say(f"reopening {sessions:,} sessions")
    world, client = EMPTY, Client(0)
    for make in (client.admit, client.begin):
        command: Any = make()
        decided = command.decide(world.load(command.reads()), 1_000)
        assert isinstance(decided, Decided)
        world = evolve(world, decided.writes)
    started = list(world)
    resting = session_row(due_at_ms=None)

    def records() -> Iterable[Any]:
        for number in range(sessions):
            session_id = f"session-{number:06d}"
            for record in started if number < unfinished else [resting]:
                yield replace(record, session_id=session_id)

    store = filled(folder, records(), [NOW_MS])
    asyncio.run(store.aclose())

    async def first_begin() -> float:
        begun = time.perf_counter()
        again = SqliteStore(folder / "growth.db")
        (due, *_) = await again.due(1)
        worker = Client(int(due.session_id[-6:]), done=10_000_000)
        worker.admit()
        answer = await again.execute(worker.begin())
        taken = time.perf_counter() - begun
        assert not isinstance(answer, Refused), answer
        await again.aclose()
        return taken * 1_000

    value = asyncio.run(first_begin())
    name = f"reopen {sessions:,} sessions, {unfinished:,} unfinished runs: first begin"
    return Figure(name, value, "ms", value, value, {}, "<= 1,000 ms", value <= 1_000)
