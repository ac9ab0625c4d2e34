"""Properties of decisions about how inputs and runs end: by their run, a withdrawal, a mark or a cancel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from ... import commands as c
from ...event import EventKind
from ...machines import input as input_
from ...machines import run as run_
from ...outcome import Insert
from ...policy import IfOver, KeyScope, Lane
from ...records import EventBatch, Interrupted, MarkRaise, QueueEntry, Run
from .snapshot import Snapshot
from .step import Step

__all__ = ["ENDS_AS_MARKED", "ENDING_PROPERTIES", "taken_back_after"]


How = input_.How
Termination = run_.Termination
TakenBack: TypeAlias = tuple[tuple[str, str], ...]  # input ids, each with how it must end

ENDS_AS_MARKED: Final = "an input that a mark has taken back ends as the mark says"


def terminal_absorbs(t: Step) -> bool:
    if isinstance(t.command, c.Prune):
        return True  # it removes ended inputs, and runs of destroyed sessions: NOTHING_LIVE
    queue_entries = all(
        not isinstance(before.state, input_.Ended) or isinstance(t.command, c.Readmit)
        for before, _ in t.moved()
    )
    runs = all(
        not isinstance(run.state, run_.Done) or t.after.runs[name].state == run.state
        for name, run in t.before.runs.items()
    )
    return queue_entries and runs and t.before.queue_entries.keys() <= t.after.queue_entries.keys()


def settled_by_table(t: Step) -> bool:
    """The end of a run ends its inputs, as its termination and its nodes say."""
    for run in t.runs_ended():
        before = t.before.runs.get(run.run_id)
        for contributor in (before or run).contributors:
            queue_entry = t.after.queue_entries[contributor.input_id]
            if not _settled(run, queue_entry):
                return False
    return True


def _settled(run: Run, queue_entry: QueueEntry) -> bool:
    state, written = queue_entry.state, run.tip is not None
    assert isinstance(run.state, run_.Done)
    termination = run.state.termination
    if termination is Termination.SPLIT:
        elsewhere = isinstance(state, input_.Bound) and state.run_id != run.run_id
        return (elsewhere or isinstance(state, input_.Ready | input_.Ended)) and not run.progress
    if termination is Termination.ROLLED_BACK and queue_entry.lane is Lane.SYSTEM:
        return not (isinstance(state, input_.Ended) and state.run_id == run.run_id)
    if not isinstance(state, input_.Ended):
        return False
    if termination is Termination.ROLLED_BACK:
        return state.how is How.SUPERSEDED
    if state.how is How.WITHDRAWN:
        return termination is Termination.CANCELLED and not run.progress
    if termination is Termination.FINISHED:
        return state.how is How.CONSUMED
    if termination is Termination.SUPERSEDED:
        return state.how is How.SUPERSEDED and not run.progress
    if termination is Termination.ERROR:
        return state.how is (How.CONSUMED if written else How.DEAD_LETTERED)
    return state.how is (How.CONSUMED if written else How.ABANDONED)


def ended_for_a_reason(t: Step) -> bool:
    """Only the end of its run, a withdrawal, a mark or a later input of its slot ends an input."""
    ended = {run.run_id for run in t.runs_ended()}
    for before, after in t.moved():
        state = after.state
        if not isinstance(state, input_.Ended) or getattr(before.state, "run_id", "") in ended:
            continue
        if isinstance(before.state, input_.Ended):
            continue  # readmitted
        withdrawn = isinstance(t.command, c.Withdraw | c.WithdrawFrom | c.CancelInput)
        swept = isinstance(t.command, c.Sweep) and state.how in (How.SUPERSEDED, How.ABANDONED)
        swept = swept or (isinstance(t.command, c.Begin) and state.how is How.ABANDONED)
        if swept and _left_by_its_target(t, before):
            continue
        if isinstance(t.command, c.Begin):
            return False
        admits = isinstance(
            t.command, c.Admit | c.Interrupt | c.Commit | c.Replace
        )  # a later input of its slot, or the one in its place
        replaced = admits and state.how in (How.SUPERSEDED, How.COALESCED)
        if not (withdrawn and state.how is How.WITHDRAWN) and not swept and not replaced:
            return False
    return True


def _left_by_its_target(t: Step, entry: QueueEntry) -> bool:
    """The input was to be abandoned with the run that it names, and that has ended.  It may have been promoted first."""
    state = entry.state
    if not isinstance(state, input_.Ready | input_.Delayed) or state.if_over is not IfOver.ABANDON:
        return False
    return state.target_run not in {run.run_id for run in t.after.unfinished()}


def ends_in_one_event(t: Step) -> bool:
    before = t.before.queue_entries
    ended = [
        name
        for name, queue_entry in t.after.queue_entries.items()
        if isinstance(queue_entry.state, input_.Ended)
        and (name not in before or not isinstance(before[name].state, input_.Ended))
    ]
    named = [
        name
        for w in t.decided.writes
        if isinstance(w, Insert) and isinstance(w.record, EventBatch)
        for event in w.record.events
        if event.kind in (EventKind.INPUT_ENDED, EventKind.RUN_FINISHED)
        for name in event.input_ids
    ]
    return sorted(named) == sorted(ended)


def withdrawn_in_time(t: Step) -> bool:
    """An input is not withdrawn from a run with progress, nor from the run under a live lease."""
    for before, after in t.moved():
        state = after.state
        if not isinstance(state, input_.Ended) or state.how is not How.WITHDRAWN:
            continue
        if isinstance(before.state, input_.Bound):
            run = t.before.runs[before.state.run_id]
            if run.progress or (t.before.live() and t.before.session.lease_run == run.run_id):
                return False
    return True


def flagged(t: Step) -> bool:
    """A mark that supersedes the inputs of the working run asks the run to stop, or ends its lease."""
    if not isinstance(t.command, c.Interrupt | c.Stop):
        return True
    before, session = t.before, t.after.session
    lanes = ("user",) if isinstance(t.command, c.Interrupt) else ("user", "system")
    for run in before.unfinished():
        works = before.session.lease_run == run.run_id
        if run.lane in lanes and (run.progress or works):
            ended = isinstance(t.after.runs[run.run_id].state, run_.Done)  # rolled back at once
            still = not ended and (session.lease_run == run.run_id or run.progress)
            if still and (session.cancel is None or session.cancel.run_id != run.run_id):
                return False
    return True


def cancelled_stays_cancelled(t: Step) -> bool:
    cancel = t.before.session.cancel
    if cancel is None or cancel.run_id not in t.after.runs:
        return True
    state = t.after.runs[cancel.run_id].state
    return not (isinstance(state, run_.Done) and state.termination is Termination.FINISHED)


def asked(t: Step) -> bool:
    match t.command:
        case c.RequestCancel():
            run_id: str | None = t.command.run_id
        case c.CancelInput():
            run_id = getattr(t.after.queue_entries[t.command.input_id].state, "run_id", None)
        case _:
            return True
    if run_id is None:
        return True  # the input was withdrawn
    run, cancel = t.after.runs[run_id], t.after.session.cancel
    if isinstance(run.state, run_.Done):
        return True
    return cancel is not None and cancel.run_id == run.run_id and not t.after.sleeping(run)


def replaced(t: Step) -> bool:
    """The interrupt does not supersede the input that stands for its replacement, unless the key is retained."""
    if not isinstance(t.command, c.Interrupt) or not isinstance(t.decided.outcome, Interrupted):
        return True
    new, found = t.command.replacement, t.decided.outcome.replacement
    if new is None:
        return found is None
    policy = new.rules()
    if policy is None or found is None:
        return False
    entry = t.after.queue_entries[found.input_id]
    if policy.key_scope is KeyScope.RETAINED or found.input_id == new.input_id:
        return True
    current = isinstance(entry.state, input_.Ended) or entry.state.mark == t.after.session.user_mark
    return entry.lane is not Lane.USER or current


# -- over several decisions


def taken_back_after(
    before: Snapshot, after: Snapshot, taken_back: TakenBack
) -> tuple[TakenBack, bool]:
    """Return the inputs that a mark has taken back and that have not ended, and whether the others ended as marked.

    A mark takes back the inputs that no run under the lease and no run with progress has.  The first raise above the
    mark of an input says how the input ends.
    """
    known = dict(taken_back)
    raises = {(r.lane, r.mark): r.how.value for r in after.world.all(MarkRaise)}
    for entry in before.queue_entries.values() if raises else ():
        state = entry.state
        raised = before.session.mark(entry.lane) < after.session.mark(entry.lane)
        if not raised or isinstance(state, input_.Ended) or entry.input_id in known:
            continue
        run = before.runs.get(getattr(state, "run_id", ""))
        how = raises.get((entry.lane, state.mark + 1))
        if how is not None and not (run is not None and _continues(run, before, after)):
            known[entry.input_id] = how
    kept = True
    for input_id in list(known):
        state = after.queue_entries[input_id].state
        if isinstance(state, input_.Ended) and state.how.value != known.pop(input_id):
            kept = False
    return tuple(sorted(known.items())), kept


def _continues(run: Run, before: Snapshot, after: Snapshot) -> bool:
    """A run with progress, asked to stop before, under the lease still, or lost for the last time ends its inputs itself."""
    cancel = before.session.cancel
    asked_before = cancel is not None and cancel.run_id == run.run_id
    works = run.run_id == before.session.lease_run == after.session.lease_run
    state = after.runs[run.run_id].state
    lost = isinstance(state, run_.Done) and state.termination is run_.Termination.ERROR
    return run.progress or asked_before or works or lost


ENDING_PROPERTIES: Final[dict[str, Callable[[Step], bool]]] = {
    "an input or a run that has ended never changes, except that it is readmitted": terminal_absorbs,
    "the inputs of a run end with it as the settling table says": settled_by_table,
    "without its run only a withdrawal, a mark, a later input or its target ends an input": ended_for_a_reason,
    "an input that ends is named by one event, once": ends_in_one_event,
    "nothing is withdrawn from a run with progress or under a live lease": withdrawn_in_time,
    "an interrupt or stop flags the run that works or has progress": flagged,
    "an interrupt does not supersede its replacement": replaced,
    "a run that was asked to stop does not finish": cancelled_stays_cancelled,
    "a cancel that was not refused ends its run or flags it": asked,
}
