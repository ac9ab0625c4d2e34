"""Faults of an agent are reported and do not affect other turns."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import aclosing
from pathlib import Path

import pytest

from tenure_drivers import Runtime, Turn
from tenure_drivers.agents.ledger import ledger
from tenure_drivers.agents.ledger_file import LedgerFile
from tenure_drivers.stores.memory import MemoryStore


def test_an_agent_that_exits_fails_its_turn_and_other_turns_continue() -> None:
    async def agent(turn: Turn) -> str:
        if turn.session_id == "bad":
            raise SystemExit(3)
        return turn.text

    async def main() -> None:
        async with aclosing(MemoryStore()) as store, Runtime(store, agent) as runtime:
            bad = await runtime.submit("bad", "x")
            good = await runtime.submit("good", "y")

            assert (await good.ended()).answer == "y"
            while True:
                status = await bad.status()
                assert status is not None
                if status.failures:
                    break
                await asyncio.sleep(0.01)

    asyncio.run(main())


def test_what_an_agent_raises_after_its_commit_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def agent(turn: Turn) -> None:
        await turn.commit(text="one")
        await turn.commit(text="two")

    async def main() -> None:
        async with aclosing(MemoryStore()) as store, Runtime(store, agent) as runtime:
            ended = await (await runtime.submit("s", "x")).ended()
            assert ended.answer == "one"

    with caplog.at_level(logging.WARNING, logger="tenure"):
        asyncio.run(main())

    assert "AlreadyCommitted" in caplog.text


def test_a_ledger_on_a_full_disk_is_retried_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, tries = tmp_path / "ledger.txt", 0
    real = LedgerFile.append

    def append(self: LedgerFile, input_id: str, text: str) -> bool:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError(28, os.strerror(28))
        return real(self, input_id, text)

    monkeypatch.setattr(LedgerFile, "append", append)

    async def main() -> None:
        async with aclosing(MemoryStore()) as store, Runtime(store, ledger(path)) as runtime:
            ended = await (await runtime.submit("s", "x")).ended()
            assert ended.status == "consumed"

    asyncio.run(main())

    assert tries == 2
    assert len(path.read_text().splitlines()) == 1
