"""The chat protocol: what a model that speaks in messages is asked, and what its reply means.  Spec: specs/chat.md.

Pure functions, plugged into the turn machine as a `ChatPolicy`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final, Protocol, TypeAlias

from attrs import frozen

from ..failure import ErrorKind, Failure
from ..messages.codec import InvalidMessage, decode, from_json, to_json
from ..messages.types import (
    Attachment,
    Finish,
    Message,
    Reply,
    Request,
    Tool,
    ToolCall,
)
from ..questions.core import TranscriptLine
from ..records import Input, Node
from ..replace import replace
from ..transcript import Form, Role, UsageDelta

CALLS_MAX: Final = 30  # with the reply and one more they fit into a commit
CALL_ID_MAX: Final = 64
OVERFLOW_SHARE: Final = 0.95
PROMPT: Final = "tenure:prompt:"
DOUBLED: Final = "doubled-"
WARNING: Final = (
    "You have used up the steps of this turn and cannot call tools any more. "
    "Answer now with what you have, and say what is left to do."
)

# -- what a reply means


@frozen
class Answer:
    """It is the answer."""

    message: Message


@frozen
class CallTools:
    """It calls tools."""

    message: Message


@frozen
class StopTurn:
    """It ends the turn in another way; what was said stays."""

    message: Message | None
    code: str


@frozen
class InvalidReply:
    """It is no reply."""

    failure: Failure


ReplyKind: TypeAlias = Answer | CallTools | StopTurn | InvalidReply


class ChatPolicy(Protocol):
    """How a turn speaks with its model."""

    def request(
        self,
        model: str,
        system: str,
        messages: tuple[Message, ...],
        tools: tuple[Tool, ...],
        parameters: str,
    ) -> Request: ...
    def classify(self, reply: Reply, window: int | None, iteration: int) -> ReplyKind: ...
    def reject_reason(self, call: ToolCall, calls: int, tools: Sequence[Tool]) -> str | None:
        """Why a call is not carried out, in words for the model."""

    def warning(self) -> Message: ...


@frozen
class DefaultChatPolicy:
    """Messages, native tool calls.  `final_warning` is what a model is told before its last word."""

    final_warning: str = WARNING

    def request(
        self,
        model: str,
        system: str,
        messages: tuple[Message, ...],
        tools: tuple[Tool, ...],
        parameters: str,
    ) -> Request:
        return Request(model, system, messages, tools, parameters, stable(messages))

    def classify(self, reply: Reply, window: int | None, iteration: int) -> ReplyKind:
        return classify_reply(reply, window, iteration)

    def reject_reason(self, call: ToolCall, calls: int, tools: Sequence[Tool]) -> str | None:
        return reject_reason(call, calls, tools)

    def warning(self) -> Message:
        return Message(Role.USER, self.final_warning)


DEFAULT_CHAT_POLICY: Final = DefaultChatPolicy()


def stable(messages: Sequence[Message]) -> int:
    """CHAT-7: the last request ended where the last reply stands."""
    for at in range(len(messages) - 1, -1, -1):
        if messages[at].role is Role.ASSISTANT:
            return at
    return 0


def classify_reply(reply: Reply, window: int | None, iteration: int) -> ReplyKind:
    """CHAT-11, CHAT-12, CHAT-13: by how it ended, and by what is in it."""
    finish = Finish.CONTEXT_OVERFLOW if overflows(reply, window) else reply.finish
    whole = finish in (Finish.STOP, Finish.TOOL_CALLS, Finish.UNKNOWN)
    calls = name_calls(reply.calls, iteration) if whole else ()
    message = Message(
        Role.ASSISTANT, reply.text, calls, reasoning=reply.reasoning, refusal=reply.refusal
    )
    text = bool(reply.text or reply.refusal)
    match finish:
        case Finish.CONTEXT_OVERFLOW:
            return InvalidReply(
                Failure(ErrorKind.CONTEXT_OVERFLOW, f"the window is {window} tokens")
            )
        case Finish.CONTENT_FILTER:
            return InvalidReply(
                Failure(ErrorKind.CONTENT_FILTERED, "the provider filtered the reply")
            )
        case Finish.OUTPUT_LIMIT:
            return StopTurn(message if text or reply.reasoning else None, "incomplete")
    if reply.refusal:
        return StopTurn(replace(message, calls=()), "refusal")
    if calls:
        return CallTools(message)
    if finish is Finish.TOOL_CALLS:
        return InvalidReply(Failure(ErrorKind.TRANSIENT, "the reply announces calls and has none"))
    return Answer(message)


def overflows(reply: Reply, window: int | None) -> bool:
    """CHAT-10: a server that has no room for a single token says `output limit`."""
    if reply.finish is not Finish.OUTPUT_LIMIT or window is None or not reply.usage:
        return False
    last: UsageDelta = reply.usage[-1]
    return last.output_tokens == 0 and last.input_tokens >= OVERFLOW_SHARE * window


def name_calls(calls: tuple[ToolCall, ...], iteration: int) -> tuple[ToolCall, ...]:
    """CHAT-9: ids that are none get one; the second of an id gets one that says so."""
    named: list[ToolCall] = []
    seen: set[str] = set()
    for index, call in enumerate(calls[: CALLS_MAX + 1]):
        call_id = call.call_id
        if not _legal(call_id):
            call_id = f"call-{iteration}-{index}"
        if call_id in seen:
            call_id = f"{DOUBLED}{iteration}-{index}"
        while call_id in seen:
            call_id += "-"
        seen.add(call_id)
        named.append(call if call_id == call.call_id else replace(call, call_id=call_id))
    return tuple(named)


def _legal(call_id: str) -> bool:
    printable = call_id.isascii() and call_id.isprintable() and " " not in call_id
    return 0 < len(call_id) <= CALL_ID_MAX and printable


def reject_reason(call: ToolCall, calls: int, tools: Sequence[Tool]) -> str | None:
    if calls > CALLS_MAX:
        return f"too many calls at once: at most {CALLS_MAX}; none was carried out"
    if call.call_id.startswith(DOUBLED):
        return "two calls of one reply had the same id: this one was not carried out"
    if all(tool.name != call.name for tool in tools):
        known = ", ".join(tool.name for tool in tools) or "none"
        return f"there is no tool {call.name[:100]!r}; there are: {known}"
    return _reject_arguments(call.arguments)


def _reject_arguments(arguments: str) -> str | None:
    """CHAT-14: none at all is an empty object."""
    if not arguments.strip():
        return None
    try:
        given = json.loads(arguments)
    except (ValueError, RecursionError) as error:
        return f"the arguments are not JSON: {error}"
    if not isinstance(given, dict):
        return f"the arguments are a JSON {type(given).__name__}, not an object"
    return None


# -- from the transcript to messages


def project(lines: Iterable[TranscriptLine]) -> tuple[Message, ...]:
    """CHAT-5: the transcript as messages: inputs before the node that names them, from the last compaction on."""
    messages: list[Message] = []
    for line in lines:
        messages += [message_of_input(each) for each in line.inputs]
        if line.node.form is Form.COMPACTION:
            messages = []
        messages += messages_of_node(line.node)
    whole = next((i for i, m in enumerate(messages) if m.role is not Role.TOOL), 0)
    return tuple(messages[whole:])  # a page may begin between a call and its results


def messages_of_node(node: Node) -> list[Message]:
    """CHAT-2, CHAT-6."""
    if node.hidden:
        return []
    if node.form is Form.CHAT:
        try:
            return [decode(node.body)]
        except InvalidMessage:
            return [Message(Role.USER, node.body)]
    if node.role is Role.TOOL:
        return [Message(Role.TOOL, node.body, call_id=each) for each in node.call_ids]
    if node.role is Role.ASSISTANT:
        return [Message(Role.ASSISTANT, node.body)]
    return [Message(Role.USER, node.body)]


def message_of_input(entered: Input) -> Message:
    """CHAT-3, CHAT-4: what entered the session is said by the user."""
    text, attachments = read_prompt(entered.payload)
    if entered.kind in ("prompt", "steering"):
        return Message(Role.USER, text, attachments=attachments)
    heading = f"[{entered.kind.replace('_', ' ')} from {entered.source}]"
    return Message(Role.USER, f"{heading}\n{text}", attachments=attachments)


def write_prompt(text: str, attachments: tuple[Attachment, ...] = ()) -> str:
    """The payload of a prompt; plain text, unless it has attachments."""
    if not attachments and not text.startswith(PROMPT):
        return text
    named = [{"uri": a.uri, "media_type": a.media_type, "name": a.name} for a in attachments]
    return PROMPT + to_json({"text": text, "attachments": named})


def read_prompt(payload: str) -> tuple[str, tuple[Attachment, ...]]:
    if not payload.startswith(PROMPT):
        return payload, ()
    try:
        found = from_json(payload.removeprefix(PROMPT))
        attachments = tuple([Attachment(**each) for each in found["attachments"]])
        return str(found["text"]), attachments
    except (TypeError, KeyError, InvalidMessage):
        return payload, ()
