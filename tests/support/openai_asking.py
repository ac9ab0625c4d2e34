"""One request to a model server, for the tests of the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from model_script import Raw, Refuse, Say, in_turn
from model_server import ModelServer

from tenure.messages.types import Delta, Message, ModelFailed, Reply, Request, Tool
from tenure.transcript import Role
from tenure_drivers.models.openai import OpenAIModel

KEY = "sk-tenure-0123456789abcdef/+="
ADD = Tool("add", "Add two numbers.", '{"properties":{"a":{"type":"integer"}},"type":"object"}')


def asking(*messages: Message, **more: Any) -> Request:
    return Request("", "", messages or (Message(Role.USER, "hello"),), **more)


@asynccontextmanager
async def serving(
    *answers: Say | Refuse | Raw, **options: Any
) -> AsyncIterator[tuple[ModelServer, OpenAIModel]]:
    async with ModelServer(in_turn(*answers)) as server:
        async with OpenAIModel("m-1", server.url, KEY, **options) as model:
            yield server, model


def ask(
    *answers: Say | Refuse | Raw, request: Request | None = None, **options: Any
) -> tuple[Reply | ModelFailed, list[Delta], ModelServer]:
    """The reply to one request, what was shown on the way, and the server with what it was asked."""

    async def run() -> tuple[Reply | ModelFailed, list[Delta], ModelServer]:
        shown: list[Delta] = []
        async with serving(*answers, **options) as (server, model):
            return (
                await model.complete(request or asking(), shown.append, "r:1:1:model:1"),
                shown,
                server,
            )

    return asyncio.run(run())


def reply_to(*answers: Say | Refuse | Raw, **options: Any) -> Reply:
    reply, _, _ = ask(*answers, **options)
    assert isinstance(reply, Reply), reply
    return reply


def failure_to(*answers: Say | Refuse | Raw, **options: Any) -> ModelFailed:
    failed, _, server = ask(*answers, **options)
    assert isinstance(failed, ModelFailed), failed
    assert len(server.asked) <= 1  # the kernel retries, not the SDK
    return failed
