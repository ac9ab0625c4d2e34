"""Shorten the messages of a request; the transcript keeps them whole.  Specs: specs/chat.md, specs/turn.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..messages.types import Message, Tool
from ..replace import replace
from ..transcript import Role

__all__ = ["drop_turns", "limit_results", "shorten", "shorten_results", "size_of"]


SHORT_RESULT: Final = 200  # characters of a result that was shortened to fit the context
LEFT_OUT: Final = "[earlier messages of this conversation were left out to fit the context]"


def size_of(messages: Sequence[Message]) -> int:
    """Return the number of characters of the messages."""
    return sum([_size(message) for message in messages])


def _size(message: Message) -> int:
    calls = sum([len(call.name) + len(call.arguments) for call in message.calls])
    return len(message.text) + len(message.reasoning) + len(message.refusal) + calls


def limit_results(
    messages: tuple[Message, ...], tools: Sequence[Tool], limit: int
) -> tuple[Message, ...]:
    """CHAT-21: return the messages with each tool result cut to the limit of its tool, or to `limit`."""
    limits = {tool.name: tool.result_max for tool in tools if tool.result_max is not None}
    lowest = min([limit, *limits.values()])
    if all([m.role is not Role.TOOL or len(m.text) <= lowest for m in messages]):
        return messages
    names: dict[str | None, str] = {}
    found: list[Message] = []
    for message in messages:
        names.update([(call.call_id, call.name) for call in message.calls])
        if message.role is Role.TOOL:
            message = _cut(message, limits.get(names.get(message.call_id, ""), limit))
        found.append(message)
    return tuple(found)


def _cut(message: Message, limit: int) -> Message:
    """Return a message with the beginning and the end of a long text, and a note between them."""
    whole = len(message.text)
    if whole <= limit:
        return message
    tail = limit // 4
    note = f"\n[cut: {limit} of {whole} characters are shown]\n"
    text = message.text[: limit - tail] + note + message.text[whole - tail :]
    return message if len(text) >= whole else replace(message, text=text)


# -- policies for a request that does not fit the context


def shorten(messages: tuple[Message, ...], budget: int) -> tuple[Message, ...]:
    """CHAT-22: shorten tool results, then drop turns, until the messages have at most `budget` characters."""
    return drop_turns(shorten_results(messages, budget), budget)


def shorten_results(messages: tuple[Message, ...], budget: int) -> tuple[Message, ...]:
    """CHAT-22: shorten tool results, the oldest first, until the messages have at most `budget` characters."""
    found = list(messages)
    size = size_of(messages)
    for at, message in enumerate(messages):
        if size <= budget:
            break
        if message.role is Role.TOOL:
            found[at] = _cut(message, SHORT_RESULT)
            size -= len(message.text) - len(found[at].text)
    return tuple(found)


def drop_turns(messages: tuple[Message, ...], budget: int) -> tuple[Message, ...]:
    """CHAT-22: drop the oldest turns until the messages have at most `budget` characters.

    A turn begins with a message of the user.  The last one is kept, and all that follows it.
    """
    starts = [at for at, message in enumerate(messages) if message.role is Role.USER]
    size, first = size_of(messages), 0
    for start in starts:
        if size <= budget:
            break
        size -= size_of(messages[first:start])
        first = start
    if first == 0:
        return messages
    kept = messages[first]
    return (replace(kept, text=f"{LEFT_OUT}\n{kept.text}"), *messages[first + 1 :])
