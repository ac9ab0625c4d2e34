"""What holds in every state of a session, from its rows alone, a sentence each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...failure import FAILURES_MAX, LOSSES_MAX
from ...limits import RUN_INPUTS_MAX, UNFINISHED_RUNS_MAX
from ...machines import input as input_
from ...machines import lease as lease_
from ...machines import run as run_
from .snapshot import Snapshot

__all__ = ["STATE_PROPERTIES", "due_now"]


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
        (p.input_id, p.state.run_id, p.state.rank, p.state.mark, p.state.open_key, p.lane, p.seq)
        for p in b.queue_entries.values()
        if isinstance(p.state, input_.Bound)
    }
    named = {
        (x.input_id, r.run_id, x.rank, r.mark, x.open_key, r.lane, x.seq)
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
    cancel = b.session.cancel
    return cancel is None or cancel.run_id in {r.run_id for r in b.unfinished()}


def cancel_at_once(b: Snapshot) -> bool:
    cancel = b.session.cancel
    run = None if cancel is None else b.runs[cancel.run_id]
    return run is None or not b.sleeping(run) or (run.progress and run.retry.failure_count() > 1)


def tallied(b: Snapshot) -> bool:
    s, states = b.session, [(p.lane.value, p.state) for p in b.queue_entries.values()]
    ready = [lane for lane, state in states if isinstance(state, input_.Ready)]
    delayed = sum(isinstance(state, input_.Delayed) for _, state in states)
    counts = (s.ready_user_count, s.ready_system_count, s.delayed_count, s.unfinished_run_count)
    return counts == (ready.count("user"), ready.count("system"), delayed, len(b.unfinished()))


def counters(b: Snapshot) -> bool:
    runs = b.unfinished()
    return len(runs) <= UNFINISHED_RUNS_MAX and all(
        r.retry.failures < FAILURES_MAX
        and r.retry.losses < LOSSES_MAX
        and 0 < len(r.contributors) <= RUN_INPUTS_MAX
        for r in runs
    )


def stopped(b: Snapshot) -> bool:
    rest = isinstance(b.session.lease, lease_.Vacant) and b.session.open_run is None
    phase = b.session.phase.value
    return rest if phase in ("stopped", "destroyed") else not (phase == "stopping" and rest)


def due_now(b: Snapshot) -> bool:
    """Return whether a store lists the session as due."""
    due, future = b.session.due_at_ms, b.session.lease_from_ms
    return (due is not None and due <= b.now_ms) or (future is not None and future > b.now_ms)


STATE_PROPERTIES: Final[dict[str, Callable[[Snapshot], bool]]] = {
    "at most one turn is open, and open_run names it": open_turn,
    "at most one run is under the lease, and lease_run names it": lease_run,
    "a run's contributors are the inputs bound to it": contributors,
    "the inputs of a run are bound in the order of their positions": positions,
    "the cancel flag names an unfinished run": cancel_names,
    "a run that was asked to stop sits out no backoff before it is closed": cancel_at_once,
    "the counts on the session's row are those of its rows": tallied,
    "counters and groups are bounded": counters,
    "stopped means no lease and no open turn, and is reached at once": stopped,
}
