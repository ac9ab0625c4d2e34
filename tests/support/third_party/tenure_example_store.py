"""A store of a third party, for the registry: the memory store under a scheme of its own."""

from __future__ import annotations

from typing import Any

from tenure_drivers.stores.base import Clock
from tenure_drivers.stores.memory import MemoryStore
from tenure_drivers.stores.url import StoreUrl


class ExampleStore(MemoryStore):
    """Remembers the name that its URL gives it."""

    def __init__(self, name: str, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.name = name


def open_url(url: StoreUrl, *, clock: Clock, **options: Any) -> ExampleStore:
    if options:
        raise ValueError(f"{url.redacted!r} takes no options: {sorted(options)}")
    return ExampleStore(url.rest, clock)


def broken(url: StoreUrl, *, clock: Clock, **options: Any) -> ExampleStore:
    raise ValueError(f"{url.redacted!r} is never opened")
