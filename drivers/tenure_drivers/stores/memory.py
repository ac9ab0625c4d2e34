"""A store in memory, for tests, simulation and embedding."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from tenure.outcome import Decided, Hint, Refused
from tenure.queries import Command, Question, Record
from tenure.world import ask

from .base import (
    Capability,
    Clock,
    Due,
    DueSampler,
    Durability,
    Quarantined,
    Unavailable,
    outcome_of,
    wall_clock_ms,
)
from .group_commit import NoEngineError, execute_wave
from .hint_bus import HintBus
from .ordered_tables import MemoryTables
from .url import StoreUrl

A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")


class MemoryStore:
    """One process; gone with the object.  A command runs at once, on its caller's thread."""

    durability = Durability.NOTHING
    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, *, clock: Clock = wall_clock_ms) -> None:
        self.tables = MemoryTables()
        self._clock = clock
        self._lock = threading.Lock()
        self._audience = HintBus()
        self._rounds = DueSampler()
        self._closed = False

    async def execute(self, command: Command[V, O]) -> O | Refused:
        return outcome_of(self.decide_now(command))

    async def decide(self, command: Command[V, O]) -> Decided[O] | Refused:
        return self.decide_now(command)

    def execute_now(self, command: Command[V, O]) -> O | Refused:
        """Without an event loop, from any thread."""
        return outcome_of(self.decide_now(command))

    def decide_now(self, command: Command[V, O]) -> Decided[O] | Refused:
        with self._lock:
            self._open()
            answer = execute_wave(self.tables, (command,), self._clock(), NoEngineError)[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Decided) and answer.hints:
            self._audience.publish(answer.hints)
        return answer

    async def ask(self, question: Question[A]) -> A:
        with self._lock:
            self._open()
            return ask(question, self.tables.answer)

    async def due(self, limit: int) -> tuple[Due, ...]:
        with self._lock:
            self._open()
            return self.tables.sample_due(self._rounds, self._clock(), limit)

    async def horizon(self) -> int | None:
        with self._lock:
            self._open()
            return self.tables.horizon(self._clock())

    def hints(self) -> AsyncIterator[Hint]:
        return self._audience.listen()

    async def quarantined(self) -> tuple[Quarantined, ...]:
        return ()

    async def readmit(self, session_id: str) -> None:
        return None

    async def dump(self) -> tuple[Record, ...]:
        with self._lock:
            return self.tables.all()

    async def aclose(self) -> None:
        self._closed = True
        self._audience.end()

    def _open(self) -> None:
        if self._closed:
            raise Unavailable("the store is closed")


def open_url(url: StoreUrl, *, clock: Clock = wall_clock_ms, **options: Any) -> MemoryStore:
    return MemoryStore(clock=clock, **options)


__all__ = ["MemoryStore", "MemoryTables"]
