"""Opening a store by its URL, and patience with one that is away for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from tenure.outcome import Refused
from tenure.queries import Command, Question

from ..stores.base import Corrupt, OutcomeUnknown, SchemaTooNew, Store, Unavailable
from ..stores.registry import open_store
from ..stores.url import redact, sqlite_path
from .exit import UnreadableSession, store_lost, usage_error

A = TypeVar("A")
O = TypeVar("O")
T = TypeVar("T")
V = TypeVar("V")

PATIENCE_S: Final = 30.0
BUSY_TIMEOUT_MS: Final = 10_000  # then it is said who holds the lock, and tried again
AGAIN_S: Final = 0.05
AGAIN_S_MAX: Final = 1.0


def stop_if_unusable(url: str) -> None:
    """Where a file can never be; a file that cannot be opened may be there in a moment."""
    path = sqlite_path(url)
    if path is None:
        return
    if path.is_dir():
        raise usage_error(f"--store {url}: {path} is a folder")
    if not path.absolute().parent.is_dir():
        raise usage_error(f"--store {url}: there is no folder {path.absolute().parent}")


def quiet(message: str) -> None:
    """Nobody wants to know."""


class RetryingStore:
    """A store that is asked again for a while before it counts as lost."""

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

    async def execute(self, command: Command[V, O]) -> O | Refused:
        return await self._insist(lambda: self.store.execute(command))

    async def ask(self, question: Question[A]) -> A:
        return await self._insist(lambda: self.store.ask(question))

    async def _insist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        return await retry(self.url, attempt, self._patience_s, self._log_line)


async def retry(
    url: str,
    attempt: Callable[[], Awaitable[T]],
    patience_s: float,
    log_line: Callable[[str], None],
) -> T:
    """Try again what was not done, or of which nobody knows whether it was, until patience ends."""
    since: float | None = None
    pause_s = AGAIN_S
    while True:
        try:
            return await attempt()
        except (Corrupt, SchemaTooNew) as error:
            if isinstance(error, Corrupt) and error.key:
                raise UnreadableSession(str(error), str(error.key[0])) from error
            raise store_lost(url, error) from error
        except (Unavailable, OutcomeUnknown) as error:
            now = time.monotonic()
            if since is None:
                since = now
                log_line(f"store {url}: {error}; trying again for {patience_s:g} s")
            if now - since >= patience_s:
                raise store_lost(url, error) from error
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, AGAIN_S_MAX)


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
        store = await retry(url, attempt, patience_s, log_line)
    except ValueError as error:
        raise usage_error(f"--store {error}") from error
    except OSError as error:
        raise store_lost(url, error) from error
    try:
        yield RetryingStore(url, store, patience_s=patience_s, log_line=log_line)
    finally:
        await store.aclose()
