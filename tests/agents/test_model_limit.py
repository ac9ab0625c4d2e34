"""Calls of a model within a limit.  Spec: specs/chat.md, CHAT-45."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from tenure.messages.types import Delta, Reply, Request
from tenure_drivers import ChatAgent, Limit, Runtime, open_store
from tenure_drivers.agents.model_gate import ModelGate

WAIT_S = 60


def all_(session_id: str, frame: str) -> str:
    return "all"


class Counting:
    """A client that counts the calls in progress; each ends when it is let go."""

    model = "m"

    def __init__(self) -> None:
        self.now, self.most, self.all = 0, 0, 0
        self.called = asyncio.Condition()
        self.go = asyncio.Event()

    async def complete(self, request: Request, emit: Callable[[Delta], None], key: str) -> Reply:
        self.now, self.all = self.now + 1, self.all + 1
        self.most = max(self.most, self.now)
        async with self.called:
            self.called.notify_all()
        try:
            await self.go.wait()
        finally:
            self.now -= 1
        return Reply("hi")

    async def until(self, calls: int) -> None:
        async with self.called:
            await self.called.wait_for(lambda: self.all >= calls)


def test_at_most_so_many_calls_are_in_progress() -> None:  # CHAT-45
    async def main() -> None:
        client = Counting()
        agent = ChatAgent(client, model_limit=Limit(all_, at_once=2))
        store = open_store("memory:")
        async with Runtime(store, agent) as runtime:
            receipts = [await runtime.submit(f"s{n}", "hello") for n in range(9)]
            await client.until(2)
            client.go.set()
            for receipt in receipts:
                assert await receipt.result(WAIT_S) == "hi"
        await store.aclose()
        assert (client.most, client.all) == (2, 9)

    asyncio.run(main())


def test_a_call_that_waits_is_aborted_when_its_turn_is_cancelled() -> None:  # CHAT-45
    async def main() -> None:
        client = Counting()
        agent = ChatAgent(client, model_limit=Limit(all_, at_once=1))
        store = open_store("memory:")
        async with Runtime(store, agent) as runtime:
            first = await runtime.submit("s1", "hello")
            await client.until(1)
            second = await runtime.submit("s2", "hello")
            waiting = await second.delivered(WAIT_S)
            assert waiting.run_id is not None
            await runtime.cancel("s2", waiting.run_id)
            ended = await second.ended(WAIT_S)
            assert ended.termination == "cancelled"
            third = await runtime.submit("s3", "hello")
            client.go.set()
            assert await first.result(WAIT_S) == await third.result(WAIT_S) == "hi"
        await store.aclose()
        assert (client.most, client.all) == (1, 2)

    asyncio.run(main())


def test_calls_wait_in_the_order_of_their_arrival_and_hold_up_no_other_key() -> None:
    async def main() -> None:
        now_ms = 0
        gate = ModelGate(Limit(lambda s, f: s[0], at_once=1, per_minute=2), lambda: now_ms)
        order: list[str] = []

        async def call(session_id: str, ended: asyncio.Event) -> None:
            async with gate.call(session_id, "") as waited:
                order.append(f"{session_id} waited" if waited else session_id)
                await ended.wait()

        ends = [asyncio.Event() for _ in range(5)]
        sessions = ("a1", "a2", "a3", "b1", "a4")
        calls = [asyncio.create_task(call(*each)) for each in zip(sessions, ends, strict=True)]
        await asyncio.sleep(0)
        assert order == ["a1", "b1"]
        calls[1].cancel()  # it waits
        await asyncio.wait([calls[1]])
        ends[0].set()
        await asyncio.wait([calls[0]])
        await asyncio.sleep(0)
        assert order == ["a1", "b1", "a3 waited"]
        ends[2].set()
        await asyncio.wait([calls[2]])
        now_ms = 60_000
        ends[3].set()  # the end of any call is a reason to look
        await asyncio.wait([calls[3]])
        await asyncio.sleep(0)
        assert order[-1] == "a4 waited"
        ends[4].set()
        await asyncio.gather(calls[4])

    asyncio.run(main())


def test_without_a_limit_no_call_waits() -> None:
    async def main() -> None:
        gate = ModelGate(None)
        async with AsyncExitStack() as calls:
            for n in range(9):
                assert await calls.enter_async_context(gate.call(f"s{n}", "")) is False

    asyncio.run(main())
