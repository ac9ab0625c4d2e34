"""Bytes in two tables of the database that has the records: `rows:`, with a store in SQLite or PostgreSQL.

The tables are not among those of the records: their rows are in no export, and no transaction of a command writes them.
They are made when they are needed first.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from ..stores.base import Unavailable
from ..stores.sqlite.connection import connect, translated
from .base import BlobCapability, check_whole, checked, session_key

__all__ = ["TABLES", "Database", "RowsStore", "SqliteDatabase"]


CHECKPOINT_PAGES: Final = 1_000
DELETED_MAX: Final = 16  # pieces of one transaction

# {bytes}: the type of bytes
TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS {at}attachment_bytes (session_key TEXT, digest TEXT, size BIGINT NOT NULL,"
    " PRIMARY KEY (session_key, digest))",
    "CREATE TABLE IF NOT EXISTS {at}attachment_piece (session_key TEXT, digest TEXT, number INTEGER,"
    " body {bytes} NOT NULL, PRIMARY KEY (session_key, digest, number))",
)


class Database(Protocol):
    """A connection of its own to the database.  All methods raise the errors of a store."""

    def execute(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Execute a statement in a transaction of its own; `?` stands for a value, `{at}` for the schema."""
        ...

    def close(self) -> None: ...


class SqliteDatabase:
    """A connection to an SQLite file that a store has made."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._connection = connect(self.path, CHECKPOINT_PAGES)
        for table in TABLES:
            self.execute(table.replace("{bytes}", "BLOB"))

    def execute(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(statement.replace("{at}", ""), values).fetchall()
        except sqlite3.Error as error:
            raise translated(error, self.path) from error

    def close(self) -> None:
        self._connection.close()


class RowsStore:
    """The bytes of attachments, in pieces of 1 MB, each written by a transaction of its own.

    The row of `attachment_bytes` is written last: without it nothing is found.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._one = threading.Lock()  # one statement at a time
        self._closed = False

    @property
    def capabilities(self) -> frozenset[BlobCapability]:
        return frozenset({BlobCapability.MANIFEST})

    async def put(self, session_id: str, digest: str, data: bytes | Path) -> None:
        """Store bytes.  Raises DigestMismatch, and Unavailable if the file `data` cannot be read.

        Pieces that an interrupted call has left are the same ones.
        """
        key, size, number = session_key(session_id), 0, 0
        pieces = checked(data, digest)
        try:
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                await self._do(
                    "INSERT INTO {at}attachment_piece VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (key, digest, number, piece),
                )
                size, number = size + len(piece), number + 1
        except OSError as error:
            raise Unavailable(f"{data!s}: {error}") from error
        except BaseException:
            await self._drop_unfinished(key, digest)
            raise
        await self._do(
            "INSERT INTO {at}attachment_bytes VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (key, digest, size),
        )

    async def _drop_unfinished(self, key: str, digest: str) -> None:
        """Delete the pieces of bytes that are not those of the digest, unless the right ones are there."""
        with contextlib.suppress(Unavailable):
            if not await self._do(*of_one("SELECT size FROM {at}attachment_bytes", key, digest)):
                await self._delete(key, digest)

    async def get(self, session_id: str, digest: str) -> bytes | None:
        """Return the bytes; None if their row is not there."""
        key = session_key(session_id)
        if not await self._do(*of_one("SELECT size FROM {at}attachment_bytes", key, digest)):
            return None
        pieces: list[bytes] = []
        while found := await self._do(
            "SELECT body FROM {at}attachment_piece WHERE session_key = ? AND digest = ? AND number = ?",
            (key, digest, len(pieces)),
        ):
            pieces.append(bytes(found[0][0]))
        return check_whole("attachment_piece", session_id, digest, b"".join(pieces))

    async def delete(self, session_id: str, digest: str) -> None:
        """Delete the rows of bytes, the pieces a few at a time."""
        await self._delete(session_key(session_id), digest)

    async def _delete(self, key: str, digest: str) -> None:
        await self._do(*of_one("DELETE FROM {at}attachment_bytes", key, digest))
        last = "SELECT max(number) FROM {at}attachment_piece"
        while (found := (await self._do(*of_one(last, key, digest)))[0][0]) is not None:
            where, values = of_one("DELETE FROM {at}attachment_piece", key, digest)
            await self._do(f"{where} AND number > ?", (*values, found - DELETED_MAX))

    async def delete_session(self, session_id: str) -> None:
        """Delete all rows of a session."""
        key = session_key(session_id)
        some = "SELECT digest FROM {at}attachment_piece WHERE session_key = ? LIMIT 1"
        empty = "SELECT digest FROM {at}attachment_bytes WHERE session_key = ? LIMIT 1"
        for any_digest in (some, empty):
            while found := await self._do(any_digest, (key,)):
                await self._delete(key, found[0][0])

    async def digests(self, session_id: str) -> AsyncIterator[str]:
        """Yield the digests of a session."""
        of_session = "SELECT digest FROM {at}attachment_bytes WHERE session_key = ?"
        for (digest,) in await self._do(of_session, (session_key(session_id),)):
            yield digest

    async def keys(self) -> AsyncIterator[tuple[str, str]]:
        """Yield session key and digest of every row, a page at a time."""
        last: tuple[Any, ...] = ("", "")
        following = (
            "SELECT session_key, digest FROM {at}attachment_bytes WHERE (session_key, digest) > (?, ?)"
            " ORDER BY session_key, digest LIMIT 1000"
        )
        while page := await self._do(following, last):
            for key, digest in page:
                yield key, digest
            last = page[-1]

    async def aclose(self) -> None:
        """Close the connection."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._database.close)

    async def _do(self, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        def work() -> list[tuple[Any, ...]]:
            with self._one:
                return self._database.execute(statement, values)

        return await asyncio.to_thread(work)


def of_one(statement: str, key: str, digest: str) -> tuple[str, tuple[str, str]]:
    return f"{statement} WHERE session_key = ? AND digest = ?", (key, digest)
