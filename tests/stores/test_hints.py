"""A subscription to hints ends when the store closes, at any time."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from tenure_drivers.stores.hint_bus import HintBus
from tenure_drivers.testing.fixtures import asynchronous


class LiesDown:
    """The loop of a listener; the store ends on another thread just when it makes what it will wait on."""

    def __init__(self, audience: HintBus) -> None:
        self.audience = audience
        self.loop = asyncio.get_running_loop()
        self.call_soon_threadsafe = self.loop.call_soon_threadsafe

    def create_future(self) -> asyncio.Future[None]:
        self.audience.end()
        return self.loop.create_future()


@asynchronous
async def test_a_store_that_ends_while_a_listener_lies_down_wakes_it() -> None:
    audience = HintBus()
    listener = audience.listen()
    listener.loop = cast(Any, LiesDown(audience))

    assert await asyncio.wait_for(anext(listener, None), 10) is None
