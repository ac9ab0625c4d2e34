"""Open a store for the read-only commands, and translate its errors for the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tenure.queries import Question, Record

from ..stores.base import Corrupt, Quarantined, SchemaMismatch, Unavailable
from ..stores.files.reader import FilesReader
from ..stores.payloads import hook_of_environment
from ..stores.sqlite.reader import SqliteReader
from ..stores.url import is_server, sqlite_path, stored_path
from .exit import UnreadableSession, session_of, store_lost, unreadable_if_it_fails, usage_error
from .retrying_store import PATIENCE_S, opened, quiet, retry_or_exit, stop_if_unusable

__all__ = ["Reader", "existing_path", "open_read_only"]


A = TypeVar("A")


class Readable(Protocol):
    """The part of a store that reads; raises the errors of a store."""

    async def ask(self, question: Question[A], /) -> A:
        """Answer a question from one snapshot."""
        ...

    async def dump(self) -> tuple[Record, ...]:
        """Return all records, in no order."""
        ...

    async def quarantined(self) -> tuple[Quarantined, ...]:
        """Return the sessions in quarantine."""
        ...


class Reader(Protocol):
    """Answers questions; raises CliExit or UnreadableSession."""

    @property
    def store(self) -> Readable:
        """The store, with its own errors."""
        ...

    async def ask(self, question: Question[A], /) -> A:
        """Answer a question from one snapshot."""
        ...


class _FileReader:
    """A `SqliteReader` or `FilesReader` that raises the errors of the command line."""

    def __init__(self, url: str, store: SqliteReader | FilesReader) -> None:
        self._url = url
        self.store = store

    async def ask(self, question: Question[A], /) -> A:
        try:
            with unreadable_if_it_fails(session_of(question)):
                return await self.store.ask(question)
        except (Unavailable, SchemaMismatch) as error:
            raise store_lost(self._url, error) from error
        except Corrupt as error:
            if error.key:
                raise UnreadableSession(str(error), str(error.key[0])) from error
            raise store_lost(self._url, error) from error


@asynccontextmanager
async def open_read_only(
    url: str, *, log_line: Callable[[str], None] = quiet
) -> AsyncIterator[Reader]:
    """Open a store that the command must not change or create.  Raises CliExit."""
    path = existing_path(url)
    if path is None:
        options: dict[str, Any] = {"read_only": True} if is_server(url) else {}
        async with opened(url, log_line=log_line, **options) as found:
            yield found
        return
    try:
        if sqlite_path(url) is None:
            store: SqliteReader | FilesReader = await _files_reader(url, path, log_line)
        else:
            store = SqliteReader(path, hook_of_environment())
    except (Unavailable, Corrupt, SchemaMismatch, OSError) as error:
        raise store_lost(url, error) from error
    except ValueError as error:
        raise usage_error(f"--store {url}: {error}") from error
    try:
        yield _FileReader(url, store)
    finally:
        store.close()


async def _files_reader(url: str, path: Path, log_line: Callable[[str], None]) -> FilesReader:
    """Open a folder; wait for the process that owns it."""

    async def attempt() -> FilesReader:
        return FilesReader(path, hook_of_environment())

    return await retry_or_exit(url, attempt, PATIENCE_S, log_line)


def existing_path(url: str) -> Path | None:
    """Return the file or folder of a store; None for a store without one.  Raises CliExit if it does not exist."""
    path = stored_path(url)
    if path is not None:
        stop_if_unusable(url)
        if not path.exists():
            what = "file" if sqlite_path(url) is not None else "file or folder"
            raise usage_error(f"--store {url}: no such {what}: {path}")
    return path
