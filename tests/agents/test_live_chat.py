"""Observers of a runtime see a reply while it streams from a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import frozen

pytest.importorskip("openai")

from model_script import Fault, Refuse, Say, in_turn
from model_server import ModelServer

from tenure.messages.types import Delta
from tenure.questions.core import TranscriptLine
from tenure_drivers.agents.chat import ChatAgent
from tenure_drivers.models.openai import OpenAIModel
from tenure_drivers.runtime.runtime import Runtime
from tenure_drivers.runtime.streaming.broadcast import Broadcast, Gap, Observer, Settled
from tenure_drivers.stores.memory import MemoryStore

S = "session-1"
TEXT = "It rains in Spain, and mainly on the plain, as far as anybody knows."
PATIENCE_S = 30.0


@frozen
class Here:
    runtime: Runtime
    server: ModelServer
    store: MemoryStore

    async def answer(self, prompt: str = "hello") -> str | None:
        return (await (await self.runtime.submit(S, prompt)).ended(PATIENCE_S)).answer


@asynccontextmanager
async def chatting(*answers: Say | Refuse, **bounds: Any) -> AsyncIterator[Here]:
    store = MemoryStore()
    live = Broadcast(store, poll_s=600.0, **bounds)
    async with ModelServer(in_turn(*answers)) as server:
        async with OpenAIModel("m-1", server.url, "sk-0123456789") as model:
            async with Runtime(store, ChatAgent(model), live=live) as runtime:
                yield Here(runtime, server, store)


async def until_settled(observer: Observer) -> list[Delta | Settled | Gap]:
    shown: list[Delta | Settled | Gap] = []
    async with asyncio.timeout(PATIENCE_S):
        async for item in observer:
            shown.append(item)
            if isinstance(item, Settled):
                return shown
    raise AssertionError(shown)


def text_of(shown: list[Delta | Settled | Gap]) -> str:
    return "".join([item.text for item in shown if isinstance(item, Delta)])


def said(lines: tuple[TranscriptLine, ...]) -> str:
    return " ".join(line.node.body for line in lines)


def test_an_observer_sees_the_text_grow_and_the_run_settle() -> None:
    async def run() -> None:
        async with chatting(Say(TEXT, fault=Fault.HOLD, at=9)) as here:
            async with here.runtime.observe(S) as observer:
                answering = asyncio.create_task(here.answer())
                held = await asyncio.wait_for(here.server.nth(1), PATIENCE_S)
                await held.begun.wait()
                first = await anext(observer)
                assert isinstance(first, Delta) and TEXT.startswith(first.text)
                assert not answering.done()  # the text is shown before it is complete
                here.server.release()

                shown = [first, *await until_settled(observer)]

                assert text_of(shown) == TEXT == await answering
                assert sum(isinstance(item, Delta) for item in shown) > 5
                assert isinstance(shown[-1], Settled)
                assert shown[-1].how == "finished: consumed"

    asyncio.run(run())


def test_a_slow_observer_receives_a_gap_with_the_settled_state() -> None:
    async def run() -> None:
        async with chatting(Say("first"), Say(TEXT), kept_max=4) as here:
            assert await here.answer("one") == "first"
            async with here.runtime.observe(S) as observer:
                assert await here.answer("two") == TEXT  # the observer has not read meanwhile

                gap = await anext(observer)

                assert isinstance(gap, Gap)
                assert gap.revision == 2
                assert "first" in said(gap.lines) and TEXT in said(gap.lines)

    asyncio.run(run())


def test_an_observer_resumes_where_it_stopped() -> None:
    async def run() -> None:
        async with chatting(Say(TEXT)) as here:
            observer = here.runtime.observe(S)
            async with observer:
                answering = asyncio.create_task(here.answer())
                before = [await anext(observer) for _ in range(3)]
            await answering

            async with here.runtime.observe(S, observer.cursor) as again:
                after = await until_settled(again)

            assert text_of([*before, *after]) == TEXT
            assert not any(isinstance(item, Gap) for item in after)

    asyncio.run(run())


def test_a_new_attempt_replaces_the_failed_one() -> None:
    async def run() -> None:
        async with chatting(Say(TEXT, fault=Fault.CUT, at=5), Say(TEXT)) as here:
            async with here.runtime.observe(S) as observer:
                answering = asyncio.create_task(here.answer())
                shown = await until_settled(observer)
                assert await answering == TEXT

            attempts = [item.attempt for item in shown if isinstance(item, Delta)]
            last = [i for i in shown if isinstance(i, Delta) and i.attempt == attempts[-1]]
            assert attempts == sorted(attempts) and len(set(attempts)) == 2
            assert text_of([*last]) == TEXT

    asyncio.run(run())


def test_a_runtime_without_an_agent_is_notified_of_settled_runs() -> None:
    async def run() -> None:
        async with chatting(Say(TEXT)) as here:
            async with Runtime(here.store) as front:
                async with front.observe(S) as observer:
                    settling = asyncio.create_task(until_settled(observer))
                    assert await here.answer() == TEXT

                    shown = await settling

                assert [type(item) for item in shown] == [Settled]

    asyncio.run(run())


def test_observers_end_with_their_runtime() -> None:
    async def run() -> None:
        async with chatting(Say(TEXT)) as here:
            observer = here.runtime.observe(S)
            waiting = asyncio.create_task(_all(observer))
            await asyncio.sleep(0)
        assert await asyncio.wait_for(waiting, PATIENCE_S) == []

    async def _all(observer: Observer) -> list[Any]:
        return [item async for item in observer]

    asyncio.run(run())
