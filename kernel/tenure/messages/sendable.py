"""Messages as they are sent to a server: legal names, arguments, call ids and content.  Spec: specs/chat.md.

The transcript keeps what the model wrote.  A message that is legal is sent as it is.  A longer conversation only adds
messages at the end, so that a provider can cache the request.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from ..replace import replace
from ..transcript import Role, hash_text
from .codec import strict_json
from .types import Attachment, Message, ToolCall

__all__ = ["clean", "is_call_id", "is_tool_name", "sendable"]


TOOL_NAME_MAX: Final = 64
NAME_CHARACTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
)
CALL_ID_MAX: Final = 40
NEW_ID: Final = 9  # characters; one server accepts only ids of this length
EMPTY: Final = "(empty)"
NO_RESULT: Final = "(no result)"
STRAY: Final = "[result of an unknown call]"


def sendable(messages: Sequence[Message]) -> tuple[Message, ...]:
    """CHAT-16: return the messages as every server accepts them."""
    sent: list[Message] = []
    strays: list[Message] = []
    ids: dict[str, list[str]] = {}  # open calls: the ids as sent, by the id that the model wrote
    used: set[str] = set()
    for message in messages:
        if message.role is Role.TOOL:
            known = ids.get(message.call_id or "")
            if known:
                sent.append(_content(replace(message, call_id=known.pop(0), calls=())))
            else:
                strays.append(_stray(message))
            continue
        sent += [*_unanswered(ids), *strays]
        ids, strays = {}, []
        if message.role is Role.ASSISTANT:
            message = _reply(message, ids, used)
        elif message.calls or message.call_id is not None:
            message = replace(message, calls=(), call_id=None)
        sent.append(_content(message))
    return (*sent, *_unanswered(ids), *strays)


def is_tool_name(name: str) -> bool:
    """True if a server accepts the name of a tool (CHAT-17)."""
    return 0 < len(name) <= TOOL_NAME_MAX and NAME_CHARACTERS.issuperset(name)


def is_call_id(call_id: str, characters_max: int) -> bool:
    """True for printable ASCII characters without blanks."""
    printable = call_id.isascii() and call_id.isprintable() and " " not in call_id
    return printable and 0 < len(call_id) <= characters_max


def clean(text: str) -> str:
    """Return the text without lone surrogates, which UTF-8 cannot encode; a tool may have cut a pair in half."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


# -- calls and results


def _reply(message: Message, ids: dict[str, list[str]], used: set[str]) -> Message:
    """Return a reply with legal calls, and note their ids."""
    calls: list[ToolCall] = []
    for call in message.calls:
        call_id = _call_id(call.call_id, used)
        used.add(call_id)
        ids.setdefault(call.call_id, []).append(call_id)
        legal = ToolCall(call_id, _name(call.name), _arguments(call.arguments))
        calls.append(call if legal == call else legal)
    return replace(message, calls=tuple(calls), call_id=None)


def _call_id(call_id: str, used: set[str]) -> str:
    """CHAT-19: return the id of a call, or another one if it is not legal or was used before."""
    if is_call_id(call_id, CALL_ID_MAX) and call_id not in used:
        return call_id
    number = len(used)
    while (made := hash_text(f"{number} {call_id}")[:NEW_ID]) in used:
        number += 1
    return made


def _name(name: str) -> str:
    """CHAT-17: return the name of a tool, with `_` for each character that is not legal."""
    if is_tool_name(name):
        return name
    return "".join([c if c in NAME_CHARACTERS else "_" for c in name[:TOOL_NAME_MAX]]) or "unknown"


@lru_cache(maxsize=4096)
def _arguments(text: str) -> str:
    """CHAT-18: return arguments as the model wrote them, or wrapped if they are not one JSON object."""
    if not text.strip():
        return "{}"
    try:
        found: Any = strict_json(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return json.dumps({"not_an_object": clean(text)}, ensure_ascii=False)
    if text.isascii() and "\\u" not in text:
        return text
    plain = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    whole = clean(plain)
    return text if whole == plain else whole


def _unanswered(ids: dict[str, list[str]]) -> Iterator[Message]:
    for call_ids in ids.values():
        for call_id in call_ids:
            yield Message(Role.TOOL, NO_RESULT, call_id=call_id, is_error=True)


def _stray(message: Message) -> Message:
    text = f"{STRAY}\n{clean(message.text)}"
    return Message(Role.USER, text, attachments=_attachments(message.attachments))


# -- content


def _content(message: Message) -> Message:
    """CHAT-24: return a message whose content is not empty, without lone surrogates."""
    text = message.text if message.text.strip() else message.refusal
    if not text.strip():
        silent = bool(message.calls or message.attachments) and message.role is not Role.TOOL
        text = "" if silent else EMPTY
    legal = replace(
        message, text=clean(text), reasoning=clean(message.reasoning), refusal="",
        attachments=_attachments(message.attachments),
    )  # fmt: skip
    return message if legal == message else legal


def _attachments(attachments: tuple[Attachment, ...]) -> tuple[Attachment, ...]:
    return tuple(
        [Attachment(clean(a.uri), clean(a.media_type), clean(a.name)) for a in attachments]
    )
