"""Read the JSON of a server into chunks: types of the protocol, and other forms that servers use for the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from .words import words_of

__all__ = [
    "Choice",
    "Chunk",
    "Counts",
    "Fragment",
    "Malformed",
    "Piece",
    "read_chunk",
    "read_text",
    "read_whole",
]


DEPTH_MAX: Final = 8  # of typed parts


class Malformed(Exception):
    """The server sent data that is not of this protocol."""


class Function(msgspec.Struct):
    """The function of a call.  Some servers send the arguments as an object."""

    name: str | None = None
    arguments: Any = None

    @property
    def text(self) -> str:
        """The arguments as text."""
        if self.arguments is None or isinstance(self.arguments, str):
            return self.arguments or ""
        return json.dumps(self.arguments, separators=(",", ":"), ensure_ascii=False)


class Fragment(msgspec.Struct):
    """A piece of a call."""

    index: int | None = None
    id: str | int | None = None
    function: Function | None = None

    @property
    def call_id(self) -> str:
        """The id as text; empty: none."""
        return "" if self.id is None else str(self.id)


class Piece(msgspec.Struct):
    """A piece of a reply, or a whole one.  Some servers send content and reasoning as lists of typed parts."""

    content: Any = None
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None  # the name that other servers use
    tool_calls: list[Fragment] | None = None

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield the texts of the piece: `reasoning`, `text` or `refusal`, and the text.  Raises Malformed."""
        for _, text in _texts(self.reasoning_content or self.reasoning, "reasoning"):
            yield "reasoning", text
        yield from _texts(self.content, "text")
        yield from _texts(self.refusal, "refusal")


class Choice(msgspec.Struct):
    """One of the replies to a request; only the first is used."""

    index: int | None = None
    delta: Piece | None = None
    message: Piece | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct):
    """An event of the stream."""

    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None


class PromptDetails(msgspec.Struct):
    """Details of the input tokens."""

    cached_tokens: int | None = None


class CompletionDetails(msgspec.Struct):
    """Details of the output tokens."""

    reasoning_tokens: int | None = None


class Counts(msgspec.Struct):
    """The usage of a request."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


def read_chunk(value: object) -> Chunk:
    """Return a chunk from decoded JSON.  Raises Malformed."""
    try:
        chunk = msgspec.convert(value, Chunk, strict=False)
    except msgspec.ValidationError as error:
        raise Malformed(f"malformed data in the reply: {error}") from None
    if isinstance(value, dict) and not chunk.error and _is_error(value):
        chunk.error = value
    return chunk


def read_whole(value: object) -> Chunk:
    """Return a whole reply as one chunk; it needs no finish reason, as nothing is missing.  Raises Malformed."""
    if not isinstance(value, dict):
        raise Malformed(f"the answer is not a reply of a model: {words_of(value)}")
    chunk = read_chunk(value)
    if chunk.error:
        return chunk
    if not chunk.choices:
        problem = "it has no choices" if "choices" in value else words_of(value)
        raise Malformed(f"the answer is not a reply of a model: {problem}")
    for choice in chunk.choices:
        choice.finish_reason = choice.finish_reason or "stop"
    return chunk


def read_text(text: str) -> Iterator[Chunk]:
    """Yield the chunks of a stream that was sent as text.  Raises Malformed for other text, such as a page of HTML."""
    lines = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
    if not lines:
        raise Malformed(f"the answer is not a reply of a model: {words_of(text)}")
    for line in lines:
        if line == "[DONE]":
            return
        yield read_chunk(json.loads(line))


def _is_error(value: dict[Any, Any]) -> bool:
    """True for an error that is not in the field `error`."""
    return value.get("object") == "error" or ("message" in value and "choices" not in value)


def _texts(content: Any, kind: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield the texts of a content: a text, a typed part, or a list of them.  Parts that hold no text are left out."""
    if depth > DEPTH_MAX:
        raise Malformed("malformed data in the reply: content is nested too deeply")
    depth += 1
    match content:
        case None:
            pass
        case str():
            if content:
                yield kind, content
        case list():
            for each in content:
                yield from _texts(each, kind, depth)
        case {"type": "thinking" | "reasoning" | "reasoning.text"}:
            yield from _texts(content.get("thinking") or content.get("text"), "reasoning", depth)
        case {"type": "refusal"}:
            yield from _texts(content.get("refusal"), "refusal", depth)
        case {"text": inner} | {"value": inner}:
            yield from _texts(inner, kind, depth)
        case dict():
            pass
        case _:
            raise Malformed(f"malformed data in the reply: content is {type(content).__name__}")
