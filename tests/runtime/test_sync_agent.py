"""Agents that are not async run in a thread."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from tenure.questions.core import InputStatus, Status
from tenure_drivers import Runtime, SyncRuntime, Turn, find_agent, open_store

WAIT_S = 30


def ask(agent: Any, text: str = "go") -> InputStatus:
    async def main() -> InputStatus:
        async with aclosing(open_store("memory:")) as store, Runtime(store, agent) as runtime:
            return await (await runtime.submit("s", text)).ended(WAIT_S)

    return asyncio.run(main())


def test_an_agent_that_is_not_async_runs_in_a_thread() -> None:
    main = threading.current_thread()

    def agent(turn: Turn) -> str:
        assert threading.current_thread() is not main
        return turn.text.upper()

    async def later(turn: Turn) -> str:
        return turn.text

    assert ask(agent, "hello").answer == "HELLO"
    assert ask(lambda turn: later(turn), "hello").answer == "hello"


def test_the_error_of_an_agent_that_is_not_async_is_a_failure() -> None:
    def agent(turn: Turn) -> str:
        if turn.failures:
            return "again"
        raise ValueError("once")

    assert ask(agent).answer == "again"


def test_an_agent_that_is_not_async_is_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain_agent.py").write_text("def agent(turn):\n    return turn.text\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    assert ask(find_agent("plain_agent:agent"), "hello").answer == "hello"


def test_an_agent_that_is_not_async_and_does_not_await_is_told_what_to_do() -> None:
    def spoken(turn: Turn) -> str:
        return f"{turn.step('one', str, 1)}"

    def raising(turn: Turn) -> Any:
        return turn.once("one", lambda key: {"a": 1})["a"]  # type: ignore[index]

    def stepping(turn: Turn) -> Any:
        return turn.step("one", str, turn.text)

    for agent, name in ((spoken, "step"), (raising, "once")):
        ended = ask(agent)
        assert (ended.status, ended.answer) == ("dead_lettered", None)
        assert f"turn.{name} must be awaited: make the agent an async function" in ended.reason
    assert ask(stepping, "returned").answer == "returned"


def test_a_turn_in_progress_may_end_when_a_blocking_runtime_stops() -> None:
    begun, store = threading.Event(), open_store("memory:")

    async def slow(turn: Turn) -> str:
        begun.set()
        await asyncio.sleep(0.05)
        return "done"

    with SyncRuntime(Runtime(store, slow, grace_ms=WAIT_S * 1000)) as runtime:
        receipt = runtime.submit("s", "hello")
        assert begun.wait(WAIT_S)
    status = asyncio.run(store.ask(Status("s", receipt.input_id)))
    asyncio.run(store.aclose())

    assert status is not None and (status.status, status.answer) == ("consumed", "done")
