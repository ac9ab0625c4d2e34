"""Properties that hold of every decision of a session.

They are written from the design.  A property does not call the part of the kernel that it checks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from ... import commands as c
from ...failure import RetryLimits
from ...limits import RUN_INPUTS_MAX
from ...machines import input as input_
from ...machines import lease as lease_
from ...machines import run as run_
from ...outcome import Drop, Insert
from ...records import EventBatch, Frame, MarkRaise, Node, Phase
from ...world import key_of
from .attachment_properties import ATTACHMENT_DECISIONS
from .edit_properties import EDIT_PROPERTIES
from .ending_properties import ENDING_PROPERTIES
from .frame_properties import FRAME_PROPERTIES
from .import_properties import IMPORT_PROPERTIES
from .ordering_oracle import (
    BEGINNING,
    barrier_respected,
    hold_respected,
    in_order,
    newly_taken,
    nothing_due,
)
from .pruning_properties import PRUNING_PROPERTIES
from .readmission_properties import READMISSION_PROPERTIES
from .rollback_properties import ROLLBACK_PROPERTIES
from .snapshot import Snapshot, rank_of, rows_of
from .state_properties import WRITTEN_PROPERTIES
from .steering_properties import STEERING_PROPERTIES
from .step import Step, lease_id_of
from .transcript_properties import TRANSCRIPT_PROPERTIES
from .waiting_properties import WAITING_PROPERTIES
from .work_properties import WORK_PROPERTIES

__all__ = ["DECISION_PROPERTIES"]


Termination = run_.Termination
GIVING_BACK: Final = (Termination.SPLIT, Termination.ROLLED_BACK)


# -- rows


def replays_write_nothing(t: Step) -> bool:
    return not t.decided.replayed


def bounded(t: Step) -> bool:
    limit = 256
    if isinstance(t.command, c.Admit):
        profile = 0 if t.command.profile is None else 1 + len(t.command.profile.labels)
        limit = 5 * len(t.command.inputs) + 2 + profile
    return len(t.decided.writes) <= limit


def written_once(t: Step) -> bool:
    rows = [
        (w.record, w.key)
        if isinstance(w, Drop)
        else (w.record.__class__, key_of(w.record.__class__)(w.record))
        for w in t.decided.writes
    ]
    return len(set(rows)) == len(rows)


def resealed_alike(t: Step) -> bool:
    """A Reseal changes no record."""
    return not isinstance(t.command, c.Reseal) or t.before.world == t.after.world


def numbered(t: Step) -> bool:
    kinds = [
        w.record if isinstance(w, Drop) else w.record.__class__
        for w in t.decided.writes
        if not isinstance(w, Insert)
    ]
    if EventBatch in kinds and not isinstance(t.command, c.Prune):
        return False
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
    if isinstance(t.command, c.Prune):
        return after.revision == before.revision  # CHANGES_NOTHING_ELSE
    if after.leaf != before.leaf and after.revision == before.revision:
        return False
    return after.revision - before.revision in (0, 1)


def never_fall(t: Step) -> bool:
    before, after = t.before.session, t.after.session
    return (
        after.user_mark >= before.user_mark
        and after.system_mark >= before.system_mark
        and after.next_rank >= before.next_rank
        and (after.next_outbound or 1) >= (before.next_outbound or 1)
        and after.changed_at_ms >= before.changed_at_ms
    )


def cursor_grows(t: Step) -> bool:
    """Only a Publish moves the cursor, only forward, and not beyond what was committed before it."""
    before, after = t.before.session.published, t.after.session.published
    if not isinstance(t.command, c.Publish):
        return after == before
    return after is not None and (before or 0) <= after < t.before.session.next_event


def raised_once(t: Step) -> bool:
    for lane in ("user", "system"):
        before = {r.mark: r for r in t.before.world.all(MarkRaise) if r.lane == lane}
        for raised in (r for r in t.after.world.all(MarkRaise) if r.lane == lane):
            if raised.mark in before and before[raised.mark] != raised:
                return False
    return True


def transcript(t: Step) -> bool:
    """New nodes follow known ones, and a new leaf is a node without open tool calls."""
    nodes, session = rows_of(t.after.world, Node), t.after.session
    tips = {run.tip for run in t.before.runs.values()} | {t.before.session.leaf}
    tips |= {frame.leaf for frame in t.before.world.all(Frame)}
    known = {node_id for _, node_id in nodes} | {tip.node_id for tip in tips if tip is not None}
    if any(node.parent is not None and node.parent not in known for node in nodes.values()):
        return False
    leaf = session.leaf
    if leaf is None or leaf in tips:
        return True
    node = nodes[session.session_id, leaf.node_id]
    return not node.open_calls and node.path_digest == leaf.path_digest


# -- leases


def generations(t: Step) -> bool:
    before, after = t.before.session.lease, t.after.session.lease
    if isinstance(t.command, c.FenceOff):
        return after == lease_.Vacant(before.generation + t.command.by)
    if isinstance(after, lease_.Held) and lease_id_of(before) != after.lease_id:
        return after.generation == before.generation + 1
    return after.generation == before.generation


def granted(t: Step) -> bool:
    before, after = t.before.session.lease, t.after.session.lease
    if not isinstance(after, lease_.Held):
        return True
    if (after.generation, after.lease_id) == (before.generation, lease_id_of(before)):
        return True
    return isinstance(t.command, c.Begin | c.Acquire) and not t.before.live()


def one_good_fence(t: Step) -> bool:
    """A live lease is ended by its holder, by proof that its holder is dead, by Destroy or by FenceOff."""
    before = t.before.session.lease
    if not t.before.live() or lease_id_of(t.after.session.lease) == lease_id_of(before):
        return True
    return isinstance(
        t.command,
        c.Commit | c.Fail | c.Release | c.ReleaseSession | c.Destroy | c.FenceOff | c.Park,
    ) or (isinstance(t.command, c.Reclaim) and t.command.evidence is lease_.Evidence.DEAD)


def no_stale_write(t: Step) -> bool:
    fence = getattr(t.command, "fence", None)
    if fence is None:
        return True
    session, lease = t.before.session, t.before.session.lease
    run_id = getattr(t.command, "run_id", session.lease_run)
    return (
        isinstance(lease, lease_.Held)
        and fence.session_id == session.session_id
        and (lease.generation, lease.lease_id) == (fence.generation, fence.lease_id)
        and session.lease_run == run_id
    )


def counted(t: Step) -> bool:
    """A Fail counts one failure or one outage, a lost lease counts one loss, and nothing else counts."""
    run_id = t.before.session.lease_run
    before, after = t.before.runs.get(run_id or ""), t.after.runs.get(run_id or "")
    if before is None or after is None:
        return True
    was, now = before.retry.failure_count(), after.retry.failure_count()
    if isinstance(t.command, c.Checkpoint | c.Park):
        return now == 0
    if isinstance(t.command, c.Fail):
        failures = after.retry.failures - before.retry.failures
        outages = after.retry.outages - before.retry.outages
        superseded = not after.progress and after.mark < t.before.session.mark(after.lane)
        done = isinstance(after.state, run_.Done) or superseded  # Sweep ends a superseded run
        return failures == 1 or outages == 1 or done
    if lease_id_of(t.before.session.lease) == lease_id_of(t.after.session.lease):
        return now == was
    if isinstance(t.command, c.Commit | c.Release | c.Destroy | c.FenceOff):
        return now == was
    if (
        isinstance(t.command, c.Withdraw | c.CancelInput)
        and isinstance(after.state, run_.Done)
        and now == was
    ):
        return True  # its last input was withdrawn
    assert isinstance(before.state, run_.Running)
    return now == was + (0 if before.state.recorded else 1)


def given_up(t: Step) -> bool:
    """A run that has failed or was lost as often as its first input allows, or for as long, has ended or is split."""
    run = t.after.runs.get(t.before.session.lease_run or "")
    if run is None or isinstance(run.state, run_.Done | run_.Running):
        return True
    if not run.progress and run.mark < t.after.session.mark(run.lane):
        return True  # superseded: Sweep ends it
    limits = run.contributors[0].retry or RetryLimits()
    retry = t.before.runs[run.run_id].retry
    first, due = retry.first_failure_ms, retry.retry_due_ms
    late = 0 if due is None else max(0, t.after.now_ms - due - 600_000)  # FAIL-22
    outage = run.retry.first_failure_ms is not None and isinstance(t.command, c.Fail)
    if outage and first is not None and t.after.now_ms - first - late >= limits.give_up_after_ms:
        return False
    return run.retry.failures < limits.failures and run.retry.losses < limits.losses


# -- order


def ranks_kept(t: Step) -> bool:
    for before, after in t.moved():
        old, new = rank_of(before), rank_of(after)
        ended = isinstance(after.state, input_.Ended) or isinstance(t.command, c.Reorder)
        if old is not None and old != new and not ended:
            return False
        if isinstance(before.state, input_.Bound) and isinstance(after.state, input_.Ready):
            run = t.after.runs[before.state.run_id].state
            if not (isinstance(run, run_.Done) and run.termination in GIVING_BACK):
                return False
    return True


def begun(t: Step) -> bool:
    """A new run binds at most as many inputs as were asked for, in order, and the answer names them."""
    run = newly_taken(t)
    if run is None:
        return True
    outcome = getattr(t.decided.outcome, "next", None) or t.decided.outcome
    if not isinstance(outcome, c.Begun) or outcome.run_id != run.run_id:
        return False
    if outcome.inputs != tuple([x.input_id for x in run.contributors]):
        return False
    positions = [(x.priority, x.rank) for x in run.contributors]
    most = min(t.command.limit, RUN_INPUTS_MAX)
    return run.run_id in t.before.runs or (
        positions == sorted(positions) and len(positions) <= most
    )


def begun_in_phase(t: Step) -> bool:
    return t.before.session.phase in BEGINNING or t.after.runs.keys() <= t.before.runs.keys()


def hinted(t: Step) -> bool:
    """A worker may believe the due time before, but knows none of a session under a lease."""
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


def destroyed_for_ever(t: Step) -> bool:
    before, after = t.before.session.phase, t.after.session.phase
    return before is not Phase.DESTROYED or after is Phase.DESTROYED


def _after(holds: Callable[[Snapshot], bool], t: Step) -> bool:
    return holds(t.after)


def since_known(t: Step) -> bool:
    """RUN-25 needs it.  Rows of release 1 do not have it, so it is no property of stored rows."""
    return all(
        run.state.since_ms is not None
        for run in t.after.runs.values()
        if isinstance(run.state, run_.Rescheduled) and run.state.due_at_ms is not None
    )


DECISION_PROPERTIES: Final[dict[str, Callable[[Step], bool]]] = {
    "a replay writes nothing": replays_write_nothing,
    "a command writes at most 256 rows, Admit five an input, two, and a profile": bounded,
    "a decision writes a row at most once": written_once,
    "a Reseal writes rows as they are": resealed_alike,
    "events are numbered without gaps, and written once": numbered,
    "a revision is one more than the last, and the leaf moves with it": revised,
    "marks, the next rank and the time of change never fall": never_fall,
    "the cursor only grows, by Publish alone, up to committed events": cursor_grows,
    "a raised mark keeps its reason": raised_once,
    "a node follows a known node, and the leaf has no open calls": transcript,
    "each new lease has the next generation, and it never falls": generations,
    "only Begin and Acquire grant a lease, and never beside a live one": granted,
    "a live lease is ended only by its holder, its death, destruction and a fence": one_good_fence,
    "no write lands with a stale fence": no_stale_write,
    "a failure, an outage and a loss each count once, and progress clears them": counted,
    "a run is given up at the limits of its first input": given_up,
    **{sentence: partial(_after, holds) for sentence, holds in WRITTEN_PROPERTIES.items()},
    "a run that waits for a time knows since when": since_known,
    "a rank changes only by Reorder, and an input goes back only by a split or a rollback": ranks_kept,
    **EDIT_PROPERTIES,
    **ATTACHMENT_DECISIONS,
    "nothing is begun before earlier work, except work that may be passed over": in_order,
    "a run that holds is never overtaken": hold_respected,
    "a barrier begins only when no earlier run is unfinished": barrier_respected,
    "a new run binds inputs in order, up to the limit, and its answer names them": begun,
    "no run begins in a session that is stopping, stopped or destroyed": begun_in_phase,
    "a Begin that finds nothing due leaves nothing to begin": nothing_due,
    "a hint says if a session is due earlier than a worker may believe": hinted,
    "a destroyed session stays destroyed": destroyed_for_ever,
    **ENDING_PROPERTIES,
    **STEERING_PROPERTIES,
    **ROLLBACK_PROPERTIES,
    **READMISSION_PROPERTIES,
    **WAITING_PROPERTIES,
    **WORK_PROPERTIES,
    **PRUNING_PROPERTIES,
    **FRAME_PROPERTIES,
    **TRANSCRIPT_PROPERTIES,
    **IMPORT_PROPERTIES,
}
