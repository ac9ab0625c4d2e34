"""What holds of every decision of a session, a sentence each.

Written from the design, not from the code: the same rule is never taken from the kernel where it can be said again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ... import commands as c
from ...event import EventKind
from ...machines import input as input_
from ...machines import lease as lease_
from ...machines import run as run_
from ...outcome import Drop, Insert
from ...records import EventBatch, MarkRaise, QueueEntry, Run
from ...world import key_of
from .ordering_oracle import due_of, hold_respected, in_order
from .snapshot import rank_of
from .step import Step, lease_id_of

__all__ = ["DECISION_PROPERTIES"]


How = input_.How
Termination = run_.Termination


def bounded(t: Step) -> bool:
    limit = 5 * len(t.command.inputs) + 2 if isinstance(t.command, c.Admit) else 256
    return len(t.decided.writes) <= limit


def written_once(t: Step) -> bool:
    rows = [
        (w.record, w.key)
        if isinstance(w, Drop)
        else (w.record.__class__, key_of(w.record.__class__)(w.record))
        for w in t.decided.writes
    ]
    return len(set(rows)) == len(rows)


def numbered(t: Step) -> bool:
    events = [
        w.record
        for w in t.decided.writes
        if isinstance(w, Insert) and isinstance(w.record, EventBatch)
    ]
    first, last = t.before.session.next_event, t.after.session.next_event
    if not events:
        return first == last
    (event,) = events
    return event.seq == first and last == first + len(event.events)


def revised(t: Step) -> bool:
    before, after = t.before.session, t.after.session
    if after.leaf != before.leaf and after.revision == before.revision:
        return False
    return after.revision - before.revision in (0, 1)


def generations(t: Step) -> bool:
    before, after = t.before.session.lease, t.after.session.lease
    if isinstance(t.command, c.FenceOff):
        return after == lease_.Vacant(before.generation + t.command.by)
    if isinstance(after, lease_.Held) and lease_id_of(before) != after.lease_id:
        return after.generation == before.generation + 1
    return after.generation == before.generation


def one_good_fence(t: Step) -> bool:
    """A live lease gives way to its holder, to proof of its death and to destruction."""
    before = t.before.session.lease
    if not t.before.live() or lease_id_of(t.after.session.lease) == lease_id_of(before):
        return True
    return isinstance(
        t.command, c.Commit | c.Fail | c.Release | c.ReleaseSession | c.Destroy | c.FenceOff
    ) or (isinstance(t.command, c.Reclaim) and t.command.evidence is lease_.Evidence.DEAD)


def no_stale_write(t: Step) -> bool:
    fence = getattr(t.command, "fence", None)
    if fence is None:
        return True
    session, lease = t.before.session, t.before.session.lease
    run_id = getattr(t.command, "run_id", session.lease_run)
    return (
        isinstance(lease, lease_.Held)
        and (lease.generation, lease.lease_id) == (fence.generation, fence.lease_id)
        and session.lease_run == run_id
    )


def due_recomputed(t: Step) -> bool:
    after = t.after
    return after.session.due_at_ms == due_of(
        after.session, after.runs.values(), after.queue_entries.values()
    )


def terminal_absorbs(t: Step) -> bool:
    queue_entries = all(not isinstance(b.state, input_.Ended) for b, _ in t.moved())
    runs = all(
        not isinstance(run.state, run_.Done) or t.after.runs[name].state == run.state
        for name, run in t.before.runs.items()
    )
    return queue_entries and runs and t.before.queue_entries.keys() <= t.after.queue_entries.keys()


def settled_by_table(t: Step) -> bool:
    """Every input whose run has ended ended with it, as its termination and its content say."""
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
    if not isinstance(state, input_.Ended):
        return False
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
    """Outside the end of a run only a withdrawal, a mark or a later input of its slot ends an input."""
    ended = {run.run_id for run in t.runs_ended()}
    for before, after in t.moved():
        state = after.state
        if not isinstance(state, input_.Ended) or getattr(before.state, "run_id", "") in ended:
            continue
        withdrawn = isinstance(t.command, c.Withdraw | c.WithdrawFrom)
        swept = isinstance(t.command, c.Sweep) and state.how in (How.SUPERSEDED, How.ABANDONED)
        replaced = isinstance(t.command, c.Admit) and state.how is How.SUPERSEDED
        if not (withdrawn and state.how is How.WITHDRAWN) and not swept and not replaced:
            return False
    return True


def ranks_kept(t: Step) -> bool:
    for before, after in t.moved():
        old, new = rank_of(before), rank_of(after)
        if old is not None and new is not None and old != new:
            return False
        if isinstance(before.state, input_.Bound) and isinstance(after.state, input_.Ready):
            run = t.after.runs[before.state.run_id].state
            if not (isinstance(run, run_.Done) and run.termination is Termination.SPLIT):
                return False
    return True


def counted(t: Step) -> bool:
    """An answered failure counts one failure or one outage, a lost lease one loss; nothing else counts."""
    run_id = t.before.session.lease_run
    before, after = t.before.runs.get(run_id or ""), t.after.runs.get(run_id or "")
    if before is None or after is None:
        return True
    was, now = before.retry.failure_count(), after.retry.failure_count()
    if isinstance(t.command, c.Checkpoint):
        return now == 0
    if isinstance(t.command, c.Fail):
        return isinstance(after.state, run_.Done) or (
            after.retry.failures == before.retry.failures + 1
            or after.retry.outages == before.retry.outages + 1
        )
    if lease_id_of(t.before.session.lease) == lease_id_of(t.after.session.lease):
        return now == was
    if isinstance(t.command, c.Commit | c.Release | c.Destroy | c.FenceOff):
        return now == was
    if isinstance(t.command, c.Withdraw) and isinstance(after.state, run_.Done) and now == was:
        return True  # its last input was taken out: there is nothing left to count for
    assert isinstance(before.state, run_.Running)
    return now == was + (0 if before.state.recorded else 1)


def withdrawn_in_time(t: Step) -> bool:
    """A withdrawal takes nothing from a run with progress or from the one that a live lease works on."""
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
    """A mark that takes back what the working run was given asks that run to stop, or leaves it no lease."""
    if not isinstance(t.command, c.Interrupt | c.Stop):
        return True
    before, session = t.before, t.after.session
    lanes = ("user",) if isinstance(t.command, c.Interrupt) else ("user", "system")
    for run in before.unfinished():
        works = before.session.lease_run == run.run_id
        if run.lane in lanes and (run.progress or works):
            still = t.after.session.lease_run == run.run_id or run.progress
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
    if not isinstance(t.command, c.RequestCancel):
        return True
    run, cancel = t.after.runs[t.command.run_id], t.after.session.cancel
    if isinstance(run.state, run_.Done):
        return True
    return cancel is not None and cancel.run_id == run.run_id and not t.after.sleeping(run)


def raised_once(t: Step) -> bool:
    for lane in ("user", "system"):
        before = {r.mark: r for r in t.before.world.all(MarkRaise) if r.lane == lane}
        for raised in (r for r in t.after.world.all(MarkRaise) if r.lane == lane):
            if raised.mark in before and before[raised.mark] != raised:
                return False
    return t.after.session.user_mark >= t.before.session.user_mark


def ranks_unique(t: Step) -> bool:
    ranks = [r for r in map(rank_of, t.after.queue_entries.values()) if r is not None]
    return len(ranks) == len(set(ranks)) and all(r < t.after.session.next_rank for r in ranks)


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


def hinted(t: Step) -> bool:
    """Believed is what a worker may have read: the time before, and nothing of a session that was held."""
    before, due = t.before.session, t.after.session.due_at_ms
    if due is None:
        return True
    released = isinstance(before.lease, lease_.Held) and isinstance(
        t.after.session.lease, lease_.Vacant
    )
    believed = None if released else before.due_at_ms
    if believed is not None and due >= believed:
        return True
    return any((h.session_id, h.due_at_ms) == (before.session_id, due) for h in t.decided.hints)


DECISION_PROPERTIES: Final[dict[str, Callable[[Step], bool]]] = {
    "a command writes at most 256 rows, Admit five an input and two": bounded,
    "a decision writes a row at most once": written_once,
    "events are numbered without gaps": numbered,
    "a revision is one more than the last, and the leaf moves with it": revised,
    "each new lease has the next generation, and it never falls": generations,
    "a live lease gives way only to its holder, its death, destruction and a fence": one_good_fence,
    "no write lands with a stale fence": no_stale_write,
    "due_at_ms is the function of the stored rows after every write": due_recomputed,
    "what has ended stays ended as it is": terminal_absorbs,
    "the inputs of a run end with it as the settling table says": settled_by_table,
    "nothing else ends an input but a withdrawal, a mark or its successor": ended_for_a_reason,
    "a rank is never changed, and an input goes back only by a split": ranks_kept,
    "ranks are given once and ascend": ranks_unique,
    "nothing is begun before what stands earlier and was not passed over": in_order,
    "a run that holds is never overtaken": hold_respected,
    "a failure, an outage and a loss each count once, and progress clears them": counted,
    "nothing is withdrawn from a run with progress or under a live lease": withdrawn_in_time,
    "an interrupt or stop flags the run that works or has progress": flagged,
    "a run that was asked to stop does not finish": cancelled_stays_cancelled,
    "a cancel that was not refused ends its run or flags it": asked,
    "a raised mark keeps its reason and never falls": raised_once,
    "an input that ends is named by one event, once": ends_in_one_event,
    "a hint says if a session is due earlier than a worker may believe": hinted,
}
