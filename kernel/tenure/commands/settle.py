"""Between a run and the places of its contributors: the run keeps what a place needs to be rebuilt."""

from __future__ import annotations

from ..failure import LOSSES_BEFORE_SPLIT as LOSSES_BEFORE_SPLIT
from ..machines import input as input_
from ..machines import run as run_
from ..records import Contributor, QueueEntry, Run


def bound_state(run: Run, c: Contributor, position: int) -> input_.Bound:
    return input_.Bound(run.mark, run.run_id, position, c.rank, c.open_key)


def queue_entry_of(run: Run, c: Contributor, state: input_.State) -> QueueEntry:
    return QueueEntry(run.session_id, c.input_id, c.seq, run.lane, c.priority, state)


def input_ids_of(run: Run) -> tuple[str, ...]:
    return tuple([c.input_id for c in run.contributors])


def ended_by(run: Run, how: input_.How, termination: run_.Termination, reason: str) -> str:
    """What an input says of its end: the run that consumed it, the command that superseded it, or why."""
    match how:
        case input_.How.CONSUMED:
            return run.run_id
        case input_.How.SUPERSEDED | input_.How.DEAD_LETTERED:
            return reason or termination.value
        case _:
            return termination.value
