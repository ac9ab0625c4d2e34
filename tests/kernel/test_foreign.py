"""Conversations of other systems become nodes that an import takes.  Spec: specs/import.md, IMPORT-30, IMPORT-31."""

from __future__ import annotations

from typing import Any

import pytest

from tenure.commands.import_page import refuse_import
from tenure.imports import ImportNode
from tenure.messages.codec import decode
from tenure.messages.foreign import InvalidConversation, read_conversation
from tenure.messages.types import Attachment, Message, ToolCall
from tenure.transcript import Form, Role

CHAT: list[dict[str, Any]] = [
    {"role": "developer", "content": "be brief"},
    {
        "role": "user",
        "content": [{"type": "text", "text": "add "}, {"type": "text", "text": "2, 3"}],
    },
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "a sum",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "[2,3]"}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "5"},
    {"role": "assistant", "content": "it is 5", "id": "last"},
]
LANGGRAPH: list[dict[str, Any]] = [
    {"type": "system", "content": "be brief"},
    {"type": "human", "content": "add 2, 3", "id": "h"},
    {
        "type": "ai",
        "content": [{"type": "thinking", "thinking": "a sum"}, {"type": "tool_use", "id": "c1"}],
        "tool_calls": [{"name": "add", "args": [2, 3], "id": "c1", "type": "tool_call"}],
    },
    {"type": "tool", "content": "5", "tool_call_id": "c1", "status": "success"},
    {"type": "ai", "content": "it is 5", "id": "last"},
]
MESSAGES = [
    Message(Role.SYSTEM, "be brief"),
    Message(Role.USER, "add 2, 3"),
    Message(Role.ASSISTANT, calls=(ToolCall("c1", "add", "[2,3]"),), reasoning="a sum"),
    Message(Role.TOOL, "5", call_id="c1"),
    Message(Role.ASSISTANT, "it is 5"),
]


def messages_of(nodes: tuple[ImportNode, ...]) -> list[Message]:
    assert refuse_import(nodes) is None
    return [decode(node.body) for node in nodes if node.form is Form.CHAT]


def wrapped(each: dict[str, Any], key: str) -> dict[str, Any]:
    return {"type": each["type"], key: each}


@pytest.mark.parametrize(
    ("format_", "value"),
    [
        ("messages", CHAT),
        ("messages", {"messages": CHAT}),
        ("langgraph", LANGGRAPH),
        ("langgraph", {"values": {"messages": LANGGRAPH}, "next": []}),
        ("langgraph", [wrapped(each, "data") for each in LANGGRAPH]),
        ("langgraph", [{**wrapped(each, "kwargs"), "lc": 1} for each in LANGGRAPH]),
    ],
)
def test_each_message_is_a_node(format_: str, value: Any) -> None:
    nodes = read_conversation(format_, value, 7)

    assert messages_of(nodes) == MESSAGES
    assert {node.at_ms for node in nodes} == {7}
    assert (nodes[0].node_id, nodes[-1].node_id) == ("message-1", "last")


def test_a_call_without_a_result_gets_one() -> None:
    nodes = read_conversation("messages", [*CHAT[:3], CHAT[1], CHAT[2]], 7)

    assert refuse_import(nodes) is None
    closing = [node for node in nodes if node.node_id.startswith("closing")]
    assert [(node.role, node.call_ids) for node in closing] == [(Role.TOOL, ("c1",))] * 2
    assert all("no result" in node.body for node in closing)


def test_an_image_is_an_attachment() -> None:
    block = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}

    (node,) = read_conversation("messages", [{"role": "user", "content": [block]}], 7)

    attachment = Attachment("data:image/png;base64,AA==", "image/png")
    assert decode(node.body).attachments == (attachment,)


def test_an_id_that_comes_twice_is_used_once() -> None:
    twice = {"role": "user", "content": "a", "id": "x"}

    nodes = read_conversation("messages", [twice, {**twice, "content": "b"}], 7)

    assert [node.node_id for node in nodes] == ["x", "message-2"]


@pytest.mark.parametrize(
    ("format_", "value", "problem"),
    [
        ("messages", [], "expected a list of messages"),
        ("messages", {"chat": []}, "expected a list of messages"),
        ("messages", ["hello"], "message 1: expected an object"),
        ("messages", [{"role": "ai", "content": ""}], 'message 1: role "ai": expected system'),
        ("messages", [{"role": "tool", "content": "5"}], "message 1: tool_call_id"),
        ("messages", [{"role": "user", "content": 5}], "message 1: content"),
        ("messages", [{"role": "user", "content": [{"type": "file"}]}], "message 1: content: this"),
        ("messages", [{"role": "assistant", "content": [{"type": "tool_use"}]}], "content: this"),
        ("messages", [{"role": "assistant", "tool_calls": ["x"]}], "message 1: tool_calls"),
        (
            "messages",
            [{"role": "assistant", "tool_calls": {"a": 1}}],
            "tool_calls: expected a list",
        ),
        ("langgraph", CHAT, 'message 1: type ""'),
        ("langgraph", [{"type": "remove", "id": "x"}], 'type "remove"'),
        ("langgraph", [{"type": "ai", "tool_calls": [{"name": "a"}]}], "id of a call"),
    ],
)
def test_what_cannot_be_imported_is_named(format_: str, value: Any, problem: str) -> None:
    with pytest.raises(InvalidConversation) as raised:
        read_conversation(format_, value, 7)

    assert problem in str(raised.value)


def test_a_result_of_no_call_is_refused() -> None:
    nodes = read_conversation("messages", [CHAT[1], CHAT[3]], 7)

    refused = refuse_import(nodes)

    assert refused is not None and refused.clause == "IMPORT-8"
