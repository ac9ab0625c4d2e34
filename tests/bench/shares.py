"""Where the time of an item goes on SQLite: what a faster kernel could win, and what it could not."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tenure_drivers.stores import group_commit
from tenure_drivers.stores.sqlite import writer as sqlite_writer
from tenure_drivers.stores.sqlite.sql import Tables
from tenure_drivers.stores.sqlite.store import SqliteStore

from .items import Client, one_item
from .measure import Figure
from .stores import Bench, Section

READ, DECIDE, WRITE = "read rows", "decide", "write rows"
COMMIT = "begin and commit: the log's pages, the disk"
REST = "the rest: groups, the event loop, who asks"
FREE = "if reading, deciding and the rest cost nothing"


class Watch:
    """Seconds spent in some functions, those they call included."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def over(self, owner: Any, name: str) -> Iterator[None]:
        real: Callable[..., Any] = getattr(owner, name)

        def timed(*values: Any) -> Any:
            started = time.perf_counter()
            try:
                return real(*values)
            finally:
                self.spent[name] += time.perf_counter() - started

        setattr(owner, name, timed)
        try:
            yield
        finally:
            setattr(owner, name, real)


def section(bench: Bench) -> Section:
    figures: list[Figure] = []
    for sessions in (1, 64):
        bench.say(f"where the time goes: {sessions} sessions")
        rounds = [_round(bench, sessions) for _ in range(bench.rounds)]
        whole = statistics.median(sum(taken.values()) for taken in rounds)
        for name in rounds[0]:
            values = [taken[name] for taken in rounds]
            figures.append(_figure(name, sessions, values, whole))
        bare = [taken[WRITE] + taken[COMMIT] for taken in rounds]
        figures.append(_figure(FREE, sessions, bare, whole))
    return figures, []


def _figure(name: str, sessions: int, values: list[float], whole: float) -> Figure:
    title = f"{sessions} session{'s' * (sessions > 1)}: {name}"
    value = statistics.median(values)
    return Figure(title, value, "us", min(values), max(values), {"the item": value / whole})


def _round(bench: Bench, sessions: int) -> dict[str, float]:
    """Microseconds an item, of each share."""
    watch, path = Watch(), bench.folder / "shares.db"
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    with (
        watch.over(group_commit, "load_view"),
        watch.over(Tables, "write"),
        watch.over(sqlite_writer, "execute_waves"),
        watch.over(sqlite_writer.Writer, "transact"),
    ):
        items, seconds = asyncio.run(_work(SqliteStore(path), sessions, bench.seconds, watch))
    spent = {name: 1e6 * taken / items for name, taken in watch.spent.items()}
    wave = spent["execute_waves"]
    return {
        READ: spent["load_view"],
        DECIDE: wave - spent["load_view"] - spent["write"],
        WRITE: spent["write"],
        COMMIT: spent["transact"] - wave,
        REST: 1e6 * seconds / items - spent["transact"],
    }


async def _work(
    store: SqliteStore, sessions: int, seconds: float, watch: Watch
) -> tuple[int, float]:
    clients = [Client(number) for number in range(sessions)]
    await asyncio.gather(*[one_item(store, client) for client in clients])
    watch.spent.clear()
    started = time.perf_counter()
    count = 0

    async def work(client: Client) -> None:
        nonlocal count
        while time.perf_counter() < started + seconds:
            await one_item(store, client)
            count += 1

    await asyncio.gather(*map(work, clients))
    taken = time.perf_counter() - started
    await store.aclose()
    return count, taken
