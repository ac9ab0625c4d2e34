"""What the same work costs by hand on PostgreSQL: psycopg, its C implementation, prepared statements."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, cast

import psycopg

from tenure.outcome import Insert
from tenure_drivers.stores.postgres.store import PostgresStore

from .floors import renamed, statement
from .items import recorded_item
from .window import BODY, PAYLOAD, Window, gate, in_threads

TABLES = """
create table fq(id bigserial primary key, st int not null default 0,
  fence int not null default 0, body text not null);
create index fq_ready on fq(id) where st=0;
create table fs(id bigint primary key, rev int not null, body text not null) with (fillfactor=50);
"""
ENQUEUE = "insert into fq(body) values(%s)"
CLAIM = (
    "update fq set st=1, fence=fence+1 where id=(select id from fq where st=0 order by id "
    "for update skip locked limit 1) returning id, fence, body"
)
COMPLETE = (
    "with d as (update fq set st=2 where id=%s and fence=%s returning id) "
    "update fs set rev=rev+1, body=%s where id=%s and rev=%s and exists(select 1 from d)"
)


def connect(dsn: str) -> psycopg.Connection[Any]:
    assert psycopg.pq.__impl__ != "python", "the floor is to be the fastest there is"
    return psycopg.connect(dsn, autocommit=True, prepare_threshold=0)


def minimal(dsn: str, connections: int) -> None:
    """Three statements an item, each a transaction of its own: enqueue, claim, complete and move the session.

    With several connections each has a thread and a session: the server shares the commit among them.
    """
    with connect(dsn) as c:
        c.execute(TABLES, prepare=False)
        for session in range(connections):
            c.execute("insert into fs values(%s, 0, %s)", (session, BODY))
    cursors = [connect(dsn).cursor() for _ in range(connections)]
    revisions = [0] * connections

    def item(session: int) -> None:
        cursor = cursors[session]
        cursor.execute(ENQUEUE, (PAYLOAD,))
        while (row := cursor.execute(CLAIM).fetchone()) is None:
            pass  # all that this statement could see was claimed meanwhile, what came since is left for us
        cursor.execute(COMPLETE, (row[0], row[1], BODY, session, revisions[session]))
        assert cursor.rowcount == 1
        revisions[session] += 1

    window = gate()
    in_threads(window, connections, item)
    done = cursors[0].execute("select count(*) from fq where st=2").fetchone()
    assert done == (len(window.ended),), done
    window.report()


def same_rows(dsn: str) -> None:
    """The rows that tenure writes for an item, in three transactions, each one round trip."""
    session, writes = recorded_item()
    recorded = [[_numbered(*statement(w)) for w in transaction] for transaction in writes]
    asyncio.run(PostgresStore(dsn).aclose())  # makes the tables
    c = connect(dsn)
    c.execute("set search_path to tenure")
    c.execute(*_numbered(*statement(Insert(session))))
    window = gate()
    _write(c, recorded, window)
    window.report()


def _write(
    c: psycopg.Connection[Any], recorded: list[list[tuple[Any, tuple[Any, ...]]]], window: Window
) -> None:
    cursor, count = c.cursor(), 0
    while window.open():
        begun = time.monotonic()
        for transaction in recorded:
            with c.pipeline():  # statements between two syncs are one transaction
                for sql, row in transaction:
                    cursor.execute(sql, renamed(sql, row, count))
        count += 1
        window.count(begun)


def _numbered(sql: str, row: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """SQLite's numbered parameters as psycopg's, which go by their order."""
    order = [int(number) - 1 for number in re.findall(r"\?(\d+)", sql)]
    if not order:
        return cast(Any, sql.replace("?", "%s")), row
    return cast(Any, re.sub(r"\?\d+", "%s", sql)), tuple([row[at] for at in order])
