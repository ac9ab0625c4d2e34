"""Any server that speaks the chat-completions protocol, by the official SDK.  Needs the extra `openai`."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import openai
from attrs import evolve
from openai import AsyncOpenAI, AsyncStream

from tenure.failure import ErrorKind, Failure
from tenure.messages.types import Delta, ModelFailed, Reply, Request

from .failures import MESSAGE_MAX, failure_in, failure_of
from .request import BadRequest, body_of
from .stream import Assembly, Chunk, Malformed, read_chunk

PATH = "/chat/completions"
SECRET_MIN = 8  # characters of a header that may be a secret
BROKEN_OFF = (ErrorKind.UNAVAILABLE, ErrorKind.TIMEOUT)
NO_KEY = "none"  # for servers that want none; the SDK wants some


class OpenAIModel:
    """`model` at `base_url` (else OPENAI_BASE_URL, else OpenAI's own) under `api_key` (else OPENAI_API_KEY).

    `model` is what a request asks for that names none.  `timeout_ms` bounds the silence of a server, not the reply as
    a whole.  `headers` go with every request.  `reasoning` says whether the server wants its earlier reasoning back.
    Used from one event loop; close it there.
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
                "no API key: set OPENAI_API_KEY, or OPENAI_BASE_URL for a server without one"
            )
        if not key.isascii() or any(c.isspace() or not c.isprintable() for c in key):
            raise ValueError("the API key holds characters that no key has")  # it is not shown
        self.model = model
        self.source = source
        self.stream = stream
        self.include_usage = include_usage
        self.reasoning = reasoning
        self._secrets = _secrets(key, headers or {})
        self._client = AsyncOpenAI(
            api_key=key or NO_KEY,
            base_url=url,
            max_retries=0,  # the kernel retries
            timeout=openai.Timeout(timeout_ms / 1000, connect=connect_timeout_ms / 1000),
            default_headers=headers,
            default_query=query or None,
        )

    def __repr__(self) -> str:
        return self._hush(f"OpenAIModel({self.model!r}, {str(self._client.base_url)!r})")

    async def aclose(self) -> None:
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
        model = request.model or self.model
        try:
            body = body_of(request, model, stream=self.stream, reasoning=self.reasoning)
        except BadRequest as error:
            return ModelFailed(self._hushed(Failure(ErrorKind.INVALID_REQUEST, str(error))))
        if self.stream and self.include_usage:
            body["stream_options"] = {"include_usage": True}
        assembly = Assembly(self.source, model, emit)
        failure = await self._receive(body, key, assembly)
        if failure is None:
            known = {call.call_id for message in request.messages for call in message.calls}
            try:
                return assembly.reply(key, known)
            except Malformed as error:
                failure = Failure(ErrorKind.TRANSIENT, str(error))
        return ModelFailed(self._hushed(failure), assembly.usage())

    async def _receive(self, body: dict[str, Any], key: str, assembly: Assembly) -> Failure | None:
        async with aclosing(self._chunks(body, key)) as chunks:
            while True:
                try:
                    chunk = await anext(chunks, None)
                except Malformed as error:
                    return Failure(ErrorKind.TRANSIENT, str(error))
                except Exception as error:
                    if (failure := failure_of(error)) is None:
                        raise
                    reported = isinstance(error, openai.APIError) and not isinstance(
                        error, openai.APIConnectionError
                    )
                    if assembly.whole and failure.kind in BROKEN_OFF and not reported:
                        return None  # what was cut off came after the last word
                    return failure
                if chunk is None:
                    break
                if chunk.error:
                    return failure_in(chunk.error)
                assembly.take(chunk)
        if not assembly.whole:
            return Failure(ErrorKind.UNAVAILABLE, "the reply ended before its end")
        if assembly.finish == "error":
            return Failure(ErrorKind.UNAVAILABLE, "the server gave up in the middle of the reply")
        return None

    async def _chunks(self, body: dict[str, Any], key: str) -> AsyncGenerator[Chunk, None]:
        """A whole reply is one chunk."""
        options: openai.RequestOptions = {"headers": {"Idempotency-Key": key}}
        if not self.stream:
            yield read_chunk(
                await self._client.post(PATH, cast_to=object, body=body, options=options)
            )
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
            if "application/json" in stream.response.headers.get("content-type", ""):
                yield read_chunk(json.loads(await stream.response.aread()))  # it does not stream
                return
            async for piece in stream:
                yield read_chunk(piece)

    def _hushed(self, failure: Failure) -> Failure:
        message = " ".join(self._hush(failure.message).split())
        return evolve(failure, message=message[:MESSAGE_MAX])

    def _hush(self, text: str) -> str:
        """Without our secrets: servers and proxies quote what they were sent."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _split(url: str | None) -> tuple[str | None, dict[str, object]]:
    """The base URL, and its query, which the SDK wants by itself.  Nothing of it is secret: it is logged."""
    if url is None:
        return None, {}
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        where = f"{parts.scheme}://{parts.hostname or ''}"
        raise ValueError(f"the base URL of a model begins with http:// or https://, not {where!r}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the base URL of a model holds no password: give a key or headers")
    return urlunsplit(parts._replace(query="", fragment="")), dict(parse_qsl(parts.query))


def _secrets(key: str, headers: Mapping[str, str]) -> tuple[str, ...]:
    """Longest first: one may hold another."""
    found = {key, *(value for value in headers.values() if len(value) >= SECRET_MIN)}
    found |= {quote(secret, safe="") for secret in found}
    return tuple(sorted((secret for secret in found if secret), key=len, reverse=True))
