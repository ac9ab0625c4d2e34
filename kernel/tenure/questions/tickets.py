"""Questions about tickets: who is asked, and what was decided.  Spec: specs/ticket.md."""

from __future__ import annotations

from attrs import frozen

from ..indexes import ASKING, OPEN_RUNS, OPEN_TICKETS
from ..limits import UNFINISHED_RUNS_MAX
from ..queries import Each, First, Get, Question, all_existing
from ..records import Ticket
from .core import PAGE, Steps

__all__ = ["AllOpenTickets", "LoadTickets", "OpenTickets"]


@frozen
class LoadTickets(Question[tuple[Ticket, ...]]):
    """The tickets with these ids, which exist."""

    session_id: str
    ticket_ids: tuple[str, ...]

    def steps(self) -> Steps:
        found = yield Each(tuple([Get(Ticket, (self.session_id, i)) for i in self.ticket_ids]))
        return all_existing(found, "ticket")


@frozen
class OpenTickets(Question[tuple[Ticket, ...]]):
    """The open tickets of unfinished runs of a session, at most `limit`; those of a run in the order of their opening."""

    session_id: str
    limit: int = PAGE

    def steps(self) -> Steps:
        runs = yield First(OPEN_RUNS, (self.session_id,), UNFINISHED_RUNS_MAX)
        found: list[Ticket] = []
        for run in runs:
            if run.open_tickets and len(found) < self.limit:
                prefix = (self.session_id, run.run_id)
                page = yield First(OPEN_TICKETS, prefix, self.limit - len(found))
                opened = [each.ticket_id for each in run.open_tickets]
                found += sorted(page, key=lambda ticket: opened.index(ticket.ticket_id))
        return tuple(found)


@frozen
class AllOpenTickets(Question[tuple[Ticket, ...]]):
    """The open tickets of all sessions that wait for people, those that wait longest first, at most `limit` (WAIT-30).

    `without`: sessions that are left out.
    """

    limit: int = PAGE
    without: frozenset[str] = frozenset()

    def steps(self) -> Steps:
        sessions = yield First(ASKING, (), self.limit + len(self.without))
        found: list[Ticket] = []
        for session in sessions:
            if session.session_id in self.without:
                continue
            found += yield from OpenTickets(session.session_id, self.limit - len(found)).steps()
            if len(found) >= self.limit:
                break
        return tuple(found)
