"""The session state that an item moves: 2 KB a session, compare-and-set on a revision, on the disk when it returns."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any

from bench.window import BODY, Window

TABLE = "create table if not exists state(id bigint primary key, rev integer not null, body text)"
MOVE = "update state set rev = rev + 1, body = ? where id = ? and rev = ?"


class SqliteState:
    """One connection with a lock around it, to a file of its own.

    Who waits for another connection's lock in SQLite sleeps, for longer each time: with a file shared with the queue,
    or a connection for each thread, that would be all that is measured.
    """

    def __init__(self, path: str, sessions: int) -> None:
        self.lock = threading.Lock()
        self.revisions = [0] * sessions
        self.connection = sqlite3.connect(
            path + ".state", isolation_level=None, check_same_thread=False, timeout=60
        )
        for pragma in ("journal_mode=wal", "synchronous=full"):
            self.connection.execute(f"pragma {pragma}")
        self.connection.execute(TABLE)
        rows = [(session, BODY) for session in range(sessions)]
        self.connection.executemany("insert into state values(?, 0, ?)", rows)

    def move(self, session: int) -> None:
        with self.lock:
            values = (BODY, session, self.revisions[session])
            assert self.connection.execute(MOVE, values).rowcount == 1
            self.revisions[session] += 1

    def check(self, window: Window, before: int = 0) -> None:
        """Every item that was counted has moved the state, those before the window too."""
        (moved,) = self.connection.execute("select sum(rev) from state").fetchone()
        assert moved == len(window.ended) + before, (moved, len(window.ended), before)


class PostgresState:
    """One statement, on a connection of the caller's."""

    MOVE = MOVE.replace("?", "%s")

    def __init__(self, dsn: str, sessions: int) -> None:
        import psycopg

        self.dsn, self.revisions = dsn, [0] * sessions
        with psycopg.connect(dsn, autocommit=True) as c:
            c.execute(TABLE + " with (fillfactor=50)")
            for session in range(sessions):
                c.execute("insert into state values(%s, 0, %s)", (session, BODY))

    async def move(self, connection: Any, session: int) -> None:
        """On an asynchronous connection."""
        values = (BODY, session, self.revisions[session])
        cursor = await connection.execute(self.MOVE, values)
        assert cursor.rowcount == 1
        self.revisions[session] += 1

    def move_now(self, connection: Any, session: int) -> None:
        values = (BODY, session, self.revisions[session])
        assert connection.execute(self.MOVE, values).rowcount == 1
        self.revisions[session] += 1

    def check(self, window: Window, before: int = 0) -> None:
        import psycopg

        with psycopg.connect(self.dsn) as c:
            row = c.execute("select sum(rev) from state").fetchone()
        assert row == (len(window.ended) + before,), (row, len(window.ended), before)
