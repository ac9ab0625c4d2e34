"""What the record of a run consists of.  Spec: specs/run.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from .failure import RetryLimits
from .frame import Switched
from .policy import Delivery, Lane, WhileWaiting

__all__ = ["Contributor", "LastEnd", "OpenTicket", "Stamp", "TicketName", "Work"]


@frozen
class Work:
    """What somebody else does: the session `done_by` with an input; `input_id` None: the job with that id.

    `peer`: the name of its store; "" is the same one.
    """

    since: ClassVar = 2
    done_by: str
    input_id: str | None = None
    peer: str = ""


@frozen
class TicketName:
    """A ticket of another session, which the end of an input or of a job settles.

    `asked_by`: that session.  `peer`: the name of its store; "" is the same one.
    """

    since: ClassVar = 2
    asked_by: str
    ticket_id: str
    peer: str = ""


@frozen
class Contributor:
    """An input of a run, with what is needed to rebuild its queue entry.

    `lane`, `mark` and `hold` are None if they are those of the run.
    """

    added: ClassVar = {
        "delivery": 2,
        "barrier": 2,
        "lane": 2,
        "mark": 2,
        "hold": 2,
        "checkpoint": 2,
        "while_waiting": 2,
        "retry": 2,
        "settles": 2,
    }
    ignorable: ClassVar = ("delivery", "while_waiting")
    input_id: str
    seq: int
    priority: int
    rank: int
    size: int
    open_key: str | None = None
    delivery: Delivery | None = None
    barrier: bool | None = None
    lane: Lane | None = None
    mark: int | None = None
    hold: bool | None = None
    checkpoint: int | None = None  # that has taken it; None: the run began with it
    while_waiting: WhileWaiting | None = None
    retry: RetryLimits | None = None
    settles: TicketName | None = None


@frozen
class OpenTicket:
    """A ticket of a run that is not settled, with what the run needs of it."""

    since: ClassVar = 2
    ticket_id: str
    call_id: str | None = None  # the tool call that waits for it
    deadline_ms: int | None = None
    unasked: bool = False  # nobody is asked: a timer, or work
    awaits: Work | None = None  # the work whose end settles it


@frozen
class LastEnd:
    """The verdict of the last Fail or Release on a run, by which a repetition is answered."""

    lease_id: str
    verdict: str  # rescheduled | ended | split | released
    due_at_ms: int | None = None


@frozen
class Stamp:
    """The commit of a turn, by which a repetition is recognised (COMMIT-2).  `switched`: what its Switch did."""

    added: ClassVar = {"switched": 2}
    turn: int
    digest: str
    revision: int
    lease_id: str
    next_run: str | None = None
    switched: Switched | None = None
