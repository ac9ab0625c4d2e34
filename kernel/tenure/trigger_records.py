"""The records of a trigger, beside its row `Session`.  Spec: specs/trigger.md."""

from __future__ import annotations

import enum
from typing import ClassVar, TypeAlias

from attrs import field, frozen

from .failure import RetryLimits
from .machines.job import Disposition
from .machines.subscription import Deleted, Live
from .policy import Policy
from .queries import Record

__all__ = [
    "Reservation",
    "Missed",
    "Occurrence",
    "Schedule",
    "Starts",
    "StartsInput",
    "StartsJob",
    "Subscription",
    "Trigger",
]


class Missed(enum.StrEnum):
    """Which times of a schedule occur that nobody has fired while they were due (TRIGGER-45)."""

    ONE = "one"  # the last one
    ALL = "all"  # each, at most the last 32
    NONE = "none"  # only the last one, and only if it is less than a minute old
    since = enum.nonmember(2)


@frozen
class Schedule:
    """When a trigger fires by itself.  The kernel stores these texts; a driver computes the times (TRIGGER-40).

    `kind`: "cron", "every" or "at", or one of a driver of your own.  `expression`: such as "0 3 * * *", "90s" or
    "2027-01-31T12:00:00".  `zone`: the name of a time zone.
    """

    since: ClassVar = 2
    kind: str
    expression: str
    zone: str = "UTC"


@frozen
class StartsJob:
    """A subscription that registers a job for each occurrence.

    `wake_target`: the session that the job's wakes go to.  The other fields are those of `Register`.
    """

    since: ClassVar = 2
    runner: str
    disposition: Disposition = Disposition.RERUNNABLE
    wake_target: str | None = None
    retry: RetryLimits | None = None


@frozen
class StartsInput:
    """A subscription that admits an input for each occurrence.

    `to`: the session that gets it; None: a new session for each occurrence.  The other fields are those of
    `NewInput`.
    """

    since: ClassVar = 2
    to: str | None
    kind: str = "prompt"
    supersession_key: str | None = None
    policy: Policy | None = None


Starts: TypeAlias = StartsJob | StartsInput


@frozen
class Trigger(Record):
    """A source of occurrences.  Its subscriptions say what each of them starts.

    `revision`: of the schedule; it grows with each change.  `subscription_count`: those that are not deleted.
    """

    since: ClassVar = 2
    key: ClassVar = ("session_id",)
    session_id: str
    revision: int
    schedule: Schedule | None
    next_at_ms: int | None  # the next time of the schedule; None: there is none
    missed: Missed
    made_at_ms: int
    subscription_count: int = 0


@frozen
class Subscription(Record):
    """What the occurrences of a trigger start.

    `text`: the input of the job, or the payload of the input; None: the body of the occurrence.  `digest`: of `starts` and
    `text`, also after they were erased.
    """

    since: ClassVar = 2
    key: ClassVar = ("session_id", "subscription_id")
    flat: ClassVar = ("starts", "state")
    derived: ClassVar = ("enabled_id",)
    payloads: ClassVar = ("text",)
    session_id: str
    subscription_id: str
    digest: str
    starts: StartsJob | StartsInput
    text: str | None = field(
        repr=lambda t: repr(t) if t is None or len(t) < 80 else f"<{len(t)} characters>"
    )
    state: Live | Deleted

    @property
    def enabled_id(self) -> str | None:
        """The id while the subscription is enabled; None while it is disabled, and once it is deleted."""
        state = self.state
        return self.subscription_id if isinstance(state, Live) and state.enabled else None


@frozen
class Reservation:
    """TRIGGER-33: what an occurrence starts for one subscription, as that was when it occurred.

    `to`: the job or the session that the command is for.  `started_id`: of the job or of the input.  `number`: of the row
    `Outbound` that has the command, until it was sent.
    """

    since: ClassVar = 2
    subscription_id: str
    incarnation: int
    revision: int
    to: str
    started_id: str
    number: int


@frozen
class Occurrence(Record):
    """Something that has occurred: it is known by its source and its key (TRIGGER-31).

    `at_ms`: when it occurred, for a schedule the time of the schedule.  `recorded_at_ms`: when it was stored.
    """

    since: ClassVar = 2
    key: ClassVar = ("session_id", "source", "key_value")
    payloads: ClassVar = ("body",)
    session_id: str
    source: str
    key_value: str
    digest: str
    at_ms: int
    recorded_at_ms: int
    body: str = field(repr=lambda b: repr(b) if len(b) < 80 else f"<{len(b)} characters>")
    reservations: tuple[Reservation, ...] = ()
