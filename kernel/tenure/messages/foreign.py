"""Conversations of other systems as nodes: chat messages as most APIs have them, and those of LangGraph.  Spec: specs/import.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final

from ..imports import ImportNode
from ..replace import replace
from ..transcript import NewNode, Role
from .codec import node_of, to_json
from .types import Attachment, Message, ToolCall

__all__ = ["FORMATS", "InvalidConversation", "read_conversation"]


NO_RESULT: Final = "interrupted: the conversation has no result of this call"
CHAT_ROLES: Final = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
}
LANGGRAPH_ROLES: Final = {
    "system": Role.SYSTEM,
    "human": Role.USER,
    "ai": Role.ASSISTANT,
    "tool": Role.TOOL,
}


class InvalidConversation(ValueError):
    """What is wrong with a conversation, and with which message."""

    __slots__ = ()


def read_conversation(format_: str, value: Any, at_ms: int) -> tuple[ImportNode, ...]:
    """IMPORT-30, IMPORT-31: return the nodes of a conversation, of which `value` is the JSON value.

    `at_ms`: the time of the nodes.  Raises InvalidConversation.
    """
    found = _messages_in(value)
    nodes: list[ImportNode] = []
    ids: set[str] = set()
    open_calls: tuple[str, ...] = ()
    for number, each in enumerate(found, 1):
        if not isinstance(each, dict):
            raise InvalidConversation(f"message {number}: expected an object: {_cut(each)}")
        try:
            given, message = FORMATS[format_](each)
        except InvalidConversation as error:
            raise InvalidConversation(f"message {number}: {error}") from None
        if open_calls and message.role is not Role.TOOL:
            nodes.append(_node(f"closing-{number}", _missing(open_calls), at_ms))
            open_calls = ()
        node_id = f"message-{number}" if given is None or given in ids else given
        ids.add(node_id)
        node = _node(node_id, node_of(message), at_ms)
        nodes.append(node)
        if message.role is Role.TOOL:
            open_calls = tuple([call for call in open_calls if call not in node.call_ids])
        else:
            open_calls = node.call_ids
    if open_calls:
        nodes.append(_node("closing-last", _missing(open_calls), at_ms))
    return tuple(nodes)


def _messages_in(value: Any) -> list[Any]:
    """Return the list of messages: the value itself, or `messages` of it or of its `values`, or one message."""
    for key in ("values", "messages"):
        if isinstance(value, dict) and key in value:
            value = value[key]
    if isinstance(value, dict) and value.keys() & {"role", "type"}:
        value = [value]
    if not isinstance(value, list) or not value:
        raise InvalidConversation(f"expected a list of messages: {_cut(value)}")
    return value


def _missing(open_calls: tuple[str, ...]) -> NewNode:
    return NewNode(Role.TOOL, NO_RESULT, open_calls)


def _node(node_id: str, new: NewNode, at_ms: int) -> ImportNode:
    return ImportNode(node_id, new.role, new.body, at_ms, new.call_ids, new.form)


# -- messages as most chat APIs have them


def _chat(each: dict[str, Any]) -> tuple[str | None, Message]:
    role = _role(CHAT_ROLES, each.get("role"), "role")
    message = _content(Message(role), each.get("content"), bool(each.get("tool_calls")))
    reasoning, refusal = each.get("reasoning_content"), each.get("refusal")
    message = replace(
        message,
        reasoning=message.reasoning or _text(reasoning, "reasoning_content"),
        refusal=_text(refusal, "refusal"),
    )
    if role is Role.TOOL:
        message = replace(message, call_id=_id(each.get("tool_call_id"), "tool_call_id"))
    elif role is Role.ASSISTANT:
        message = replace(message, calls=tuple(map(_chat_call, _listed(each, "tool_calls"))))
    return _given_id(each), message


def _chat_call(call: Any) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise InvalidConversation(f"tool_calls: expected a function: {_cut(call)}")
    arguments = function.get("arguments", "")
    if not isinstance(arguments, str):
        arguments = to_json(arguments)
    return ToolCall(
        _id(call.get("id"), "id of a call"), _id(function.get("name"), "name"), arguments
    )


# -- messages of LangGraph


def _langgraph(each: dict[str, Any]) -> tuple[str | None, Message]:
    data = each
    for key in ("data", "kwargs"):  # `messages_to_dict` and `dumpd` of its library
        if isinstance(each.get(key), dict):
            data = {"type": each.get("type"), **each[key]}
    name = str(data.get("type", "")).removesuffix("MessageChunk").removesuffix("Message").lower()
    role = _role(LANGGRAPH_ROLES, name, "type")
    message = _content(Message(role), data.get("content"), bool(data.get("tool_calls")))
    if role is Role.TOOL:
        call_id = _id(data.get("tool_call_id"), "tool_call_id")
        message = replace(message, call_id=call_id, is_error=data.get("status") == "error")
    elif role is Role.ASSISTANT:
        calls = map(_langgraph_call, _listed(data, "tool_calls"))
        broken = map(_langgraph_call, _listed(data, "invalid_tool_calls"))
        message = replace(message, calls=(*calls, *broken))
    return _given_id(data), message


def _langgraph_call(call: Any) -> ToolCall:
    if not isinstance(call, dict):
        raise InvalidConversation(f"tool_calls: expected an object: {_cut(call)}")
    arguments = call.get("args", {})
    text = arguments if isinstance(arguments, str) else to_json(arguments)
    return ToolCall(_id(call.get("id"), "id of a call"), _id(call.get("name"), "name"), text)


FORMATS: Final[dict[str, Callable[[dict[str, Any]], tuple[str | None, Message]]]] = {
    "messages": _chat,
    "langgraph": _langgraph,
}


# -- parts of both


def _role(roles: dict[str, Role], value: Any, name: str) -> Role:
    found = roles.get(value) if isinstance(value, str) else None
    if found is None:
        raise InvalidConversation(f"{name} {_cut(value)}: expected {', '.join(roles)}")
    return found


def _content(message: Message, content: Any, has_calls: bool) -> Message:
    """Return the message with its content: a text, or a list of blocks.  `has_calls`: its calls are listed beside it."""
    if content is None or isinstance(content, str):
        return replace(message, text=content or "")
    if not isinstance(content, list):
        raise InvalidConversation(f"content: expected a text or a list of blocks: {_cut(content)}")
    texts: list[str] = []
    for block in content:
        if isinstance(block, str):
            texts.append(block)
            continue
        kind = block.get("type") if isinstance(block, dict) else None
        match kind:
            case "text" | "input_text" | "output_text":
                texts.append(_text(block.get("text"), "text"))
            case "image_url":
                message = _with_image(message, block.get("image_url"))
            case "thinking" | "reasoning":
                thought = _text(block.get("thinking") or block.get("reasoning"), kind)
                message = replace(message, reasoning=message.reasoning + thought)
            case "tool_use" | "tool_call" if has_calls:
                pass  # it is one of them
            case _:
                raise InvalidConversation(f"content: this block cannot be imported: {_cut(block)}")
    return replace(message, text="".join(texts))


def _with_image(message: Message, image: Any) -> Message:
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str):
        raise InvalidConversation(f"image_url: expected a url: {_cut(image)}")
    media_type = url[5:].partition(";")[0] if url.startswith("data:") else "image/*"
    return replace(message, attachments=(*message.attachments, Attachment(url, media_type)))


def _listed(each: dict[str, Any], name: str) -> Iterable[Any]:
    found = each.get(name) or ()
    if not isinstance(found, list | tuple):
        raise InvalidConversation(f"{name}: expected a list: {_cut(found)}")
    return found


def _text(value: Any, name: str) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    raise InvalidConversation(f"{name}: expected a text: {_cut(value)}")


def _id(value: Any, name: str) -> str:
    if isinstance(value, str) and value:
        return value
    raise InvalidConversation(f"{name}: expected a text: {_cut(value)}")


def _given_id(each: dict[str, Any]) -> str | None:
    found = each.get("id")
    return found if isinstance(found, str) and found else None


def _cut(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
