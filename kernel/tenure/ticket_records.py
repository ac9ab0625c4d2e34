"""The record of a ticket.  Spec: specs/ticket.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen

from .machines import ticket as ticket_
from .queries import Record
from .run_values import Work

__all__ = ["Ticket"]


@frozen
class Ticket(Record):
    """A question that a run has asked, a time that it waits for, or work that it awaits."""

    since: ClassVar = 2
    key: ClassVar = ("session_id", "ticket_id")
    payloads: ClassVar = ("prompt", "body")
    flat: ClassVar = ("state",)
    derived: ClassVar = ("open_run", "open_until_ms")
    session_id: str
    ticket_id: str
    run_id: str
    call_id: str | None
    kind: ticket_.TicketKind
    offers: tuple[ticket_.Action, ...]
    deadline_ms: int | None
    opened_at_ms: int
    prompt: str = field(repr=lambda p: repr(p) if len(p) < 80 else f"<{len(p)} characters>")
    state: ticket_.Open | ticket_.Settled = ticket_.Open()
    awaits: Work | None = None  # what settles it with its end

    @property
    def open_run(self) -> str | None:
        """The run while the ticket is open; None once it is settled."""
        return self.run_id if self.state.__class__ is ticket_.Open else None

    @property
    def open_until_ms(self) -> int | None:
        """The deadline while the ticket is open; None once it is settled."""
        return self.deadline_ms if self.state.__class__ is ticket_.Open else None
