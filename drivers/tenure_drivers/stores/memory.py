"""A store in memory, for tests, simulation and embedding."""

from __future__ import annotations

from typing import Any, TypeVar

from tenure.outcome import Decided, Refused
from tenure.queries import Command
from tenure.release import RELEASE

from .base import Capability, Clock, Durability, wall_clock_ms
from .grouped_store import TablesStore
from .payloads import PayloadHook
from .url import StoreUrl

O = TypeVar("O")
V = TypeVar("V")


class MemoryStore(TablesStore):
    """One process; its records end with the object.  A command runs at once, on its caller's thread.

    `active`: for tests, the release before this one, as if it was still at work (specs/schema.md).  `payloads` is not
    used: nothing is written (STATE-20).
    """

    durability = Durability.NOTHING
    capabilities: frozenset[Capability] = frozenset()

    def __init__(
        self,
        *,
        clock: Clock = wall_clock_ms,
        active: int = RELEASE,
        payloads: PayloadHook | None = None,
    ) -> None:
        super().__init__("memory:", clock, active=active)

    async def decide(self, command: Command[V, O]) -> Decided[O] | Refused:
        """Execute a command at once: there is no disk to wait for, so there is nothing to group."""
        return self.decide_now(command)

    async def aclose(self) -> None:
        """Close; a second call does nothing."""
        self.close()


def open_url(url: StoreUrl, *, clock: Clock = wall_clock_ms, **options: Any) -> MemoryStore:
    """Open an empty store in memory."""
    return MemoryStore(clock=clock, **options)


__all__ = ["MemoryStore", "open_url"]
