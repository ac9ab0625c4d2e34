"""Decide: a person settles a ticket.  Spec: specs/ticket.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen

from ..machines import ticket as ticket_
from ..outcome import Decided, Refusal, Refused
from ..queries import Command, Get, Reads, read
from ..records import ExecutedCommand, Phase, Session, Ticket, TicketDecided
from ..transcript import hash_parts, hash_text
from .replay import check_command_id
from .sendable import Sendable
from .session_view import CommandView, session_queries
from .tickets import settle_ticket, validate_ticket_text
from .transaction import Transaction
from .validation import validate_text

__all__ = [
    "Decide",
    "DecideView",
    "DecisionTaken",
    "check_phase",
    "earlier_of",
    "settle_and_remember",
    "settlement_of",
]


@frozen
class DecisionTaken:
    """The ticket is settled by this decision.  `run_id`: the run that asked."""

    ticket_id: str
    run_id: str


@frozen
class DecideView(CommandView):
    """The session, the row of the command if it was executed before, and the ticket."""

    ticket: Ticket | None


@frozen
class Decide(Command[DecideView, DecisionTaken], Sendable):
    """Settle a ticket, for ever.  If its run waits for no other, it goes on at once.  Writes a few rows.

    `body`: the arguments of an edit, the reason of a rejection, or the answer.  `by`: who decides, for people.
    Refusals: KEY_CONFLICT, UNKNOWN_TICKET, ENDED with the settlement that won, PHASE, ILLEGAL.
    """

    since: ClassVar = 2
    id_field: ClassVar = "decision_id"
    moot: ClassVar = (Refusal.ENDED,)
    session_id: str
    ticket_id: str
    decision_id: str
    action: ticket_.Action
    body: str = field(default="", repr=lambda b: repr(b) if len(b) < 80 else f"<{len(b)}>")
    by: str = ""

    def reads(self) -> Reads[DecideView]:
        s = self.session_id
        return read(
            DecideView,
            *session_queries(s),
            Get(ExecutedCommand, (s, self.decision_id)),
            Get(Ticket, (s, self.ticket_id)),
        )

    def decide(self, view: DecideView, now_ms: int) -> Decided[DecisionTaken] | Refused:
        session, ticket, executed = view.session, view.ticket, view.executed
        if refused := check_command_id("decide", self.decision_id, executed, session):
            return refused
        digest = hash_parts(self.action.value, hash_text(self.body), self.by)
        if executed is not None:
            earlier = earlier_of(executed, self.ticket_id, digest)
            if isinstance(earlier, Refused):
                return earlier
            again = DecisionTaken(earlier.ticket_id, earlier.run_id)
            return Decided(again, "TICKET-10", replayed=True)
        if session is None or ticket is None:
            return Refused(Refusal.UNKNOWN_TICKET, "TICKET-12", self.ticket_id)
        if isinstance(settled := settlement_of(ticket, view), ticket_.Settled):
            return Refused(Refusal.ENDED, "TICKET-13", settled)
        if refused := self._refused(session, ticket):
            return refused
        tx = Transaction.on(view, session, now_ms, self.decision_id)
        settlement = ticket_.Settled(self.action, self.by, self.body, self.decision_id)
        settle_and_remember(tx, ticket, settlement, "decide", digest)
        return tx.decided(DecisionTaken(self.ticket_id, ticket.run_id), "TICKET-16")

    def _refused(self, session: Session, ticket: Ticket) -> Refused | None:
        if refused := check_phase(session):
            return refused
        if self.action not in ticket.offers:
            offers = ", ".join(ticket.offers) or f"nothing: its kind is {ticket.kind.value}"
            problem: str | None = f"{self.action.value}: the ticket offers {offers}"
        else:
            problem = validate_ticket_text("body", self.body) or validate_text("by", self.by)
        return None if problem is None else Refused(Refusal.ILLEGAL, "TICKET-15", problem)


def check_phase(session: Session) -> Refused | None:
    """TICKET-14: refuse to settle a ticket in a session in which no run goes on."""
    if session.phase in (Phase.OPEN, Phase.RETIRED):
        return None
    return Refused(Refusal.PHASE, "TICKET-14", session.phase.value)


def earlier_of(executed: ExecutedCommand, ticket_id: str, digest: str) -> TicketDecided | Refused:
    """TICKET-11: return what a command has settled before; refuse other content under its id."""
    taken = executed.outcome
    assert isinstance(taken, TicketDecided), executed
    if (taken.ticket_id, taken.digest) != (ticket_id, digest):
        return Refused(Refusal.KEY_CONFLICT, "TICKET-11", taken.ticket_id)
    return taken


def settle_and_remember(
    tx: Transaction, ticket: Ticket, settlement: ticket_.Settled, command: str, digest: str
) -> None:
    """TICKET-16: settle a ticket, and remember the command for its repetition."""
    settle_ticket(tx, ticket, settlement)
    assert settlement.decision is not None, settlement
    stored = TicketDecided(ticket.ticket_id, ticket.run_id, digest)
    tx.remember(settlement.decision, command, stored)


def settlement_of(ticket: Ticket, view: CommandView) -> ticket_.State:
    """TICKET-8: return the state of a ticket for every reader: with its run, its open tickets have ended."""
    unfinished = {run.run_id for run in view.runs}
    if isinstance(ticket.state, ticket_.Open) and ticket.run_id not in unfinished:
        return ticket_.Settled(ticket_.Action.RUN_ENDED, ticket.run_id)
    return ticket.state
