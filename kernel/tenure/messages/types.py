"""The words between a turn and a model: messages, tools, requests, replies.  Spec: specs/chat.md.

Everything is a frozen value; what only a provider understands is JSON text that nobody here looks into.
"""

from __future__ import annotations

import enum

from attrs import frozen

from ..failure import Failure
from ..transcript import Role, UsageDelta


class Disposition(enum.StrEnum):
    """What may be done with a tool call whose report was lost."""

    RERUNNABLE = "rerunnable"
    ONCE = "once"


@frozen
class Attachment:
    """By reference: the bytes are somewhere else."""

    uri: str
    media_type: str
    name: str = ""


@frozen
class ToolCall:
    """`arguments` is JSON text as the model wrote it, valid or not."""

    call_id: str
    name: str
    arguments: str


@frozen
class Message:
    role: Role
    text: str = ""
    calls: tuple[ToolCall, ...] = ()  # of an assistant
    call_id: str | None = None  # of a tool: whose result this is
    reasoning: str = ""
    refusal: str = ""
    attachments: tuple[Attachment, ...] = ()
    is_error: bool = False  # of a tool: it failed, was cancelled, or nobody knows


@frozen
class RetryPolicy:
    """How often a tool is tried within one turn; a once tool never again."""

    attempts_max: int = 1
    base_ms: int = 250
    cap_ms: int = 30_000


@frozen
class Tool:
    """What a turn needs to know of a tool.  `schema` is the JSON schema of its arguments, as canonical text."""

    name: str
    description: str
    schema: str
    disposition: Disposition = Disposition.RERUNNABLE
    timeout_ms: int = 600_000
    retry: RetryPolicy = RetryPolicy()
    probed: bool = False  # after a crash it can be asked what became of a call
    finishes: bool = False  # its result is the structured final value of the turn


@frozen
class Request:
    """What the model is asked.  The first `stable` messages were in the request before: a provider may cache them."""

    model: str
    system: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    parameters: str = "{}"  # JSON object for the provider
    stable: int = 0


class Finish(enum.StrEnum):
    STOP = "stop"
    TOOL_CALLS = "tool_calls"
    OUTPUT_LIMIT = "output_limit"
    CONTENT_FILTER = "content_filter"
    CONTEXT_OVERFLOW = "context_overflow"
    UNKNOWN = "unknown"


@frozen
class Reply:
    """What the model answered.  `usage` has a line for each attempt, failed ones too."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    refusal: str = ""
    finish: Finish = Finish.STOP
    usage: tuple[UsageDelta, ...] = ()


@frozen
class ModelFailed:
    """No reply: `failure` says by the table what becomes of the run."""

    failure: Failure
    usage: tuple[UsageDelta, ...] = ()


@frozen
class Delta:
    """A piece of a reply on its way: shown, never stored.  `attempt` counts from 1; a new one discards the old."""

    kind: str  # text | reasoning | call
    text: str
    attempt: int = 1
