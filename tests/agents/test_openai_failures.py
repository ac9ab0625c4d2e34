"""The client against a real server on loopback that fails in many ways."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging

import pytest
from model_script import Fault, Refuse, Say, in_turn
from model_server import ModelServer
from openai_asking import KEY, ask, asking, failure_to, serving

from tenure.failure import GIVE_UP_AFTER_MS, ErrorKind
from tenure.messages.types import Delta, ModelFailed, Reply
from tenure.transcript import UsageDelta
from tenure_drivers.models import openai as openai_model
from tenure_drivers.models.failures import read_retry_after_ms
from tenure_drivers.models.openai import OpenAIModel

LOST = ErrorKind.STREAM_INTERRUPTED


@pytest.mark.parametrize(
    ("refuse", "kind"),
    [
        (Refuse(400, code="context_length_exceeded"), ErrorKind.CONTEXT_OVERFLOW),
        (Refuse(413, body="<html>too big</html>"), ErrorKind.CONTEXT_OVERFLOW),
        (Refuse(400, "This model's maximum context length is 8"), ErrorKind.CONTEXT_OVERFLOW),
        (Refuse(400, code="content_filter"), ErrorKind.CONTENT_FILTERED),
        (Refuse(400, kind="invalid_request_error"), ErrorKind.INVALID_REQUEST),
        (Refuse(400, code="model_not_found"), ErrorKind.MODEL_NOT_FOUND),
        (Refuse(400, code="refusal"), ErrorKind.REFUSED_BY_PROVIDER),
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
        (Refuse(999), ErrorKind.INVALID_REQUEST),
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
def test_every_form_of_retry_after_is_read(headers: dict[str, str], wait_ms: int) -> None:
    assert read_retry_after_ms(headers) == wait_ms


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_part_of_the_failure(status: int) -> None:
    failed = failure_to(Refuse(status, headers=(("Retry-After", "3"),)))

    assert failed.failure.retry_after_ms == 3_000


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.CUT, LOST),
        (Fault.CLOSE, LOST),
        (Fault.GARBAGE, ErrorKind.TRANSIENT),
        (Fault.BYTES, ErrorKind.TRANSIENT),
        (Fault.ODD, ErrorKind.TRANSIENT),
        (Fault.ERROR, ErrorKind.UNAVAILABLE),
        (Fault.HOLD, LOST),
    ],
)
@pytest.mark.parametrize("at", [0, 3])
def test_an_interrupted_stream_fails_by_the_table(
    fault: Fault, kind: ErrorKind, at: int
) -> None:  # CHAT-26
    if at == 0 and kind is LOST:  # nothing had arrived
        kind = ErrorKind.TIMEOUT if fault is Fault.HOLD else ErrorKind.UNAVAILABLE
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
def test_an_error_in_a_stream_is_classified_by_its_code(error: str, kind: ErrorKind) -> None:
    assert failure_to(Say("one", fault=Fault.ERROR, at=1, error=error)).failure.kind is kind


def test_a_failed_attempt_keeps_the_usage_that_it_reported() -> None:
    said = Say("one", size=9, finish=None)  # usage without a finish reason
    failed = failure_to(said)

    assert failed.failure.kind is LOST
    assert failed.usage[0].output_tokens == 3


def test_a_refused_connection_is_unavailable() -> None:
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
def test_cancelling_a_request_ends_it_at_the_server(at: int, stream: bool) -> None:
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


def test_a_client_serves_concurrent_requests_and_recovers_from_failures() -> None:
    async def run() -> list[Reply | ModelFailed]:
        answers = (Refuse(500), Say("a", fault=Fault.CUT, at=1), Say("b"))
        async with serving(*answers) as (_, model):
            first = [await model.complete(asking(), lambda _: None, f"k{i}") for i in range(3)]
            more = (model.complete(asking(), lambda _: None, f"m{i}") for i in range(20))
            return first[2:] + list(await asyncio.gather(*more))

    assert [reply.text for reply in asyncio.run(run()) if isinstance(reply, Reply)] == ["b"] * 21


def test_an_exception_in_emit_is_not_a_malformed_reply() -> None:
    def emit(delta: Delta) -> None:
        raise ValueError("mine")

    async def run() -> None:
        async with serving(Say("x")) as (_, model):
            await model.complete(asking(), emit, "k")

    with pytest.raises(ValueError, match="mine"):
        asyncio.run(run())


@pytest.mark.parametrize(
    "answer",
    (
        "HTTP/1.1 302 Found\r\nLocation: /v1/chat/completions\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: ftp://nowhere/\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "SSH-2.0-OpenSSH_9.7\r\n\r\n",
    ),
    ids=(
        "redirect loop",
        "redirect elsewhere",
        "redirect to no URL",
        "another protocol",
        "no HTTP",
    ),
)
def test_a_server_that_is_no_model_server_is_not_asked_again(answer: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer.encode())
        await writer.drain()
        writer.close()

    async def run() -> Reply | ModelFailed:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with server, OpenAIModel("m-1", url, KEY) as model:
            return await model.complete(asking(), lambda delta: None, "r:1:1:model:1")

    failed = asyncio.run(run())

    assert isinstance(failed, ModelFailed)
    assert failed.failure.kind is ErrorKind.INVALID_REQUEST
    assert "is the base URL right?" in failed.failure.message


async def answered(answer: bytes) -> tuple[Reply | ModelFailed, list[bytes]]:
    """What a client makes of an answer, and the requests that the server got."""
    requests = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer.replace(b"HOST", requests[0].partition(b"Host: ")[2].split(b"\r")[0]))
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1?api-version=secret-version-1"
    async with server, OpenAIModel("m-1", url, KEY, headers={"api-key": "secret-header"}) as model:
        return await model.complete(asking(), lambda delta: None, "r:1:1:model:1"), requests


def test_no_redirect_is_followed_and_no_query_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    there = b"HTTP/1.1 307 Away\r\nLocation: http://HOST/v2?k=1\r\nContent-Length: 0\r\n\r\n"

    failed, requests = asyncio.run(answered(there))

    assert isinstance(failed, ModelFailed) and len(requests) == 1
    assert failed.failure.kind is ErrorKind.INVALID_REQUEST
    assert "/v2', which is not followed" in failed.failure.message
    assert "secret-version-1" not in caplog.text and "secret-header" not in caplog.text


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json", "text/html"])
def test_a_reply_without_end_is_not_read_to_its_end(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_model, "REPLY_BYTES_MAX", 10_000)
    packed = gzip.compress(b"data: " + b"x" * 5_000_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Encoding: gzip\r\n"
    answer = f"{head}Content-Length: {len(packed)}\r\n\r\n".encode() + packed

    failed, _ = asyncio.run(answered(answer))

    assert isinstance(failed, ModelFailed)
    assert "the reply has more than 10,000 bytes" in failed.failure.message


@pytest.mark.parametrize("charset", ["zlib", "nonsense", "rot13"])
def test_a_reply_is_utf_8_whatever_the_server_says(charset: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset={charset}\r\n"
    answer = f"{head}Content-Length: 6\r\n\r\n<html>".encode()

    failed, _ = asyncio.run(answered(answer))

    assert isinstance(failed, ModelFailed) and "the model client" not in failed.failure.message
