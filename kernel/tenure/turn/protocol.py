"""What a turn and its host say to each other: effects go out, reports come in.  Spec: specs/turn.md.

Every effect has a key, and every report names the key of the effect that it reports.  There are no times: whoever
carries effects out has the clock.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from attrs import field, frozen

from ..commands import NewEntry, NewInput
from ..failure import Failure
from ..machines.run import Termination
from ..messages.types import Attachment, Reply, Request, Tool, ToolCall
from ..outcome import Refused
from ..transcript import NewNode, UsageDelta

SHOWN_MAX: Final = 80


def shorten(text: str | None) -> str:
    if text is None or len(text) <= SHOWN_MAX:
        return repr(text)
    return f"<{len(text)} characters>"


# -- what a turn works with


@frozen
class Limits:
    iterations_max: int = 50
    concurrency: int = 8
    deadline_ms: int = 3_300_000  # ends by itself before its runner ends it (1 h)
    hand_offs_max: int = 16  # in a row


LIMITS: Final = Limits()


@frozen
class Environment:
    """What a model is asked with, besides the transcript.  `parameters` is a JSON object for the provider."""

    model: str
    system: str = ""
    tools: tuple[Tool, ...] = ()
    parameters: str = "{}"
    window: int | None = None  # how many tokens the model can read

    def tool(self, name: str) -> Tool | None:
        return next((tool for tool in self.tools if tool.name == name), None)


@frozen
class HandOff:
    """Somebody else goes on: a frame names who, `text` says with what."""

    frame: str
    text: str = field(repr=shorten)


@frozen
class ToolResult:
    """How an attempt of a call went.  `retryable`: it failed, and may go better another time."""

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
    """A tool has given the final value: it is the result of this call."""

    call_id: str


@frozen
class Halted:
    """Stopped by a limit or by the model: `code` says which."""

    code: str


@frozen
class Cancelled:
    """Somebody asked the run to stop."""


@frozen
class HandedOff:
    hand_off: HandOff


@frozen
class Broken:
    """It fails: the kernel judges what becomes of the run."""

    failure: Failure


Outcome: TypeAlias = Completed | Value | Halted | Cancelled | HandedOff | Broken
DEADLINE: Final = Halted("deadline")


# -- effects


@frozen
class Record:
    """Make this durable in one checkpoint, then report Recorded."""

    key: str
    entries: tuple[NewEntry, ...] = ()
    nodes: tuple[NewNode, ...] = ()
    usage: tuple[UsageDelta, ...] = ()
    environment: str | None = field(default=None, repr=shorten)


@frozen
class SetDeadline:
    after_ms: int


@frozen
class PrepareEnvironment:
    key: str
    frame: str


@frozen
class CallModel:
    key: str
    request: Request


@frozen
class RunTool:
    """Run one attempt of a call, for at most the tool's timeout.  `key` is the same in every attempt."""

    key: str
    call: ToolCall
    tool: Tool
    attempt: int = 1


@frozen
class Probe:
    """What became of this call, which was started under this key before a crash?"""

    key: str
    call: ToolCall
    tool: Tool


@frozen
class Sleep:
    key: str
    attempt: int
    for_ms: int


@frozen
class Abort:
    """Stop these effects where they stand; whether they report any more does not matter."""

    keys: tuple[str, ...]


@frozen
class Finish:
    """Commit this.  `hand_off` is admitted by the commit, for whom the session's `frame` names from then on."""

    termination: Termination
    reason: str = ""
    nodes: tuple[NewNode, ...] = ()
    usage: tuple[UsageDelta, ...] = ()
    hand_off: NewInput | None = None
    frame: str | None = None


@frozen
class Fail:
    """Give the run back, with this failure."""

    failure: Failure
    usage: tuple[UsageDelta, ...] = ()


Effect: TypeAlias = (
    Record
    | SetDeadline
    | PrepareEnvironment
    | CallModel
    | RunTool
    | Probe
    | Sleep
    | Abort
    | Finish
    | Fail
)


# -- reports


@frozen
class Begin:
    """Go."""


@frozen
class EnvironmentReady:
    key: str
    environment: Environment


@frozen
class EnvironmentFailed:
    key: str
    failure: Failure


@frozen
class ModelReplied:
    key: str
    reply: Reply


@frozen
class ModelFailed:
    key: str
    failure: Failure
    usage: tuple[UsageDelta, ...] = ()


@frozen
class ToolReported:
    key: str
    attempt: int
    result: ToolResult


@frozen
class Probed:
    """`result` None: nobody knows."""

    key: str
    result: ToolResult | None


@frozen
class RetryDue:
    """A sleep is over."""

    key: str
    attempt: int


@frozen
class Recorded:
    key: str


@frozen
class NotRecorded:
    key: str
    refused: Refused


@frozen
class CancelSeen:
    """The run was asked to stop."""


@frozen
class DeadlinePassed:
    pass


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
    | CancelSeen
    | DeadlinePassed
)
