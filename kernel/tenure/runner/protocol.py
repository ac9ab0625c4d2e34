"""What a runner and its host say to each other: effects go out, events come in.  Spec: specs/runner.md.

Every effect whose report matters has an id, every event names the effect that it reports.  All `now_ms` are of the
host's own clock, which runs on while the machine sleeps and is never compared with a store's.
"""

from __future__ import annotations

import enum
from typing import Any, TypeAlias

from attrs import frozen

from ..commands import Begun, NewEntry, NewInput
from ..failure import Failure
from ..machines.lease import Evidence, LocalProcess
from ..machines.run import Termination
from ..queries import Command, Question
from ..questions.core import Carried
from ..records import EntryKind
from ..transcript import NewNode, UsageDelta

# -- what the code of a turn wants


@frozen
class Start:
    """May an effect begin now?  Also a bare checkpoint: is there a reason to stop?"""


@frozen
class Record:
    """Make this durable."""

    entries: tuple[NewEntry, ...]
    nodes: tuple[NewNode, ...] = ()
    usage: tuple[UsageDelta, ...] = ()
    environment: str | None = None

    @property
    def alone(self) -> bool:
        """It goes into a checkpoint of its own."""
        return self.starts or bool(self.nodes or self.usage or self.environment)

    @property
    def starts(self) -> bool:
        """It marks a once step, which would run after it."""
        return any([e.kind is EntryKind.START for e in self.entries])


@frozen
class End:
    """Commit the turn.  `next_run_id` is for the run that may follow under the same lease."""

    next_run_id: str
    nodes: tuple[NewNode, ...] = ()
    state: str | None = None
    usage: tuple[UsageDelta, ...] = ()
    termination: Termination = Termination.FINISHED
    reason: str = ""
    hand_off: NewInput | None = None
    frame: str | None = None

    @property
    def closes(self) -> bool:
        """It does what a cancel asks for."""
        return self.termination is Termination.CANCELLED


Want: TypeAlias = Start | Record | End


class Said(enum.StrEnum):
    """What the code of a turn is told, besides what a store answered."""

    GO = "go"
    CANCELLED = "cancelled"  # somebody asked this run to stop
    TIMED_OUT = "timed_out"  # the turn has used up its time
    LOST = "lost"  # the session is another's by now
    COMMITTED = "committed"  # the turn has committed already


# -- how its code ended


@frozen
class Returned:
    """It came to its end and did not commit itself; this is its commit."""

    end: End


@frozen
class Failed:
    failure: Failure
    usage: tuple[UsageDelta, ...] = ()


@frozen
class Left:
    """It was let go without a verdict."""


How: TypeAlias = Returned | Failed | Left


# -- effects


@frozen
class Execute:
    id: int
    command: Command[Any, Any]


@frozen
class Ask:
    id: int
    question: Question[Any]


@frozen
class Examine:
    """Is this process alive?"""

    id: int
    process: LocalProcess


@frozen
class StartTurn:
    id: int
    begun: Begun
    carried: Carried


@frozen
class Reply:
    """To a request of the turn's code: a word, a `Committed`, or the store's refusal."""

    id: int
    answer: Any


@frozen
class Tell:
    """Let the turn's code know, without a request: it may look at it whenever it likes."""

    turn_id: int
    said: Said


@frozen
class CancelTurn:
    """Interrupt the turn's code where it stands."""

    turn_id: int


@frozen
class SetTimer:
    """There is no other timer of this id: a later one replaces it."""

    id: int
    at_ms: int


@frozen
class RunOver:
    """For those who wait in this process: look at what became of these inputs."""

    run_id: str
    input_ids: tuple[str, ...]


class Reason(enum.StrEnum):
    DONE = "done"  # the lease was given back, with what it was taken for
    NOTHING_DUE = "nothing_due"
    HELD = "held"  # another owner is at it
    REFUSED = "refused"
    FENCED = "fenced"  # another owner took over
    UNAVAILABLE = "unavailable"  # the store did not answer in time
    BROKEN = "broken"  # what is stored cannot be worked with


@frozen
class Stop:
    reason: Reason
    detail: Any = None


Effect: TypeAlias = (
    Execute | Ask | Examine | StartTurn | Reply | Tell | CancelTurn | SetTimer | RunOver | Stop
)


# -- events


@frozen
class Answered:
    """By the store: to an Execute its outcome or a Refused, to an Ask what was asked."""

    now_ms: int
    id: int
    answer: Any


@frozen
class StoreUnavailable:
    """It was not done."""

    now_ms: int
    id: int


@frozen
class OutcomeUnknown:
    now_ms: int
    id: int


@frozen
class StoreBroken:
    """It cannot be done, now or later."""

    now_ms: int
    id: int
    message: str


@frozen
class Examined:
    now_ms: int
    id: int
    evidence: Evidence
    command_id: str  # for a Reclaim


@frozen
class TimerFired:
    now_ms: int
    id: int


@frozen
class TurnAsked:
    now_ms: int
    turn_id: int
    id: int
    want: Want


@frozen
class TurnEnded:
    now_ms: int
    turn_id: int
    how: How


@frozen
class CancelSeen:
    """A hint: this run may have been asked to stop."""

    now_ms: int
    run_id: str


@frozen
class Drain:
    """Take nothing new; what is under way has `grace_ms` to end."""

    now_ms: int
    grace_ms: int


Event: TypeAlias = (
    Answered
    | StoreUnavailable
    | OutcomeUnknown
    | StoreBroken
    | Examined
    | TimerFired
    | TurnAsked
    | TurnEnded
    | CancelSeen
    | Drain
)
