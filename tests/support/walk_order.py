"""What comes next in a session and when, worked out from the bare rows, without the kernel's functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tenure.machines.input import Delayed, Ready
from tenure.machines.lease import Held
from tenure.machines.run import Rescheduled
from tenure.policy import Lane
from tenure.queries import Get
from tenure.records import Phase, QueueEntry, Run, Session
from tenure.world import World

UNFINISHED_MAX = 32
BEGINNING = (Phase.OPEN, Phase.RETIRED)


def session_of(world: World) -> Session | None:
    found: Session | None = world.answer(Get(Session, ("s",)))
    return found


def live(lease: object, now_ms: int) -> bool:
    if not isinstance(lease, Held) or lease.ttl_ms == 0:
        return False
    return lease.expires_at_ms - 2 * lease.ttl_ms <= now_ms <= lease.expires_at_ms


def mark(row: Session, lane: Lane) -> int:
    return row.user_mark if lane is Lane.USER else row.system_mark


def order(row: Session, runs: Iterable[Run], places: Iterable[QueueEntry]) -> list[tuple[Any, ...]]:
    """All that may come next: (priority, rank, run or lane's head) of what no mark has taken back."""
    found: list[tuple[Any, ...]] = [
        (r.contributors[0].priority, r.contributors[0].rank, r)
        for r in runs
        if r.mark == mark(row, r.lane)
    ]
    found += [
        (p.priority, p.state.ready_rank, p)
        for p in places
        if isinstance(p.state, Ready) and p.state.mark == mark(row, p.lane)
    ]
    return sorted(found, key=lambda each: each[:2])


def comes_next(row: Session, runs: list[Run], places: list[QueueEntry], now_ms: int) -> Any:
    """A run to take up, the place that heads a new one, or when there may be something (None: never)."""
    by_id = {r.run_id: r for r in runs}
    if row.open_run is not None:
        at = getattr(by_id[row.open_run].state, "due_at_ms", None)
        return by_id[row.open_run] if at is None or at <= now_ms else at
    if row.phase not in BEGINNING:
        return None
    waiting: list[int] = []
    for _, _, each in order(row, runs, places):
        if isinstance(each, QueueEntry):
            if len(runs) < UNFINISHED_MAX:
                return each
            continue
        assert isinstance(each.state, Rescheduled), each
        if each.state.due_at_ms is None or each.state.due_at_ms <= now_ms:
            return each
        waiting.append(each.state.due_at_ms)
        if each.hold or each.state.hold_all:
            break
    return min(waiting, default=None)


def due(row: Session, runs: list[Run], places: list[QueueEntry]) -> int | None:
    if row.sweep:
        return 0
    found = [p.state.until_ms for p in places if isinstance(p.state, Delayed)]
    times: list[int | None] = [min(found)] if found and row.phase in BEGINNING else []
    if isinstance(row.lease, Held):
        times.append(row.lease.expires_at_ms + 1)
    else:
        step = comes_next(row, runs, places, -1)
        times.append(step if step is None or isinstance(step, int) else 0)
    return min([t for t in times if t is not None], default=None)
