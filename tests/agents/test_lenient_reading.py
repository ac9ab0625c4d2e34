"""Replies that are legal enough are read; what is no reply is a failure that shows what came."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_script import Raw
from openai_asking import failure_to, reply_to

from tenure.failure import ErrorKind
from tenure.messages.types import Finish, ModelFailed, Reply, ToolCall
from tenure_drivers.models.chunks import Malformed, read_chunk, read_whole
from tenure_drivers.models.failures import failure_in
from tenure_drivers.models.stream import Assembly
from tenure_drivers.models.words import words_of


def chunk(delta: Any, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def streamed(*deltas: Any, finish: str | None = "stop") -> Raw:
    return Raw.events(*map(chunk, deltas), chunk({}, finish))


def whole(message: Any, finish: str | None = "stop") -> Raw:
    return Raw.json({"choices": [{"index": 0, "message": message, "finish_reason": finish}]})


def both(said: Any) -> list[Raw]:
    return [streamed(said), whole(said)]


THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "two and two"}]}
PARTS = [
    [THINKING, {"type": "text", "text": "fo"}, {"type": "output_text", "text": "ur"}],
    [{"type": "reasoning", "text": "two and two"}, "four", {"type": "image_url", "url": "x"}],
    [{"type": "thinking", "thinking": "two and two"}, {"type": "text", "text": {"value": "four"}}],
]


@pytest.mark.parametrize("content", PARTS)
def test_content_may_come_in_parts(content: list[Any]) -> None:
    for said in both({"content": content}):
        reply = reply_to(said)

        assert (reply.text, reply.reasoning) == ("four", "two and two")


def test_a_single_part_and_a_refusal_are_read() -> None:
    assert reply_to(whole({"content": {"type": "text", "text": "four"}})).text == "four"
    assert reply_to(whole({"content": [{"type": "refusal", "refusal": "no"}]})).refusal == "no"
    assert reply_to(whole({"reasoning": [THINKING]})).reasoning == "two and two"


def test_content_of_another_type_is_malformed() -> None:
    for said in both({"content": 7}):
        assert failure_to(said).failure.kind is ErrorKind.TRANSIENT


def piece(call_id: Any, arguments: Any, name: str | None = None, index: Any = 0) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    where = {} if index is None else {"index": index}
    return {"tool_calls": [{"id": call_id, "type": "function", "function": function} | where]}


def made(*pieces: Any) -> list[tuple[str, str]]:
    return [(c.name, c.arguments) for c in reply_to(streamed(*pieces)).calls]


def test_arguments_may_be_an_object() -> None:
    for said in both(piece("c", {"a": 1, "b": "ü"}, "add")):
        assert reply_to(said).calls == (ToolCall("c", "add", '{"a":1,"b":"ü"}'),)


@pytest.mark.parametrize("name", [None, "add"])
def test_each_piece_of_one_call_may_have_an_id_of_its_own(name: str | None) -> None:
    pieces = (
        piece("t-1", "", "add"),
        piece("t-2", '{"a": 1, ', name),
        piece("t-3", '"b": 2}', name),
    )

    assert made(*pieces) == [("add", '{"a": 1, "b": 2}')]


def test_calls_that_share_an_index_are_told_apart() -> None:
    assert made(piece("a", "{}", "add"), piece("b", '{"x":1}', "add")) == [
        ("add", "{}"),
        ("add", '{"x":1}'),
    ]
    assert made(piece("a", "", "now"), piece("b", "", "add")) == [("now", ""), ("add", "")]


def test_calls_without_index_and_id_are_told_apart() -> None:
    assert made(piece(None, '{"a":1}', "add", None), piece(None, '{"a":2}', "add", None)) == [
        ("add", '{"a":1}'),
        ("add", '{"a":2}'),
    ]
    assert made(piece("a", "", "now", None), piece("b", "", "now", None)) == [("now", "")] * 2


def test_an_id_and_an_index_may_be_of_the_other_type() -> None:
    assert reply_to(streamed(piece(7, "{}", "add", "0"))).calls[0].call_id == "7"


@pytest.mark.parametrize("finish", [None, ""])
def test_a_whole_reply_needs_no_finish_reason(finish: str | None) -> None:
    for stream in (True, False):
        reply = reply_to(whole({"content": "four"}, finish), stream=stream)

        assert (reply.text, reply.finish) == ("four", Finish.STOP)


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("STOP", Finish.STOP),
        ("stop_sequence", Finish.STOP),
        ("max_output_tokens", Finish.OUTPUT_LIMIT),
        ("SAFETY", Finish.CONTENT_FILTER),
        ("recitation", Finish.CONTENT_FILTER),
    ],
)
def test_words_of_other_servers_are_known(word: str, finish: Finish) -> None:
    assert reply_to(streamed({"content": "x"}, finish=word)).finish is finish


@pytest.mark.parametrize(
    ("word", "content", "kind"),
    [
        ("malformed_function_call", "", ErrorKind.TRANSIENT),
        ("MALFORMED_FUNCTION_CALL", "half", ErrorKind.TRANSIENT),
        ("something_else", "", ErrorKind.TRANSIENT),
        ("tool_calls", "", ErrorKind.TRANSIENT),
        ("network_error", "half", ErrorKind.STREAM_INTERRUPTED),
        ("network_error", "", ErrorKind.UNAVAILABLE),
        ("refusal", "", ErrorKind.REFUSED_BY_PROVIDER),
        ("insufficient_system_resource", "half", ErrorKind.OVERLOADED),
        ("abort", "half", ErrorKind.STREAM_INTERRUPTED),
        ("error", "half", ErrorKind.STREAM_INTERRUPTED),
    ],
)
def test_a_reply_that_broke_off_inside_is_a_failure(
    word: str, content: str, kind: ErrorKind
) -> None:  # CHAT-23, CHAT-26
    for said in (streamed({"content": content}, finish=word), whole({"content": content}, word)):
        failed = failure_to(said)

        assert failed.failure.kind is kind
        assert repr(word) in failed.failure.message or word == "refusal"


def test_a_refusal_by_the_finish_reason_keeps_its_text() -> None:  # CHAT-27
    for said in (
        streamed({"content": "No."}, finish="refusal"),
        whole({"content": "No."}, "refusal"),
    ):
        reply = reply_to(said)

        assert (reply.text, reply.refusal) == ("", "No.")


@pytest.mark.parametrize("stream", [True, False])
def test_a_server_may_stream_whether_asked_or_not(stream: bool) -> None:
    assert reply_to(streamed({"content": "four"}), stream=stream).text == "four"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "message", "content", "type", "text", "tool_calls", "error"]
                + ["function", "name", "arguments", "id", "index", "finish_reason", "usage", "code"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)
piece_values = st.fixed_dictionaries(
    {},
    optional={
        "content": json_values,
        "reasoning": json_values,
        "tool_calls": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "id": st.none() | st.integers() | st.sampled_from("ab"),
                    "index": st.none() | st.integers(0, 2),
                    "function": st.fixed_dictionaries(
                        {}, optional={"name": st.sampled_from("xy"), "arguments": json_values}
                    ),
                },
            ),
            max_size=3,
        ),
    },
)
chunk_values = json_values | st.builds(
    lambda delta, finish: chunk(delta, finish),
    piece_values,
    st.none() | st.sampled_from(["stop", "x"]),
)


@given(st.lists(chunk_values, max_size=4), st.booleans())
def test_any_json_is_a_reply_or_a_failure(values: list[Any], whole: bool) -> None:
    assembly = Assembly("turn", "m", lambda _: None)
    try:
        for value in values:
            read = read_whole(value) if whole else read_chunk(value)
            if read.error:
                assert failure_in(read.error).message
                return
            assembly.take(read)
        failure = assembly.failure()
        if failure is None:
            reply = assembly.reply("k", ())
            assert len({call.call_id for call in reply.calls}) == len(reply.calls)
    except Malformed as error:
        assert str(error)


@given(json_values)
def test_any_json_has_words(value: Any) -> None:
    assert isinstance(words_of(value), str)


# -- what is no reply


PAGE = "<html><head><title>Sign in</title><style>a{}</style></head><body>to go on</body></html>"


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (
            Raw.json({"object": "error", "message": "m is not loaded", "code": 404}),
            ErrorKind.MODEL_NOT_FOUND,
            "404: m is not loaded",
        ),
        (
            Raw.json({"message": "too hot", "type": "overloaded_error"}),
            ErrorKind.OVERLOADED,
            "overloaded_error: too hot",
        ),
        (Raw.json({"error": "it broke"}), ErrorKind.TRANSIENT, "it broke"),
        (Raw.json({"detail": "Not Found"}), ErrorKind.TRANSIENT, "Not Found"),
        (Raw.json({"status": "ok"}), ErrorKind.TRANSIENT, '{"status":"ok"}'),
        (Raw.json({"choices": []}), ErrorKind.TRANSIENT, "no choices"),
        (Raw.json([1]), ErrorKind.TRANSIENT, "[1]"),
        (Raw("text/html", PAGE), ErrorKind.TRANSIENT, "HTML: Sign in to go on"),
        (Raw("text/plain", "hello"), ErrorKind.TRANSIENT, "not a reply of a model: "),
    ],
    ids=["error", "message", "text", "detail", "other", "empty", "list", "html", "plain"],
)
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_is_no_reply_shows_what_came(
    said: Raw, kind: ErrorKind, words: str, stream: bool
) -> None:
    failed = failure_to(said, stream=stream)

    assert failed.failure.kind is kind
    assert words in failed.failure.message


def test_a_stream_that_is_called_html_is_read() -> None:
    said = streamed({"content": "four"})

    assert reply_to(Raw("text/html; charset=utf-8", said.body)).text == "four"


def test_an_error_object_inside_a_stream_shows_what_came() -> None:
    said = Raw.events(chunk({"content": "half"}), {"object": "error", "message": "no", "code": 503})

    failed = failure_to(said)

    assert (failed.failure.kind, "503: no" in failed.failure.message) == (
        ErrorKind.OVERLOADED,
        True,
    )


TPM = (
    "Request too large for m on tokens per min (TPM): Limit 30000, Requested 36000."
    " The input or output must be reduced."
)
BUSY = "Rate limit reached for m on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000."


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (429, {"message": TPM, "code": "rate_limit_exceeded"}, ErrorKind.CONTEXT_OVERFLOW, TPM),
        (429, {"message": BUSY, "code": "rate_limit_exceeded"}, ErrorKind.RATE_LIMITED, BUSY),
        (429, {"message": "Too many tokens, please wait"}, ErrorKind.RATE_LIMITED, "please wait"),
        (413, {"message": "Request Entity Too Large"}, ErrorKind.CONTEXT_OVERFLOW, "Too Large"),
        (400, {"message": "prompt is too long: 9 > 8"}, ErrorKind.CONTEXT_OVERFLOW, "9 > 8"),
        (
            400,
            {
                "message": "This model's maximum prompt length is 8 but the request contains 9 tokens"
            },
            ErrorKind.CONTEXT_OVERFLOW,
            "contains 9",
        ),
        (
            400,
            {
                "message": "The input token count (9) exceeds the maximum number of tokens allowed (8)"
            },
            ErrorKind.CONTEXT_OVERFLOW,
            "(9)",
        ),
        (400, {"message": "max_tokens is too large: 9"}, ErrorKind.INVALID_REQUEST, "max_tokens"),
        (404, {"message": "The model m does not exist"}, ErrorKind.MODEL_NOT_FOUND, "not exist"),
        (404, {"message": "Unknown URL", "code": "unknown_url"}, ErrorKind.INVALID_REQUEST, "URL"),
        (404, {"message": "no Route matched"}, ErrorKind.INVALID_REQUEST, "no Route"),
        (404, "404 page not found", ErrorKind.INVALID_REQUEST, "404 page not found"),
        (404, '{"detail":"Not Found"}', ErrorKind.INVALID_REQUEST, "Not Found"),
        (404, PAGE, ErrorKind.INVALID_REQUEST, "HTML: Sign in to go on"),
        (404, "model 'm' not found, try pulling it", ErrorKind.MODEL_NOT_FOUND, "pulling"),
        (502, PAGE, ErrorKind.UNAVAILABLE, "HTML: Sign in to go on"),
        (
            422,
            '{"detail":[{"loc":["body"],"msg":"field required"}]}',
            ErrorKind.INVALID_REQUEST,
            "field required",
        ),
    ],
)
def test_a_refusal_has_the_right_kind_and_the_words_of_the_server(
    status: int, body: Any, kind: ErrorKind, words: str
) -> None:
    text = body if isinstance(body, str) else json.dumps({"error": body})
    content_type = "text/html" if text == PAGE else "text/plain"
    said = Raw("application/json" if text.startswith("{") else content_type, text, status)

    failed = failure_to(said)

    assert failed.failure.kind is kind
    assert words in failed.failure.message and str(status) in failed.failure.message


def test_every_failure_of_a_server_names_the_url_without_its_query() -> None:
    async def run(url: str) -> Reply | ModelFailed:
        from openai_asking import KEY, asking

        from tenure_drivers.models.openai import OpenAIModel

        async with OpenAIModel("m", url, KEY) as model:
            return await model.complete(asking(), lambda _: None, "k")

    failed = asyncio.run(run("http://127.0.0.1:9/v1?key=hide-me"))

    assert isinstance(failed, ModelFailed)
    assert failed.failure.message.startswith("http://127.0.0.1:9/v1/chat/completions: ")
    assert "hide-me" not in failed.failure.message
