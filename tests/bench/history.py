"""Committing a turn of two messages to a session that has many: tenure, by hand, and LangGraph's savers.

The history is held: a few turns on fresh sessions of the stated size, never a session that grows while it is measured.
As a module it is the child that measures tenure and the floor.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attrs import frozen

from tenure.outcome import Refused
from tenure.questions.core import LoadTranscript

from .children import children
from .filling import restored, transcript
from .floors import connect
from .items import Client
from .measure import Failed, Figure
from .stores import Bench, Section, spaced
from .window import say, text

SIZES = (10, 100, 1_000)
TURNS, BLOCKS = 5, 2
TEXT = json.dumps({"role": "user", "id": "000000", "text": text(400, 0)})
FLOOR = """
create table message(session integer, seq integer, body text, primary key(session, seq));
create table head(session integer primary key, rev integer not null, last integer not null);
"""
INSERT = "insert into message values(?, ?, ?)"
MOVE = "update head set rev = rev + 1, last = ? where session = ? and rev = ?"


def io_bytes() -> int:
    text = Path("/proc/self/io").read_text()
    return int(dict(line.split(": ") for line in text.splitlines())["write_bytes"])


class Meter:
    """Times and bytes of the commits alone.  On a server the bytes are its log's, asked on a connection beside."""

    def __init__(self, url: str | None) -> None:
        self.taken_ms: list[float] = []
        self.wrote = 0
        self._asking: Any = None
        if url is not None:
            import psycopg

            self._asking = psycopg.connect(url, autocommit=True)

    def _count(self) -> int:
        if self._asking is None:
            return io_bytes()
        row = self._asking.execute("select pg_current_wal_insert_lsn() - '0/0'").fetchone()
        return int(row[0])

    def commit(self, run: Callable[[], Any]) -> Any:
        before, begun = self._count(), time.monotonic()
        out = run()
        self.taken_ms.append((time.monotonic() - begun) * 1_000)
        self.wrote += self._count() - before
        return out

    def report(self, load: Callable[[], int], size: int) -> None:
        begun = time.monotonic()
        loaded = load()
        load_ms = (time.monotonic() - begun) * 1_000
        assert loaded == size, (loaded, size)
        say(taken_ms=self.taken_ms, wrote=self.wrote, load_ms=load_ms)
        sys.stdin.readline()


def go() -> None:
    say(ready=True)
    sys.stdin.readline()


def tenure(words: dict[str, Any]) -> None:
    size = words["size"]

    rows = [transcript(size, f"session-{block:06d}", TEXT) for block in range(BLOCKS + 1)]
    store = asyncio.run(restored(words["store"], itertools.chain(*rows)))
    meter = Meter(words.get("url"))
    go()
    for block in range(BLOCKS):
        client = Client(block, done=1_000)
        for _ in range(TURNS):
            store.execute_now(client.admit())
            begun = store.execute_now(client.begin())
            command = client.commit(begun, (TEXT, TEXT))
            assert not isinstance(meter.commit(partial(store.execute_now, command)), Refused)
    question = LoadTranscript(f"session-{BLOCKS:06d}")
    meter.report(lambda: len(asyncio.run(store.ask(question))), size)
    asyncio.run(store.aclose())


def floor_sqlite(words: dict[str, Any]) -> None:
    size, c = words["size"], connect(Path(words["path"]))
    c.executescript(FLOOR)
    c.execute("begin")
    for block in range(BLOCKS + 1):
        c.executemany(INSERT, [(block, n, TEXT) for n in range(size)])
        c.execute("insert into head values(?, 0, ?)", (block, size - 1))
    c.execute("commit")
    meter = Meter(None)
    go()
    for block in range(BLOCKS):
        for turn in range(TURNS):
            meter.commit(partial(_turn, c, block, size, turn))
    meter.report(
        lambda: len(c.execute("select body from message where session = 0").fetchall()),
        size + 2 * TURNS,
    )


def _turn(c: sqlite3.Connection, block: int, size: int, turn: int) -> None:
    at = size + 2 * turn
    c.execute("begin immediate")
    c.execute(INSERT, (block, at, TEXT))
    c.execute(INSERT, (block, at + 1, TEXT))
    moved = c.execute(MOVE, (at + 1, block, turn)).rowcount
    c.execute("commit")
    assert moved == 1


