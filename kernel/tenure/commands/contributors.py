"""The inputs of a run, and their queue entries: a run has all that is needed to rebuild them.  Spec: specs/inbox.md."""

from __future__ import annotations

from ..machines import input as input_
from ..machines import run as run_
from ..records import Contributor, QueueEntry, Run

__all__ = ["bound_state", "apply_to", "ended_by", "is_targeted", "queue_entry_of", "returned_state"]


def bound_state(run: Run, c: Contributor, position: int) -> input_.Bound:
    """Return the state of the queue entry of a contributor, which the run can rebuild."""
    return input_.Bound(run.mark_of(c), run.run_id, position, c.rank, c.open_key, c.checkpoint)


def queue_entry_of(run: Run, c: Contributor, state: input_.State) -> QueueEntry:
    """Return the queue entry of a contributor, in another state."""
    return QueueEntry(
        run.session_id, c.input_id, c.seq, run.lane_of(c), c.priority, state, c.settles
    )


def apply_to(
    run: Run, queue_entry: QueueEntry, position: int, mark: int, n: int
) -> tuple[input_.Outcome, Contributor]:
    """JOURNAL-39: return the step that binds a ready input to a run at checkpoint `n`, and the contributor that it becomes."""
    ready = queue_entry.state
    assert isinstance(ready, input_.Ready), queue_entry
    contributor = Contributor(
        queue_entry.input_id, queue_entry.seq, queue_entry.priority, ready.ready_rank, ready.size, ready.open_key,
        ready.delivery, ready.barrier, queue_entry.lane, ready.mark, ready.hold, n, ready.while_waiting,
        ready.retry, queue_entry.settles,
    )  # fmt: skip
    return input_.step(ready, input_.Apply(run.run_id, position, mark, n)), contributor


def ended_by(run: Run, how: input_.How, termination: run_.Termination, reason: str) -> str:
    """Return the `by` of an ended input: the run that consumed it, the command that superseded it, or a reason."""
    match how:
        case input_.How.CONSUMED:
            return run.run_id
        case input_.How.SUPERSEDED | input_.How.DEAD_LETTERED:
            return reason or termination.value
        case _:
            return termination.value


def returned_state(run: Run, c: Contributor, position: int) -> input_.Outcome:
    """PLACE-8, RUN-72: return the step that makes the queue entry of a contributor ready again."""
    hold = run.hold if c.hold is None else c.hold
    command = input_.Return(
        hold, c.size, c.delivery, c.barrier, c.while_waiting, run.resolution, c.retry
    )
    return input_.step(bound_state(run, c, position), command)


def is_targeted(queue_entry: QueueEntry) -> bool:
    """Return whether a ready input names a run."""
    return getattr(queue_entry.state, "target_run", None) is not None
