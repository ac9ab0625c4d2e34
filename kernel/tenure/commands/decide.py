"""Decide: settle a ticket.  Spec: specs/ticket.md."""

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

__all__ = ["Decide", "DecisionTaken"]


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
            return self._again(executed, digest)
        if session is None or ticket is None:
            return Refused(Refusal.UNKNOWN_TICKET, "TICKET-12", self.ticket_id)
        if isinstance(settled := settlement_of(ticket, view), ticket_.Settled):
            return Refused(Refusal.ENDED, "TICKET-13", settled)
        if refused := self._refused(session, ticket):
            return refused
        tx = Transaction.on(view, session, now_ms, self.decision_id)
        settlement = ticket_.Settled(self.action, self.by, self.body, self.decision_id)
        settle_ticket(tx, ticket, settlement)
        stored = TicketDecided(self.ticket_id, ticket.run_id, digest)
        tx.remember(self.decision_id, "decide", stored)
        return tx.decided(DecisionTaken(self.ticket_id, ticket.run_id), "TICKET-16")

    def _again(self, executed: ExecutedCommand, digest: str) -> Decided[DecisionTaken] | Refused:
        """TICKET-10, TICKET-11: answer a repetition; refuse other content under the same id."""
        taken = executed.outcome
        assert isinstance(taken, TicketDecided), executed
        if (taken.ticket_id, taken.digest) != (self.ticket_id, digest):
            return Refused(Refusal.KEY_CONFLICT, "TICKET-11", taken.ticket_id)
        answer = DecisionTaken(taken.ticket_id, taken.run_id)
        return Decided(answer, "TICKET-10", replayed=True)

    def _refused(self, session: Session, ticket: Ticket) -> Refused | None:
        if session.phase not in (Phase.OPEN, Phase.RETIRED):
            return Refused(Refusal.PHASE, "TICKET-14", session.phase.value)
        if self.action not in ticket.offers:
            offers = ", ".join(ticket.offers) or "nothing: it is a timer"
            problem: str | None = f"{self.action.value}: the ticket offers {offers}"
        else:
            problem = validate_ticket_text("body", self.body) or validate_text("by", self.by)
        return None if problem is None else Refused(Refusal.ILLEGAL, "TICKET-15", problem)


def settlement_of(ticket: Ticket, view: CommandView) -> ticket_.State:
    """TICKET-8: return the state of a ticket for every reader: with its run, its open tickets have ended."""
    unfinished = {run.run_id for run in view.runs}
    if isinstance(ticket.state, ticket_.Open) and ticket.run_id not in unfinished:
        return ticket_.Settled(ticket_.Action.RUN_ENDED, ticket.run_id)
    return ticket.state
