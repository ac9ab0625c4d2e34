"""Limits of a runtime: who is put aside, and who is not held up.  Spec: specs/worker.md, WORKER-21 to WORKER-24."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from carrying import WAIT_S, Body

from tenure.commands import Begin
from tenure_drivers import Limit, Runtime, Turn
from tenure_drivers.runtime.client import Client
from tenure_drivers.runtime.clock import boot_clock_ms
from tenure_drivers.stores.base import Store


def tenant(session_id: str, frame: str) -> str | None:
    return session_id.partition("/")[0]


def watched(store: Store) -> list[str]:
    """Return a list to which the session of each Begin is appended."""
    begun, execute = list[str](), store.execute

    async def watching(command: Any) -> Any:
        if isinstance(command, Begin):
            begun.append(command.session_id)
        return await execute(command)

    store.execute = watching  # type: ignore[method-assign]
    return begun


class Gated:
    """An agent whose turns wait until they are let go."""

    def __init__(self) -> None:
        self.begun, self.ended = list[str](), list[str]()
        self.go: dict[str, asyncio.Event] = {}
        self.changed = asyncio.Condition()

    async def __call__(self, turn: Turn) -> str:
        self.begun.append(turn.session_id)
        async with self.changed:
            self.changed.notify_all()
        await self.go.setdefault(turn.session_id, asyncio.Event()).wait()
        return "done"

    async def until(self, *sessions: str) -> None:
        """Wait until turns of these sessions have begun."""
        async with self.changed:
            await self.changed.wait_for(lambda: set(sessions) <= set(self.begun))

    def let_go(self, *sessions: str) -> None:
        for session_id in sessions:
            self.go.setdefault(session_id, asyncio.Event()).set()


def test_sessions_of_a_full_limit_are_put_aside_without_a_begin(
    carry: Callable[[Body], None],
) -> None:
    async def body(store: Store) -> None:
        begun, agent, client = watched(store), Gated(), Client(store)
        before = [f"a/{n}" for n in range(40)]
        receipts = [await client.submit(session_id, "hello") for session_id in before]
        async with Runtime(store, agent, limits=[Limit(tenant, at_once=2)]) as runtime:
            receipts += [await runtime.submit(f"a/{n}", "hello") for n in range(40, 44)]
            receipts += [await runtime.submit(f"b/{n}", "hello") for n in range(2)]
            await agent.until("b/0", "b/1")
            first = [session_id for session_id in begun if session_id.startswith("a/")]
            assert len(first) == 2
            agent.let_go("b/0", "b/1", *before, *[f"a/{n}" for n in range(40, 44)])
            for receipt in receipts:
                assert await receipt.result(WAIT_S) == "done"

    carry(body)


def test_a_limit_may_be_for_the_agent_that_continues_a_session(
    carry: Callable[[Body], None],
) -> None:
    asked: list[tuple[str, str]] = []

    def agent_of(session_id: str, frame: str) -> str | None:
        asked.append((session_id, frame))
        return frame or None

    async def body(store: Store) -> None:
        async def handing_off(turn: Turn) -> str:
            if turn.text == "hand off":
                await turn.commit("to you", frame="other")
            return "done"

        limits = [Limit(agent_of, at_once=1)]
        async with Runtime(store, handing_off) as runtime:
            await (await runtime.submit("s", "hand off")).ended(WAIT_S)
        agent = Gated()
        client = Client(store)
        await client.submit("s", "hello")
        async with Runtime(store, agent, limits=limits):
            await agent.until("s")
            assert ("s", "other") in asked
            agent.let_go("s")

    carry(body)


def test_a_limit_per_minute_counts_every_run(carry: Callable[[Body], None]) -> None:
    ahead_ms = 0

    def clock() -> int:
        return boot_clock_ms() + ahead_ms

    async def body(store: Store) -> None:
        nonlocal ahead_ms
        ahead_ms, ran = 0, list[str]()

        async def agent(turn: Turn) -> str:
            ran.append(turn.text)
            return "done"

        limits = [Limit(tenant, per_minute=2)]
        async with Runtime(store, agent, limits=limits, clock=clock) as runtime:
            one = [await runtime.submit("a/1", text) for text in ("1", "2", "3")]
            for receipt in one[:2]:
                await receipt.result(WAIT_S)
            await (await runtime.submit("b/1", "other")).result(WAIT_S)
            assert sorted(ran) == ["1", "2", "other"]
            ahead_ms = 61_000
            await (await runtime.submit("b/2", "later")).result(WAIT_S)
            assert await one[2].result(WAIT_S) == "done"

    carry(body)


def test_a_limit_whose_key_fails_does_not_apply(
    carry: Callable[[Body], None], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(session_id: str, frame: str) -> str:
        raise ZeroDivisionError("no tenant")

    async def agent(turn: Turn) -> str:
        return "done"

    async def body(store: Store) -> None:
        async with Runtime(store, agent, limits=[Limit(broken, at_once=1)]) as runtime:
            assert await (await runtime.submit("s", "x")).result(WAIT_S) == "done"

    with caplog.at_level(logging.ERROR):
        carry(body)

    assert "the key of a limit failed for session s: ZeroDivisionError: no tenant" in caplog.text


@pytest.mark.parametrize("numbers", [{}, {"at_once": 0}, {"at_once": 1, "per_minute": -1}])
def test_a_limit_needs_a_number(numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected at_once, per_minute or both, at least 1"):
        Limit(tenant, **numbers)


def test_without_limits_no_frame_is_read(carry: Callable[[Body], None]) -> None:
    questions: list[str] = []

    async def agent(turn: Turn) -> str:
        return "done"

    async def body(store: Store) -> None:
        ask: Callable[[Any], Awaitable[Any]] = store.ask

        async def watching(question: Any) -> Any:
            questions.append(type(question).__name__)
            return await ask(question)

        store.ask = watching  # type: ignore[method-assign]
        async with Runtime(store, agent) as runtime:
            await (await runtime.submit("s", "x")).result(WAIT_S)

    carry(body)

    assert questions and "Frames" not in questions
