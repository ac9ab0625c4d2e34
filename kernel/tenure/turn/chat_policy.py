"""The chat policy: requests to a model, and what its replies mean.  Spec: specs/chat.md.

Pure functions.  The turn machine uses them through a `ChatPolicy`, which can be replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol, TypeAlias

from attrs import frozen

from ..failure import ErrorKind, Failure
from ..limits import COMMIT_NODES_MAX
from ..messages.codec import InvalidMessage, decode, from_json, strict_json, to_json
from ..messages.sendable import is_call_id
from ..messages.types import (
    Attachment,
    Finish,
    Message,
    Reply,
    Request,
    Tool,
    ToolCall,
)
from ..policy import Audience
from ..questions.core import TranscriptLine
from ..records import Input, Node
from ..replace import replace
from ..transcript import Form, Role, UsageDelta

__all__ = [
    "CALLS_MAX",
    "DEFAULT_CHAT_POLICY",
    "DUPLICATE",
    "Answer",
    "CallTools",
    "ChatPolicy",
    "InvalidReply",
    "ReplyKind",
    "StopTurn",
    "classify_reply",
    "message_of_input",
    "messages_of_inputs",
    "messages_of_node",
    "name_calls",
    "overflows",
    "project",
    "read_prompt",
    "reject_reason",
    "stable",
    "write_prompt",
]


CALLS_MAX: Final = (
    COMMIT_NODES_MAX - 2
)  # their results, the reply and one more node fit into one commit
CALL_ID_MAX: Final = 64
OVERFLOW_SHARE: Final = 0.95
PROMPT: Final = "tenure:prompt:"
DUPLICATE: Final = "doubled-"
WARNING: Final = (
    "You have used up the steps of this turn and cannot call tools any more. "
    "Answer now with what you have, and say what is left to do."
)

STOP_MARK: Final = "[stopped before the end]"

# -- what a reply means


@frozen
class Answer:
    """The reply is the answer."""

    message: Message


@frozen
class CallTools:
    """The reply calls tools."""

    message: Message


@frozen
class StopTurn:
    """The reply stops the turn; its text, if there is any, is kept."""

    message: Message | None
    code: str


@frozen
class InvalidReply:
    """The reply cannot be used."""

    failure: Failure


ReplyKind: TypeAlias = Answer | CallTools | StopTurn | InvalidReply


class ChatPolicy(Protocol):
    """How a turn asks its model and reads the replies."""

    def request(
        self,
        model: str,
        system: str,
        messages: tuple[Message, ...],
        tools: tuple[Tool, ...],
        parameters: str,
    ) -> Request:
        """Return the request."""

    def classify(self, reply: Reply, window: int | None, iteration: int) -> ReplyKind:
        """Return what a reply means.  `window` is the context window, in tokens."""

    def reject_reason(self, call: ToolCall, calls: int, tools: Sequence[Tool]) -> str | None:
        """Return why a call is not carried out, as a text for the model; None if it is.  `calls`: how many the reply has."""

    def warning(self) -> Message:
        """Return the message before the grace iteration."""


@frozen
class DefaultChatPolicy:
    """Messages and native tool calls.  `final_warning` is the text before the grace iteration."""

    final_warning: str = WARNING

    def request(
        self,
        model: str,
        system: str,
        messages: tuple[Message, ...],
        tools: tuple[Tool, ...],
        parameters: str,
    ) -> Request:
        """Return the request (CHAT-7)."""
        return Request(model, system, messages, tools, parameters, stable(messages))

    def classify(self, reply: Reply, window: int | None, iteration: int) -> ReplyKind:
        """Return what a reply means (CHAT-11 to CHAT-13)."""
        return classify_reply(reply, window, iteration)

    def reject_reason(self, call: ToolCall, calls: int, tools: Sequence[Tool]) -> str | None:
        """Return why a call is not carried out (TURN-38)."""
        return reject_reason(call, calls, tools)

    def warning(self) -> Message:
        """Return the final warning as a message of the user."""
        return Message(Role.USER, self.final_warning)


DEFAULT_CHAT_POLICY: Final = DefaultChatPolicy()


def stable(messages: Sequence[Message]) -> int:
    """Return how many messages the previous request contained: all before the last reply (CHAT-7)."""
    for at in range(len(messages) - 1, -1, -1):
        if messages[at].role is Role.ASSISTANT:
            return at
    return 0


def classify_reply(reply: Reply, window: int | None, iteration: int) -> ReplyKind:
    """Return what a reply means, by its finish reason and its content (CHAT-11, CHAT-12, CHAT-13)."""
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
                Failure(
                    ErrorKind.CONTEXT_OVERFLOW,
                    f"the request exceeds the context window of {window} tokens",
                )
            )
        case Finish.CONTENT_FILTER:
            return InvalidReply(
                Failure(ErrorKind.CONTENT_FILTERED, "the provider has filtered the reply")
            )
        case Finish.OUTPUT_LIMIT:
            return StopTurn(message if text or reply.reasoning else None, "incomplete")
    if reply.refusal:
        return StopTurn(replace(message, calls=()), "refusal")
    if calls:
        return CallTools(message)
    if finish is Finish.TOOL_CALLS:
        return InvalidReply(
            Failure(ErrorKind.TRANSIENT, "the reply announces calls but contains none")
        )
    return Answer(message)


def overflows(reply: Reply, window: int | None) -> bool:
    """True if the prompt fills the window: some servers report this as an output limit (CHAT-10)."""
    if reply.finish is not Finish.OUTPUT_LIMIT or window is None or not reply.usage:
        return False
    last: UsageDelta = reply.usage[-1]
    return last.output_tokens == 0 and last.input_tokens >= OVERFLOW_SHARE * window


def name_calls(calls: tuple[ToolCall, ...], iteration: int) -> tuple[ToolCall, ...]:
    """Return the calls with valid and distinct ids; the id of a duplicate says so (CHAT-9)."""
    named: list[ToolCall] = []
    seen: set[str] = set()
    for index, call in enumerate(calls[: CALLS_MAX + 1]):
        call_id = call.call_id
        if not is_call_id(call_id, CALL_ID_MAX):
            call_id = f"call-{iteration}-{index}"
        if call_id in seen:
            call_id = f"{DUPLICATE}{iteration}-{index}"
        while call_id in seen:
            call_id += "-"
        seen.add(call_id)
        named.append(call if call_id == call.call_id else replace(call, call_id=call_id))
    return tuple(named)


def reject_reason(call: ToolCall, calls: int, tools: Sequence[Tool]) -> str | None:
    """Return why a call is not carried out, as a text for the model (TURN-38); None if it is."""
    if calls > CALLS_MAX:
        return f"too many calls in one reply: at most {CALLS_MAX} are allowed; none was carried out"
    if call.call_id.startswith(DUPLICATE):
        return "an earlier call of this reply has the same id; this call was not carried out"
    if all(tool.name != call.name for tool in tools):
        known = ", ".join(tool.name for tool in tools) or "none"
        return f"unknown tool {call.name[:100]!r}; the tools are: {known}"
    return _reject_arguments(call.arguments)


def _reject_arguments(arguments: str) -> str | None:
    """Return why arguments are invalid; empty ones are an empty object (CHAT-14)."""
    if not arguments.strip():
        return None
    try:
        given = strict_json(arguments)
    except (ValueError, RecursionError) as error:
        return f"invalid arguments: not JSON: {error}"
    if not isinstance(given, dict):
        return f"invalid arguments: expected a JSON object, not a {type(given).__name__}"
    return None


# -- from the transcript to messages


def project(lines: Iterable[TranscriptLine]) -> tuple[Message, ...]:
    """Return the transcript as messages, from the last compaction on; inputs stand before their node (CHAT-5)."""
    messages: list[Message] = []
    for line in lines:
        messages += messages_of_inputs(line.inputs)
        if line.node.form is Form.COMPACTION:
            messages = []
        messages += messages_of_node(line.node)
    whole = next((i for i, m in enumerate(messages) if m.role is not Role.TOOL), 0)
    return tuple(messages[whole:])  # the loaded part may begin between a call and its results


def messages_of_node(node: Node) -> list[Message]:
    """Return the messages of a node; none if it is hidden, or if it only names inputs (CHAT-2, CHAT-6, CHAT-44)."""
    if node.hidden or node.form is Form.INPUTS:
        return []
    if node.form is Form.CHAT:
        try:
            message = decode(node.body)
        except InvalidMessage:
            return [Message(Role.USER, node.body)]
        return [_with_stop_mark(message) if message.stopped else message]
    if node.role is Role.TOOL:
        return [Message(Role.TOOL, node.body, call_id=each) for each in node.call_ids]
    if node.role is Role.ASSISTANT:
        return [Message(Role.ASSISTANT, node.body)]
    return [Message(Role.USER, node.body)]


def _with_stop_mark(message: Message) -> Message:
    """Say in the text of a stopped message that it was stopped (CHAT-20)."""
    return replace(message, text=f"{message.text}\n\n{STOP_MARK}" if message.text else STOP_MARK)


def messages_of_inputs(inputs: Iterable[Input]) -> list[Message]:
    """Return inputs as messages; none for an input that nobody reads (CHAT-25)."""
    return [message_of_input(i) for i in inputs if i.policy.audience is not Audience.NOBODY]


def message_of_input(entered: Input) -> Message:
    """Return an input as a message of the user (CHAT-3, CHAT-4)."""
    text, attachments = read_prompt(entered.payload)
    if entered.kind in ("prompt", "steering", "follow_up"):
        return Message(Role.USER, text, attachments=attachments)
    heading = f"[{entered.kind.replace('_', ' ')} from {entered.source}]"
    return Message(Role.USER, f"{heading}\n{text}", attachments=attachments)


def write_prompt(text: str, attachments: tuple[Attachment, ...] = ()) -> str:
    """Return the payload of a prompt: plain text, or JSON if it has attachments."""
    if not attachments and not text.startswith(PROMPT):
        return text
    named = [{"uri": a.uri, "media_type": a.media_type, "name": a.name} for a in attachments]
    return PROMPT + to_json({"text": text, "attachments": named})


def read_prompt(payload: str) -> tuple[str, tuple[Attachment, ...]]:
    """Return the text and the attachments of a prompt."""
    if not payload.startswith(PROMPT):
        return payload, ()
    try:
        found = from_json(payload.removeprefix(PROMPT))
        attachments = tuple([Attachment(**each) for each in found["attachments"]])
        return str(found["text"]), attachments
    except (TypeError, KeyError, InvalidMessage):
        return payload, ()
