"""The records of a job, beside its row `Session`.  Spec: specs/job.md."""

from __future__ import annotations

import enum
from typing import ClassVar

from attrs import field, frozen

from .failure import DEFAULT_LIMITS, NO_FAILURES, RetryLimits, RetryState
from .machines import job as job_
from .machines.lease import LocalProcess, Owner
from .queries import Record
from .run_values import LastEnd, TicketName

__all__ = [
    "Emission",
    "Job",
    "JobEventType",
    "JobGrant",
    "JobPart",
    "JobSignal",
    "JobText",
    "Requested",
    "SignalCount",
    "SignalWait",
]


@frozen
class Requested:
    """A request to abandon or to cancel a job: the first one wins (JOB-70, JOB-73)."""

    since: ClassVar = 2
    command_id: str
    by: str
    at_ms: int
    reason: str = ""


@frozen
class SignalWait:
    """The signal that a job waits for: the one of this name and number."""

    since: ClassVar = 2
    name: str
    number: int


@frozen
class SignalCount:
    """How many signals of a name have come."""

    since: ClassVar = 2
    name: str
    count: int


@frozen
class Job(Record):
    """A job: work that outlives turns.  Its lease, its events and when it is due are on its row `Session`."""

    since: ClassVar = 2
    key: ClassVar = ("session_id",)
    flat: ClassVar = ("state",)
    derived: ClassVar = ("started_by", "open_since_ms")
    session_id: str
    runner: str
    disposition: job_.Disposition
    digest: str  # of what was registered
    registered_at_ms: int
    changed_at_ms: int
    state: job_.Waiting | job_.Held | job_.Started | job_.Ended = job_.Waiting()
    origin: str | None = None  # the session for which it was registered
    registered_by: str | None = None  # who may end it, if it is EXTERNAL
    wake_target: str | None = None  # the session that its wakes go to
    retry: RetryLimits | None = None
    failures: RetryState = NO_FAILURES
    attempts: int = 0  # how often it was started
    starter: Owner | None = None  # who has started it first
    started_at_ms: int | None = None
    next_checkpoint: int = 0
    request: Requested | None = None  # to abandon it
    cancel: Requested | None = None
    hold: str | None = None  # why the last Take has left it
    look_at_ms: int | None = None  # when to look again
    looks: int = 0  # how often it was left in a row
    waits: SignalWait | None = None
    signals: tuple[SignalCount, ...] = ()
    emitted: int = 0
    last_end: LastEnd | None = None  # of its last FailJob or LetGo
    settles: TicketName | None = None  # the ticket of a session that its end settles
    process: LocalProcess | None = None  # the child process of its last start (JOB-39)

    @property
    def started_by(self) -> str | None:
        """The incarnation that has started owner-bound work which has not ended."""
        if self.disposition is not job_.Disposition.OWNER_BOUND or self.starter is None:
            return None
        return None if self.state.__class__ is job_.Ended else self.starter.incarnation_id

    @property
    def open_since_ms(self) -> int | None:
        """When it was registered; None if it has ended."""
        return None if self.state.__class__ is job_.Ended else self.registered_at_ms

    @property
    def limits(self) -> RetryLimits:
        """The limits of its retries."""
        return self.retry or DEFAULT_LIMITS

    @property
    def may_start(self) -> bool:
        """Whether it may be started: never again if it is owner-bound."""
        if self.disposition is job_.Disposition.OWNER_BOUND:
            return self.starter is None
        return self.disposition is job_.Disposition.RERUNNABLE


class JobPart(enum.StrEnum):
    """What a text of a job is."""

    INPUT = "input"
    OUTPUT = "output"
    since = enum.nonmember(2)


@frozen
class JobText(Record):
    """A text of a job, written once and apart from the row that changes."""

    since: ClassVar = 2
    key: ClassVar = ("session_id", "part")
    payloads: ClassVar = ("body",)
    session_id: str
    part: JobPart
    body: str = field(repr=lambda b: repr(b) if len(b) < 80 else f"<{len(b)} characters>")


@frozen
class JobEventType(Record):
    """A type of events that a job may emit.  `schema`: a JSON schema, as text; None: any text."""

    since: ClassVar = 2
    key: ClassVar = ("session_id", "name")
    session_id: str
    name: str
    schema: str | None


@frozen
class Emission(Record):
    """An event that a job has emitted.  Numbered from 1, without gaps; written once."""

    since: ClassVar = 2
    key: ClassVar = ("session_id", "seq")
    payloads: ClassVar = ("body",)
    session_id: str
    seq: int
    type: str
    key_value: str | None
    digest: str
    at_ms: int
    body: str = field(repr=lambda b: repr(b) if len(b) < 80 else f"<{len(b)} characters>")


@frozen
class JobSignal(Record):
    """A signal to a job: the one of its name with this number.  Written once."""

    since: ClassVar = 2
    key: ClassVar = ("session_id", "name", "number")
    payloads: ClassVar = ("body",)
    session_id: str
    name: str
    number: int
    signal_id: str
    digest: str
    at_ms: int
    body: str = field(repr=lambda b: repr(b) if len(b) < 80 else f"<{len(b)} characters>")


@frozen
class JobGrant(Record):
    """A session may see a job.  `by`: who has given it, or the session that it comes from; for people."""

    since: ClassVar = 2
    key: ClassVar = ("session_id", "job_id")
    session_id: str
    job_id: str
    by: str
    at_ms: int
