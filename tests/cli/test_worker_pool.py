"""The worker processes of `tenure run`, watched by a pool."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

from tenure_drivers import Client, open_store
from tenure_drivers.cli.run import worker_pool
from tenure_drivers.cli.run.worker_pool import WorkerPool

AGENT = """
import time

async def agent(turn):
    while turn.text == "spins":
        pass
    return turn.text
"""


def test_a_worker_whose_event_loop_stands_still_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spinning.py").write_text(AGENT, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(worker_pool, "SILENT_S", 4.0)
    url = f"sqlite:{tmp_path / 'a.db'}"
    logged: list[str] = []

    async def run() -> None:
        store = open_store(url)
        client = Client(store)
        await client.submit("poison", "spins")
        arguments = ("--agent", "spinning:agent", "--patience", "30", "--grace", "1")
        pool = WorkerPool(url, arguments, 1, log_line=logged.append)
        working = asyncio.create_task(pool.work())
        assert await begun(client)
        receipt = await client.submit("innocent", "hello")
        assert (await receipt.ended(60)).answer == "hello"
        pool.kill()
        with contextlib.suppress(Exception):
            await working
        await store.aclose()

    asyncio.run(run())

    assert any("its event loop has not run for 4 s: killed" in line for line in logged)


async def begun(client: Client) -> bool:
    async for batch in client.events("poison"):
        if any(event.kind.value == "run_started" for event in batch.events):
            return True
    return False


def test_a_signal_to_a_worker_that_has_just_ended_reaps_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Otherwise asyncio logs an unknown child process, and its exit code is lost."""

    async def run() -> int:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(7)")
        os.waitid(
            os.P_PID, process.pid, os.WEXITED | os.WNOWAIT
        )  # it has ended, and waits to be reaped
        worker_pool._send(process, signal.SIGTERM)
        return await process.wait()

    assert asyncio.run(run()) == 7
    assert "Unknown child process" not in caplog.text
