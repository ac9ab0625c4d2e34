"""Open a store for the read-only commands, and translate its errors for the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

from tenure.queries import Question

from ..stores.base import Corrupt, SchemaTooNew, Unavailable
from ..stores.sqlite.reader import SqliteReader
from ..stores.url import is_server, sqlite_path
from .exit import UnreadableSession, store_lost, usage_error
from .retrying_store import opened, stop_if_unusable

__all__ = ["Reader", "open_read_only"]


A = TypeVar("A")


class Reader(Protocol):
    """Answers questions; raises CliExit or UnreadableSession."""

    async def ask(self, question: Question[A], /) -> A:
        """Answer a question from one snapshot."""
        ...


class _FileReader:
    """A `SqliteReader` that raises the errors of the command line."""

    def __init__(self, url: str, reader: SqliteReader) -> None:
        self._url = url
        self._reader = reader

    async def ask(self, question: Question[A], /) -> A:
        try:
            return await self._reader.ask(question)
        except Unavailable as error:
            raise store_lost(self._url, error) from error
        except Corrupt as error:
            if error.key:
                raise UnreadableSession(str(error), str(error.key[0])) from error
            raise store_lost(self._url, error) from error


@asynccontextmanager
async def open_read_only(url: str) -> AsyncIterator[Reader]:
    """Open a store that the command must not change or create.  Raises CliExit."""
    path = sqlite_path(url)
    if path is None:
        server = is_server(url)
        options: dict[str, Any] = {"create": False} if server else {}
        async with opened(url, **options) as store:
            yield store
        return
    stop_if_unusable(url)
    if not path.exists():
        raise usage_error(f"--store {url}: no such file: {path}")
    try:
        reader = SqliteReader(path)
    except (Unavailable, Corrupt, SchemaTooNew, OSError) as error:
        raise store_lost(url, error) from error
    try:
        yield _FileReader(url, reader)
    finally:
        reader.close()
