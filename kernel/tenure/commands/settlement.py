"""Settle: the end of work settles the ticket that awaits it.  Spec: specs/ticket.md."""

from __future__ import annotations

from attrs import frozen

from ..machines import ticket as ticket_
from ..outcome import Decided, Refusal, Refused
from ..queries import Command, Get, Reads, read
from ..records import ExecutedCommand, Ticket
from ..transcript import hash_parts, hash_text
from .decide import DecideView, check_phase, earlier_of, settle_and_remember, settlement_of
from .replay import check_command_id
from .session_view import session_queries
from .tickets import validate_ticket_text
from .transaction import Transaction
from .validation import validate_text
from .work_end import WorkEnd

__all__ = ["EndNoted", "Settle"]


@frozen
class EndNoted:
    """The ticket is settled by this end.  `earlier`: it was settled before, so this end has changed nothing."""

    ticket_id: str
    run_id: str
    earlier: ticket_.Settled | None = None


@frozen
class Settle(WorkEnd, Command[DecideView, EndNoted]):
    """Settle a ticket that awaits work, with the end of that work.  Sent by machines; for people there is Decide.

    `how`: one of completed, failed, cancelled and abandoned.  `body`: the result, or the reason.  `by`: what has ended.
    Refusals: KEY_CONFLICT, UNKNOWN_TICKET, PHASE, ILLEGAL.
    """

    def reads(self) -> Reads[DecideView]:
        s = self.session_id
        return read(
            DecideView,
            *session_queries(s),
            Get(ExecutedCommand, (s, self.command_id)),
            Get(Ticket, (s, self.ticket_id)),
        )

    def decide(self, view: DecideView, now_ms: int) -> Decided[EndNoted] | Refused:
        session, ticket, executed = view.session, view.ticket, view.executed
        if refused := check_command_id("settle", self.command_id, executed, session):
            return refused
        digest = hash_parts(self.how.value, hash_text(self.body), self.by)
        if executed is not None:
            earlier = earlier_of(executed, self.ticket_id, digest)
            if isinstance(earlier, Refused):
                return earlier
            return Decided(EndNoted(earlier.ticket_id, earlier.run_id), "TICKET-20", replayed=True)
        if session is None or ticket is None:
            return Refused(Refusal.UNKNOWN_TICKET, "TICKET-12", self.ticket_id)
        if problem := self._validate(ticket):
            return Refused(Refusal.ILLEGAL, "TICKET-21", problem)
        if isinstance(settled := settlement_of(ticket, view), ticket_.Settled):
            return Decided(EndNoted(self.ticket_id, ticket.run_id, settled), "TICKET-22")
        if refused := check_phase(session):
            return refused
        tx = Transaction.on(view, session, now_ms, self.command_id)
        settlement = ticket_.Settled(self.how, self.by, self.body, self.command_id)
        settle_and_remember(tx, ticket, settlement, "settle", digest)
        return tx.decided(EndNoted(self.ticket_id, ticket.run_id), "TICKET-23")

    def _validate(self, ticket: Ticket) -> str | None:
        if ticket.kind is not ticket_.TicketKind.WORK:
            return f"ticket {self.ticket_id} is of kind {ticket.kind.value}: expected work"
        if self.how not in ticket_.ENDS:
            return f"{self.how.value}: expected one of {', '.join(ticket_.ENDS)}"
        return validate_ticket_text("body", self.body) or validate_text("by", self.by)
