"""A real store that fails at chosen commands, before or after their execution."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from tenure.outcome import Decided, Hint, Refused
from tenure.queries import Command, Question, Record
from tenure_drivers.stores.base import (
    Capability,
    Due,
    Durability,
    OutcomeUnknown,
    Quarantined,
    Store,
    Unavailable,
)

A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")


class Faulty:
    """`fail(command)` says how: None, "before" (Unavailable), "lost" (OutcomeUnknown, not done) or "after"
    (OutcomeUnknown, done)."""

    def __init__(self, store: Store, fail: Callable[[Any], str | None]) -> None:
        self.store, self.fail = store, fail
        self.log: list[tuple[Any, Any]] = []  # commands, and what was answered

    @property
    def durability(self) -> Durability:
        return self.store.durability

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self.store.capabilities

    async def execute(self, command: Command[V, O], /) -> O | Refused:
        how = self.fail(command)
        if how == "before":
            self.log.append((command, how))
            raise Unavailable("the test says so")
        if how == "lost":
            self.log.append((command, how))
            raise OutcomeUnknown("the test says so")
        answer = await self.store.execute(command)
        if how == "after":
            self.log.append((command, how))
            raise OutcomeUnknown("the test says so")
        self.log.append((command, answer))
        return answer

    async def decide(self, command: Command[V, O], /) -> Decided[O] | Refused:
        return await self.store.decide(command)

    async def ask(self, question: Question[A], /) -> A:
        if self.fail(question) is not None:
            raise Unavailable("the test says so")
        return await self.store.ask(question)

    async def due(self, limit: int, /) -> tuple[Due, ...]:
        if self.fail("due") is not None:
            raise Unavailable("the test says so")
        return await self.store.due(limit)

    async def horizon(self) -> int | None:
        return await self.store.horizon()

    def hints(self) -> AsyncIterator[Hint]:
        return self.store.hints()

    async def quarantined(self) -> tuple[Quarantined, ...]:
        return await self.store.quarantined()

    async def readmit(self, session_id: str, /) -> None:
        await self.store.readmit(session_id)

    async def dump(self) -> tuple[Record, ...]:
        return await self.store.dump()

    async def aclose(self) -> None:
        await self.store.aclose()
