"""The records of a session and their primary keys.  Spec: specs/store.md.

`indexes.py` declares how records are found.  A store derives its tables from these classes.
"""

from __future__ import annotations

from typing import ClassVar, Final

from attrs import field, frozen

from .attachment_records import Attached, Attachment, Intent, Scrap
from .event import Parent
from .event_records import EventBatch
from .failure import DEFAULT_LIMITS, NO_FAILURES, RetryLimits, RetryState
from .frame import CurrentFrame
from .frame_records import BlobHolders, Frame
from .import_records import ImportedPage, ImportProgress
from .job_records import (
    Emission,
    Job,
    JobEventType,
    JobGrant,
    JobPart,
    JobSignal,
    JobText,
    Requested,
    SignalWait,
)
from .journal_records import EntryKind, JournalEntry
from .kind import Kind
from .machines import input as input_
from .machines import lease as lease_
from .machines import run as run_
from .node_records import Node
from .outbound_records import Outbound
from .phase import Phase
from .policy import Lane, Policy
from .profile_records import Child, Fork, Label, Profile, Relation, Root
from .queries import Record
from .retention import PruneProgress
from .run_values import Contributor, LastEnd, OpenTicket, Stamp, TicketName, Work
from .stored_outcomes import (
    Admission,
    Amended,
    CancelRequested,
    ExecutedOutcome,
    FencedOff,
    GrantsMoved,
    HowAdmitted,
    Interrupted,
    JobAsked,
    LeaseTaken,
    PhaseChanged,
    Readmitted,
    Reclaimed,
    Reordered,
    Replaced,
    Resent,
    RunTakenUp,
    TicketDecided,
    WithdrawnCount,
)
from .ticket_records import Ticket
from .transcript import Tip
from .trigger_records import Occurrence, Subscription, Trigger

__all__ = [
    "RECORDS",
    "Admission",
    "Amended",
    "Attached",
    "Attachment",
    "Blob",
    "BlobHolders",
    "Cancel",
    "CancelRequested",
    "Child",
    "Contributor",
    "Emission",
    "EntryKind",
    "EventBatch",
    "ExecutedCommand",
    "ExecutedOutcome",
    "FencedOff",
    "Fork",
    "Frame",
    "HowAdmitted",
    "ImportProgress",
    "ImportedPage",
    "Input",
    "Intent",
    "Interrupted",
    "Job",
    "JobAsked",
    "GrantsMoved",
    "JobEventType",
    "JobGrant",
    "JobPart",
    "JobText",
    "JournalEntry",
    "Kind",
    "Label",
    "LastEnd",
    "LeaseTaken",
    "MarkRaise",
    "Node",
    "Occurrence",
    "OpenKey",
    "OpenTicket",
    "Outbound",
    "Parent",
    "Phase",
    "PhaseChanged",
    "PruneProgress",
    "Profile",
    "QueueEntry",
    "Readmitted",
    "Reclaimed",
    "Relation",
    "Requested",
    "Reordered",
    "Replaced",
    "Resent",
    "Root",
    "Run",
    "RunTakenUp",
    "Scrap",
    "Session",
    "JobSignal",
    "SignalWait",
    "Stamp",
    "Subscription",
    "Ticket",
    "TicketDecided",
    "Trigger",
    "TicketName",
    "Usage",
    "WithdrawnCount",
    "Work",
]


@frozen
class Cancel:
    """A request to stop a run."""

    added: ClassVar = {"rollback": 2}
    run_id: str
    by: str  # the id of the command
    how: input_.How = input_.How.ABANDONED  # how its inputs end if nothing was recorded
    rollback: bool = False  # the run ends as if it had not begun


