"""What a model client of somebody else may return: checked once, before the turn uses it."""

from __future__ import annotations

from typing import Any

from tenure.failure import ErrorKind, Failure
from tenure.messages.sendable import clean
from tenure.messages.types import ModelFailed, Reply, ToolCall
from tenure.replace import replace

__all__ = ["checked_reply"]


def checked_reply(answer: Any) -> Reply | ModelFailed:
    """CHAT-28: return the answer of a model client, or the failure of a client that returned something else.

    Arguments of calls are without lone surrogates, which no reader of JSON accepts.
    """
    if isinstance(answer, ModelFailed):
        return answer
    if problem := _problem(answer):
        return ModelFailed(Failure(ErrorKind.INVALID_REQUEST, f"the model client: {problem}"))
    calls = [replace(c, arguments=clean(c.arguments)) for c in answer.calls]
    reply: Reply = replace(answer, calls=tuple(calls))
    return reply


def _problem(answer: Any) -> str | None:
    """Return what is wrong with an answer, naming the field."""
    if not isinstance(answer, Reply):
        return f"it returned {_kind(answer).removeprefix('of type ')}; expected a Reply or a ModelFailed"
    for name in ("text", "reasoning", "refusal"):
        if not isinstance(value := getattr(answer, name), str):
            return f"Reply.{name} is {_kind(value)}; expected str"
    if not isinstance(answer.calls, tuple | list):
        return f"Reply.calls is {_kind(answer.calls)}; expected a tuple of ToolCall"
    for at, call in enumerate(answer.calls):
        if not isinstance(call, ToolCall):
            return f"Reply.calls[{at}] is {_kind(call)}; expected a ToolCall"
        for name in ("call_id", "name", "arguments"):
            if not isinstance(value := getattr(call, name), str):
                return f"Reply.calls[{at}].{name} is {_kind(value)}; expected str"
    return None


def _kind(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"
