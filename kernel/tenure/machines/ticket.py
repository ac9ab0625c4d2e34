"""The ticket machine: a question that a run has asked, settled once.  Spec: specs/ticket.md."""

from __future__ import annotations

import enum
from typing import ClassVar, Final, TypeAlias

from attrs import frozen

from ..outcome import Refusal, Refused, Stepped
from ..rules import Row, Table, always

__all__ = [
    "ACTIONS",
    "RULES",
    "Action",
    "Open",
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
    since = enum.nonmember(2)


class Action(enum.StrEnum):
    """How a ticket ended.  The first four may be offered to a person."""

    APPROVE = "approve"
    EDIT = "edit"  # approved, with other arguments
    REJECT = "reject"
    ANSWER = "answer"
    TIMEOUT = "timeout"  # its deadline has passed
    RUN_ENDED = "run_ended"  # its run ended before
    since = enum.nonmember(2)


ACTIONS: Final = (Action.APPROVE, Action.EDIT, Action.REJECT, Action.ANSWER)


@frozen
class Open:
    """Not settled."""

    since: ClassVar = 2


@frozen
class Settled:
    """Settled, for ever.  `by`: who decided, or the run that has ended.  `decision`: the id of the Decide."""

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