@frozen(slots=False)  # see replace.py
class Session(Record):
    """One conversation of an agent: the unit of ordering, mutual exclusion and sharding."""

    added: ClassVar = {
        "targeted_count": 2,
        "open_ticket_count": 2,
        "asking_since_ms": 2,
        "unpublished_since_ms": 2,
        "prune_at_ms": 2,
        "pruned_before_ms": 2,
        "erased": 2,
        "intent_count": 2,
        "intents_at_ms": 2,
        "scrap_count": 2,
        "scraps_since_ms": 2,
        "current_frame": 2,
        "next_node": 2,
        "next_outbound": 2,
        "kind": 2,
        "work_at_ms": 2,
        "left_since_ms": 2,
        "retry_from_ms": 2,
    }
    ignorable: ClassVar = ("unpublished_since_ms", "next_node", "retry_from_ms")
    key: ClassVar = ("session_id",)
    flat: ClassVar = ("lease",)
    derived: ClassVar = ("lease_from_ms",)
    session_id: str
    phase: Phase = Phase.OPEN
    lease: lease_.Vacant | lease_.Held = lease_.Vacant()
    lease_run: str | None = None  # the run that the lease works on; None under an Acquire
    open_run: str | None = None  # the run with progress: it comes before everything else
    user_mark: int = 0
    system_mark: int = 0
    next_rank: int = 1
    next_event: int = 1
    revision: int = 0
    leaf: Tip | None = None
    state_digest: str | None = None
    environment_digest: str | None = None  # of the last model request that was recorded
    frame: str = ""  # the id of the current frame; before one was opened, the agent (FRAME-9)
    unfinished_run_count: int = 0  # counts: at 0 a store can skip a query (STORE-17)
    ready_user_count: int = 0
    ready_system_count: int = 0
    delayed_count: int = 0
    cancel: Cancel | None = None
    sweep: bool = False  # Sweep has rows to write
    published: int | None = None  # cursor of the sink; None: no sink
    due_at_ms: int | None = None
    changed_at_ms: int = 0
    targeted_count: int | None = None  # ready inputs that name a run; None: 0
    open_ticket_count: int | None = None  # None: 0
    asking_since_ms: int | None = None  # since when its run waits for people
    unpublished_since_ms: int | None = None  # since when it has events after `published`
    prune_at_ms: int | None = None  # when to look for what may be pruned; None: nobody has looked
    pruned_before_ms: int | None = (
        None  # an id with an earlier time may be of a row that was removed
    )
    erased: bool | None = None  # its texts; False: they are to be erased
    intent_count: int | None = None  # attachments whose bytes are being stored; None: 0
    intents_at_ms: int | None = None  # no intent of a client is aged before
    scrap_count: int | None = None  # attachments whose bytes are to be deleted; None: 0
    scraps_since_ms: int | None = None  # since when it has some
    current_frame: CurrentFrame | None = None  # None: no frame was opened, nothing is named
    next_node: int | None = None  # number of the next run's first node (READ-2); None: none has one
    next_outbound: int | None = None  # number of the next row of Outbound; None: none was written
    kind: Kind | None = None  # None: a session
    work_at_ms: int | None = None  # when a job or a trigger has work that needs no lease
    left_since_ms: int | None = None  # since when a job is left, until it is renewed or ends
    retry_from_ms: int | None = None  # DUE-63: before this time a retry is due at once

    @property
    def frame_id(self) -> str:
        """FRAME-1: the id of the current frame; "" is the first one."""
        current = self.current_frame
        return self.frame if current is not None and current.frame_count else ""

    @property
    def agent(self) -> str:
        """The name of the agent that runs the next turn; "" is the first one."""
        current = self.current_frame
        return self.frame if current is None or current.agent is None else current.agent

    @property
    def shared_digests(self) -> tuple[str, ...]:
        """STATE-6: the digests on this row that rows of frames name too."""
        return () if self.current_frame is None else self.current_frame.shared

    @property
    def lease_from_ms(self) -> int | None:
        """DUE-8, DUE-63: the earliest possible start of the lease or of a backoff.

        If it is in the future, the clock was set back after that.
        """
        lease, retry_from_ms = self.lease, self.retry_from_ms
        if lease.__class__ is lease_.Vacant:
            return retry_from_ms
        assert isinstance(lease, lease_.Held)
        from_ms = lease.expires_at_ms - 2 * lease.ttl_ms
        return from_ms if retry_from_ms is None else max(from_ms, retry_from_ms)

    @property
    def waiting(self) -> int:
        """How many inputs are ready or delayed, with those of older marks that Sweep has not ended yet."""
        return self.ready_user_count + self.ready_system_count + self.delayed_count

    def mark(self, lane: Lane) -> int:
        """Return the mark of a lane: inputs with an older mark are superseded."""
        return self.user_mark if lane is Lane.USER else self.system_mark


@frozen
class Input(Record):
    """An input as it was submitted; written once.  `payload` is opaque text."""

    added: ClassVar = {"retry_of": 2, "origin": 2, "parent": 2, "resolution": 2, "pruned": 2}
    key: ClassVar = ("session_id", "input_id")
    payloads: ClassVar = ("payload", "origin")
    session_id: str
    input_id: str
    kind: str
    source: str
    key_value: str | None  # set only if the key is retained
    correlation_id: str | None
    content_digest: str
    policy: Policy
    admitted_at_ms: int
    payload: str = field(repr=lambda p: repr(p) if len(p) < 80 else f"<{len(p)} characters>")
    retry_of: str | None = None  # the dead letter whose content it has
    origin: str | None = None  # opaque to tenure
    parent: Parent | None = None
    resolution: str | None = None  # the version of the agent that it asks for
    pruned: bool | None = None  # only what recognises its repetition is left


@frozen
class QueueEntry(Record):
    """The state of an input in its queue.  `settles`: the ticket that its end settles."""

    added: ClassVar = {"settles": 2}
    key: ClassVar = ("session_id", "input_id")
    flat: ClassVar = ("state",)
    derived: ClassVar = ("dead_seq",)
    session_id: str
    input_id: str
    seq: int  # number of its admission event: the order of admission
    lane: Lane
    priority: int
    state: input_.Delayed | input_.Ready | input_.Bound | input_.Ended
    settles: TicketName | None = None

    @property
    def dead_seq(self) -> int | None:
        """The position among dead letters; None if it is not one, or if it was readmitted."""
        state = self.state
        if state.__class__ is input_.Ended and state.how is input_.How.DEAD_LETTERED:
            return self.seq if state.readmitted_as is None else None
        return None