def floor_postgres(words: dict[str, Any]) -> None:
    from .floors_postgres import connect as connect_postgres

    size, c = words["size"], connect_postgres(words["url"])
    c.execute(FLOOR, prepare=False)
    insert, move = INSERT.replace("?", "%s"), MOVE.replace("?", "%s")
    with c.cursor() as cursor:
        for block in range(BLOCKS + 1):
            cursor.executemany(insert, [(block, n, TEXT) for n in range(size)])
            cursor.execute("insert into head values(%s, 0, %s)", (block, size - 1))

    def turn_of(block: int, turn: int) -> None:
        at = size + 2 * turn
        with c.pipeline():  # one transaction, one round trip
            c.execute(insert, (block, at, TEXT))
            c.execute(insert, (block, at + 1, TEXT))
            c.execute(move, (at + 1, block, turn))

    meter = Meter(words["url"])
    go()
    for block in range(BLOCKS):
        for turn in range(TURNS):
            meter.commit(partial(turn_of, block, turn))
    meter.report(
        lambda: len(c.execute("select body from message where session = 0").fetchall()),
        size + 2 * TURNS,
    )


# -- the section

CHILD = "bench.history"
SAVERS = {
    "sqlite": ("langgraph-checkpoint-sqlite",),
    "postgres": ("langgraph-checkpoint-postgres", "psycopg[binary,pool]"),
}


@frozen
class Turn:
    """What one child has said."""

    taken_ms: tuple[float, ...]
    wrote: float  # bytes a turn
    load_ms: float


def ask(python: str, module: str, words: dict[str, Any], written: Callable[[], int] | None) -> Turn:
    with children(python, module, [words]) as (child,):
        child.hear()
        before = (written or child.written)()
        child.tell("go")
        said = child.hear()
        wrote = said.get("wrote", (written or child.written)() - before)
        child.tell("bye")
    return Turn(tuple(said["taken_ms"]), wrote / len(said["taken_ms"]), said["load_ms"])


def cases(bench: Bench) -> dict[str, Callable[[int], Turn]]:
    """By name; a size is measured in a child of its own, on an empty folder or database."""
    found: dict[str, Callable[[int], Turn]] = {}
    me = sys.executable

    def local(python: str, module: str, words: dict[str, Any], size: int) -> Turn:
        def once(folder: Path) -> Turn:
            places = {"path": str(folder / "h.db"), "store": f"sqlite:{folder / 'h.db'}"}
            return ask(python, module, {**places, **words, "size": size}, None)

        return spaced(bench, once)

    def served(python: str, module: str, words: dict[str, Any], size: int) -> Turn:
        assert bench.databases is not None
        with bench.databases.database() as url:
            places = {"url": url, "store": url}
            return ask(python, module, {**places, **words, "size": size}, bench.databases.written)

    runs = {"sqlite": local} if bench.databases is None else {"sqlite": local, "postgres": served}
    for store, run in runs.items():
        found[f"{store}: by hand"] = partial(run, me, CHILD, {"case": f"floor_{store}"})
        found[f"{store}: tenure"] = partial(run, me, CHILD, {"case": "tenure"})
        if bench.environment is not None:
            found[f"{store}: LangGraph saver"] = partial(_saver, bench, run, SAVERS[store])
    return found


def _saver(bench: Bench, run: Callable[..., Turn], packages: tuple[str, ...], size: int) -> Turn:
    assert bench.environment is not None
    python = bench.environment.need(packages, bench.say)
    words = {"how": "history", "blocks": BLOCKS}
    return run(python, "bench.peers.with_langgraph", words, size)


def section(bench: Bench, sizes: Sequence[int] = SIZES) -> Section:
    turns: dict[tuple[str, int], list[Turn]] = {}
    failed: dict[str, Failed] = {}
    for number in range(min(bench.rounds, 3)):
        for name, run in cases(bench).items():
            for size in sizes:
                bench.say(f"history, round {number + 1}: {name}, {size:,} messages")
                try:
                    if name not in failed:
                        turns.setdefault((name, size), []).append(run(size))
                except Exception as error:
                    failed[name] = Failed(f"{name}, {size:,} messages", str(error))
    return [_figure(name, size, turns) for name, size in turns], list(failed.values())


def _figure(name: str, size: int, turns: dict[tuple[str, int], list[Turn]]) -> Figure:
    of = turns[name, size]
    value = statistics.median(ms for turn in of for ms in turn.taken_ms)
    floor = turns.get((f"{name.split(':')[0]}: by hand", size))
    ratios = {}
    if floor is not None and "by hand" not in name:
        pairs = zip(of, floor, strict=False)
        ratios["by hand"] = statistics.median(
            statistics.median(a.taken_ms) / statistics.median(b.taken_ms) for a, b in pairs
        )
    taken = [statistics.median(turn.taken_ms) for turn in of]
    return Figure(
        f"{name}, {size:,} messages", value, "ms", min(taken), max(taken), ratios,
        written_per_item=statistics.median(turn.wrote for turn in of),
        facts={
            "curve": name, "size": size, "of": "messages",
            "load_ms": statistics.median(turn.load_ms for turn in of),
        },
    )  # fmt: skip


CASES = {"tenure": tenure, "floor_sqlite": floor_sqlite, "floor_postgres": floor_postgres}

if __name__ == "__main__":
    said = json.loads(sys.argv[1])
    CASES[said["case"]](said)
