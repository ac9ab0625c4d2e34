"""The ticket machine: a question that a run has asked, settled once.  Spec: specs/ticket.md."""

from __future__ import annotations

import enum
from typing import ClassVar, Final, TypeAlias

from attrs import frozen

from ..outcome import Refusal, Refused, Stepped
from ..rules import Row, Table, always

__all__ = [
    "ACTIONS",
    "ENDS",
    "RULES",
    "Action",
    "Open",
    "Rest",
    "Settle",
    "Settled",
    "TicketKind",
    "step",
]


class TicketKind(enum.StrEnum):
    """What a ticket asks for."""

    APPROVAL = "approval"  # whether a call may run
    QUESTION = "question"
    TIMER = "timer"  # nobody is asked: only its time ends it
    WORK = "work"  # nobody is asked: the end of what somebody else does settles it
    since = enum.nonmember(2)


class Action(enum.StrEnum):
    """How a ticket ended.  The first four may be offered to a person; the next four are ends of work."""

    APPROVE = "approve"
    EDIT = "edit"  # approved, with other arguments
    REJECT = "reject"
    ANSWER = "answer"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"  # or withdrawn, or superseded
    ABANDONED = "abandoned"  # whoever did it has gone
    TIMEOUT = "timeout"  # its deadline has passed
    SUPERSEDED = "superseded"  # its run had enough without it
    RUN_ENDED = "run_ended"  # its run ended before
    since = enum.nonmember(2)


ACTIONS: Final = (Action.APPROVE, Action.EDIT, Action.REJECT, Action.ANSWER)
ENDS: Final = (Action.COMPLETED, Action.FAILED, Action.CANCELLED, Action.ABANDONED)


class Rest(enum.StrEnum):
    """What becomes of the tickets of a wait that are still open when it has enough."""

    KEEP = "keep"  # they stay open: a later wait may name them
    SUPERSEDE = "supersede"  # they are settled: what comes of them later changes nothing
    CANCEL = "cancel"  # likewise, and the work that they await is cancelled
    since = enum.nonmember(2)


@frozen
class Open:
    """Not settled."""

    since: ClassVar = 2


@frozen
class Settled:
    """Settled, for ever.  `by`: who decided, or the run that has ended.  `decision`: the id of the Decide or Settle."""

    since: ClassVar = 2
    how: Action
    by: str = ""
    body: str = ""
    decision: str | None = None


State: TypeAlias = Open | Settled


@frozen
class Settle:
    """Settle the ticket."""

    settlement: Settled


Outcome: TypeAlias = Stepped[State, None] | Refused


def settle(s: Open, c: Settle, clause: str) -> Outcome:
    return Stepped(c.settlement, clause)


def refuse(s: Settled, c: Settle, clause: str) -> Outcome:
    return Refused(Refusal.ENDED, clause, s)


RULES: Table[Outcome] = Table(
    (
        Row("TICKET-1", Open, Settle, always, settle),
        Row("TICKET-2", Settled, Settle, always, refuse),
    )
)
step = RULES.step
