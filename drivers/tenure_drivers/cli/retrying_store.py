"""Open a store by its URL, and retry its calls while it is unavailable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from tenure.outcome import Hint, Refused
from tenure.queries import Command, Question

from ..runtime.retry import retry
from ..stores.base import (
    Corrupt,
    OutcomeUnknown,
    Quarantined,
    SchemaMismatch,
    Store,
    Unavailable,
)
from ..stores.registry import open_store
from ..stores.url import redact, sqlite_path, stored_path
from .exit import UnreadableSession, session_of, store_lost, unreadable_if_it_fails, usage_error

__all__ = ["PATIENCE_S", "RetryingStore", "opened", "quiet", "retry_or_exit", "stop_if_unusable"]


A = TypeVar("A")
O = TypeVar("O")
T = TypeVar("T")
V = TypeVar("V")

PATIENCE_S: Final = 30.0
BUSY_TIMEOUT_MS: Final = 10_000  # then the holder of the lock is logged, and the call is retried


def stop_if_unusable(url: str) -> None:
    """Raise CliExit if no store can exist at the path.  One that cannot be opened now may be retried."""
    path = stored_path(url)
    if path is None:
        return
    try:
        if path == sqlite_path(url) and path.is_dir():
            raise usage_error(f"--store {url}: {path} is a folder")
        if not path.absolute().parent.is_dir():
            raise usage_error(f"--store {url}: there is no folder {path.absolute().parent}")
    except OSError as error:  # such as a name that is too long
        raise usage_error(f"--store {url}: {error.strerror}") from error


def quiet(message: str) -> None:
    """Log nothing."""


class RetryingStore:
    """A store whose calls are retried while it is unavailable, and whose errors are those of the command line.

    Its methods raise CliExit when the patience ends or the store cannot be read, and UnreadableSession if that holds
    for one session only.
    """

    def __init__(
        self,
        url: str,
        store: Store,
        *,
        patience_s: float = PATIENCE_S,
        log_line: Callable[[str], None] = quiet,
    ) -> None:
        self.url = url
        self.store = store
        self._patience_s = patience_s
        self._log_line = log_line

    async def execute(self, command: Command[V, O], /) -> O | Refused:
        """As in Store."""
        return await self._retry(lambda: self.store.execute(command))

    async def ask(self, question: Question[A], /) -> A:
        """As in Store."""
        with unreadable_if_it_fails(session_of(question)):
            return await self._retry(lambda: self.store.ask(question))

    async def quarantined(self) -> tuple[Quarantined, ...]:
        """As in Store."""
        return await self._retry(self.store.quarantined)

    async def readmit(self, session_id: str, /) -> None:
        """As in Store."""
        await self._retry(lambda: self.store.readmit(session_id))

    def hints(self) -> AsyncIterator[Hint]:
        """As in Store."""
        return self.store.hints()

    async def _retry(self, attempt: Callable[[], Awaitable[T]]) -> T:
        return await retry_or_exit(self.url, attempt, self._patience_s, self._log_line)


async def retry_or_exit(
    url: str,
    attempt: Callable[[], Awaitable[T]],
    patience_s: float,
    log_line: Callable[[str], None],
) -> T:
    """Retry `attempt` for `patience_s`; log its first failure.  Raises CliExit or UnreadableSession."""

    def failed(error: Exception) -> None:
        log_line(f"store {url}: {error}; trying again for {patience_s:g} s")

    try:
        return await retry(attempt, patience_ms=1000 * patience_s, on_first_failure=failed)
    except Corrupt as error:
        if error.key:
            raise UnreadableSession(str(error), str(error.key[0])) from error
        raise store_lost(url, error) from error
    except (SchemaMismatch, Unavailable, OutcomeUnknown) as error:
        raise store_lost(url, error) from error


@asynccontextmanager
async def opened(
    url: str,
    *,
    patience_s: float = PATIENCE_S,
    log_line: Callable[[str], None] = quiet,
    **options: Any,
) -> AsyncIterator[RetryingStore]:
    async def attempt() -> Store:
        return open_store(named, **options)

    named, url = url, redact(url)
    stop_if_unusable(named)
    if sqlite_path(named) is not None:
        waiting_ms = int(min(patience_s * 1_000, BUSY_TIMEOUT_MS))
        options.setdefault("busy_timeout_ms", waiting_ms)
    try:
        store = await retry_or_exit(url, attempt, patience_s, log_line)
    except ValueError as error:
        raise usage_error(f"--store: {error}") from error
    except OSError as error:
        raise store_lost(url, error) from error
    try:
        yield RetryingStore(url, store, patience_s=patience_s, log_line=log_line)
    finally:
        await store.aclose()