@frozen(slots=False)  # see replace.py
class Run(Record):
    """A run: the work on one or more inputs, over any number of leases."""

    added: ClassVar = {
        "reversible": 2,
        "open_tickets": 2,
        "resolution": 2,
        "pruned": 2,
        "node_count": 2,
    }
    ignorable: ClassVar = ("reversible", "node_count")
    key: ClassVar = ("session_id", "run_id")
    flat: ClassVar = ("state",)
    derived: ClassVar = ("unfinished",)
    session_id: str
    run_id: str
    lane: Lane
    mark: int
    hold: bool
    contributors: tuple[Contributor, ...]
    state: run_.Running | run_.Rescheduled | run_.Waiting | run_.Done
    turn: int = 1
    next_checkpoint: int = 0  # number of the next checkpoint
    retry: RetryState = NO_FAILURES
    progress: bool = False
    tip: Tip | None = None  # the last of its provisional nodes
    last_end: LastEnd | None = None
    stamp: Stamp | None = None
    open_calls: tuple[str, ...] = ()  # tool calls on its path that have no result yet
    reversible: bool | None = None  # None: nothing is recorded, or a once step was started
    open_tickets: tuple[OpenTicket, ...] | None = None
    resolution: str | None = None  # the version of the agent that it began with
    pruned: bool | None = None  # its journal or its stamp was removed
    node_count: int | None = None  # how many numbered nodes it has written; None: 0

    @property
    def unfinished(self) -> int | None:
        """The position among unfinished runs; None when done."""
        return None if self.state.__class__ is run_.Done else self.contributors[0].rank

    def lane_of(self, contributor: Contributor) -> Lane:
        """Return the lane of one of its inputs."""
        return self.lane if contributor.lane is None else contributor.lane

    def mark_of(self, contributor: Contributor) -> int:
        """Return the mark under which one of its inputs was admitted."""
        return self.mark if contributor.mark is None else contributor.mark

    @property
    def limits(self) -> RetryLimits:
        """The limits of its retries: those of its first input (FAIL-19); the others that it began with have the same (FAIL-21)."""
        return self.contributors[0].retry or DEFAULT_LIMITS

    def waits_for(self) -> tuple[OpenTicket, ...]:
        """Return the open tickets that a waiting run waits for."""
        if not isinstance(self.state, run_.Waiting):
            return ()
        return tuple(
            [each for each in self.open_tickets or () if each.ticket_id in self.state.tickets]
        )

    @property
    def order(self) -> tuple[int, int]:
        """The position in the queue: that of its first input."""
        first = self.contributors[0]
        return (first.priority, first.rank)


@frozen
class OpenKey(Record):
    """An idempotency key that is free again when its input has ended."""

    key: ClassVar = ("session_id", "key_value", "lane", "mark")
    session_id: str
    key_value: str
    lane: Lane
    mark: int  # of the input; a later input of this lane has a later mark
    input_id: str
    content_digest: str


@frozen
class MarkRaise(Record):
    """A raised mark, and how the inputs before it end.  Sweep drops it when it has written their ends."""

    key: ClassVar = ("session_id", "lane", "mark")
    session_id: str
    lane: Lane
    mark: int
    how: input_.How
    by: str


@frozen
class ExecutedCommand(Record):
    """STORE-2: a command that acts on the state it finds was executed; its repetition answers `outcome`."""

    added: ClassVar = {"content_digest": 2}
    ignorable: ClassVar = ("content_digest",)
    key: ClassVar = ("session_id", "command_id")
    flat: ClassVar = ("outcome",)
    session_id: str
    command_id: str
    command: str
    at_ms: int
    outcome: ExecutedOutcome
    content_digest: str | None = None  # STORE-56; None: any repetition is a replay


@frozen
class Usage(Record):
    """The usage of one model by one source, added up."""

    key: ClassVar = ("session_id", "source", "model")
    session_id: str
    source: str
    model: str
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@frozen
class Blob(Record):
    """A text named by its digest: the state or the environment of a session."""

    key: ClassVar = ("session_id", "digest")
    payloads: ClassVar = ("body",)
    session_id: str
    digest: str
    body: str


RECORDS: Final[tuple[type[Record], ...]] = (
    Session,
    Input,
    QueueEntry,
    Run,
    JournalEntry,
    Node,
    EventBatch,
    OpenKey,
    MarkRaise,
    ExecutedCommand,
    Usage,
    Blob,
    Ticket,
    PruneProgress,
    Profile,
    Label,
    Attachment,
    Frame,
    BlobHolders,
    ImportProgress,
    ImportedPage,
    Outbound,
    Job,
    JobText,
    Trigger,
    Subscription,
    Occurrence,
    JobEventType,
    Emission,
    JobSignal,
    JobGrant,
)
