"""Encode messages as node bodies and JSON text, and decode them.  Spec: specs/chat.md."""

from __future__ import annotations

import json
from typing import Any, Final

import attrs

from ..limits import MESSAGE_BYTES_MAX
from ..replace import replace
from ..transcript import Form, NewNode, Role
from .types import Attachment, Message, ToolCall

__all__ = [
    "ROLES",
    "InvalidMessage",
    "decode",
    "encode",
    "from_json",
    "node_of",
    "non_defaults",
    "strict_json",
    "text_of",
    "to_json",
]


ARGUMENTS_MAX: Final = 2_000_000
ROLES: Final = (Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.TOOL)  # of messages

_plain = json.JSONEncoder(separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode
_ascii = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


class InvalidMessage(ValueError):
    """The body of a node is not a valid message."""

    __slots__ = ()


def to_json(value: Any) -> str:
    """Return canonical JSON.  Lone surrogates, which UTF-8 cannot encode, are escaped."""
    text = _plain(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        return _ascii(value)
    return text


def from_json(text: str) -> dict[str, Any]:
    """Return the JSON object of a text.  Raises InvalidMessage."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidMessage(f"{text[:80]!r}: {error}") from error
    if not isinstance(found, dict):
        raise InvalidMessage(f"{text[:80]!r} is not a JSON object")
    return found


def strict_json(text: str) -> Any:
    """Return the value of a JSON text.  Raises ValueError also for NaN and for infinite or too large numbers."""
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON number")


def _finite(text: str) -> float:
    found = float(text)
    if found in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:40]} is too large")
    return found


def non_defaults(value: Any) -> dict[str, Any]:
    """Return the fields of a value that differ from their defaults."""
    fields = attrs.fields(value.__class__)
    return {
        a.name: _plain_value(given)
        for a in fields
        if (given := getattr(value, a.name)) != a.default or a.default is attrs.NOTHING
    }


def _plain_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain_value(each) for each in value]
    return non_defaults(value) if attrs.has(value.__class__) else value


def encode(message: Message) -> str:
    """CHAT-1: return the body of a node of form `chat`."""
    return to_json(non_defaults(message))


def decode(body: str) -> Message:
    """Return the message of a body.  Raises InvalidMessage."""
    found = from_json(body)
    try:
        calls = tuple([ToolCall(**each) for each in found.pop("calls", ())])
        attachments = tuple([Attachment(**each) for each in found.pop("attachments", ())])
        role = Role(found.pop("role"))
        if role not in ROLES:
            raise ValueError(f"{role.value!r} is not the role of a message")
        message = Message(role, calls=calls, attachments=attachments, **found)
    except (TypeError, ValueError, KeyError) as error:
        raise InvalidMessage(f"{body[:80]!r}: {error}") from error
    return message


def truncate(message: Message) -> Message:
    """CHAT-15: cut a message that is too large for a node: arguments, then reasoning, then text."""
    if len(message.text) + len(message.reasoning) < ARGUMENTS_MAX and not message.calls:
        return message
    calls = tuple([_truncate_call(call) for call in message.calls])
    message = message if calls == message.calls else replace(message, calls=calls)
    size = len(encode(message).encode())
    if size <= MESSAGE_BYTES_MAX:
        return message
    message = replace(message, reasoning=message.reasoning[:ARGUMENTS_MAX])
    while (size := len(encode(message).encode())) > MESSAGE_BYTES_MAX:
        whole = len(message.text)
        keep = int(whole * 0.95 * MESSAGE_BYTES_MAX / size)
        message = replace(
            message, text=f"{message.text[:keep]}\n[cut: {keep} of {whole} characters]"
        )
    return message


def _truncate_call(call: ToolCall) -> ToolCall:
    if len(call.arguments) <= ARGUMENTS_MAX:
        return call
    return replace(call, arguments=call.arguments[:ARGUMENTS_MAX])


def node_of(message: Message) -> NewNode:
    """Return the transcript node of a message."""
    message = truncate(message)
    answers = () if message.call_id is None else (message.call_id,)
    call_ids = answers or tuple([call.call_id for call in message.calls])
    return NewNode(message.role, encode(message), call_ids, form=Form.CHAT)


def text_of(form: Form, body: str) -> str:
    """Return the text of a node for people to read."""
    if form is not Form.CHAT:
        return body
    try:
        message = decode(body)
    except InvalidMessage:
        return body
    return message.text or message.refusal
