"""A session goes on after anything that a model said, also with a server that checks every request."""

from __future__ import annotations

import asyncio

import pytest
from model_script import Call, Say, in_turn
from model_server import ModelServer
from openai_asking import KEY
from strict_server import strictly

from tenure.questions.core import InputStatus, LoadTranscript
from tenure.turn.chat_policy import project
from tenure_drivers import ChatAgent, Runtime, open_store, tool
from tenure_drivers.models.openai import OpenAIModel

WAIT_S = 30


@tool
def price(cents: int = 1, text: str = "") -> str:
    return "half \ud83d" if text == "half" else text


def talk(*answers: Say) -> tuple[list[InputStatus], list[str], ModelServer]:
    """Two prompts in one session; return how each ended, and the errors of tools that the model was told."""

    async def run() -> tuple[list[InputStatus], list[str], ModelServer]:
        store = open_store("memory:")
        async with ModelServer(strictly(in_turn(*answers))) as server:
            async with OpenAIModel("m-1", server.url, KEY) as model:
                async with Runtime(store, ChatAgent(model, [price])) as runtime:
                    ended = [
                        await (await runtime.submit("s", text)).ended(WAIT_S)
                        for text in ("one", "two")
                    ]
        messages = project(await store.ask(LoadTranscript("s")))
        await store.aclose()
        return ended, [m.text for m in messages if m.is_error], server

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (Call("tools.in_parallel", "{}"), "unknown tool 'tools.in_parallel'; the tools are: price"),
        (Call("price", '{"cents": NaN}'), "invalid arguments: not JSON: NaN is not a JSON number"),
        (Call("price", '{"cents": 1'), "invalid arguments: not JSON"),
        (Call("price", "[1]"), "invalid arguments: expected a JSON object"),
    ],
    ids=["name", "nan", "half", "list"],
)
def test_a_call_that_a_server_refuses_does_not_end_the_session(call: Call, told: str) -> None:
    ended, errors, _ = talk(Say("", (call,)), Say("hello"))

    assert [each.answer for each in ended] == ["hello", "hello"]
    assert len(errors) == 1 and errors[0].startswith(told)


@pytest.mark.parametrize("call_id", ["x" * 41, "taken", ""])
def test_call_ids_are_legal_in_every_later_request(call_id: str) -> None:
    called = Say("", (Call("price", "{}", call_id),))

    ended, errors, _ = talk(called, Say("hello"), called, Say("there"))

    assert ([each.answer for each in ended], errors) == (["hello", "there"], [])


@pytest.mark.parametrize(
    "said", [Say(""), Say("", reasoning="hm"), Say("\n"), Say(refusal="I will not.")]
)
def test_a_reply_without_content_does_not_end_the_session(said: Say) -> None:
    ended, _, server = talk(said, Say("hello"))

    assert [each.answer for each in ended][1] == "hello"
    assert len(server.asked) == 2


def test_an_empty_result_and_half_of_a_pair_are_sent_legally() -> None:
    texts = ('{"text": ""}', '{"text": "half"}')

    ended, errors, _ = talk(Say("", tuple(Call("price", text) for text in texts)), Say("hello"))

    assert ([each.answer for each in ended], errors) == (["hello", "hello"], [])
