"""Runs the body of a test over an open store; the fixture `carry` of tests/runtime does so over fresh ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tenure_drivers.stores.base import Store
from tenure_drivers.stores.registry import open_store

__all__ = ["WAIT_S", "Body", "opened"]


Body = Callable[[Store], Awaitable[None]]
WAIT_S = 60  # for what must come; nothing is measured


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    store = open_store(url)
    try:
        async with asyncio.timeout(2 * WAIT_S):
            yield store
    finally:
        await store.aclose()
