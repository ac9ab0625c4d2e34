"""Properties of steering: what a checkpoint takes into a running turn, and what becomes of it.

Written from the design and over all rows, without the functions of `commands.steering`, so that it checks them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ... import commands as c
from ...limits import RUN_BYTES_MAX, RUN_INPUTS_MAX
from ...machines import input as input_
from ...machines import run as run_
from ...outcome import Insert, Refusal, Refused
from ...policy import Boundary, Delivery
from ...records import EntryKind, JournalEntry, Node, QueueEntry, Run
from ...transcript import Form
from .ordering_oracle import BEGINNING
from .snapshot import Snapshot, rows_of
from .step import Step

__all__ = ["JOURNAL_AGREES", "STEERING_PROPERTIES", "TAKES_ALL", "journal_agrees", "takes_all"]


TAKES_ALL: Final = (
    "a turn that takes, or yields, leaves nothing that waits for it, and yields only then"
)
JOURNAL_AGREES: Final = "a run has the inputs that its journal says were taken"


# -- what a run could take


def waits_for(b: Snapshot, run: Run, boundary: Boundary, open_calls: tuple[str, ...]) -> bool:
    """Return whether an input waits that a checkpoint of this run must take."""
    session, cancel = b.session, b.session.cancel
    stops = cancel is not None and cancel.run_id == run.run_id
    if open_calls or stops or session.phase not in BEGINNING:
        return False
    ready = [
        e
        for e in b.queue_entries.values()
        if isinstance(e.state, input_.Ready) and e.state.mark == session.mark(e.lane)
    ]
    first = [e for e in ready if _names(e) == run.run_id and _is_reached(e, boundary)]
    for lane in ("user", "system"):
        queued = [e for e in ready if e.lane == lane and _names(e) != run.run_id]
        head = min(queued, key=_position, default=None)
        if head is not None and _names(head) is None and _is_reached(head, boundary):
            first.append(head)
    first = [e for e in first if not (_names(e) is None and getattr(e.state, "barrier", None))]
    size = sum(x.size for x in run.contributors)
    if not first or len(run.contributors) >= RUN_INPUTS_MAX:
        return False
    first.sort(key=lambda e: (_names(e) is None, _position(e)))
    return size + getattr(first[0].state, "size", 0) <= RUN_BYTES_MAX


def _names(entry: QueueEntry) -> str | None:
    found: str | None = getattr(entry.state, "target_run", None)
    return found


def _is_reached(entry: QueueEntry, boundary: Boundary) -> bool:
    delivery = getattr(entry.state, "delivery", None)
    ends = boundary is Boundary.BEFORE_COMPLETION
    return delivery is Delivery.EARLIEST or (ends and delivery is Delivery.BEFORE_COMPLETION)


def _position(entry: QueueEntry) -> tuple[int, int]:
    return (entry.priority, getattr(entry.state, "ready_rank", 0))


def takes_all(before: Snapshot, after: Snapshot, command: Any, answer: Any) -> bool:
    """Check an answer to a checkpoint that takes or to a commit that yields."""
    if getattr(answer, "replayed", False) or (
        isinstance(answer, Refused) and answer.reason is not Refusal.STEERED
    ):
        return True
    if isinstance(command, c.Checkpoint) and command.take is not None:
        run = after.runs[command.run_id]
        return waits_for(after, run, command.take, run.open_calls) is answer.outcome.more
    if isinstance(command, c.Commit) and command.yields:
        run = before.runs[command.run_id]
        open_calls = set(run.open_calls)
        for node in command.nodes:  # it calls, or it answers what is open
            open_calls ^= set(node.call_ids)
        waits = waits_for(before, run, Boundary.BEFORE_COMPLETION, tuple(open_calls))
        finishes = command.termination is run_.Termination.FINISHED
        return isinstance(answer, Refused) is (waits and finishes)
    return True


# -- what becomes of it


def applied(t: Step) -> list[QueueEntry]:
    """Return the queue entries that this decision has bound by a checkpoint, as they are now."""
    return [
        after
        for before, after in t.moved()
        if isinstance(before.state, input_.Ready)
        and isinstance(after.state, input_.Bound)
        and after.state.checkpoint is not None
    ]


def only_while_it_works(t: Step) -> bool:
    cancel = t.before.session.cancel
    return not applied(t) or cancel is None or cancel.run_id != t.command.run_id


def no_call_open(t: Step) -> bool:
    bound = [entry.state for entry in applied(t)]
    return not any(t.after.runs[getattr(state, "run_id", "")].open_calls for state in bound)


def on_the_path(t: Step) -> bool:
    """A node with the inputs is the last of the run, and its nodes go back to where the run was before."""
    ids = {e.input_id for e in applied(t)}
    nodes = {
        w.record.node_id: w.record
        for w in t.decided.writes
        if isinstance(w, Insert) and isinstance(w.record, Node)
    }
    for run_id, run in t.after.runs.items():
        before = t.before.runs.get(run_id)
        if before is None or run.tip == before.tip:
            if ids and run_id == t.command.run_id:
                return False
            continue
        if run.tip is None:
            state = run.state
            if isinstance(state, run_.Done) and state.termination is run_.Termination.ROLLED_BACK:
                continue
            return False
        node = nodes.get(run.tip.node_id)
        if ids and (node is None or node.form is not Form.INPUTS or not ids <= set(node.inputs)):
            return False
        start = before.tip or t.before.session.leaf
        while node is not None and node.parent in nodes:
            node = nodes[node.parent]
        if node is None or node.parent != (None if start is None else start.node_id):
            return False
    return True


def stays_taken(t: Step) -> bool:
    """What a checkpoint has taken stays as it is until its run ends.  Then it is consumed: it is in the transcript.

    A run that is rolled back gives back what is of lane SYSTEM, and supersedes what is of lane USER.
    """
    for before, after in t.moved():
        if not isinstance(before.state, input_.Bound) or before.state.checkpoint is None:
            continue
        state, run = after.state, t.after.runs[before.state.run_id].state
        if isinstance(run, run_.Done) and run.termination is run_.Termination.ROLLED_BACK:
            begun = isinstance(state, input_.Bound) and state.run_id != before.state.run_id
            back = isinstance(state, input_.Ready) or begun
            superseded = isinstance(state, input_.Ended) and state.how is input_.How.SUPERSEDED
            if back if after.lane == "user" else not back and not superseded:
                return False
            continue
        if isinstance(state, input_.Bound):
            if state != before.state:
                return False
        elif not isinstance(state, input_.Ended) or state.how is not input_.How.CONSUMED:
            return False
    return True


def journal_agrees(b: Snapshot) -> bool:
    """The entries `taken` name the contributors of each checkpoint, so every later holder finds the same."""
    taken: dict[tuple[str, int], list[str]] = {}
    entries = [
        entry
        for entry in rows_of(b.world, JournalEntry).values()
        if entry.run_id not in b.runs or not b.runs[entry.run_id].pruned
    ]
    for entry in entries:
        if entry.kind is EntryKind.TAKEN:
            taken[entry.run_id, entry.n] = entry.body.split(" ")
    bound: dict[tuple[str, int], list[str]] = {}
    journals = {entry.run_id for entry in entries}
    for run_id in journals & b.runs.keys():
        for x in b.runs[run_id].contributors:
            if x.checkpoint is not None:
                bound.setdefault((run_id, x.checkpoint), []).append(x.input_id)
    return taken == bound


STEERING_PROPERTIES: Final[dict[str, Callable[[Step], bool]]] = {
    "a run that was asked to stop takes nothing": only_while_it_works,
    "nothing is taken while a call is open": no_call_open,
    "what was taken is on the path of its run's nodes": on_the_path,
    "what was taken stays taken, at the same checkpoint, until it ends or is rolled back": stays_taken,
}
