"""The client never shows its key, and reports invalid settings at once."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from model_script import Fault, Refuse, Say, in_turn
from model_server import ModelServer
from openai_asking import KEY, asking

from tenure.failure import ErrorKind
from tenure.messages.types import ModelFailed, Reply
from tenure_drivers.models.openai import OpenAIModel


@pytest.mark.parametrize("stream", [True, False])
def test_the_key_occurs_in_no_message_and_no_log(
    stream: bool, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async def run() -> list[Any]:
        said: list[Any] = []
        async with ModelServer(
            in_turn(Say("x")), key="another"
        ) as server:  # the server quotes the request
            async with OpenAIModel(
                "m", server.url, KEY, stream=stream, headers={"x-api-key": "hdr-12345678"}
            ) as model:
                said += [model, await model.complete(asking(), said.append, "k")]
            return said

    async def echo() -> list[Any]:
        leak = f"Bearer {KEY} hdr-12345678 {KEY} " * 9
        answers = (
            Refuse(500, leak),
            Refuse(502, body=f"<html>{leak}</html>"),
            Say("x", fault=Fault.ERROR, error=json.dumps({"message": leak, "code": "odd"})),
        )
        said: list[Any] = []
        async with ModelServer(in_turn(*answers)) as server:
            async with OpenAIModel(
                "m", server.url, KEY, stream=stream, headers={"x-api-key": "hdr-12345678"}
            ) as model:
                for _ in answers:
                    said.append(await model.complete(asking(), said.append, "k"))
        return said

    with caplog.at_level(logging.DEBUG):
        said = asyncio.run(run()) + asyncio.run(echo())
    out, err = capfd.readouterr()

    told = "\n".join([*map(repr, said), *map(str, said), out, err])
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name != "asyncio")
    assert isinstance(said[1], ModelFailed)
    assert said[1].failure.kind is ErrorKind.UNAUTHORISED
    assert "***" in said[1].failure.message
    for secret in (KEY, "hdr-12345678"):
        assert secret not in told
        assert secret not in logged


@pytest.mark.parametrize("key", ["sk-secret\nx", "sk-secret ü", "sk-\x00secret"])
def test_an_invalid_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="the API key contains") as raised:
        OpenAIModel("m", "http://127.0.0.1:1/v1", key)

    assert "secret" not in str(raised.value)


def test_a_key_read_from_a_file_may_end_with_a_line() -> None:
    async def run() -> str:
        async with ModelServer(in_turn(Say("x"))) as server:
            async with OpenAIModel("m", server.url, "sk-1\n") as model:
                await model.complete(asking(), lambda _: None, "k")
            return server.asked[0].headers["authorization"]

    assert asyncio.run(run()) == "Bearer sk-1"


def test_a_missing_key_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)

    with pytest.raises(ValueError, match="OPENAI_API_KEY"):
        OpenAIModel("m")


@pytest.mark.parametrize(
    "url", ["localhost:1/v1", "ftp://x/v1", "http:///v1", "http://a:hide-me@b"]
)
def test_an_invalid_url_is_reported_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="invalid base URL") as raised:
        OpenAIModel("m", url, "k")

    assert "hide-me" not in str(raised.value)


def test_the_query_of_a_url_is_sent_with_every_request() -> None:
    async def run() -> str:
        async with ModelServer(in_turn(Say("x"))) as server:
            async with OpenAIModel("m", f"{server.url}?api-version=7", "k") as model:
                await model.complete(asking(), lambda _: None, "k")
            return server.asked[0].path

    assert asyncio.run(run()) == "/v1/chat/completions?api-version=7"


def test_url_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> Reply | ModelFailed:
        async with ModelServer(in_turn(Say("x")), key="sk-env") as server:
            monkeypatch.setenv("OPENAI_API_KEY", "sk-env")
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
            async with OpenAIModel("m") as model:
                return await model.complete(asking(), lambda _: None, "k")

    assert isinstance(asyncio.run(run()), Reply)
