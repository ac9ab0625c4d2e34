"""Order among what a session has to do, said again from the design: who may be begun before whom."""

from __future__ import annotations

from typing import Any

from ...machines import input as input_
from ...machines import run as run_
from ...records import Run
from .snapshot import Snapshot
from .step import Step, lease_id_of

__all__ = ["hold_respected", "in_order"]


def in_order(t: Step) -> bool:
    """What a lease is newly put to work on stands before all that is ready and was not passed over."""
    after = t.after
    run = after.runs.get(after.session.lease_run or "")
    if run is None or run.progress or not newly_taken(t, run):
        return True
    if after.session.open_run is not None:
        return False  # nothing overtakes the open turn
    return all(passed_over(after, standing, other, run) for standing, other in rivals(after, run))


def newly_taken(t: Step, run: Run) -> bool:
    before, after = t.before.session, t.after.session
    same = lease_id_of(before.lease) == lease_id_of(after.lease)
    return not (same and before.lease_run == run.run_id)


def rivals(snapshot: Snapshot, run: Run) -> list[tuple[tuple[int, int], Run | None]]:
    found: list[tuple[tuple[int, int], Run | None]] = [
        (other.order, other)
        for other in snapshot.unfinished()
        if other.run_id != run.run_id and current(snapshot, other.lane, other.mark)
    ]
    for queue_entry in snapshot.queue_entries.values():
        state = queue_entry.state
        if isinstance(state, input_.Ready) and current(snapshot, queue_entry.lane, state.mark):
            found.append(((queue_entry.priority, state.ready_rank), None))
    return found


def current(snapshot: Snapshot, lane: Any, mark: int) -> bool:
    return mark == snapshot.session.mark(lane)


def passed_over(snapshot: Snapshot, standing: tuple[int, int], other: Run | None, run: Run) -> bool:
    if standing > run.order:
        return True
    return other is not None and snapshot.sleeping(other) and not holds(other)


def holds(run: Run) -> bool:
    return run.hold or (isinstance(run.state, run_.Rescheduled) and run.state.hold_all)


def hold_respected(t: Step) -> bool:
    run = t.after.runs.get(t.after.session.lease_run or "")
    if run is None or not newly_taken(t, run):
        return True
    return all(
        not (
            other is not None and t.after.sleeping(other) and holds(other) and standing < run.order
        )
        for standing, other in rivals(t.after, run)
    )
