"""A chat agent with the real client, against a real server on loopback that fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from model_script import Call, Fault, Refuse, Say
from openai_asking import serving

from tenure.check.turn.properties import unanswered
from tenure.messages.types import Message
from tenure.questions.core import InputStatus, LoadOverview, LoadTranscript
from tenure.turn.chat_policy import project
from tenure_drivers import ChatAgent, Runtime, open_store, tool

WAIT_S = 30
ran: list[str] = []


@tool(once=True)
def pay(amount: int, key: str) -> str:
    """Pay."""
    ran.append(key)
    return f"paid {amount}"


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def converse(*answers: Say | Refuse) -> tuple[InputStatus, tuple[Message, ...], Any]:
    ran.clear()

    async def body() -> tuple[InputStatus, tuple[Message, ...], Any]:
        store = open_store("memory:")
        async with serving(*answers) as (_, model):
            async with Runtime(store, ChatAgent(model, [pay, add])) as runtime:
                ended = await (await runtime.submit("s", "go")).ended(WAIT_S)
        messages = project(await store.ask(LoadTranscript("s")))
        look = await store.ask(LoadOverview("s"))
        return ended, messages, look

    ended, messages, look = asyncio.run(body())
    assert list(unanswered(list(messages))) == []
    return ended, messages, look


BATCH = Say("", (Call("pay", '{"amount": 3}'), Call("add", '{"a": 1, "b": 2}')))


def test_a_batch_is_carried_out_and_answered() -> None:
    ended, messages, look = converse(BATCH, Say("paid and added"))

    assert (ended.termination, ended.answer) == ("finished", "paid and added")
    assert [m.text for m in messages[2:4]] == ["paid 3", "3"]
    assert sum(usage.requests for usage in look.usage) == 2


@pytest.mark.parametrize(
    "failure",
    [
        Refuse(429, "slow down", headers=(("retry-after", "0"),)),
        Refuse(500),
        Say("half an answer", fault=Fault.CUT, at=1),
        Say("half an answer", fault=Fault.GARBAGE, at=1),
        Say("half an answer", fault=Fault.ERROR, at=2),
    ],
)
def test_a_failure_between_the_batch_and_the_answer_runs_nothing_twice(
    failure: Say | Refuse,
) -> None:
    ended, messages, _ = converse(BATCH, failure, Say("done"))

    assert (ended.termination, ended.answer) == ("finished", "done")
    assert len(ran) == 1 and len(messages) == 5


def test_a_truncated_batch_is_not_carried_out() -> None:
    cut = Say("", (Call("pay", '{"amount": 3}'),), fault=Fault.CUT, at=2)

    ended, messages, _ = converse(cut, Say("done"))

    assert ended.answer == "done" and ran == [] and len(messages) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (Call("pay", '{"amount": '), "invalid arguments: not JSON"),
        (Call("pay", '{"amount": "much"}'), "invalid arguments"),
        (Call("steal", "{}"), "unknown tool"),
    ],
)
def test_an_invalid_call_is_reported_to_the_model(call: Call, message: str) -> None:
    ended, messages, _ = converse(Say("", (call,)), Say("sorry"))

    assert ended.answer == "sorry" and ran == []
    assert message in messages[2].text and messages[2].is_error


def test_a_wrong_key_ends_the_run_at_once() -> None:
    ended, _, _ = converse(Refuse(401, "who are you?"))

    assert ended.termination == "error" and ended.reason.startswith("unauthorised")
