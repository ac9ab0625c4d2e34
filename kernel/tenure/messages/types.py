"""Messages, tools, requests and replies between a turn and a model.  Spec: specs/chat.md.

All types are frozen values.  Data that only a provider interprets is JSON text.
"""

from __future__ import annotations

import enum

from attrs import frozen

from ..failure import Failure
from ..machines.ticket import ACTIONS, Action
from ..transcript import Role, UsageDelta

__all__ = [
    "Approval",
    "Attachment",
    "Delta",
    "Disposition",
    "Finish",
    "Message",
    "ModelFailed",
    "Reply",
    "Request",
    "RetryPolicy",
    "Tool",
    "ToolCall",
]


class Disposition(enum.StrEnum):
    """Whether a tool call whose report was lost may run again."""

    RERUNNABLE = "rerunnable"
    ONCE = "once"


@frozen
class Attachment:
    """An attachment by reference: its bytes are stored elsewhere."""

    uri: str
    media_type: str
    name: str = ""


@frozen
class ToolCall:
    """A tool call of a model.  `arguments` is JSON text as the model wrote it, valid or not."""

    call_id: str
    name: str
    arguments: str


@frozen
class Message:
    """One message of a conversation."""

    role: Role
    text: str = ""
    calls: tuple[ToolCall, ...] = ()  # only in messages of the assistant
    call_id: str | None = None  # in a tool message: the call that it answers
    reasoning: str = ""
    refusal: str = ""
    attachments: tuple[Attachment, ...] = ()
    is_error: bool = (
        False  # in a tool message: the call failed, was cancelled, or its outcome is unknown
    )
    stopped: bool = False  # a message of the assistant that was stopped while it was written


@frozen
class RetryPolicy:
    """How often a tool is tried within one turn, with which backoff.  A once tool is never retried."""

    attempts_max: int = 1
    base_ms: int = 250
    cap_ms: int = 30_000


@frozen
class Approval:
    """How the calls of a tool are approved.

    `offers`: what may be decided.  `within_ms`: after this time nobody has decided.  `others`: somebody else than the
    person in the conversation is asked.  `to_tool`: the decision is handed to the tool.  `remember`: an approval, or a
    rejection, is that of all later calls of the tool in the run too.
    """

    offers: tuple[Action, ...] = ACTIONS
    within_ms: int | None = None
    others: bool = False
    to_tool: bool = False
    remember: bool = False


@frozen
class Tool:
    """A tool as a turn uses it.  `schema` is the JSON schema of its arguments, as canonical text."""

    name: str
    description: str
    schema: str
    disposition: Disposition = Disposition.RERUNNABLE
    timeout_ms: int = 600_000
    retry: RetryPolicy = RetryPolicy()
    probed: bool = False  # after a crash, a probe can find out the outcome of a call
    finishes: bool = False  # its result ends the turn, as its structured value
    result_max: int | None = None  # characters of a result in a request; None: that of the turn
    approval: Approval | None = None  # its calls may need an approval


@frozen
class Request:
    """A request to a model.  Its first `stable` messages were in the last request too: a provider may cache them."""

    model: str
    system: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    parameters: str = "{}"  # a JSON object for the provider
    stable: int = 0


class Finish(enum.StrEnum):
    """Why the model stopped."""

    STOP = "stop"
    TOOL_CALLS = "tool_calls"
    OUTPUT_LIMIT = "output_limit"
    CONTENT_FILTER = "content_filter"
    CONTEXT_OVERFLOW = "context_overflow"
    UNKNOWN = "unknown"


@frozen
class Reply:
    """A reply of a model.  `usage` has one record for each attempt, also for failed ones."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    refusal: str = ""
    finish: Finish = Finish.STOP
    usage: tuple[UsageDelta, ...] = ()


@frozen
class ModelFailed:
    """The model gave no reply.  `failure` decides what becomes of the run."""

    failure: Failure
    usage: tuple[UsageDelta, ...] = ()


@frozen
class Delta:
    """A part of a streamed reply, never stored.  A higher `attempt` replaces the earlier ones.

    Within a model call it counts from 1.  For an observer it is the generation of the lease.
    """

    kind: str  # text | reasoning | call
    text: str
    attempt: int = 1
