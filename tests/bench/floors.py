"""What the same work costs by hand, with neither a kernel nor a driver: SQLite and a plain file."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tenure.outcome import Insert, Update
from tenure_drivers.stores.files.disk import Disk
from tenure_drivers.stores.row_codec import codec_of
from tenure_drivers.stores.sqlite.sql import insert_record, update_record
from tenure_drivers.stores.sqlite.store import CHECKPOINT_PAGES, SqliteStore

from .items import recorded_item
from .window import BODY, PAYLOAD, gate

MINIMAL = """
create table q(id integer primary key, st integer not null default 0,
  fence integer not null default 0, body text);
create index q_ready on q(id) where st=0;
create table s(id integer primary key, rev integer not null, body text);
"""


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    connection.execute(f"pragma wal_autocheckpoint={CHECKPOINT_PAGES}")  # as the store has it
    return connection


def minimal(path: Path) -> None:
    """Three hand-written transactions an item: enqueue, claim with a fence, complete and move the session."""
    c = connect(path)
    c.executescript(MINIMAL)
    c.execute("insert into s values(0,0,?)", (BODY,))
    count, window = 0, gate()
    while window.open():
        begun = time.monotonic()
        c.execute("insert into q(body) values(?)", (PAYLOAD,))
        row = c.execute(
            "update q set st=1, fence=fence+1 where id="
            "(select id from q where st=0 order by id limit 1) returning id, fence, body"
        ).fetchall()[0]
        c.execute("begin immediate")
        completed = c.execute("update q set st=2 where id=? and fence=?", row[:2]).rowcount
        c.execute("update s set rev=rev+1, body=? where id=0 and rev=?", (BODY, count))
        c.execute("commit")
        assert completed == 1
        count += 1
        window.count(begun)
    assert c.execute("select rev, (select count(*) from q where st=2) from s").fetchone() == (
        count,
        count,
    )
    window.report()


def same_rows(path: Path) -> None:
    """The rows that tenure writes for an item, written by hand in three transactions: what is left is the kernel."""
    session, writes = recorded_item()
    recorded = [[statement(w) for w in transaction] for transaction in writes]
    asyncio.run(SqliteStore(path).aclose())  # makes the tables
    c = connect(path)
    c.execute(*statement(Insert(session)))
    count, window = 0, gate()
    while window.open():
        begun = time.monotonic()
        for transaction in recorded:
            c.execute("begin immediate")
            for sql, row in transaction:
                c.execute(sql, renamed(sql, row, count))
            c.execute("commit")
        count += 1
        window.count(begun)
    window.report()


def statement(write: Any) -> tuple[str, tuple[Any, ...]]:
    assert isinstance(write, Insert | Update), write
    kind = type(write.record)
    sql = (insert_record if isinstance(write, Insert) else update_record)(codec_of(kind))
    return sql, tuple(codec_of(kind).encode(write.record))


def renamed(sql: str, row: Sequence[Any], count: int) -> tuple[Any, ...]:
    """The ids of the recorded item, made those of the next; an event's number is its key."""
    name, fresh = "00000002", f"{count + 2:08d}"
    out = [v.replace(name, fresh) if isinstance(v, str) else v for v in row]
    if sql.startswith('INSERT INTO "event_batch"'):
        out[1] = row[1] + 3 * count
    return tuple(out)


def fsync(path: Path, disk: Disk) -> None:
    """One line of a log an item, with what the item carries, on the disk before the next one."""
    line = json.dumps({"input": PAYLOAD, "body": BODY}).encode() + b"\n"
    file = disk.create(path)
    window = gate()
    while window.open():
        begun = time.monotonic()
        disk.append(file, line)
        disk.sync(file)
        window.count(begun)
    window.report()
    disk.close(file)


class Unsynced(Disk):
    """What the store could do if the disk took no time."""

    def sync(self, file: int) -> None:
        pass


class Slower(Disk):
    """A disk behind a network, or a worn one: every fsync takes 2 ms more."""

    def sync(self, file: int) -> None:
        time.sleep(0.002)
        super().sync(file)


DISKS: dict[str, type[Disk]] = {"": Disk, "unsynced": Unsynced, "slower": Slower}
