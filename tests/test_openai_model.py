"""The client against a real server on loopback that speaks the protocol, and breaks it."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from model_script import Call, Fault, Faulty, Model, Refuse, Say, answer_to, in_turn
from model_server import ModelServer

from tenure.failure import GIVE_UP_AFTER_MS, ErrorKind
from tenure.model import (
    Attachment,
    Delta,
    Finish,
    Message,
    ModelFailed,
    Reply,
    Request,
    Speaker,
    Tool,
    ToolCall,
)
from tenure.transcript import UsageDelta
from tenure_drivers.models.chat_failure import read_retry_after_ms
from tenure_drivers.models.openai import OpenAIModel

KEY = "sk-tenure-0123456789abcdef/+="
ADD = Tool("add", "Add two numbers.", '{"properties":{"a":{"type":"integer"}},"type":"object"}')


def asking(*messages: Message, **more: Any) -> Request:
    return Request("", "", messages or (Message(Speaker.USER, "hello"),), **more)


@asynccontextmanager
async def serving(
    *answers: Say | Refuse, **options: Any
) -> AsyncIterator[tuple[ModelServer, OpenAIModel]]:
    async with ModelServer(in_turn(*answers)) as server:
        async with OpenAIModel("m-1", server.url, KEY, **options) as model:
            yield server, model


def ask(
    *answers: Say | Refuse, request: Request | None = None, **options: Any
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


def reply_to(*answers: Say | Refuse, **options: Any) -> Reply:
    reply, _, _ = ask(*answers, **options)
    assert isinstance(reply, Reply), reply
    return reply


def failure_to(*answers: Say | Refuse, **options: Any) -> ModelFailed:
    failed, _, server = ask(*answers, **options)
    assert isinstance(failed, ModelFailed), failed
    assert len(server.asked) <= 1  # the kernel retries, not the SDK
    return failed


# -- replies


@pytest.mark.parametrize("stream", [True, False])
def test_a_reply_has_text_reasoning_and_usage(stream: bool) -> None:
    said = Say("Forty-two, as ever: ✓", reasoning="Let me think.")
    reply, shown, server = ask(said, stream=stream)

    prompt = len(json.dumps(server.asked[0].messages)) // 4
    usage = UsageDelta("turn", "m-1", 1, prompt, 21 + 13, prompt // 2, 13)
    assert reply == Reply("Forty-two, as ever: ✓", (), "Let me think.", "", Finish.STOP, (usage,))
    assert "".join(d.text for d in shown if d.kind == "text") == said.text
    assert "".join(d.text for d in shown if d.kind == "reasoning") == said.reasoning
    assert (len(shown) > 5) is stream
    assert server.asked[0].body.get("stream_options") == (
        {"include_usage": True} if stream else None
    )


@pytest.mark.parametrize("stream", [True, False])
def test_calls_are_put_together_from_their_pieces(stream: bool) -> None:
    calls = (Call("add", '{"a": 1, "b": 22}'), Call("find", '{"text": "größer"}'), Call("now", ""))
    reply, shown, _ = ask(Say("Wait.", calls), stream=stream, request=asking(tools=(ADD,)))

    assert isinstance(reply, Reply)
    assert [(c.name, c.arguments) for c in reply.calls] == [(c.name, c.arguments) for c in calls]
    assert len({c.call_id for c in reply.calls}) == 3
    assert (reply.text, reply.finish) == ("Wait.", Finish.TOOL_CALLS)
    assert "add " in [d.text for d in shown if d.kind == "call"]


def test_malformed_arguments_are_kept_as_the_model_wrote_them() -> None:
    reply = reply_to(Say(calls=(Call("add", '{"a": 1,'),)))

    assert reply.calls[0].arguments == '{"a": 1,'
    assert reply.finish is Finish.TOOL_CALLS


def test_calls_without_an_index_are_calls_of_their_own() -> None:
    said = Say(calls=(Call("add", '{"a":1}', "c1"), Call("add", '{"a":2}', "c2")), indexed=False)

    assert reply_to(said).calls == (
        ToolCall("c1", "add", '{"a":1}'),
        ToolCall("c2", "add", '{"a":2}'),
    )


@pytest.mark.parametrize("call_id", [None, "has blanks", "taken", "twice"])
def test_an_id_that_cannot_stand_is_replaced_by_the_same_one_at_every_attempt(
    call_id: str | None,
) -> None:
    before = Message(Speaker.ASSISTANT, calls=(ToolCall("taken", "add", "{}"),))
    request = asking(before, Message(Speaker.TOOL, "3", call_id="taken"))
    said = Say(calls=(Call("add", "{}", "twice"), Call("add", "{}", call_id)))

    once, again = (reply_to(said, request=request).calls for _ in range(2))

    assert once == again
    assert once[0].call_id == "twice"
    assert once[1].call_id.startswith("call_")


def test_a_call_without_a_name_is_malformed() -> None:
    failed = failure_to(Say(calls=(Call("", "{}"),)))

    assert failed.failure.kind is ErrorKind.TRANSIENT
    assert failed.usage[0].input_tokens > 0


def test_a_refusal_is_kept_apart_from_the_text() -> None:
    reply, shown, _ = ask(Say(refusal="I will not."))

    assert isinstance(reply, Reply)
    assert (reply.text, reply.refusal, reply.finish) == ("", "I will not.", Finish.STOP)
    assert "".join(d.text for d in shown) == "I will not."


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("length", Finish.OUTPUT_LIMIT),
        ("content_filter", Finish.CONTENT_FILTER),
        ("model_length", Finish.CONTEXT_OVERFLOW),
        ("tool_calls", Finish.UNKNOWN),
        ("abandoned", Finish.UNKNOWN),
    ],
)
def test_the_end_of_a_reply_has_a_reason(word: str, finish: Finish) -> None:
    assert reply_to(Say("Half", finish=word)).finish is finish


def test_a_server_that_does_not_stream_is_understood() -> None:
    said = Say("whole", (Call("add", "{}"), Call("add", "{}")), plain=True)
    reply = reply_to(said)

    assert (reply.text, len(reply.calls)) == ("whole", 2)


def test_a_server_that_reports_no_usage_counts_as_a_request() -> None:
    assert reply_to(Say("x", usage=False)).usage == (UsageDelta("turn", "m-1", 1),)


def test_what_is_cut_off_after_the_last_word_does_not_matter() -> None:
    said = Say("done", size=9, fault=Fault.CUT, at=3)  # role, text, finish | usage

    assert reply_to(said) == Reply("done", usage=(UsageDelta("turn", "m-1", 1),))


# -- requests


def test_a_request_is_said_in_the_words_of_the_protocol() -> None:
    messages = (
        Message(Speaker.USER, "look", attachments=(Attachment("https://x/i.png", "image/png"),)),
        Message(Speaker.ASSISTANT, "", (ToolCall("c1", "add", '{"a": 1'),), reasoning="hm"),
        Message(Speaker.TOOL, "3", call_id="c1", attachments=(Attachment("file-9", "text/csv"),)),
        Message(Speaker.ASSISTANT, refusal="no"),
        Message(Speaker.SYSTEM, "mind \ud800 this"),
    )
    request = Request("m-2", "Be kind.", messages, (ADD,), '{"temperature":0}')
    _, _, server = ask(Say("ok"), request=request, headers={"x-team": "a-team"})

    asked = server.asked[0]
    image = {"type": "image_url", "image_url": {"url": "https://x/i.png"}}
    function = {"name": "add", "arguments": '{"not_an_object": "{\\"a\\": 1"}'}
    assert asked.body == {
        "model": "m-2",
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "add",
                    "description": "Add two numbers.",
                    "parameters": json.loads(ADD.schema),
                },
            }
        ],
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "3"},
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-9"}}]},
            {"role": "assistant", "content": None, "refusal": "no"},
            {"role": "system", "content": "mind ? this"},
        ],
    }
    assert asked.headers["idempotency-key"] == "r:1:1:model:1"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["x-team"] == "a-team"


def test_reasoning_goes_back_to_a_server_that_wants_it() -> None:
    request = asking(Message(Speaker.ASSISTANT, "x", reasoning="hm"))
    _, _, server = ask(Say("ok"), request=request, reasoning=True)

    assert server.asked[0].messages[0]["reasoning_content"] == "hm"


@pytest.mark.parametrize("parameters", ["{", "[]", '{"model": "mine"}', '{"stream": false}'])
def test_parameters_that_cannot_be_sent_are_refused_at_home(parameters: str) -> None:
    failed, _, server = ask(Say("ok"), request=asking(parameters=parameters))

    assert isinstance(failed, ModelFailed)
    assert (failed.failure.kind, failed.usage) == (ErrorKind.INVALID_REQUEST, ())
    assert server.asked == []


# -- failures


@pytest.mark.parametrize(
    ("refuse", "kind"),
    [
        (Refuse(400, code="context_length_exceeded"), ErrorKind.CONTEXT_OVERFLOW),
        (Refuse(400, "This model's maximum context length is 8"), ErrorKind.CONTEXT_OVERFLOW),
        (Refuse(400, code="content_filter"), ErrorKind.CONTENT_FILTERED),
        (Refuse(400, kind="invalid_request_error"), ErrorKind.INVALID_REQUEST),
        (Refuse(400, code="model_not_found"), ErrorKind.MODEL_NOT_FOUND),
        (Refuse(401, kind="invalid_request_error"), ErrorKind.UNAUTHORISED),
        (Refuse(402), ErrorKind.UNAUTHORISED),
        (Refuse(403), ErrorKind.UNAUTHORISED),
        (Refuse(403, code="model_not_found"), ErrorKind.MODEL_NOT_FOUND),
        (Refuse(404, kind="invalid_request_error"), ErrorKind.MODEL_NOT_FOUND),
        (Refuse(408), ErrorKind.TIMEOUT),
        (Refuse(409), ErrorKind.TRANSIENT),
        (Refuse(422), ErrorKind.INVALID_REQUEST),
        (Refuse(429, code="rate_limit_exceeded"), ErrorKind.RATE_LIMITED),
        (Refuse(429, code="insufficient_quota"), ErrorKind.UNAUTHORISED),
        (Refuse(429, body="<html>slow down</html>"), ErrorKind.RATE_LIMITED),
        (Refuse(500, kind="server_error"), ErrorKind.UNAVAILABLE),
        (Refuse(502, body="<html>bad gateway</html>"), ErrorKind.UNAVAILABLE),
        (Refuse(503, kind="server_error"), ErrorKind.OVERLOADED),
        (Refuse(529, kind="overloaded_error"), ErrorKind.OVERLOADED),
        (Refuse(500, "cut", cut=True), ErrorKind.UNAVAILABLE),
        (Refuse(418), ErrorKind.INVALID_REQUEST),
    ],
    ids=lambda value: (
        f"{value.status}-{value.code or value.kind}" if isinstance(value, Refuse) else value
    ),
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_refused_request_fails_by_the_table(
    refuse: Refuse, kind: ErrorKind, stream: bool
) -> None:
    failed = failure_to(refuse, stream=stream)

    assert failed.failure.kind is kind
    assert failed.usage == (UsageDelta("turn", "m-1", 1),)
    assert refuse.cut or str(refuse.status) in failed.failure.message


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [
        ({"retry-after": "7"}, 7_000),
        ({"retry-after": "0.25"}, 250),
        ({"retry-after": "60", "retry-after-ms": "120"}, 120),
        (
            {
                "retry-after": "Sat, 21 Nov 2026 13:00:30 GMT",
                "date": "Sat, 21 Nov 2026 13:00:00 GMT",
            },
            30_000,
        ),
        (
            {
                "retry-after": "Sat, 21 Nov 2026 12:00:30 GMT",
                "date": "Sat, 21 Nov 2026 13:00:00 GMT",
            },
            0,
        ),
        ({"retry-after": "31536000"}, GIVE_UP_AFTER_MS),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, GIVE_UP_AFTER_MS),
        *(({"retry-after": text}, 0) for text in ("-1", "nan", "inf", "soon", "")),
        ({"retry-after": "Sat, 21 Nov 2026 13:00:30", "date": "Sat, 21 Nov 2026 13:00:00 GMT"}, 0),
        ({}, 0),
    ],
)
def test_the_time_to_wait_is_read_in_every_form(headers: dict[str, str], wait_ms: int) -> None:
    assert read_retry_after_ms(headers) == wait_ms


@pytest.mark.parametrize("status", [429, 503])
def test_the_time_to_wait_is_part_of_the_failure(status: int) -> None:
    failed = failure_to(Refuse(status, headers=(("Retry-After", "3"),)))

    assert failed.failure.retry_after_ms == 3_000


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.CUT, ErrorKind.UNAVAILABLE),
        (Fault.CLOSE, ErrorKind.UNAVAILABLE),
        (Fault.GARBAGE, ErrorKind.TRANSIENT),
        (Fault.BYTES, ErrorKind.TRANSIENT),
        (Fault.ODD, ErrorKind.TRANSIENT),
        (Fault.ERROR, ErrorKind.UNAVAILABLE),
        (Fault.HOLD, ErrorKind.TIMEOUT),
    ],
)
@pytest.mark.parametrize("at", [0, 3])
def test_a_stream_that_breaks_off_fails_by_the_table(
    fault: Fault, kind: ErrorKind, at: int
) -> None:
    said = Say("one two three four", fault=fault, at=at)
    failed, shown, server = ask(said, timeout_ms=200 if fault is Fault.HOLD else 600_000)

    assert isinstance(failed, ModelFailed)
    assert (failed.failure.kind, len(server.asked)) == (kind, 1)
    assert "".join(d.text for d in shown) == ("one two " if at else "")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.CUT, ErrorKind.UNAVAILABLE),
        (Fault.GARBAGE, ErrorKind.TRANSIENT),
        (Fault.ODD, ErrorKind.TRANSIENT),
        (Fault.ERROR, ErrorKind.UNAVAILABLE),
        (Fault.HOLD, ErrorKind.TIMEOUT),
    ],
)
@pytest.mark.parametrize("plain", [True, False])
def test_a_whole_reply_that_breaks_fails_by_the_table(
    fault: Fault, kind: ErrorKind, plain: bool
) -> None:
    wait_ms = 200 if fault is Fault.HOLD else 600_000
    failed = failure_to(Say("one", fault=fault, plain=plain), stream=plain, timeout_ms=wait_ms)

    assert failed.failure.kind is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ('{"message": "busy", "code": 429}', ErrorKind.RATE_LIMITED),
        ('{"message": "busy", "code": "503"}', ErrorKind.OVERLOADED),
        ('{"message": "long", "code": "context_length_exceeded"}', ErrorKind.CONTEXT_OVERFLOW),
        ('{"message": "what", "type": "odd"}', ErrorKind.TRANSIENT),
        ('"just words"', ErrorKind.TRANSIENT),
    ],
)
def test_an_error_inside_a_stream_says_itself_what_it_is(error: str, kind: ErrorKind) -> None:
    assert failure_to(Say("one", fault=Fault.ERROR, at=1, error=error)).failure.kind is kind


def test_a_failed_attempt_keeps_the_usage_that_it_reported() -> None:
    said = Say("one", size=9, finish=None)  # usage comes, the end never does
    failed = failure_to(said)

    assert failed.failure.kind is ErrorKind.UNAVAILABLE
    assert failed.usage[0].output_tokens == 3


def test_nobody_listening_is_unavailable() -> None:
    async def run() -> Reply | ModelFailed:
        async with ModelServer(in_turn(Say("x"))) as server:
            url = server.url
        async with OpenAIModel("m-1", url, KEY) as model:
            return await model.complete(asking(), lambda _: None, "k")

    failed = asyncio.run(run())

    assert isinstance(failed, ModelFailed)
    assert failed.failure.kind is ErrorKind.UNAVAILABLE
    assert "ConnectError" in failed.failure.message


@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize("stream", [True, False])
def test_to_cancel_a_request_ends_it_at_the_server(at: int, stream: bool) -> None:
    async def run() -> None:
        async with serving(Say("one two three", fault=Fault.HOLD, at=at), stream=stream) as (
            server,
            model,
        ):
            task = asyncio.create_task(model.complete(asking(), lambda _: None, "k"))
            asked = await server.nth(1)
            await asked.begun.wait()

            task.cancel()

            with pytest.raises(asyncio.CancelledError):
                await task
            await asked.gone.wait()

    asyncio.run(run())


def test_a_slow_first_byte_is_waited_for() -> None:
    async def run() -> Reply | ModelFailed:
        async with serving(Say("late", fault=Fault.HOLD)) as (server, model):
            task = asyncio.create_task(model.complete(asking(), lambda _: None, "k"))
            await (await server.nth(1)).begun.wait()
            server.release()
            return await task

    reply = asyncio.run(run())

    assert isinstance(reply, Reply)
    assert reply.text == "late"


def test_a_connection_serves_many_requests_at_once_and_after_failures() -> None:
    async def run() -> list[Reply | ModelFailed]:
        answers = (Refuse(500), Say("a", fault=Fault.CUT, at=1), Say("b"))
        async with serving(*answers) as (_, model):
            first = [await model.complete(asking(), lambda _: None, f"k{i}") for i in range(3)]
            more = (model.complete(asking(), lambda _: None, f"m{i}") for i in range(20))
            return first[2:] + list(await asyncio.gather(*more))

    assert [reply.text for reply in asyncio.run(run()) if isinstance(reply, Reply)] == ["b"] * 21


def test_an_observer_that_fails_is_not_taken_for_a_malformed_reply() -> None:
    def emit(delta: Delta) -> None:
        raise ValueError("mine")

    async def run() -> None:
        async with serving(Say("x")) as (_, model):
            await model.complete(asking(), emit, "k")

    with pytest.raises(ValueError, match="mine"):
        asyncio.run(run())


# -- secrets


@pytest.mark.parametrize("stream", [True, False])
def test_the_key_never_leaves(
    stream: bool, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async def run() -> list[Any]:
        said: list[Any] = []
        async with ModelServer(
            in_turn(Say("x")), key="another"
        ) as server:  # it quotes what it was sent
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
def test_a_key_that_no_header_can_hold_is_refused_unseen(key: str) -> None:
    with pytest.raises(ValueError, match="the API key holds") as raised:
        OpenAIModel("m", "http://127.0.0.1:1/v1", key)

    assert "secret" not in str(raised.value)


def test_a_key_read_from_a_file_may_end_with_a_line() -> None:
    async def run() -> str:
        async with ModelServer(in_turn(Say("x"))) as server:
            async with OpenAIModel("m", server.url, "sk-1\n") as model:
                await model.complete(asking(), lambda _: None, "k")
            return server.asked[0].headers["authorization"]

    assert asyncio.run(run()) == "Bearer sk-1"


def test_no_key_and_no_url_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)

    with pytest.raises(ValueError, match="OPENAI_API_KEY"):
        OpenAIModel("m")


@pytest.mark.parametrize(
    "url", ["localhost:1/v1", "ftp://x/v1", "http:///v1", "http://a:hide-me@b"]
)
def test_a_url_that_is_none_is_said_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="the base URL of a model") as raised:
        OpenAIModel("m", url, "k")

    assert "hide-me" not in str(raised.value)


def test_the_query_of_a_url_goes_with_every_request() -> None:
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


# -- the server's own model


def talk(model: OpenAIModel, prompt: str, fail: Callable[[ModelFailed], None]) -> Any:
    """A loop that runs every tool as an echo, and tries again whatever fails."""

    async def run() -> list[Message]:
        messages = [Message(Speaker.USER, prompt)]
        while True:
            reply = await model.complete(asking(*messages, tools=(ADD,)), lambda _: None, "k")
            if isinstance(reply, ModelFailed):
                fail(reply)
                continue
            messages.append(Message(Speaker.ASSISTANT, reply.text, reply.calls))
            if not reply.calls:
                return messages
            for call in reply.calls:
                messages.append(Message(Speaker.TOOL, call.arguments, call_id=call.call_id))

    return run()


def test_the_faulty_model_answers_every_prompt_alike_in_every_process() -> None:
    prompts = [f"question {i}" for i in range(30)] + [
        'call add {"a": 1}\nand add {"a": 2}\ncall add {}'
    ]

    async def run() -> tuple[list[list[Message]], list[ErrorKind]]:
        failures: list[ErrorKind] = []
        async with ModelServer(Faulty(Model(seed=5, wrong=4))) as server:
            async with OpenAIModel("m-1", server.url, KEY) as model:
                talks = [
                    await talk(model, p, lambda failed: failures.append(failed.failure.kind))
                    for p in prompts
                ]
                return talks, failures

    talks, failures = asyncio.run(run())

    assert (talks, failures) == asyncio.run(run())
    assert [t[-1].text for t in talks] == [answer_to(p) for p in prompts]
    assert [len(m.calls) for m in talks[-1] if m.speaker is Speaker.ASSISTANT] == [2, 1, 0]
    assert set(failures) == {
        *(ErrorKind.RATE_LIMITED, ErrorKind.UNAVAILABLE, ErrorKind.OVERLOADED, ErrorKind.TRANSIENT),
    }


def test_the_server_is_a_process_too() -> None:
    command = [
        sys.executable,
        str(Path(__file__).with_name("model_server.py")),
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
