"""Effects and events of the turn machine.  Spec: specs/turn.md.

The host carries out an effect and feeds a report with the same key.  The machine has no clock: the host measures time.
Nothing that depends on a `WriteRecord` is issued before its `Recorded`.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from attrs import field, frozen

from ..failure import Failure
from ..frame import Switch
from ..limits import RUN_INPUTS_MAX
from ..machines.ticket import Settled
from ..messages.types import Attachment, Reply, Request, Tool, ToolCall
from ..outcome import Refusal, Refused
from ..records import Input
from ..transcript import UsageDelta
from ..turn_end import Record, TurnEnd, TurnWait

__all__ = [
    "DEADLINE",
    "LIMITS",
    "REPORTS",
    "Abort",
    "ApprovalChecked",
    "Begin",
    "CallModel",
    "CancelSeen",
    "Cancelled",
    "CheckApproval",
    "CommitSteered",
    "Completed",
    "DeadlinePassed",
    "Effect",
    "Ending",
    "Environment",
    "EnvironmentFailed",
    "EnvironmentReady",
    "Event",
    "Fail",
    "Failed",
    "HandOff",
    "HandedOff",
    "Limits",
    "ModelFailed",
    "ModelReplied",
    "NotRecorded",
    "Park",
    "PrepareEnvironment",
    "Probe",
    "Probed",
    "Recorded",
    "RetryDue",
    "RunTool",
    "SetDeadline",
    "SettleTicket",
    "Sleep",
    "Stopped",
    "TicketsSettled",
    "ToolReported",
    "ToolResult",
    "Value",
    "WriteRecord",
]


SHOWN_MAX: Final = 80


def shorten(text: str | None) -> str:
    """Return the `repr` of a text, or only its length if it is long."""
    if text is None or len(text) <= SHOWN_MAX:
        return repr(text)
    return f"<{len(text)} characters>"


# -- what a turn works with


@frozen
class Limits:
    """Limits of one turn."""

    iterations_max: int = 50
    concurrency: int = 8  # tool calls in progress
    deadline_ms: int = 3_300_000  # below the runner's limit of one hour
    hand_offs_max: int = 16  # in a row
    result_max: int = 50_000  # characters of a tool result in a request
    take_max: int = RUN_INPUTS_MAX  # inputs that are taken together (TURN-84)
    shortens: bool = True  # a request that does not fit the context is shortened and sent once more


LIMITS: Final = Limits()


@frozen
class Environment:
    """What a request contains besides the transcript.

    `parameters` is a JSON object for the provider.  `window` is the context window of the model, in tokens.
    """

    model: str
    system: str = ""
    tools: tuple[Tool, ...] = ()
    parameters: str = "{}"
    window: int | None = None

    def tool(self, name: str) -> Tool | None:
        """Return the tool of this name, or None."""
        return next((tool for tool in self.tools if tool.name == name), None)


@frozen
class HandOff:
    """Another agent continues: `frame` names it or is a Switch to the frame in which it continues, `text` is its input."""

    frame: str | Switch
    text: str = field(repr=shorten)


@frozen
class ToolResult:
    """The result of one attempt of a call.

    `retryable`: the attempt failed, and a later one may succeed, after `retry_after_ms` at the earliest.
    """

    text: str = field(default="", repr=shorten)
    is_error: bool = False
    retryable: bool = False
    retry_after_ms: int = 0
    attachments: tuple[Attachment, ...] = ()
    hand_off: HandOff | None = None


# -- how a turn ends


@frozen
class Completed:
    """The model has answered."""


@frozen
class Value:
    """A finishing tool has returned the final value: the result of this call."""

    call_id: str


@frozen
class Stopped:
    """A limit or the model has stopped the turn; `code` names the reason."""

    code: str


@frozen
class Cancelled:
    """A client has asked the run to stop."""


@frozen
class HandedOff:
    """Another agent continues."""

    hand_off: HandOff


@frozen
class Failed:
    """The turn has failed.  The kernel decides whether the run is retried."""

    failure: Failure


Ending: TypeAlias = Completed | Value | Stopped | Cancelled | HandedOff | Failed
DEADLINE: Final = Stopped("deadline")


# -- effects


@frozen
class WriteRecord:
    """Write this record in one checkpoint, then report Recorded or NotRecorded."""

    key: str
    record: Record


@frozen
class SetDeadline:
    """Report DeadlinePassed after this time."""

    after_ms: int


@frozen
class PrepareEnvironment:
    """Prepare the environment of the agent that `frame` names; empty: the first agent."""

    key: str
    frame: str


@frozen
class CallModel:
    """Send a request to the model, then report ModelReplied or ModelFailed.

    With `budget`, first shorten its messages to about this many characters, by the policy of the agent.
    """

    key: str
    request: Request
    budget: int | None = None


@frozen
class CheckApproval:
    """Find out whether somebody has to approve a call, then report ApprovalChecked."""

    key: str
    call: ToolCall
    tool: Tool


@frozen
class RunTool:
    """Run one attempt of a call, for at most the tool's timeout.  All attempts have the same `key`.

    `decision`: on the ticket of the call, for a tool that is handed it.
    """

    key: str
    call: ToolCall
    tool: Tool
    attempt: int = 1
    decision: Settled | None = None


@frozen
class Probe:
    """Find out the result of a call that was started with this key before a crash."""

    key: str
    call: ToolCall
    tool: Tool


@frozen
class Sleep:
    """Report RetryDue after this time."""

    key: str
    attempt: int
    for_ms: int


@frozen
class Park:
    """Park the turn.  This attempt ends with it, or TicketsSettled or NotRecorded is reported."""

    key: str
    wait: TurnWait


@frozen
class SettleTicket:
    """Settle a ticket like an earlier one, unless somebody has decided; then report TicketsSettled."""

    key: str
    ticket_id: str
    settlement: Settled


@frozen
class Abort:
    """Cancel the effects with these keys.  Their reports are ignored or refused from now on."""

    keys: tuple[str, ...]


@frozen
class Fail:
    """Give the run back with this failure.  The other last effect of a turn is `TurnEnd`, which is committed."""

    failure: Failure
    usage: tuple[UsageDelta, ...] = ()


Effect: TypeAlias = (
    WriteRecord
    | SetDeadline
    | PrepareEnvironment
    | CallModel
    | CheckApproval
    | RunTool
    | Probe
    | Sleep
    | Park
    | SettleTicket
    | Abort
    | TurnEnd
    | Fail
)


# -- reports: each answers the effect with its key


@frozen
class Begin:
    """Start the turn; it reports no effect."""


@frozen
class EnvironmentReady:
    """The environment was prepared."""

    key: str
    environment: Environment


@frozen
class EnvironmentFailed:
    """The environment could not be prepared."""

    key: str
    failure: Failure


@frozen
class ModelReplied:
    """The model has replied."""

    key: str
    reply: Reply


@frozen
class ModelFailed:
    """The model call has failed.  `usage` counts its attempts."""

    key: str
    failure: Failure
    usage: tuple[UsageDelta, ...] = ()


@frozen
class ApprovalChecked:
    """Whether somebody is asked: `prompt` is the question, None if nobody is.  `ticket_id` is new and random."""

    key: str
    ticket_id: str
    prompt: str | None


@frozen
class TicketsSettled:
    """How tickets that the turn needs are settled: ticket ids and settlements."""

    key: str
    settled: tuple[tuple[str, Settled], ...]


@frozen
class ToolReported:
    """An attempt of a tool call has ended."""

    key: str
    attempt: int
    result: ToolResult


@frozen
class Probed:
    """A probe has ended.  `result` is None if the outcome cannot be found out."""

    key: str
    result: ToolResult | None


@frozen
class RetryDue:
    """A sleep has ended: the attempt may begin."""

    key: str
    attempt: int


@frozen
class Recorded:
    """The record is durable.  `inputs`: what it has taken."""

    key: str
    inputs: tuple[Input, ...] = ()


@frozen
class NotRecorded:
    """The record was refused, and nothing was written."""

    key: str
    refused: Refused

    @classmethod
    def stopped(cls, key: str, why: str) -> NotRecorded:
        """Return the report of a record that the runner refused because the turn has to end (RUNNER-51)."""
        return cls(key, Refused(Refusal.CANCELLED, "RUNNER-51", why))


@frozen
class CommitSteered:
    """The commit was refused, because inputs wait that the turn can take instead."""


REPORTS: Final = (
    Begin, EnvironmentReady, EnvironmentFailed, ModelReplied, ModelFailed, ToolReported,
    Probed, RetryDue, Recorded, NotRecorded, CommitSteered, ApprovalChecked, TicketsSettled,
)  # fmt: skip


# -- signals: they may arrive at any time


@frozen
class CancelSeen:
    """A client has asked the run to stop.  `shown`: the text that the model call in progress has streamed so far."""

    shown: str = field(default="", repr=False)


@frozen
class DeadlinePassed:
    """The deadline of the turn has passed.  `shown`: the text that the model call in progress has streamed so far."""

    shown: str = field(default="", repr=False)


Event: TypeAlias = (
    Begin
    | EnvironmentReady
    | EnvironmentFailed
    | ModelReplied
    | ModelFailed
    | ToolReported
    | Probed
    | RetryDue
    | Recorded
    | NotRecorded
    | CommitSteered
    | ApprovalChecked
    | TicketsSettled
    | CancelSeen
    | DeadlinePassed
)
