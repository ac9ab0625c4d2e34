"""What cancels the work that a ticket awaits.  Spec: specs/ticket.md, WAIT-37."""

from __future__ import annotations

from ..records import Ticket
from .cancel_input import CancelInput
from .jobs.ask import CancelJob
from .send import NewOutbound

__all__ = ["cancel_of"]


def cancel_of(ticket: Ticket, by: str) -> NewOutbound | None:
    """Return the command that cancels the work of a ticket; None: the ticket names none.  `by`: the session that asks."""
    work = ticket.awaits
    if work is None:
        return None
    if work.input_id is None:
        return NewOutbound(CancelJob(work.done_by, "", by), work.peer)
    return NewOutbound(CancelInput(work.done_by, "", work.input_id), work.peer)
