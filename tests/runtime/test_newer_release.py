"""A runtime whose store is activated for a newer release while it works."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tenure_drivers import Runtime, SchemaTooNew, Turn, open_store

WAIT_S = 30


async def agent(turn: Turn) -> str:
    return turn.text


def test_a_worker_stops_when_a_newer_release_is_activated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It would look for work for ever, in vain."""

    async def main() -> None:
        store = open_store(f"sqlite:{tmp_path}/a.db")
        try:
            async with Runtime(store, agent) as runtime:
                assert await (await runtime.submit("s", "hello")).result(WAIT_S) == "hello"
                with closing(sqlite3.connect(tmp_path / "a.db")) as other:
                    other.execute("PRAGMA user_version=99")
                with pytest.raises(SchemaTooNew, match="release 99 is active"):
                    async with asyncio.timeout(WAIT_S):
                        await runtime.until_failed()
                assert runtime._worker is not None
                await asyncio.wait_for(runtime._worker.finished.wait(), WAIT_S)
                with pytest.raises(SchemaTooNew):
                    await runtime.submit("s", "more")
        finally:
            await store.aclose()

    with caplog.at_level(logging.ERROR, "tenure"):
        asyncio.run(main())

    stops = [r.getMessage() for r in caplog.records if "this worker stops" in r.getMessage()]
    assert len(stops) == 1 and "release 99 is active" in stops[0]
