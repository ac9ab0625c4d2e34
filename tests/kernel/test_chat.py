"""The chat policy: transcript to request, and the meaning of replies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paths import SPECS, TESTS

from tenure.failure import ErrorKind
from tenure.limits import MESSAGE_BYTES_MAX
from tenure.messages.codec import (
    ROLES,
    InvalidMessage,
    decode,
    encode,
    node_of,
    text_of,
)
from tenure.messages.types import Attachment, Finish, Message, Reply, Tool, ToolCall
from tenure.policy import POLICIES
from tenure.questions.core import TranscriptLine
from tenure.records import Input, Node
from tenure.replace import replace
from tenure.transcript import INPUTS_NODE, Form, NewNode, Role, UsageDelta
from tenure.turn.chat_policy import (
    DEFAULT_CHAT_POLICY,
    DUPLICATE,
    Answer,
    CallTools,
    InvalidReply,
    ReplyKind,
    StopTurn,
    classify_reply,
    message_of_input,
    name_calls,
    overflows,
    project,
    reject_reason,
    stable,
    write_prompt,
)

SPEC = SPECS / "chat.md"


def entered(payload: str, kind: str = "prompt", source: str = "api") -> Input:
    policy = POLICIES[kind]
    return Input("s", "i", kind, source, None, None, "", policy, 0, payload)


def line(new: NewNode, *inputs: Input) -> TranscriptLine:
    node = Node(
        "s", "n", None, "r", 1, new.role, (), new.call_ids, "", new.hidden, 0, new.body, new.form
    )
    return TranscriptLine(inputs, node)


def text(role: Role, body: str, *call_ids: str, hidden: bool = False) -> NewNode:
    return NewNode(role, body, call_ids, hidden)


# -- messages as bodies

ids = st.text(min_size=1, max_size=8)
messages = st.builds(
    Message,
    st.sampled_from(ROLES),
    st.text(),
    st.tuples(st.builds(ToolCall, ids, st.text(), st.text())),
    st.none() | ids,
    st.text(),
    st.text(),
    st.tuples(st.builds(Attachment, st.text(), st.text(), st.text())),
    st.booleans(),
)


@given(messages)
def test_a_message_survives_encoding_and_decoding(message: Message) -> None:  # CHAT-1
    assert decode(encode(message)) == message


def test_a_body_is_canonical_and_omits_defaults() -> None:  # CHAT-1
    message = Message(Role.ASSISTANT, "hé", (ToolCall("c", "t", "{}"),))

    assert encode(message) == (
        '{"calls":[{"arguments":"{}","call_id":"c","name":"t"}],"role":"assistant","text":"hé"}'
    )


def test_characters_that_no_file_can_hold_are_escaped() -> None:  # CHAT-1
    body = encode(Message(Role.TOOL, "a\x00b\ud800c"))

    assert body.isascii() and "\x00" not in body and decode(body).text == "a\x00b\ud800c"


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"role":"unknown"}', '{"role":"imported"}', '{"role":"user","x":1}']
)
def test_an_invalid_body_is_refused(body: str) -> None:
    with pytest.raises(InvalidMessage):
        decode(body)

    assert text_of(Form.CHAT, body) == body


def test_a_result_that_is_too_long_is_truncated_and_says_so() -> None:  # CHAT-15
    node = node_of(Message(Role.TOOL, "é" * 12_000_000, call_id="c"))

    assert len(node.body.encode()) <= MESSAGE_BYTES_MAX
    assert decode(node.body).text.endswith("of 12000000 characters]")
    assert node_of(decode(node.body)) == node


def test_five_megabytes_are_not_too_long() -> None:
    assert len(decode(node_of(Message(Role.TOOL, "x" * 5_000_000)).body).text) == 5_000_000


# -- projection


def test_an_input_that_nobody_reads_is_no_message() -> None:  # CHAT-25
    again = line(text(Role.ASSISTANT, "hello"), entered("", "continuation"), entered("hi"))

    assert [m.text for m in project([again])] == ["hi", "hello"]


@pytest.mark.parametrize("kind", ["prompt", "steering", "follow_up"])
def test_what_the_user_says_has_no_heading(kind: str) -> None:  # CHAT-3
    assert message_of_input(entered("stop there", kind)).text == "stop there"


def test_what_a_checkpoint_took_stands_in_its_place() -> None:  # CHAT-44
    lines = [
        line(node_of(Message(Role.ASSISTANT, "working")), entered("hi")),
        line(INPUTS_NODE, entered("stop there", "steering"), entered("and this", "steering")),
        line(node_of(Message(Role.ASSISTANT, "done"))),
    ]

    assert [m.text for m in project(lines)] == ["hi", "working", "stop there", "and this", "done"]


def test_inputs_come_before_the_node_that_names_them() -> None:  # CHAT-3
    lines = [
        line(text(Role.ASSISTANT, "hello"), entered("hi")),
        line(node_of(Message(Role.ASSISTANT, "again")), entered("and?")),
    ]

    assert [(m.role.value, m.text) for m in project(lines)] == [
        ("user", "hi"),
        ("assistant", "hello"),
        ("user", "and?"),
        ("assistant", "again"),
    ]


def test_what_a_turn_has_taken_stands_where_it_entered() -> None:  # CHAT-44
    lines = [
        line(text(Role.ASSISTANT, "hello"), entered("hi")),
        line(INPUTS_NODE, entered("in French", "steering"), entered("done", "wake", "job-7")),
        line(text(Role.ASSISTANT, "bonjour")),
    ]

    assert [m.text for m in project(lines)] == [
        "hi",
        "hello",
        "in French",
        "[wake from job-7]\ndone",
        "bonjour",
    ]


def test_an_input_that_is_not_a_prompt_has_a_heading() -> None:  # CHAT-3
    message = message_of_input(entered("disk full", "wake", "job-7"))

    assert message == Message(Role.USER, "[wake from job-7]\ndisk full")


def test_attachments_go_by_reference() -> None:  # CHAT-4
    picture = Attachment("s3://bucket/cat.png", "image/png", "cat")
    payload = write_prompt("what is it?", (picture,))

    message = message_of_input(entered(payload))

    assert message == Message(Role.USER, "what is it?", attachments=(picture,))
    assert write_prompt("plain") == "plain"


def test_a_prompt_that_looks_encoded_is_not_changed() -> None:  # CHAT-4
    for said in ("tenure:prompt:{", "tenure:prompt:[]", 'tenure:prompt:{"text":"x"}'):
        assert message_of_input(entered(write_prompt(said))).text == said
        assert message_of_input(entered(said)).text == said


def test_one_node_of_text_may_close_several_calls() -> None:  # CHAT-2
    called = Message(Role.ASSISTANT, calls=(ToolCall("a", "t", ""), ToolCall("b", "t", "")))
    closed = text(Role.TOOL, "interrupted", "a", "b")

    found = project([line(node_of(called), entered("go")), line(closed)])

    assert [(m.call_id, m.text) for m in found[2:]] == [("a", "interrupted"), ("b", "interrupted")]


def test_a_compaction_replaces_everything_before_it() -> None:  # CHAT-5
    summary = NewNode(Role.SYSTEM, "so far: nothing", form=Form.COMPACTION)
    lines = [
        line(text(Role.ASSISTANT, "long ago"), entered("once")),
        line(summary),
        line(text(Role.ASSISTANT, "now"), entered("today")),
    ]

    assert [m.text for m in project(lines)] == ["so far: nothing", "today", "now"]


def test_hidden_nodes_are_not_shown() -> None:  # CHAT-6
    lines = [line(text(Role.ASSISTANT, "secret", hidden=True), entered("hi"))]

    assert [m.text for m in project(lines)] == ["hi"]


@pytest.mark.parametrize(
    ("shown", "sent"),
    [("", "[stopped before the end]"), ("half a", "half a\n\n[stopped before the end]")],
)
def test_a_stopped_message_says_so_to_the_model(shown: str, sent: str) -> None:  # CHAT-20
    stopped = node_of(Message(Role.ASSISTANT, shown, stopped=True))

    assert [m.text for m in project([line(stopped, entered("hi"))])] == ["hi", sent]


def test_results_without_their_call_are_skipped_at_the_start() -> None:
    lines = [line(text(Role.TOOL, "42", "c")), line(text(Role.ASSISTANT, "so"))]

    assert [m.text for m in project(lines)] == ["so"]


# -- requests


def test_a_longer_transcript_only_appends_and_counts_stable_messages() -> None:  # CHAT-7
    said = [Message(Role.USER, "a"), Message(Role.ASSISTANT, "b"), Message(Role.USER, "c")]
    said += [Message(Role.ASSISTANT, "d"), Message(Role.USER, "e")]

    requests = [DEFAULT_CHAT_POLICY.request("m", "s", tuple(said[:n]), (), "{}") for n in (1, 3, 5)]

    for before, after in zip(requests, requests[1:], strict=False):
        assert after.messages[: after.stable] == before.messages
    assert [r.stable for r in requests] == [0, 1, 3]
    assert stable(()) == 0


# -- replies


def calls(*call_ids: str) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(call_id, "t", "{}") for call_id in call_ids)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply("hi"), Answer),
        (Reply(""), Answer),
        (Reply("hi", finish=Finish.UNKNOWN), Answer),
        (Reply("", calls("a"), finish=Finish.TOOL_CALLS), CallTools),
        (Reply("", calls("a"), finish=Finish.STOP), CallTools),
        (Reply("", finish=Finish.TOOL_CALLS), InvalidReply),
        (Reply("ha", finish=Finish.OUTPUT_LIMIT), StopTurn),
        (Reply("ha", calls("a"), finish=Finish.OUTPUT_LIMIT), StopTurn),
        (Reply("", finish=Finish.CONTENT_FILTER), InvalidReply),
        (Reply("", finish=Finish.CONTEXT_OVERFLOW), InvalidReply),
        (Reply("", calls("a"), refusal="no"), StopTurn),
    ],
)
def test_a_reply_is_classified(reply: Reply, kind: type[ReplyKind]) -> None:  # CHAT-11, CHAT-13
    assert isinstance(classify_reply(reply, None, 1), kind)


def test_calls_of_a_truncated_reply_are_dropped() -> None:  # CHAT-12
    found = classify_reply(Reply("so I", calls("a"), finish=Finish.OUTPUT_LIMIT), None, 1)

    assert found == StopTurn(Message(Role.ASSISTANT, "so I"), "incomplete")


@pytest.mark.parametrize(
    ("prompt", "output", "window", "over"),
    [(950, 0, 1000, True), (949, 0, 1000, False), (950, 1, 1000, False), (950, 0, None, False)],
)
def test_an_output_limit_without_output_is_a_context_overflow(
    prompt: int, output: int, window: int | None, over: bool
) -> None:  # CHAT-10
    used = (UsageDelta("turn", "m", 1, 5, 5), UsageDelta("turn", "m", 1, prompt, output))
    reply = Reply(finish=Finish.OUTPUT_LIMIT, usage=used)

    assert overflows(reply, window) is over
    found = classify_reply(reply, window, 1)
    assert isinstance(found, InvalidReply) is over
    if isinstance(found, InvalidReply):
        assert found.failure.kind is ErrorKind.CONTEXT_OVERFLOW


@given(st.lists(st.sampled_from(["a", "b", "", "x y", "ü", "doubled-3-1", "call-3-0", "z" * 99])))
def test_every_call_gets_a_distinct_id(raw: list[str]) -> None:  # CHAT-9
    named = name_calls(calls(*raw), 3)

    assert len({call.call_id for call in named}) == len(named)
    assert all(0 < len(c.call_id) <= 64 and c.call_id.isascii() for c in named)
    assert all(n.call_id == r or n.call_id != r for n, r in zip(named, raw, strict=False))


def test_valid_ids_are_kept_and_a_duplicate_is_renamed() -> None:  # CHAT-9
    named = name_calls(calls("good", "", "good"), 2)

    assert [call.call_id for call in named] == ["good", "call-2-1", f"{DUPLICATE}2-2"]


@pytest.mark.parametrize("arguments", ["", "  ", "{}", '{"a": [1]}'])
def test_an_object_or_nothing_is_accepted_as_arguments(arguments: str) -> None:  # CHAT-14
    tool = Tool("t", "", "{}")

    assert reject_reason(ToolCall("c", "t", arguments), 1, (tool,)) is None


@pytest.mark.parametrize(
    "arguments",
    [
        "{",
        "[]",
        "1",
        "null",
        '"x"',
        "[" * 100_000,
        '{"a": NaN}',
        '{"a": [-Infinity]}',
        '{"a": 1e999}',
    ],
)
def test_other_arguments_are_rejected(arguments: str) -> None:  # CHAT-14
    tool = Tool("t", "", "{}")

    assert "arguments" in (reject_reason(ToolCall("c", "t", arguments), 1, (tool,)) or "")


def test_every_clause_is_tested() -> None:
    defined = set(re.findall(r"^- \*\*(CHAT-\d+)\*\*", SPEC.read_text(encoding="utf-8"), re.M))
    pages = [Path(__file__), Path(__file__).with_name("test_sendable.py")]
    pages.append(Path(__file__).with_name("test_shortening.py"))
    pages.append(TESTS / "agents" / "test_lenient_reading.py")
    pages.append(TESTS / "runtime" / "test_approvals.py")
    pages.append(TESTS / "agents" / "test_model_limit.py")
    pages.append(TESTS / "agents" / "test_replies.py")
    named = [
        each for page in pages for each in re.findall(r"# (.*CHAT-.*)", page.read_text("utf-8"))
    ]
    told = set(re.findall(r"CHAT-\d+", " ".join(named)))

    assert defined - told == {f"CHAT-{8}"}  # tests/kernel/test_turn.py: the grace iteration
    assert replace(Message(Role.USER), text="x").text == "x"
