"""Fixtures of the tests of the runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from carrying import Body, opened


@pytest.fixture(params=["memory", "sqlite"])
def carry(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Body], None]:
    """Run a test's body over a fresh store."""

    async def over(body: Body) -> None:
        url = "memory:" if request.param == "memory" else f"sqlite:{tmp_path / 'store.db'}"
        async with opened(url) as store:
            await body(store)

    return lambda body: asyncio.run(over(body))
