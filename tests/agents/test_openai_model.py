"""The client against a real server on loopback: replies, streams and requests."""

from __future__ import annotations

import json

import pytest
from model_script import Call, Fault, Say
from openai_asking import ADD, KEY, ask, asking, failure_to, reply_to

from tenure.failure import ErrorKind
from tenure.messages.types import (
    Attachment,
    Finish,
    Message,
    ModelFailed,
    Reply,
    Request,
    ToolCall,
)
from tenure.transcript import Role, UsageDelta


@pytest.mark.parametrize("stream", [True, False])
def test_a_reply_has_text_reasoning_and_usage(stream: bool) -> None:
    said = Say("Forty-two, as ever: ✓", reasoning="Let me think.")
    reply, shown, server = ask(said, stream=stream)

    prompt = len(json.dumps(server.asked[0].messages)) // 4
    usage = UsageDelta("turn", "m-1", 1, prompt, 21 + 13, prompt // 2, 13)
    assert reply == Reply("Forty-two, as ever: ✓", (), "Let me think.", "", Finish.STOP, (usage,))
    assert "".join(d.text for d in shown if d.kind == "text") == said.text
    assert "".join(d.text for d in shown if d.kind == "reasoning") == said.reasoning
    assert (len(shown) > 5) is stream
    assert server.asked[0].body.get("stream_options") == (
        {"include_usage": True} if stream else None
    )


@pytest.mark.parametrize("stream", [True, False])
def test_calls_are_assembled_from_fragments(stream: bool) -> None:
    calls = (Call("add", '{"a": 1, "b": 22}'), Call("find", '{"text": "größer"}'), Call("now", ""))
    reply, shown, _ = ask(Say("Wait.", calls), stream=stream, request=asking(tools=(ADD,)))

    assert isinstance(reply, Reply)
    assert [(c.name, c.arguments) for c in reply.calls] == [(c.name, c.arguments) for c in calls]
    assert len({c.call_id for c in reply.calls}) == 3
    assert (reply.text, reply.finish) == ("Wait.", Finish.TOOL_CALLS)
    assert "add " in [d.text for d in shown if d.kind == "call"]


def test_malformed_arguments_are_kept_as_the_model_wrote_them() -> None:
    reply = reply_to(Say(calls=(Call("add", '{"a": 1,'),)))

    assert reply.calls[0].arguments == '{"a": 1,'
    assert reply.finish is Finish.TOOL_CALLS


def test_calls_without_an_index_are_separate_calls() -> None:
    said = Say(calls=(Call("add", '{"a":1}', "c1"), Call("add", '{"a":2}', "c2")), indexed=False)

    assert reply_to(said).calls == (
        ToolCall("c1", "add", '{"a":1}'),
        ToolCall("c2", "add", '{"a":2}'),
    )


@pytest.mark.parametrize("call_id", [None, "has blanks", "taken", "twice"])
def test_an_invalid_id_is_replaced_by_the_same_id_in_every_attempt(
    call_id: str | None,
) -> None:
    before = Message(Role.ASSISTANT, calls=(ToolCall("taken", "add", "{}"),))
    request = asking(before, Message(Role.TOOL, "3", call_id="taken"))
    said = Say(calls=(Call("add", "{}", "twice"), Call("add", "{}", call_id)))

    once, again = (reply_to(said, request=request).calls for _ in range(2))

    assert once == again
    assert once[0].call_id == "twice"
    assert once[1].call_id.startswith("call_")


def test_a_call_without_a_name_is_malformed() -> None:
    failed = failure_to(Say(calls=(Call("", "{}"),)))

    assert failed.failure.kind is ErrorKind.TRANSIENT
    assert failed.usage[0].input_tokens > 0


def test_a_refusal_is_kept_apart_from_the_text() -> None:
    reply, shown, _ = ask(Say(refusal="I will not."))

    assert isinstance(reply, Reply)
    assert (reply.text, reply.refusal, reply.finish) == ("", "I will not.", Finish.STOP)
    assert "".join(d.text for d in shown) == "I will not."


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("length", Finish.OUTPUT_LIMIT),
        ("content_filter", Finish.CONTENT_FILTER),
        ("model_length", Finish.CONTEXT_OVERFLOW),
        ("tool_calls", Finish.UNKNOWN),
        ("abandoned", Finish.UNKNOWN),
    ],
)
def test_the_end_of_a_reply_has_a_reason(word: str, finish: Finish) -> None:
    assert reply_to(Say("Half", finish=word)).finish is finish


def test_a_server_that_does_not_stream_is_supported() -> None:
    said = Say("whole", (Call("add", "{}"), Call("add", "{}")), plain=True)
    reply = reply_to(said)

    assert (reply.text, len(reply.calls)) == ("whole", 2)


def test_a_server_that_reports_no_usage_counts_as_a_request() -> None:
    assert reply_to(Say("x", usage=False)).usage == (UsageDelta("turn", "m-1", 1),)


def test_a_disconnect_after_the_finish_reason_is_ignored() -> None:
    said = Say("done", size=9, fault=Fault.CUT, at=3)  # role, text, finish | usage

    assert reply_to(said) == Reply("done", usage=(UsageDelta("turn", "m-1", 1),))


# -- requests


def test_a_request_is_encoded_by_the_protocol() -> None:
    messages = (
        Message(Role.USER, "look", attachments=(Attachment("https://x/i.png", "image/png"),)),
        Message(Role.ASSISTANT, "", (ToolCall("c1", "add", '{"a": 1'),), reasoning="hm"),
        Message(Role.TOOL, "3", call_id="c1", attachments=(Attachment("file-9", "text/csv"),)),
        Message(Role.ASSISTANT, refusal="no"),
        Message(Role.SYSTEM, "mind \ud800 this"),
    )
    request = Request("m-2", "Be kind.", messages, (ADD,), '{"temperature":0}')
    _, _, server = ask(Say("ok"), request=request, headers={"x-team": "a-team"})

    asked = server.asked[0]
    image = {"type": "image_url", "image_url": {"url": "https://x/i.png"}}
    function = {"name": "add", "arguments": '{"not_an_object": "{\\"a\\": 1"}'}
    assert asked.body == {
        "model": "m-2",
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "add",
                    "description": "Add two numbers.",
                    "parameters": json.loads(ADD.schema),
                },
            }
        ],
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "3"},
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-9"}}]},
            {"role": "assistant", "content": "no"},
            {"role": "system", "content": "mind ? this"},
        ],
    }
    assert asked.headers["idempotency-key"] == "r:1:1:model:1"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["x-team"] == "a-team"


def test_reasoning_goes_back_to_a_server_that_wants_it() -> None:
    request = asking(Message(Role.ASSISTANT, "x", reasoning="hm"))
    _, _, server = ask(Say("ok"), request=request, reasoning=True)

    assert server.asked[0].messages[0]["reasoning_content"] == "hm"


@pytest.mark.parametrize("parameters", ["{", "[]", '{"model": "mine"}', '{"stream": false}'])
def test_invalid_parameters_are_refused_before_sending(parameters: str) -> None:
    failed, _, server = ask(Say("ok"), request=asking(parameters=parameters))

    assert isinstance(failed, ModelFailed)
    assert (failed.failure.kind, failed.usage) == (ErrorKind.INVALID_REQUEST, ())
    assert server.asked == []
