"""A read-only connection to an SQLite store: answers questions, never changes the file or creates one."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tenure.queries import Question, Record

from ..base import Corrupt, Quarantined, Unavailable, answer_of
from ..layout import layout_of
from ..payloads import PayloadHook
from .connection import connect_with, has_log, translated
from .filesystem import refuse_odd_files
from .schema import check_schema, no_store, read_active, tables_at
from .sql import Tables, all_records, quarantine_of

A = TypeVar("A")

BUSY_TIMEOUT_MS = 5_000


class SqliteReader:
    """Answers questions about a file that other processes may be writing to.

    Raises Unavailable, Corrupt or SchemaTooNew if the file cannot be opened, ValueError if it is empty.
    """

    def __init__(self, path: str | os.PathLike[str], payloads: PayloadHook | None = None) -> None:
        self.path = Path(path)
        self._connection, active = _connect(self.path)
        self._tables = Tables(self._connection, layout_of(active, payloads))

    @property
    def active(self) -> int:
        """The release that was active at the last read."""
        return self._tables.layout.release

    async def ask(self, question: Question[A]) -> A:
        """Answer a question from one snapshot.  Raises Unavailable or Corrupt."""
        return await asyncio.to_thread(self._ask, question)

    def _ask(self, question: Question[A]) -> A:
        return self._in_snapshot(lambda: answer_of(question, self._tables.answer))

    async def dump(self) -> tuple[Record, ...]:
        """Return all records, in no order.  Raises Unavailable or Corrupt."""
        return await asyncio.to_thread(
            self._in_snapshot, lambda: all_records(self._connection, self._tables.layout)
        )

    async def quarantined(self) -> tuple[Quarantined, ...]:
        """Return the sessions in quarantine.  Raises Unavailable or Corrupt."""
        return await asyncio.to_thread(self._in_snapshot, lambda: quarantine_of(self._connection))

    def _in_snapshot(self, read: Callable[[], A]) -> A:
        try:
            self._connection.execute("BEGIN")
            try:
                self._tables = tables_at(self._tables, self._connection, self.path, oldest=1)
                return read()
            finally:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            found = translated(error, self.path)
            if isinstance(found, Unavailable | Corrupt):
                raise found from error
            raise Unavailable(f"{self.path}: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _connect(path: Path) -> tuple[sqlite3.Connection, int]:
    """Open read-only; return the active number too.

    A read-only connection creates the -wal and -shm files beside the database and leaves them there.  So if there is no
    log, the connection may write, but for `query_only`: then SQLite removes both files when the last connection closes.
    Where it may not create them, and the log is empty, open the file as immutable.
    """
    refuse_odd_files(path)
    if path.is_file() and read_active(path) is None:
        raise no_store(path)
    try:
        return _connect_as(path, "mode=ro" if has_log(path) else "mode=rw")
    except Unavailable:
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise
        return _connect_as(path, "mode=ro&immutable=1")


def _connect_as(path: Path, mode: str) -> tuple[sqlite3.Connection, int]:
    try:
        connection = connect_with(path, mode)
    except sqlite3.Error as error:
        raise Unavailable(f"{path} cannot be opened: {error}") from error
    try:
        connection.execute("PRAGMA query_only=ON")
        return connection, check_schema(connection, path, BUSY_TIMEOUT_MS)
    except BaseException:
        connection.close()
        raise


__all__ = ["SqliteReader"]
