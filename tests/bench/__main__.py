"""`python -m tests.bench`: a table, and JSON with --json FILE.  Ratios count; absolute figures are this machine's."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import click
from rich.console import Console
from rich.table import Table

from tenure.records import Event
from tenure_drivers.files import FilesStore
from tenure_drivers.files_disk import Disk
from tenure_drivers.memory import MemoryStore
from tenure_drivers.sqlite import SqliteStore

from . import growth, machine
from .items import (
    SESSIONS,
    Client,
    fsync_floor,
    minimal_floor,
    recorded_item,
    same_rows_floor,
    work_async,
    work_sync,
)
from .measure import Case, Figure, figures, interleave

PARTS = ("machine", "sqlite", "files", "growth", "rows")
MINIMAL, SAME = "minimal", "same rows"
FSYNC, SLOWER = "one fsync an item", "one fsync, 2 ms slower"


def fresh(folder: Path, **options: Any) -> SqliteStore:
    path = folder / "items.db"
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return SqliteStore(path, **options)


def sync_case(folder: Path) -> Case:
    def case(seconds: float) -> tuple[int, float]:
        store = fresh(folder)
        try:
            return work_sync(store.execute_now, seconds)
        finally:
            asyncio.run(store.aclose())

    return case


def async_case(make: Callable[[], Any], sessions: int) -> Case:
    def case(seconds: float) -> tuple[int, float]:
        async def main() -> tuple[int, float]:
            store = make()
            try:
                return await work_async(store, [Client(n) for n in range(sessions)], seconds)
            finally:
                await store.aclose()

        return asyncio.run(main())

    return case


def roaming_case(folder: Path) -> Case:
    """64 clients, each time at a random one of 10,000 sessions that have worked before."""
    path = folder / "large.db"

    async def fill() -> None:
        store = SqliteStore(path)
        for first in range(0, SESSIONS, 250):
            clients = [Client(n) for n in range(first, first + 250)]
            await work_async(store, clients, 0.001)
        await store.aclose()

    asyncio.run(fill())
    generation = iter(range(1, 1_000_000))

    def case(seconds: float) -> tuple[int, float]:
        async def main() -> tuple[int, float]:
            store = SqliteStore(path)
            base = next(generation) * 1_000_000
            clients = [Client(n, done=base + n * 10_000) for n in range(64)]
            try:
                return await work_async(store, clients, seconds, roam=True)
            finally:
                await store.aclose()

        return asyncio.run(main())

    return case


def sqlite_figures(
    folder: Path, rounds: int, seconds: float, say: Callable[[str], None]
) -> list[Figure]:
    say(f"filling {SESSIONS:,} sessions")
    cases: dict[str, Case] = {
        MINIMAL: minimal_floor(folder),
        SAME: same_rows_floor(folder),
        "memory, asyncio, 64 sessions": async_case(MemoryStore, 64),
        "sqlite, sync, 1 client": sync_case(folder),
        "sqlite, asyncio, 1 client": async_case(lambda: fresh(folder), 1),
        "sqlite, asyncio, 16 sessions": async_case(lambda: fresh(folder), 16),
        "sqlite, asyncio, 64 sessions": async_case(lambda: fresh(folder), 64),
        "sqlite, 64 random of 10,000 sessions": roaming_case(folder),
    }
    budgets = {
        "sqlite, sync, 1 client": (MINIMAL, 0.55),
        "sqlite, asyncio, 1 client": (MINIMAL, 0.4),
        "sqlite, asyncio, 64 sessions": (MINIMAL, 2.5),
        "sqlite, 64 random of 10,000 sessions": (MINIMAL, 1.3),
    }
    out = figures(interleave(cases, rounds, seconds, say), (MINIMAL, SAME), budgets)
    for figure in out:
        if figure.name == "sqlite, asyncio, 64 sessions":
            reached = figure.ratios[SAME] >= 1.5
            out.append(
                attrs.evolve(figure, name="  the same", budget=f">= 1.5 x {SAME}", reached=reached)
            )
    return out


class Unsynced(Disk):
    """What the store could do if the disk took no time."""

    def sync(self, file: int) -> None:
        pass


class Slower(Disk):
    """A disk behind a network, or a worn one: every fsync takes 2 ms more."""

    def sync(self, file: int) -> None:
        time.sleep(0.002)
        super().sync(file)


def files_figures(
    folder: Path, rounds: int, seconds: float, say: Callable[[str], None]
) -> list[Figure]:
    numbers = iter(range(1_000_000))

    def make(disk: Disk | None = None) -> FilesStore:
        return FilesStore(folder / f"files-{next(numbers)}", disk=disk)

    cases: dict[str, Case] = {
        FSYNC: fsync_floor(folder, Disk()),
        "files, asyncio, 1 client": async_case(make, 1),
        "files, asyncio, 16 sessions": async_case(make, 16),
        "files, asyncio, 64 sessions": async_case(make, 64),
        "  the same, syncing nothing": async_case(lambda: make(Unsynced()), 64),
        SLOWER: fsync_floor(folder, Slower()),
        "files, 64 sessions, 2 ms slower": async_case(lambda: make(Slower()), 64),
    }
    rates = interleave(cases, rounds, seconds, say)
    slower = {name: rates.pop(name) for name in (SLOWER, "files, 64 sessions, 2 ms slower")}
    return [
        *figures(rates, (FSYNC,), {"files, asyncio, 64 sessions": (FSYNC, 5.0)}),
        *figures(slower, (SLOWER,), {"files, 64 sessions, 2 ms slower": (SLOWER, 5.0)}),
    ]


def row_figures() -> list[Figure]:
    """Rows and events that an ordinary item writes."""
    rows = events = 0
    for transaction in recorded_item()[1]:
        rows += len(transaction)
        written = [w.record for w in transaction if isinstance(w.record, Event)]
        events += sum(len(event.happened) for event in written)
    return [
        Figure("rows an item", rows, "", rows, rows, {}, "<= 12", rows <= 12),
        Figure("events an item", events, "", events, events, {}, "<= 3", events <= 3),
    ]


def show(console: Console, figures_: list[Figure]) -> None:
    table = Table(box=None)
    for name in ("what", "median", "", "min..max", "ratios", "budget", ""):
        table.add_column(name, justify="right" if name in ("median", "min..max") else "left")
    for f in figures_:
        ratios = ", ".join(f"{ratio:.2f} x {floor}" for floor, ratio in f.ratios.items())
        verdict = {True: "[green]reached[/]", False: "[red]missed[/]", None: ""}[f.reached]
        spread = "" if f.low == f.high else f"{f.low:,.0f}..{f.high:,.0f}"
        digits = 0 if f.value >= 100 else 1
        table.add_row(f.name, f"{f.value:,.{digits}f}", f.unit, spread, ratios, f.budget, verdict)
    console.print(table)


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Each case once a round.")
@click.option("--seconds", default=1.0, show_default=True, help="A case, a round.")
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Default: all.")
@click.option(
    "--deepest", default=1_000_000, show_default=True, help="Inputs in the deepest inbox."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures too.")
def main(
    rounds: int, seconds: float, parts: tuple[str, ...], deepest: int, json_file: Path | None
) -> None:
    """Measure tenure beside raw floors in the same run."""
    console, status = Console(width=160), Console(stderr=True)
    found: list[Figure] = []
    with tempfile.TemporaryDirectory() as name, status.status("starting") as line:
        folder = Path(name)

        def say(text: str) -> None:
            line.update(text)

        wanted = parts or PARTS
        if "rows" in wanted:
            found += row_figures()
        if "machine" in wanted:
            found += machine.steps(rounds, seconds, say) + machine.decisions(say)
        if "sqlite" in wanted:
            found += sqlite_figures(folder, rounds, seconds, say)
        if "files" in wanted:
            found += files_figures(folder, rounds, seconds, say)
        if "growth" in wanted:
            depths = tuple(d for d in (10, 1_000, 100_000, deepest) if d <= deepest)
            found += growth.curve(folder, "inbox", "begin", depths, growth.inbox, say)
            lengths = (10, 10_000, 100_000)
            found += growth.curve(folder, "nodes", "commit", lengths, growth.transcript, say)
            found += growth.burst(folder, min(deepest, 100_000), say)
            found += [growth.reopening(folder, 100_000, 1_000, say)]
    show(console, found)
    if json_file is not None:
        json_file.write_text(json.dumps([attrs.asdict(f) for f in found], indent=1))


if __name__ == "__main__":
    main()
