"""A store that finds out when it has been unavailable for longer than the patience of `tenure run`.

The runtime retries its calls without a limit.  So the worker ends itself when `lost` has a result.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Final, TypeVar

from tenure.outcome import Decided, Hint, Refused
from tenure.queries import Command, Question, Record

from ...runtime.clock import boot_clock_ms
from ...stores.base import (
    Capability,
    Corrupt,
    Due,
    Durability,
    OutcomeUnknown,
    Quarantined,
    SchemaMismatch,
    Store,
    Unavailable,
    Unusable,
)

__all__ = ["PatientStore"]


A = TypeVar("A")
O = TypeVar("O")
T = TypeVar("T")
V = TypeVar("V")

FORGET_MS: Final = 10_000  # a call that is still wanted is repeated within this time


class PatientStore:
    """Passes every call on, and measures for how long each kind of call of each session has failed.

    Calls of one kind and session are what a runner repeats.  On a full disk, reads and small writes may succeed while a
    commit fails, so the success of another call says nothing.
    """

    def __init__(self, store: Store, patience_s: float) -> None:
        self._store = store
        self._patience_ms = 1000 * patience_s
        self._failing: dict[tuple[str, str], tuple[int, int]] = {}  # first and last failure
        self.lost: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    @property
    def durability(self) -> Durability:
        """As in Store."""
        return self._store.durability

    @property
    def capabilities(self) -> frozenset[Capability]:
        """As in Store."""
        return self._store.capabilities

    async def execute(self, command: Command[V, O], /) -> O | Refused:
        """As in Store."""
        key = (command.session_id, type(command).__name__)
        return await self._watch(key, self._store.execute(command))

    async def decide(self, command: Command[V, O], /) -> Decided[O] | Refused:
        """As in Store."""
        key = (command.session_id, type(command).__name__)
        return await self._watch(key, self._store.decide(command))

    async def ask(self, question: Question[A], /) -> A:
        """As in Store."""
        key = (str(getattr(question, "session_id", "")), type(question).__name__)
        return await self._watch(key, self._store.ask(question))

    async def due(self, limit: int, /) -> tuple[Due, ...]:
        """As in Store."""
        return await self._watch(("", "due"), self._store.due(limit))

    async def horizon(self) -> int | None:
        """As in Store."""
        return await self._watch(("", "horizon"), self._store.horizon())

    def hints(self) -> AsyncIterator[Hint]:
        """As in Store."""
        return self._store.hints()

    async def quarantined(self) -> tuple[Quarantined, ...]:
        """As in Store."""
        return await self._store.quarantined()

    async def readmit(self, session_id: str, /) -> None:
        """As in Store."""
        await self._store.readmit(session_id)

    async def dump(self) -> tuple[Record, ...]:
        """As in Store."""
        return await self._store.dump()

    async def aclose(self) -> None:
        """As in Store."""
        await self._store.aclose()

    async def _watch(self, key: tuple[str, str], call: Awaitable[T]) -> T:
        started_ms = boot_clock_ms()
        try:
            answer = await call
        except (Unavailable, OutcomeUnknown) as error:
            self._failed(key, started_ms, error)
            raise
        except (Corrupt, SchemaMismatch) as error:
            if not (isinstance(error, Corrupt) and error.key):  # not about one session only
                self._lose(error)
            raise
        self._failing.pop(key, None)
        return answer

    def _failed(self, key: tuple[str, str], started_ms: int, error: Exception) -> None:
        now_ms = boot_clock_ms()
        first_ms, last_ms = self._failing.get(key, (now_ms, now_ms))
        if started_ms - last_ms > FORGET_MS:  # nobody wanted the answer for a while
            first_ms = now_ms
        self._failing[key] = first_ms, now_ms
        if isinstance(error, Unusable) or now_ms - first_ms >= self._patience_ms:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        if not self.lost.done():
            self.lost.set_result(error)
