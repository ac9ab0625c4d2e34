"""Messages as they are sent: legal for every server, whatever the transcript holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strict_server import complaint

from tenure.messages import Message, ToolCall, sendable
from tenure.messages.codec import ROLES
from tenure.messages.types import Request
from tenure.transcript import Role
from tenure_drivers.models.request import body_of

texts = st.text(st.characters(), max_size=20) | st.sampled_from(["", " ", "\n", "a\ud800b"])
call_ids = st.sampled_from(["a", "b", "x" * 41, "", "ü", "a b", "call_1", "000000000"])
arguments = texts | st.sampled_from(
    [
        "{}",
        "",
        "[]",
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        '{"ü": 1}',
    ]
)
calls = st.builds(ToolCall, call_ids, texts | st.just("tools.in_parallel"), arguments)
messages = st.builds(
    Message,
    st.sampled_from(ROLES),
    text=texts,
    calls=st.lists(calls, max_size=3).map(tuple),
    call_id=call_ids,
    reasoning=texts,
    refusal=texts,
)


def called(*made: ToolCall) -> Message:
    return Message(Role.ASSISTANT, calls=made)


def answered(call_id: str, text: str = "3") -> Message:
    return Message(Role.TOOL, text, call_id=call_id)


@given(st.lists(messages, max_size=8).map(tuple))
def test_any_conversation_is_sent_as_a_strict_server_accepts_it(
    said: tuple[Message, ...],
) -> None:  # CHAT-16
    body = body_of(Request("m", "", said), "m", stream=True, reasoning=True)

    assert complaint(body) is None


@given(st.lists(messages, max_size=8).map(tuple))
def test_what_is_sent_once_is_sent_again_as_it_was(said: tuple[Message, ...]) -> None:  # CHAT-16
    sent = sendable(said)

    assert sendable(sent) == sent
    for n in range(len(said)):
        if said[n].role is not Role.TOOL:  # before it every call has its result
            before = sendable(said[:n])
            assert sent[: len(before)] == before


def test_legal_messages_are_sent_as_they_are() -> None:  # CHAT-16
    said = (
        Message(Role.USER, "1 + 2? ü"),
        called(ToolCall("functions.add:0", "add", '{"a": 1,  "b": 2}')),
        answered("functions.add:0"),
        Message(Role.ASSISTANT, "3", reasoning="hm"),
    )

    assert sendable(said) == said


@pytest.mark.parametrize(
    ("name", "sent"),
    [("tools.in_parallel", "tools_in_parallel"), ("", "unknown"), ("x" * 70, "x" * 64)],
)
def test_a_tool_name_is_sent_in_legal_characters(name: str, sent: str) -> None:  # CHAT-17
    (reply, _) = sendable((called(ToolCall("c", name, "{}")), answered("c")))

    assert reply.calls[0].name == sent


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("", "{}"),
        ('{"a": NaN}', '{"not_an_object": "{\\"a\\": NaN}"}'),
        ('{"a": 1e999}', '{"not_an_object": "{\\"a\\": 1e999}"}'),
        ("[1]", '{"not_an_object": "[1]"}'),
        ('{"a": 1', '{"not_an_object": "{\\"a\\": 1"}'),
        ('{"a": "\\ud800"}', '{"a":"?"}'),
        ('{"a": "\\ud83d\\ude00"}', '{"a": "\\ud83d\\ude00"}'),
        ('{"a": "ü"}', '{"a": "ü"}'),
    ],
)
def test_arguments_are_sent_as_one_object(written: str, sent: str) -> None:  # CHAT-18
    (reply, _) = sendable((called(ToolCall("c", "t", written)), answered("c")))

    assert reply.calls[0].arguments == sent


def test_a_call_id_is_sent_short_and_once() -> None:  # CHAT-19
    long = "x" * 41
    said = (
        called(ToolCall(long, "t", "{}"), ToolCall("a", "t", "{}")),
        answered(long),
        answered("a"),
    )
    sent = sendable((*said, *said))

    made = [call.call_id for message in sent for call in message.calls]
    assert [message.call_id for message in sent if message.role is Role.TOOL] == made
    assert made[1] == "a" and len(set(made)) == 4 and max(map(len, made)) <= 40


def test_every_call_is_sent_with_one_result() -> None:  # CHAT-19
    said = (
        called(ToolCall("a", "t", "{}"), ToolCall("b", "t", "{}")),
        answered("b", "two"),
        answered("c", "of no call"),
        Message(Role.USER, "go on"),
    )

    assert [(m.role.value, m.text, m.call_id) for m in sendable(said)[1:]] == [
        ("tool", "two", "b"),
        ("tool", "(no result)", "a"),
        ("user", "[result of an unknown call]\nof no call", None),
        ("user", "go on", None),
    ]


def test_content_is_never_sent_empty() -> None:  # CHAT-20
    said = (
        Message(Role.USER, ""),
        Message(Role.ASSISTANT, reasoning="hm"),
        Message(Role.USER, " \n"),
        Message(Role.ASSISTANT, refusal="I will not."),
        called(ToolCall("a", "t", "{}")),
        answered("a", ""),
        Message(Role.ASSISTANT, "half \ud83d"),
    )

    assert [m.text for m in sendable(said)] == [
        *("(empty)", "(empty)", "(empty)", "I will not.", "", "(empty)", "half ?"),
    ]
