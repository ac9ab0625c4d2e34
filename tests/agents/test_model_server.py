"""The model server of the tests and its model, used by the client."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from model_script import Faulty, Model, answer_to
from model_server import ModelServer
from openai_asking import ADD, KEY, asking
from paths import SUPPORT

from tenure.failure import ErrorKind
from tenure.messages.types import Message, ModelFailed, Reply
from tenure.transcript import Role
from tenure_drivers.models.openai import OpenAIModel


def converse(model: OpenAIModel, prompt: str, fail: Callable[[ModelFailed], None]) -> Any:
    """Run a loop in which every tool is an echo, and retry every failure."""

    async def run() -> list[Message]:
        messages = [Message(Role.USER, prompt)]
        while True:
            reply = await model.complete(asking(*messages, tools=(ADD,)), lambda _: None, "k")
            if isinstance(reply, ModelFailed):
                fail(reply)
                continue
            messages.append(Message(Role.ASSISTANT, reply.text, reply.calls))
            if not reply.calls:
                return messages
            for call in reply.calls:
                messages.append(Message(Role.TOOL, call.arguments, call_id=call.call_id))

    return run()


def test_the_faulty_model_gives_equal_answers_in_every_process() -> None:
    prompts = [f"question {i}" for i in range(30)] + [
        'call add {"a": 1}\nand add {"a": 2}\ncall add {}'
    ]

    async def run() -> tuple[list[list[Message]], list[ErrorKind]]:
        failures: list[ErrorKind] = []
        async with ModelServer(Faulty(Model(seed=5, wrong=4))) as server:
            async with OpenAIModel("m-1", server.url, KEY) as model:
                talks = [
                    await converse(model, p, lambda failed: failures.append(failed.failure.kind))
                    for p in prompts
                ]
                return talks, failures

    talks, failures = asyncio.run(run())

    assert (talks, failures) == asyncio.run(run())
    assert [t[-1].text for t in talks] == [answer_to(p) for p in prompts]
    assert [len(m.calls) for m in talks[-1] if m.role is Role.ASSISTANT] == [2, 1, 0]
    assert set(failures) == {
        *(ErrorKind.RATE_LIMITED, ErrorKind.UNAVAILABLE, ErrorKind.STREAM_INTERRUPTED),
        *(ErrorKind.OVERLOADED, ErrorKind.TRANSIENT),
    }


def test_the_server_can_run_as_a_process() -> None:
    command = [
        sys.executable,
        str(SUPPORT / "model_server.py"),
        "--script",
        "plain",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()

            async def run() -> Reply | ModelFailed:
                async with OpenAIModel("m", url, KEY) as model:
                    return await model.complete(asking(), lambda _: None, "k")

            reply = asyncio.run(run())
        finally:
            process.kill()

    assert isinstance(reply, Reply)
    assert reply.text == answer_to("hello")
