"""Encode a request for the chat-completions protocol."""

from __future__ import annotations

import json
from typing import Any, Final

from tenure.messages.sendable import clean, sendable
from tenure.messages.types import Attachment, Message, Request, Tool, ToolCall
from tenure.transcript import Role

__all__ = ["BadRequest", "body_of"]


RESERVED: Final = frozenset({"model", "messages", "tools", "stream", "stream_options", "n"})
FORMATS: Final = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav", "audio/x-wav": "wav"}


class BadRequest(ValueError):
    """The request cannot be encoded."""


def body_of(request: Request, model: str, *, stream: bool, reasoning: bool) -> dict[str, Any]:
    """Return the body of a request.  Raises BadRequest.

    Equal requests give equal bodies, and a longer transcript only adds at the end, so that a provider's cache can be
    used.  The messages are made legal first (CHAT-16).
    """
    body: dict[str, Any] = _cleaned(_parameters(request.parameters))
    body["model"] = model
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    body["messages"] = _messages(request, reasoning)
    if stream:
        body["stream"] = True
    return body


def _parameters(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BadRequest(f"invalid parameters: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadRequest(f"invalid parameters: expected a JSON object, got {text[:80]!r}")
    if taken := sorted(RESERVED & found.keys()):
        raise BadRequest(f"invalid parameters: reserved {', '.join(taken)}")
    return found


def _tool(tool: Tool) -> dict[str, Any]:
    try:
        schema = json.loads(tool.schema)
    except ValueError as error:
        raise BadRequest(f"invalid schema of tool {tool.name!r}: not JSON: {error}") from None
    function = {"name": tool.name, "description": tool.description, "parameters": schema}
    return {"type": "function", "function": _cleaned(function)}


def _cleaned(value: Any) -> Any:
    """Return a JSON value without lone surrogates."""
    match value:
        case str():
            return clean(value)
        case list():
            return [_cleaned(each) for each in value]
        case dict():
            return {clean(name): _cleaned(each) for name, each in value.items()}
    return value


def _messages(request: Request, reasoning: bool) -> list[dict[str, Any]]:
    """Return the messages.

    The protocol allows only text in a tool result.  So the attachments of a batch follow its last result, as a message
    of the user.
    """
    parts: list[dict[str, Any]] = []
    if request.system.strip():
        parts.append({"role": "system", "content": clean(request.system)})
    shown: list[Attachment] = []
    for message in sendable(request.messages):
        if shown and message.role is not Role.TOOL:
            parts.append({"role": "user", "content": [_part(a) for a in shown]})
            shown = []
        if message.role is Role.TOOL:
            shown += message.attachments
        parts.append(_message(message, reasoning))
    if shown:
        parts.append({"role": "user", "content": [_part(a) for a in shown]})
    return parts


def _message(message: Message, reasoning: bool) -> dict[str, Any]:
    parts: dict[str, Any] = {"role": message.role.value}
    match message.role:
        case Role.USER if message.attachments:
            text = [{"type": "text", "text": message.text}] if message.text else []
            parts["content"] = text + [_part(a) for a in message.attachments]
        case Role.TOOL:
            parts["tool_call_id"] = message.call_id
            parts["content"] = message.text
        case Role.ASSISTANT:
            parts["content"] = _linked(message) or None
            if message.calls:
                parts["tool_calls"] = [_call(call) for call in message.calls]
            if reasoning and message.reasoning:
                parts["reasoning_content"] = message.reasoning
        case _:
            parts["content"] = _linked(message)
    return parts


def _linked(message: Message) -> str:
    """Return the text with its attachments as links."""
    return "\n".join(
        [message.text, *(f"[{a.name or a.media_type}]({a.uri})" for a in message.attachments)]
    )


def _part(attachment: Attachment) -> dict[str, Any]:
    uri, kind = attachment.uri, attachment.media_type
    if kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": uri}}
    if kind in FORMATS and uri.startswith("data:"):
        audio = {"data": uri.partition(",")[2], "format": FORMATS[kind]}
        return {"type": "input_audio", "input_audio": audio}
    if uri.startswith("file-"):  # an id of the provider
        return {"type": "file", "file": {"file_id": uri}}
    file = {"file_data": uri} | ({"filename": attachment.name} if attachment.name else {})
    return {"type": "file", "file": file}


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.call_id, "type": "function", "function": function}
