"""Client for servers of the chat-completions protocol, by the official SDK.  Needs the extra `openai`."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import openai
from attrs import evolve
from openai import AsyncOpenAI, AsyncStream

from tenure.failure import ErrorKind, Failure
from tenure.messages.types import Delta, ModelFailed, Reply, Request

from ..redaction import know_secret, without_secrets
from .chunks import Chunk, Malformed, read_chunk, read_text, read_whole
from .failures import MESSAGE_MAX, failure_in, failure_of
from .request import BadRequest, body_of
from .stream import CONNECTION_LOST, Assembly

__all__ = ["OpenAIModel"]


PATH = "/chat/completions"
SECRET_MIN = 8  # shorter header values are not treated as secrets
NO_KEY = "none"  # the SDK requires a key, some servers do not
REPLY_BYTES_MAX = 64_000_000  # of a reply, unpacked: a server may send without end
URL_LOGGERS = ("httpx", "httpx2")  # of the libraries that log every URL, with its query


class OpenAIModel:
    """A client of one server.

    `base_url` defaults to OPENAI_BASE_URL, then to OpenAI's server; `api_key` to OPENAI_API_KEY.  `model` is used for
    requests that name no model.  `timeout_ms` limits the time without any data, not the whole reply.  `headers` are sent
    with every request.  With `reasoning`, earlier reasoning is sent back to the server.  Use and close the client in one
    event loop.  Raises ValueError for an invalid URL or key.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        source: str = "turn",
        stream: bool = True,
        include_usage: bool = True,
        reasoning: bool = False,
        timeout_ms: int = 600_000,
        connect_timeout_ms: int = 10_000,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        url, query = _split(base_url or os.environ.get("OPENAI_BASE_URL") or None)
        key = (os.environ.get("OPENAI_API_KEY", "") if api_key is None else api_key).strip()
        if not key and url is None:
            raise ValueError(
                "no API key: set OPENAI_API_KEY, or OPENAI_BASE_URL for a server that needs no key"
            )
        if not key.isascii() or any(c.isspace() or not c.isprintable() for c in key):
            raise ValueError("the API key contains invalid characters")  # the key is not shown
        self.model = model
        self.source = source
        self.stream = stream
        self.include_usage = include_usage
        self.reasoning = reasoning
        self._secrets = _secrets(key, headers or {})
        for secret in self._secrets:
            know_secret(secret)
        self._client = AsyncOpenAI(
            api_key=key or NO_KEY,
            base_url=url,
            max_retries=0,  # the kernel retries
            timeout=openai.Timeout(timeout_ms / 1000, connect=connect_timeout_ms / 1000),
            default_headers=headers,
            default_query=query or None,
            # A redirect to another server would take the headers along, and with them their secrets.
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False, event_hooks={"response": [_bound]}
            ),
        )
        for value in query.values():
            know_secret(str(value))
        if query:
            for name in URL_LOGGERS:
                logging.getLogger(name).addFilter(_hide_secrets)
        self._url = f"{str(self._client.base_url).rstrip('/')}{PATH}"  # without its query

    def __repr__(self) -> str:
        return self._redact(f"OpenAIModel({self.model!r}, {str(self._client.base_url)!r})")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def complete(
        self, request: Request, emit: Callable[[Delta], None], key: str
    ) -> Reply | ModelFailed:
        """Send one request.  See ModelClient."""
        model = request.model or self.model
        try:
            body = body_of(request, model, stream=self.stream, reasoning=self.reasoning)
        except BadRequest as error:
            return ModelFailed(self._redacted(Failure(ErrorKind.INVALID_REQUEST, str(error))))
        if self.stream and self.include_usage:
            body["stream_options"] = {"include_usage": True}
        assembly = Assembly(self.source, model, emit)
        try:
            failure = await self._receive(body, key, assembly)
            if failure is None:
                known = {call.call_id for message in request.messages for call in message.calls}
                return assembly.reply(key, known)
        except Malformed as error:
            failure = Failure(ErrorKind.TRANSIENT, str(error))
        failure = evolve(failure, message=f"{self._url}: {failure.message}")
        return ModelFailed(self._redacted(failure), assembly.usage())

    async def _receive(self, body: dict[str, Any], key: str, assembly: Assembly) -> Failure | None:
        async with aclosing(self._chunks(body, key)) as chunks:
            while True:
                try:
                    chunk = await anext(chunks, None)
                except Exception as error:
                    if (failure := failure_of(error)) is None:
                        raise
                    reported = isinstance(error, openai.APIError) and not isinstance(
                        error, openai.APIConnectionError
                    )
                    if assembly.whole and failure.kind in CONNECTION_LOST and not reported:
                        return None  # the reply was complete before the connection broke
                    return failure if reported else assembly.interrupted(failure)
                if chunk is None:
                    break
                if chunk.error:
                    return failure_in(chunk.error)
                assembly.take(chunk)
        return assembly.failure()

    async def _chunks(self, body: dict[str, Any], key: str) -> AsyncGenerator[Chunk, None]:
        """Yield the chunks of a reply; a reply that is not streamed is one chunk.  Raises Malformed."""
        options: openai.RequestOptions = {"headers": {"Idempotency-Key": key}}
        if not self.stream:
            value = await self._client.post(PATH, cast_to=object, body=body, options=options)
            for chunk in read_text(value) if isinstance(value, str) else (read_whole(value),):
                yield chunk
            return
        stream = await self._client.post(
            PATH,
            cast_to=object,
            body=body,
            options=options,
            stream=True,
            stream_cls=AsyncStream[object],
        )
        async with stream:
            content_type = stream.response.headers.get("content-type", "")
            if "application/json" in content_type:
                yield read_whole(json.loads(await stream.response.aread()))  # it does not stream
                return
            if "text/html" in content_type:
                await stream.response.aread()
                for chunk in read_text(stream.response.text):
                    yield chunk
                return
            some = False
            async for piece in stream:
                some = True
                yield read_chunk(piece)
            if not some and "text/event-stream" not in content_type:
                raise Malformed(f"the answer is not a reply of a model: it is {content_type!r}")

    def _redacted(self, failure: Failure) -> Failure:
        message = " ".join(self._redact(failure.message).split())
        return evolve(failure, message=message[:MESSAGE_MAX])

    def _redact(self, text: str) -> str:
        """Return a text without secrets: servers and proxies quote what they received."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return without_secrets(text)


async def _bound(response: Any) -> None:
    """Limit the bytes of a reply, and read them as UTF-8, whatever the server says."""
    response.encoding = "utf-8"
    whole = response.aiter_bytes

    async def counted(chunk_size: int | None = None) -> AsyncIterator[bytes]:
        size = 0
        async for piece in whole(chunk_size):
            size += len(piece)
            if size > REPLY_BYTES_MAX:
                raise Malformed(f"the reply has more than {REPLY_BYTES_MAX:,} bytes")
            yield piece

    response.aiter_bytes = counted


def _hide_secrets(record: logging.LogRecord) -> bool:
    """Take known secrets out of a record of another library."""
    record.msg, record.args = without_secrets(record.getMessage()), ()
    return True


def _split(url: str | None) -> tuple[str | None, dict[str, object]]:
    """Return the base URL and its query, which the SDK takes separately.  A URL is logged, so it may hold no password."""
    if url is None:
        return None, {}
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        where = f"{parts.scheme}://{parts.hostname or ''}"
        raise ValueError(f"invalid base URL {where!r}: expected http:// or https://")
    try:
        parts.port  # noqa: B018 - it is parsed when it is read
    except ValueError as error:
        raise ValueError(f"invalid base URL: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("invalid base URL: it contains a password. Use a key or headers instead")
    return urlunsplit(parts._replace(query="", fragment="")), dict(parse_qsl(parts.query))


def _secrets(key: str, headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the secrets to redact, longest first, because one may contain another."""
    found = {key, *(value for value in headers.values() if len(value) >= SECRET_MIN)}
    found |= {quote(secret, safe="") for secret in found}
    return tuple(sorted((secret for secret in found if secret), key=len, reverse=True))
