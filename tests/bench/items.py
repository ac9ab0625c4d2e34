"""The item: admit one input of 200 B, begin, commit with 2 KB.  Sync, asyncio, and the floors beside them."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tenure.commands import Admit, Begin, Begun, Commit, NewInput, Renew
from tenure.evolve import EMPTY, evolve
from tenure.lease import Owner
from tenure.outcome import Decided, Insert, Refused
from tenure.queries import Get
from tenure.records import Session
from tenure.transcript import NewNode, Role
from tenure_drivers.files_disk import Disk
from tenure_drivers.rows import codec_of
from tenure_drivers.sql import insert_record, update_record
from tenure_drivers.sqlite import SqliteStore

PAYLOAD = "i" * 200
_letters = random.Random(7)
BODY = "".join(_letters.choices("etaoinshrdlucmf ", k=2_000))
SESSIONS = 10_000
OWNER = Owner("bench", "bench.1")


class Client:
    """The worker of one session: names its commands as a host would."""

    def __init__(self, number: int, done: int = 0) -> None:
        self.session_id = f"session-{number:06d}"
        self.done = done

    def admit(self) -> Admit:
        self.done += 1
        self.name = f"{self.session_id}-{self.done:08d}"
        return Admit(self.session_id, (NewInput(f"in-{self.name}", "prompt", PAYLOAD),))

    def begin(self) -> Begin:
        return Begin(self.session_id, f"lease-{self.name}", f"run-{self.name}", OWNER)

    def renew(self, begun: Begun) -> Renew:
        return Renew(self.session_id, begun.fence)

    def commit(self, begun: Begun) -> Commit:
        node = NewNode(Role.ASSISTANT, BODY)
        return Commit(
            self.session_id, begun.fence, begun.run_id, begun.turn, begun.n, begun.revision,
            nodes=(node,),
        )  # fmt: skip


def work_sync(execute: Callable[[Any], Any], seconds: float) -> tuple[int, float]:
    client, count, begun_at = Client(0), 0, time.perf_counter()
    while time.perf_counter() < begun_at + seconds:
        execute(client.admit())
        begun = execute(client.begin())
        committed = execute(client.commit(begun))
        assert not isinstance(committed, Refused), committed
        count += 1
    return count, time.perf_counter() - begun_at


async def work_async(
    store: Any, clients: Sequence[Client], seconds: float, *, roam: bool = False
) -> tuple[int, float]:
    """Every client works its session; with `roam` each takes a random one of a large database."""
    begun_at = time.perf_counter()
    end = begun_at + seconds

    async def one(client: Client, chance: random.Random) -> int:
        count = 0
        while time.perf_counter() < end:
            if roam:
                client.session_id = f"session-{chance.randrange(SESSIONS):06d}"
            await store.execute(client.admit())
            begun = await store.execute(client.begin())
            if not isinstance(begun, Begun):
                continue  # another client roams here
            committed = await store.execute(client.commit(begun))
            assert not isinstance(committed, Refused), committed
            count += 1
        return count

    counts = await asyncio.gather(*[one(c, random.Random(i)) for i, c in enumerate(clients)])
    return sum(counts), time.perf_counter() - begun_at


# -- floors

MINIMAL = """
create table q(id integer primary key, st integer not null default 0,
  fence integer not null default 0, body text);
create index q_ready on q(id) where st=0;
create table s(id integer primary key, rev integer not null, body text);
"""


def connect(path: Path) -> sqlite3.Connection:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    return connection


def minimal_floor(folder: Path) -> Callable[[float], tuple[int, float]]:
    """Three hand-written transactions an item: enqueue, claim with a fence, complete and move the session."""

    def case(seconds: float) -> tuple[int, float]:
        c = connect(folder / "minimal.db")
        c.executescript(MINIMAL)
        c.execute("insert into s values(0,0,?)", (BODY,))
        count, begun = 0, time.perf_counter()
        while time.perf_counter() < begun + seconds:
            c.execute("insert into q(body) values(?)", (PAYLOAD,))
            row = c.execute(
                "update q set st=1, fence=fence+1 where id="
                "(select id from q where st=0 order by id limit 1) returning id, fence, body"
            ).fetchall()[0]
            c.execute("begin immediate")
            c.execute("update q set st=2 where id=? and fence=?", row[:2])
            c.execute("update s set rev=rev+1, body=? where id=0 and rev=?", (BODY, count))
            c.execute("commit")
            count += 1
        taken = time.perf_counter() - begun
        c.close()
        return count, taken

    return case


def same_rows_floor(folder: Path) -> Callable[[float], tuple[int, float]]:
    """The rows that tenure writes for an item, written by hand in three transactions: what is left is the kernel."""
    session, writes = recorded_item()
    recorded = [[_statement(w) for w in transaction] for transaction in writes]

    def case(seconds: float) -> tuple[int, float]:
        path = folder / "same.db"
        connect(path).close()
        path.unlink()
        store = SqliteStore(path)
        asyncio.run(store.aclose())
        c = sqlite3.connect(path, isolation_level=None)
        c.execute("pragma synchronous=full")
        c.execute("pragma wal_autocheckpoint=8000")
        c.execute(*_statement(Insert(session)))
        count, begun = 0, time.perf_counter()
        while time.perf_counter() < begun + seconds:
            for transaction in recorded:
                c.execute("begin immediate")
                for sql, row in transaction:
                    c.execute(sql, _renamed(sql, row, count))
                c.execute("commit")
            count += 1
        taken = time.perf_counter() - begun
        c.close()
        return count, taken

    return case


def recorded_item() -> tuple[Session, list[tuple[Any, ...]]]:
    """The session after two items, and the writes of the second, a tuple a command."""
    world, client = EMPTY, Client(0)
    transactions: list[tuple[Any, ...]] = []
    begun: Any = None
    for step in range(6):
        command: Any
        match step % 3:
            case 0:
                command = client.admit()
            case 1:
                command = client.begin()
            case _:
                command = client.commit(begun)
        decided = command.decide(world.load(command.reads()), 1_000)
        assert isinstance(decided, Decided)
        world = evolve(world, decided.writes)
        begun = decided.outcome if isinstance(decided.outcome, Begun) else begun
        transactions.append(decided.writes)
    session = world.answer(Get(Session, ("session-000000",)))
    assert session is not None
    return session, transactions[3:]


def _statement(write: Any) -> tuple[str, tuple[Any, ...]]:
    kind = type(write.record)
    sql = (insert_record if isinstance(write, Insert) else update_record)(kind)
    return sql, tuple(codec_of(kind).encode(write.record))


def _renamed(sql: str, row: Sequence[Any], count: int) -> tuple[Any, ...]:
    """The ids of the recorded item, made those of the next; an event's number is its key."""
    name, fresh = "00000002", f"{count + 2:08d}"
    renamed = [v.replace(name, fresh) if isinstance(v, str) else v for v in row]
    if sql.startswith('INSERT INTO "event"'):
        renamed[1] = row[1] + 3 * count
    return tuple(renamed)


def fsync_floor(folder: Path, disk: Disk) -> Callable[[float], tuple[int, float]]:
    """One line of a log an item, with what the item carries, on the disk before the next one."""
    line = json.dumps({"input": PAYLOAD, "body": BODY}).encode() + b"\n"

    def case(seconds: float) -> tuple[int, float]:
        file = disk.create(folder / "floor.jsonl")
        count, begun = 0, time.perf_counter()
        while time.perf_counter() < begun + seconds:
            disk.append(file, line)
            disk.sync(file)
            count += 1
        taken = time.perf_counter() - begun
        disk.close(file)
        return count, taken

    return case
