"""Look at a store without ever writing to it: others may be working it, or nobody may be allowed to."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from tenure.queries import Question
from tenure.world import ask

from ..stores.base import Corrupt, SchemaTooNew, Unavailable
from ..stores.sqlite.connection import prepare, translated
from ..stores.sqlite.sql import Tables
from ..stores.url import is_server, sqlite_path
from .exit import UnreadableSession, store_lost, usage_error
from .retrying_store import opened, stop_if_unusable

A = TypeVar("A")

BUSY_TIMEOUT_MS = 5_000


class Reader(Protocol):
    async def ask(self, question: Question[A], /) -> A: ...


class SqliteReader:
    """Answers questions about a file that it cannot change."""

    def __init__(self, url: str, path: Path) -> None:
        self._url = url
        self._path = path
        self._connection = _connect(path)
        self._tables = Tables(self._connection)

    async def ask(self, question: Question[A]) -> A:
        return await asyncio.to_thread(self._ask, question)

    def _ask(self, question: Question[A]) -> A:
        try:
            self._connection.execute("BEGIN")
            try:
                return ask(question, self._tables.answer)
            finally:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise store_lost(self._url, translated(error, self._path)) from error
        except Corrupt as error:
            if error.key:
                raise UnreadableSession(str(error), str(error.key[0])) from error
            raise store_lost(self._url, error) from error

    def close(self) -> None:
        self._connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    """Read-only; as a file that nobody changes where not even the files beside it may be made."""
    try:
        return _connect_as(path, "mode=ro")
    except Unavailable:
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise
        return _connect_as(path, "mode=ro&immutable=1")


def _connect_as(path: Path, how: str) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.absolute()))}?{how}"
    try:
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise Unavailable(f"{path} cannot be opened: {error}") from error
    try:
        prepare(connection, path, BUSY_TIMEOUT_MS)
    except BaseException:
        connection.close()
        raise
    return connection


@asynccontextmanager
async def open_read_only(url: str) -> AsyncIterator[Reader]:
    path = sqlite_path(url)
    if path is None:
        server = is_server(url)
        options: dict[str, Any] = {"create": False} if server else {}
        async with opened(url, **options) as store:
            yield store
        return
    stop_if_unusable(url)
    if not path.exists():
        raise usage_error(f"--store {url}: there is no file {path}")
    try:
        reader = SqliteReader(url, path)
    except (Unavailable, Corrupt, SchemaTooNew, OSError) as error:
        raise store_lost(url, error) from error
    try:
        yield reader
    finally:
        reader.close()
