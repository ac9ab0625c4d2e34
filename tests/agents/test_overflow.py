"""Large tool results and requests that do not fit the context: the session goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from model_script import Asked, Call, Refuse, Say
from model_server import ModelServer
from openai_asking import KEY
from strict_server import strictly

from tenure.messages import Message
from tenure.questions.core import InputStatus, LoadTranscript
from tenure.transcript import Role
from tenure.turn.chat_policy import project
from tenure_drivers import (
    ChatAgent,
    Runtime,
    drop_turns,
    open_store,
    shorten,
    shorten_results,
    tool,
)
from tenure_drivers.models.openai import OpenAIModel

WAIT_S = 30
LOG = "line\n" * 60_000


@tool
def log() -> str:
    return LOG


@tool(name="log", result_max=1_000)
def short_log() -> str:
    return LOG


def narrow(characters: int) -> Callable[[Asked], Say | Refuse]:
    """A model with a small context that reads the log once."""

    def answer(asked: Asked) -> Say | Refuse:
        size = sum(len(m.get("content") or "") for m in asked.messages)
        if size > characters:
            return Refuse(400, f"you sent {size} characters", "context_length_exceeded")
        read = any(m["role"] == "tool" for m in asked.messages)
        return Say("hello") if read else Say("", (Call("log", "{}"),))

    return answer


def talk(
    answer: Callable[[Asked], Say | Refuse],
    *prompts: str,
    tools: tuple[Any, ...] = (log,),
    **options: Any,
) -> tuple[list[InputStatus], tuple[Message, ...], list[int]]:
    """Return how each prompt ended, the transcript, and the size of each request."""

    async def run() -> tuple[list[InputStatus], tuple[Message, ...], list[int]]:
        store = open_store("memory:")
        async with ModelServer(strictly(answer)) as server:
            async with OpenAIModel("m-1", server.url, KEY) as model:
                async with Runtime(store, ChatAgent(model, tools, **options)) as runtime:
                    ended = [
                        await (await runtime.submit("s", text)).ended(WAIT_S) for text in prompts
                    ]
        messages = project(await store.ask(LoadTranscript("s")))
        await store.aclose()
        sizes = [sum(len(m.get("content") or "") for m in a.messages) for a in server.asked]
        return ended, messages, sizes

    return asyncio.run(run())


def test_a_result_is_cut_in_the_request_and_whole_in_the_transcript() -> None:
    ended, messages, sizes = talk(narrow(100_000), "read the log", "and now?")

    assert [each.answer for each in ended] == ["hello", "hello"]
    assert [m.text for m in messages if m.role is Role.TOOL] == [LOG]
    assert max(sizes) < 51_000


def test_a_tool_has_its_own_limit() -> None:
    ended, _, sizes = talk(narrow(2_000), "read the log", tools=(short_log,))

    assert ended[0].answer == "hello" and len(sizes) == 2


@pytest.mark.parametrize("policy", [shorten, shorten_results])
def test_a_request_that_does_not_fit_is_shortened(policy: Any) -> None:
    ended, messages, sizes = talk(
        narrow(100_000), "read the log", "and now?", result_max=10**9, on_overflow=policy
    )

    assert [each.answer for each in ended] == ["hello", "hello"]
    assert [m.text for m in messages if m.role is Role.TOOL] == [LOG]
    assert [size > 100_000 for size in sizes] == [False, True, False, True, False]


def test_old_turns_are_left_out() -> None:
    def answer(asked: Asked) -> Say | Refuse:
        size = sum(len(m["content"]) for m in asked.messages)
        return Refuse(413, "too big") if size > 500 else Say(f"{len(asked.messages)}")

    ended, _, _ = talk(answer, "x" * 300, "y" * 300, on_overflow=drop_turns)

    assert [each.answer for each in ended] == ["1", "1"]


def test_an_agent_may_summarise() -> None:
    async def summarise(messages: tuple[Message, ...], budget: int) -> tuple[Message, ...]:
        await asyncio.sleep(0)
        return (Message(Role.USER, f"summary of {len(messages)} messages, {budget}"),)

    def answer(asked: Asked) -> Say | Refuse:
        said = asked.messages[-1]["content"]
        return Say(said) if said.startswith("summary") else Refuse(400, "prompt is too long")

    ended, _, _ = talk(answer, "x" * 300, on_overflow=summarise)

    assert ended[0].answer == "summary of 1 messages, 150"


def test_without_a_policy_the_turn_fails_at_once() -> None:
    ended, _, sizes = talk(narrow(1), "hello", on_overflow=None)

    assert ended[0].reason.startswith("context_overflow: ") and len(sizes) == 1


def test_a_request_that_never_fits_says_so() -> None:
    ended, _, sizes = talk(narrow(1), "hello")

    said = "context_overflow: the request does not fit the context, also shortened to 2 characters"
    assert ended[0].reason.startswith(said) and len(sizes) == 2
    assert "you sent 5 characters" in ended[0].reason


def test_a_policy_that_raises_is_a_failure() -> None:
    def broken(messages: tuple[Message, ...], budget: int) -> tuple[Message, ...]:
        raise ValueError("mine")

    ended, _, _ = talk(narrow(1), "hello", on_overflow=broken)

    assert ended[0].reason == "transient: on_overflow: ValueError: mine"
