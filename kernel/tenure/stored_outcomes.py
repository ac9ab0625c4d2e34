"""The outcomes of commands that are known by their id, as they are stored for a repetition (STORE-2).  Spec: specs/store.md."""

from __future__ import annotations

import enum
from typing import ClassVar, TypeAlias

from attrs import frozen

from .frame import Switched
from .phase import Phase
from .transcript import Tip

__all__ = [
    "Admission",
    "Amended",
    "CancelRequested",
    "ExecutedOutcome",
    "FencedOff",
    "GrantsMoved",
    "HowAdmitted",
    "Interrupted",
    "JobAsked",
    "LeaseTaken",
    "PhaseChanged",
    "Readmitted",
    "Reclaimed",
    "Reordered",
    "Replaced",
    "Resent",
    "RunTakenUp",
    "SubscriptionChanged",
    "TicketDecided",
    "TriggerChanged",
    "WithdrawnCount",
]


class HowAdmitted(enum.StrEnum):
    """How a submission was answered: queued now, delayed until its time, or known already."""

    QUEUED = "queued"
    DELAYED = "delayed"
    KNOWN = "known"  # this input, or another one under its key, was admitted before
    ADDRESSED = "addressed"  # ready, for a run that is at work or will be: see `Admission.run_id`
    added = enum.nonmember({"ADDRESSED": 2})


@frozen
class Admission:
    """How one submission was admitted; `input_id` is the input that stands for it.

    `run_id`: the run that the input is addressed to.
    """

    added: ClassVar = {"run_id": 2}
    input_id: str
    how: HowAdmitted
    run_id: str | None = None


@frozen
class LeaseTaken:
    """Acquire granted a lease; `released`: ReleaseSession has ended it."""

    released: bool = False


@frozen
class RunTakenUp:
    """Begin granted a lease on a run that existed."""

    run_id: str


@frozen
class CancelRequested:
    """`ended`: the run ended in this transaction; else its holder, or the next one, closes it."""

    run_id: str
    ended: bool


@frozen
class Interrupted:
    """`run_id`: the run that was asked to stop.  `replacement`: the input admitted in its place.

    `rolled_back`: whether that run ends as if it had not begun; None if that was not asked.
    """

    added: ClassVar = {"rolled_back": 2}
    mark: int
    run_id: str | None
    replacement: Admission | None
    rolled_back: bool | None = None


@frozen
class WithdrawnCount:
    """How many inputs were withdrawn.  `more`: others may be left, repeat with another command id."""

    count: int
    more: bool


@frozen
class PhaseChanged:
    """The phase now, and the run that was asked to stop or has ended.  Sweep writes out the rest.

    `ready`, `delayed`, `unfinished`: how many inputs and runs there were (PHASE-15); None in an answer of release 1.
    """

    added: ClassVar = {"ready": 2, "delayed": 2, "unfinished": 2}
    ignorable: ClassVar = ("ready", "delayed", "unfinished")
    phase: Phase
    run_id: str | None = None
    ready: int | None = None
    delayed: int | None = None
    unfinished: int | None = None


@frozen
class FencedOff:
    """The generation now; the run that the lease worked on continues under the next lease."""

    generation: int
    run_id: str | None = None


@frozen
class Reclaimed:
    """The generation of the lease that was ended, and the run that it worked on."""

    generation: int
    run_id: str | None


@frozen
class Amended:
    """The revision and the leaf of the transcript after the change.  `switched`: what its Switch did."""

    added: ClassVar = {"switched": 2}
    revision: int
    leaf: Tip | None
    switched: Switched | None = None


@frozen
class Replaced:
    """How the new input was admitted in the place of the old one."""

    since: ClassVar = 2
    replacement: Admission | None


@frozen
class Readmitted:
    """How the content of a dead letter was admitted."""

    since: ClassVar = 2
    admission: Admission


@frozen
class Reordered:
    """How many inputs have the order that was asked for."""

    since: ClassVar = 2
    count: int


@frozen
class TicketDecided:
    """A decision that has settled a ticket.  `digest`: of its action, text and author."""

    since: ClassVar = 2
    ticket_id: str
    run_id: str
    digest: str


@frozen
class Resent:
    """A row of Outbound that is sent again, under this number."""

    since: ClassVar = 2
    number: int


@frozen
class GrantsMoved:
    """How many grants a session was given, or has lost."""

    since: ClassVar = 2
    count: int


@frozen
class JobAsked:
    """A request to abandon or to cancel a job.  `by`: whose request counts.  `ended`: the job has ended with it."""

    since: ClassVar = 2
    by: str
    ended: bool


@frozen
class TriggerChanged:
    """The revision of the schedule of a trigger now."""

    since: ClassVar = 2
    revision: int


@frozen
class SubscriptionChanged:
    """A subscription now."""

    since: ClassVar = 2
    incarnation: int
    revision: int
    enabled: bool
    deleted: bool


ExecutedOutcome: TypeAlias = (
    LeaseTaken
    | RunTakenUp
    | CancelRequested
    | Interrupted
    | WithdrawnCount
    | PhaseChanged
    | FencedOff
    | Reclaimed
    | Amended
    | Replaced
    | Reordered
    | Readmitted
    | TicketDecided
    | Resent
    | JobAsked
    | TriggerChanged
    | SubscriptionChanged
    | GrantsMoved
)
