"""Time in an explored session: each time that is ahead may be the next to come; once, the clock is set back."""

from __future__ import annotations

from typing import Any

from ...failure import GIVE_UP_AFTER_MS
from ...machines import input as input_
from ...machines import lease as lease_
from ...machines import run as run_
from ...replace import replace
from .snapshot import LATER, NOW, Snapshot

__all__ = ["set_back", "ticks"]


def ticks(snapshot: Snapshot, *, lapse: bool, hour: bool) -> list[tuple[str, Any]]:
    """Each time that is ahead may be the next to come: what is said of it, and the row after it."""
    found: list[tuple[str, Any]] = []
    session, lease = snapshot.session, snapshot.session.lease
    if lapse and isinstance(lease, lease_.Held) and lease.expires_at_ms >= NOW:
        over = replace(lease, expires_at_ms=NOW - 1)
        found.append(("the lease runs out", replace(session, lease=over)))
    for run in snapshot.unfinished():
        state, first = run.state, run.retry.first_failure_ms
        if isinstance(state, run_.Rescheduled) and state.due_at_ms == LATER:
            row = replace(run, state=run_.Rescheduled(NOW, state.hold_all))
            found.append((f"the backoff of {run.run_id} is over", row))
        if hour and first == NOW:
            retry = replace(run.retry, first_failure_ms=NOW - GIVE_UP_AFTER_MS)
            found.append((f"{run.run_id} has failed for an hour", replace(run, retry=retry)))
    for queue_entry in snapshot.queue_entries.values():
        if isinstance(queue_entry.state, input_.Delayed) and queue_entry.state.until_ms == LATER:
            ready = replace(queue_entry, state=replace(queue_entry.state, until_ms=NOW))
            found.append((f"{queue_entry.input_id} falls due", ready))
    return found


def set_back(snapshot: Snapshot) -> list[Any]:
    """The rows after the clock was set back by more than two ttl."""
    rows: list[Any] = []
    lease = snapshot.session.lease
    if isinstance(lease, lease_.Held):
        ahead = replace(lease, expires_at_ms=NOW + 2 * lease.ttl_ms + 1)
        rows.append(replace(snapshot.session, lease=ahead))
    for run in snapshot.unfinished():
        state = run.state
        if isinstance(state, run_.Rescheduled) and state.due_at_ms == NOW:
            rows.append(replace(run, state=run_.Rescheduled(LATER, state.hold_all)))
    for queue_entry in snapshot.queue_entries.values():
        if isinstance(queue_entry.state, input_.Delayed) and queue_entry.state.until_ms == NOW:
            rows.append(replace(queue_entry, state=replace(queue_entry.state, until_ms=LATER)))
    return rows
