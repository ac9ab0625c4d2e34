"""Tickets: opened by a holder, settled once, also after the run has parked.  Spec: specs/ticket.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Final

from attrs import field, frozen

from ..event import EventKind
from ..limits import OPEN_TICKETS_MAX, TICKET_BYTES_MAX, TIME_MS_MAX
from ..machines import run as run_
from ..machines import ticket as ticket_
from ..outcome import Update
from ..queries import Each, Get
from ..records import OpenTicket, Run, Ticket, Work
from ..replace import replace
from ..transcript import hash_text
from .transaction import Transaction
from .validation import size_of, validate_id, validate_text

__all__ = [
    "NewTicket",
    "open_tickets",
    "settle_rest",
    "settle_ticket",
    "ticket_queries",
    "validate_tickets",
]


UNASKED: Final = (ticket_.TicketKind.TIMER, ticket_.TicketKind.WORK)


@frozen
class NewTicket:
    """A ticket to be opened.  `ticket_id` is random: who knows it may decide.

    `effect_id` names it in the journal.  `offers`: what may be decided; none for a timer, which needs a time, and for
    work.  `within_ms`: how long after it was opened it times out.  `call_id`: the open tool call that waits for it.
    `awaits`: the work whose end settles it.
    """

    since: ClassVar = 2
    ticket_id: str
    effect_id: str
    kind: ticket_.TicketKind
    prompt: str = field(default="", repr=lambda p: repr(p) if len(p) < 80 else f"<{len(p)}>")
    offers: tuple[ticket_.Action, ...] = ()
    within_ms: int | None = None
    call_id: str | None = None
    awaits: Work | None = None

    def parts(self) -> list[object]:
        """Return what a repetition of the command must have in common with it."""
        offers = [each.value for each in self.offers]
        words = [self.ticket_id, self.effect_id, self.kind.value, hash_text(self.prompt)]
        work = (
            []
            if self.awaits is None
            else [self.awaits.done_by, self.awaits.input_id, self.awaits.peer]
        )
        return [*words, offers, self.within_ms, self.call_id, *work]


def ticket_queries(session_id: str, ticket_ids: Iterable[str]) -> Each[Ticket | None]:
    """Return the queries of tickets."""
    return Each(tuple([Get(Ticket, (session_id, each)) for each in ticket_ids]))


def validate_tickets(
    run: Run, tickets: Sequence[NewTicket], known: Sequence[Ticket | None], now_ms: int
) -> str | None:
    """TICKET-5: return what is wrong with new tickets of a run, or None.  `known`: stored tickets of their ids."""
    count = len(run.open_tickets or ()) + len(tickets)
    if tickets and count > OPEN_TICKETS_MAX:
        return f"{count} open tickets; at most {OPEN_TICKETS_MAX}"
    ids = [new.ticket_id for new in tickets]
    for new, other in zip(tickets, known, strict=True):
        if other is not None or ids.count(new.ticket_id) > 1:
            return f"ticket {new.ticket_id} exists already"
        if problem := _validate(new, now_ms):
            return problem
    return None


def _validate(new: NewTicket, now_ms: int) -> str | None:
    within, timer = new.within_ms, new.kind is ticket_.TicketKind.TIMER
    if timer and (new.offers or within is None):
        return f"timer {new.ticket_id}: expected a time and no offers"
    if problem := _validate_work(new):
        return problem
    if new.kind not in UNASKED and not (new.offers and set(new.offers) <= set(ticket_.ACTIONS)):
        return f"offers of ticket {new.ticket_id}: expected some of {', '.join(ticket_.ACTIONS)}"
    if within is not None and not 0 <= within <= TIME_MS_MAX - now_ms:
        return f"within_ms {within}: expected at least 0"
    if not new.effect_id:
        return "effect_id '': expected the name of the ticket"
    return (
        validate_id("ticket_id", new.ticket_id)
        or (None if new.call_id is None else validate_id("call_id", new.call_id))
        or validate_text("effect_id", new.effect_id, 400)
        or validate_ticket_text("prompt", new.prompt)
    )


def _validate_work(new: NewTicket) -> str | None:
    work, awaits = new.kind is ticket_.TicketKind.WORK, new.awaits
    if work and new.offers:
        return f"work {new.ticket_id}: expected no offers"
    if awaits is None:
        return None
    if not work:
        return f"{new.kind.value} {new.ticket_id} awaits the end of work: only a ticket of kind work does"
    return validate_id("done_by", awaits.done_by) or (
        None if awaits.input_id is None else validate_id("input_id", awaits.input_id)
    )


def validate_ticket_text(name: str, text: str) -> str | None:
    """Return what is wrong with a question or a decision, or None."""
    if (size := size_of(text)) > TICKET_BYTES_MAX:
        return f"{name} of {size} bytes; at most {TICKET_BYTES_MAX}"
    return validate_text(name, text, TICKET_BYTES_MAX)


def open_tickets(
    run: Run, tickets: Sequence[NewTicket], now_ms: int
) -> tuple[Run, tuple[Ticket, ...]]:
    """TICKET-6: return the run with its new tickets, and their rows."""
    if not tickets:
        return run, ()
    rows, opened = [], list(run.open_tickets or ())
    for new in tickets:
        deadline = None if new.within_ms is None else now_ms + new.within_ms
        row = Ticket(
            run.session_id, new.ticket_id, run.run_id, new.call_id, new.kind, new.offers,
            deadline, now_ms, new.prompt, awaits=new.awaits,
        )  # fmt: skip
        rows.append(row)
        unasked = new.kind in UNASKED
        opened.append(OpenTicket(new.ticket_id, new.call_id, deadline, unasked, new.awaits))
    return replace(run, open_tickets=tuple(opened)), tuple(rows)


def settle_ticket(tx: Transaction, ticket: Ticket, settlement: ticket_.Settled) -> bool:
    """TICKET-7: settle an open ticket.  Return whether its run goes on with that (RUN-62)."""
    state = tx.step_to(ticket_.step(ticket.state, ticket_.Settle(settlement)))
    tx.write(Update(replace(ticket, state=state)))
    tx.tickets_added -= 1
    words = [ticket.ticket_id, settlement.how.value, settlement.decision or ""]
    detail = " ".join(filter(None, words))
    tx.append_event(EventKind.TICKET_SETTLED, ticket.run_id, detail=detail)
    run = tx.runs.get(ticket.run_id)
    if run is None:
        return False
    left = tuple([each for each in run.open_tickets or () if each.ticket_id != ticket.ticket_id])
    after = tx.step_to(run_.step(run.state, run_.Settle(ticket.ticket_id)))
    tx.write_run(replace(run, state=after, open_tickets=left or None))
    goes_on = isinstance(run.state, run_.Waiting) and isinstance(after, run_.Rescheduled)
    if goes_on:
        tx.append_event(EventKind.RUN_RESCHEDULED, run.run_id, detail="settled")
    return goes_on


def settle_rest(tx: Transaction, waited: Iterable[Ticket | None]) -> list[Ticket]:
    """WAIT-35: settle those of the tickets of a wait that are open, as it has enough without them, and return them."""
    left = [each for each in waited if each is not None and isinstance(each.state, ticket_.Open)]
    for ticket in left:
        settle_ticket(tx, ticket, ticket_.Settled(ticket_.Action.SUPERSEDED, ticket.run_id))
    return left
