"""Properties that hold of the rows of a session in every state.

`STATE_PROPERTIES` and `WRITTEN_PROPERTIES` need the session, its inputs and queue entries, and its unfinished runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...limits import RUN_INPUTS_MAX, UNFINISHED_RUNS_MAX
from ...machines import input as input_
from ...machines import lease as lease_
from ...machines import run as run_
from ...records import Input, JournalEntry, MarkRaise, OpenKey, Phase
from .attachment_properties import ATTACHMENT_STATES
from .frame_properties import FRAME_STATES
from .import_properties import IMPORT_STATES
from .ordering_oracle import due_of, retry_from_of
from .snapshot import Snapshot, rank_of, rows_of
from .steering_properties import JOURNAL_AGREES, journal_agrees
from .waiting_properties import WAITING_STATES

__all__ = ["DETAIL_PROPERTIES", "STATE_PROPERTIES", "WRITTEN_PROPERTIES", "due_now"]


def open_turn(b: Snapshot) -> bool:
    open_ = [run.run_id for run in b.unfinished() if run.progress]
    return open_ == ([] if b.session.open_run is None else [b.session.open_run])


def lease_run(b: Snapshot) -> bool:
    running = [run.run_id for run in b.unfinished() if isinstance(run.state, run_.Running)]
    named = [] if b.session.lease_run is None else [b.session.lease_run]
    if running != named:
        return False
    if not running:
        return True
    lease, state = b.session.lease, b.runs[running[0]].state
    assert isinstance(state, run_.Running)
    return isinstance(lease, lease_.Held) and lease.generation == state.generation


def contributors(b: Snapshot) -> bool:
    bound = {
        (
            *(p.input_id, p.state.run_id, p.state.rank, p.state.mark, p.state.open_key),
            *(p.lane, p.seq, p.state.checkpoint),
        )
        for p in b.queue_entries.values()
        if isinstance(p.state, input_.Bound)
    }
    named = {
        (
            *(x.input_id, r.run_id, x.rank, r.mark if x.mark is None else x.mark, x.open_key),
            *(r.lane if x.lane is None else x.lane, x.seq, x.checkpoint),
        )
        for r in b.unfinished()
        for x in r.contributors
    }
    return bound == named and all(r.contributors for r in b.unfinished())


def positions(b: Snapshot) -> bool:
    return all(
        [b.queue_entries[x.input_id].state.position for x in r.contributors]  # type: ignore[union-attr]
        == sorted({b.queue_entries[x.input_id].state.position for x in r.contributors})  # type: ignore[union-attr]
        for r in b.unfinished()
    )


def cancel_names(b: Snapshot) -> bool:
    cancel, session = b.session.cancel, b.session
    if cancel is None:
        return True
    if cancel.run_id not in {r.run_id for r in b.unfinished()}:
        return False
    working = cancel.run_id in (session.lease_run, session.open_run)
    return working or session.phase is Phase.DESTROYED


def cancel_at_once(b: Snapshot) -> bool:
    cancel = b.session.cancel
    run = None if cancel is None else b.runs[cancel.run_id]
    return run is None or not b.sleeping(run) or (run.progress and run.retry.failure_count() > 1)


def tallied(b: Snapshot) -> bool:
    s, states = b.session, [(p.lane.value, p.state) for p in b.queue_entries.values()]
    ready = [lane for lane, state in states if isinstance(state, input_.Ready)]
    delayed = sum(isinstance(state, input_.Delayed) for _, state in states)
    targeted = sum(
        isinstance(state, input_.Ready) and state.target_run is not None for _, state in states
    )
    counts = (s.ready_user_count, s.ready_system_count, s.delayed_count, s.unfinished_run_count)
    return (*counts, s.targeted_count or 0) == (
        *(ready.count("user"), ready.count("system"), delayed, len(b.unfinished())),
        targeted,
    )


def counters(b: Snapshot) -> bool:
    runs = b.unfinished()
    return len(runs) <= UNFINISHED_RUNS_MAX and all(
        r.retry.failures < r.limits.failures
        and r.retry.losses < r.limits.losses
        and 0 < len(r.contributors) <= RUN_INPUTS_MAX
        for r in runs
    )


def stopped(b: Snapshot) -> bool:
    rest = isinstance(b.session.lease, lease_.Vacant) and b.session.open_run is None
    phase = b.session.phase.value
    return rest if phase in ("stopped", "destroyed") else not (phase == "stopping" and rest)


def inputs(b: Snapshot) -> bool:
    if b.session.phase is Phase.DESTROYED:
        return True  # its rows are removed table by table
    given = [i.input_id for i in rows_of(b.world, Input).values() if not i.pruned]
    return set(given) == b.queue_entries.keys()


def due(b: Snapshot) -> bool:
    return b.session.due_at_ms == due_of(b.session, b.runs.values(), b.queue_entries.values())


def retry_from(b: Snapshot) -> bool:
    rows = b.runs.values(), b.queue_entries.values()
    return b.session.retry_from_ms == retry_from_of(b.session, *rows)


def unpublished(b: Snapshot) -> bool:
    cursor = b.session.published
    waits = cursor is not None and cursor < b.session.next_event - 1
    return waits is (b.session.unpublished_since_ms is not None)


def ranks(b: Snapshot) -> bool:
    found = [r for r in map(rank_of, b.queue_entries.values()) if r is not None]
    return len(set(found)) == len(found) and all(0 < rank < b.session.next_rank for rank in found)


def open_keys(b: Snapshot) -> bool:
    held = {
        (e.state.open_key, e.lane, e.state.mark, e.input_id)
        for e in b.queue_entries.values()
        if not isinstance(e.state, input_.Ended) and e.state.open_key is not None
    }
    rows = rows_of(b.world, OpenKey).values()
    return held == {(k.key_value, k.lane, k.mark, k.input_id) for k in rows}


def superseded(b: Snapshot) -> bool:
    """Sweep is due for a superseded input and finds how it ends, unless its run goes on and ends it."""
    session, raises = b.session, {(r.lane, r.mark) for r in rows_of(b.world, MarkRaise).values()}
    working = {session.open_run, session.lease_run} - {None}
    for entry in b.queue_entries.values():
        state = entry.state
        if isinstance(state, input_.Ended) or state.mark == session.mark(entry.lane):
            continue
        if (entry.lane, state.mark + 1) not in raises:
            return False
        if not session.sweep and getattr(state, "run_id", None) not in working:
            return False
    return True


def journals(b: Snapshot) -> bool:
    numbers: dict[tuple[str, int], set[int]] = {}
    for entry in rows_of(b.world, JournalEntry).values():
        if entry.run_id in b.runs and b.runs[entry.run_id].pruned:
            continue
        numbers.setdefault((entry.run_id, entry.turn), set()).add(entry.n)
    return all(max(found) == len(found) - 1 for found in numbers.values())


def due_now(b: Snapshot) -> bool:
    """Return whether a store lists the session as due."""
    due, future = b.session.due_at_ms, b.session.lease_from_ms
    return (due is not None and due <= b.now_ms) or (future is not None and future > b.now_ms)


STATE_PROPERTIES: Final[dict[str, Callable[[Snapshot], bool]]] = {
    "every input has a queue entry, unless it was pruned, and every queue entry an input": inputs,
    "at most one turn is open, and open_run names it": open_turn,
    "at most one run is under the lease, and lease_run names it": lease_run,
    "a run's contributors are the inputs bound to it": contributors,
    "the inputs of a run are bound in the order of their positions": positions,
    "the cancel flag names the run under the lease or the open turn": cancel_names,
    "a run that was asked to stop sits out no backoff before it is closed": cancel_at_once,
    "the counts on the session's row are those of its rows": tallied,
    "counters and groups are bounded": counters,
    **WAITING_STATES,
    **ATTACHMENT_STATES,
    **FRAME_STATES,
    **IMPORT_STATES,
    "stopped means no lease and no open turn, and is reached at once": stopped,
}

# the explorer's canonical form sets these columns, so they are checked in the rows that a decision writes
WRITTEN_PROPERTIES: Final[dict[str, Callable[[Snapshot], bool]]] = {
    "due_at_ms agrees with the rows": due,
    "retry_from_ms agrees with the rows": retry_from,
    "unpublished_since_ms is set exactly if there are events after the cursor": unpublished,
    "ranks are unique and below next_rank": ranks,
}

# of open keys, raised marks and journal entries
DETAIL_PROPERTIES: Final[dict[str, Callable[[Snapshot], bool]]] = {
    "an open key is stored for exactly the inputs that hold one": open_keys,
    "a superseded input is ended by its run, or Sweep is due and knows how": superseded,
    "checkpoints in a journal are numbered without gaps": journals,
    JOURNAL_AGREES: journal_agrees,
}
