"""Time in the session model: any time in the future may come next, and the clock may be set back once."""

from __future__ import annotations

from typing import Any

from ...machines import input as input_
from ...machines import lease as lease_
from ...machines import run as run_
from ...records import Ticket
from ...replace import replace
from .snapshot import LATER, NOW, S, Snapshot, rows_of

__all__ = ["set_back", "ticks"]


def ticks(snapshot: Snapshot, *, lapse: bool, hour: bool) -> list[tuple[str, list[Any]]]:
    """Return each time that may come next: a text, and the rows that have changed after it."""
    found: list[tuple[str, list[Any]]] = []
    session, lease = snapshot.session, snapshot.session.lease
    if lapse and isinstance(lease, lease_.Held) and lease.expires_at_ms >= NOW:
        lapsed = replace(lease, expires_at_ms=NOW - 1)
        found.append(("the lease lapses", [replace(session, lease=lapsed)]))
    for run in snapshot.unfinished():
        state, first = run.state, run.retry.first_failure_ms
        if isinstance(state, run_.Rescheduled) and state.due_at_ms == LATER:
            since = None if state.since_ms is None else NOW
            row = replace(run, state=run_.Rescheduled(NOW, state.hold_all, since))
            found.append((f"the backoff of {run.run_id} ends", [row]))
        for ticket in run.open_tickets or ():
            if ticket.deadline_ms == LATER:
                row = rows_of(snapshot.world, Ticket)[S, ticket.ticket_id]
                tickets = [
                    replace(t, deadline_ms=NOW) if t is ticket else t
                    for t in run.open_tickets or ()
                ]
                changed = [replace(row, deadline_ms=NOW), replace(run, open_tickets=tuple(tickets))]
                found.append((f"the time of {ticket.ticket_id} comes", changed))
        if hour and first == NOW:
            retry = replace(run.retry, first_failure_ms=NOW - run.limits.give_up_after_ms)
            found.append((f"{run.run_id} has failed for an hour", [replace(run, retry=retry)]))
    for queue_entry in snapshot.queue_entries.values():
        if isinstance(queue_entry.state, input_.Delayed) and queue_entry.state.until_ms == LATER:
            ready = replace(queue_entry, state=replace(queue_entry.state, until_ms=NOW))
            found.append((f"{queue_entry.input_id} becomes due", [ready]))
    return found


def set_back(snapshot: Snapshot) -> list[Any]:
    """Return the rows that differ after the clock is set back by more than two ttl and two backoffs."""
    rows: list[Any] = []
    lease = snapshot.session.lease
    if isinstance(lease, lease_.Held):
        ahead = replace(lease, expires_at_ms=NOW + 2 * lease.ttl_ms + 1)
        rows.append(replace(snapshot.session, lease=ahead))
    for run in snapshot.unfinished():
        state = run.state
        if isinstance(state, run_.Rescheduled) and state.due_at_ms is not None:
            since = None if state.since_ms is None else LATER
            rows.append(replace(run, state=run_.Rescheduled(LATER, state.hold_all, since)))
    for queue_entry in snapshot.queue_entries.values():
        if isinstance(queue_entry.state, input_.Delayed) and queue_entry.state.until_ms == NOW:
            rows.append(replace(queue_entry, state=replace(queue_entry.state, until_ms=LATER)))
    return rows
