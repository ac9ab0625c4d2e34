"""Canonical states of an explored job: without what no later decision reads, so that equal states are recognised."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ...machines import job as job_
from ...machines import lease as lease_
from ...records import ExecutedCommand, Job, JobSignal, Session
from ...replace import replace
from ...world import world_of
from .properties import retry_from_of_job
from .system import NOW, TTL, J, State, Worker, rows_of

__all__ = ["canonical", "unused"]


def unused(state: State) -> str:
    """Return a lease id that nothing in a state names."""
    known = set(_lease_ids_of(*rows_of(state.world), state))
    return next(name for name in (f"l{n}" for n in range(99)) if name not in known)


def canonical(state: State) -> State:
    """Return the state without what no later decision reads: times, numbers of events, old leases."""
    session, job = rows_of(state.world)
    sent = {worker.lease_id for worker in state.workers if worker.lease_id}
    if job.last_end is not None and job.last_end.lease_id not in sent:
        job = replace(job, last_end=None)
    numbers = sorted(_generations(session, job, state.workers))
    rank = {number: at for at, number in enumerate(numbers)}
    names = {
        name: f"l{at}" for at, name in enumerate(dict.fromkeys(_lease_ids_of(session, job, state)))
    }
    head, work = _session(session, rank, names), _job(job, rank, names)
    if head.retry_from_ms is not None:
        head = replace(head, retry_from_ms=retry_from_of_job(head, work))
    rows: list[Any] = [head, work]
    for row in state.world.all(ExecutedCommand):
        if row.command != "take":
            rows.append(replace(row, at_ms=NOW))
        elif row.command_id in names:
            rows.append(replace(row, command_id=names[row.command_id], at_ms=NOW))
    rows += [replace(row, at_ms=NOW) for row in state.world.all(JobSignal)]
    workers = tuple([_worker(worker, rank, names) for worker in state.workers])
    return replace(state, world=world_of(rows), workers=workers)


def _lease_ids_of(session: Session, job: Job, state: State) -> Iterator[str]:
    if isinstance(session.lease, lease_.Held):
        yield session.lease.lease_id
    for worker in state.workers:
        if worker.lease_id:
            yield worker.lease_id
    if job.last_end is not None:
        yield job.last_end.lease_id


def _generations(session: Session, job: Job, workers: Iterable[Worker]) -> set[int]:
    found = {0, session.lease.generation}
    if isinstance(job.state, job_.Held | job_.Started):
        found.add(job.state.generation)
    return found | {worker.fence.generation for worker in workers if worker.fence is not None}


def _session(session: Session, rank: dict[int, int], names: dict[str, str]) -> Session:
    lease = session.lease
    if isinstance(lease, lease_.Held):
        until = NOW + TTL if lease_.live_at(lease, NOW) else NOW - 1
        lease = replace(
            lease,
            generation=rank[lease.generation],
            lease_id=names[lease.lease_id],
            expires_at_ms=until,
        )
    else:
        lease = lease_.Vacant(rank[lease.generation])
    return replace(
        session, lease=lease, next_event=1, changed_at_ms=0, due_at_ms=_time(session.due_at_ms),
        work_at_ms=_time(session.work_at_ms),
        left_since_ms=None if session.left_since_ms is None else NOW,
    )  # fmt: skip


def _job(job: Job, rank: dict[int, int], names: dict[str, str]) -> Job:
    state, last = job.state, job.last_end
    if isinstance(state, job_.Held | job_.Started):
        state = replace(state, generation=rank[state.generation])
    elif isinstance(state, job_.Waiting):
        ahead = state.from_ms is not None and state.from_ms > NOW
        since = None if state.since_ms is None else _time(state.due_at_ms) if ahead else NOW
        state = job_.Waiting(_time(state.due_at_ms), since)
    if last is not None:
        last = replace(last, lease_id=names[last.lease_id], due_at_ms=None)
    left = job.look_at_ms is not None
    return replace(
        job, state=state, last_end=last, look_at_ms=_time(job.look_at_ms), looks=1 if left else 0,
        attempts=0, registered_at_ms=0, changed_at_ms=0,
        failures=replace(job.failures, last=None),
    )  # fmt: skip


def _worker(worker: Worker, rank: dict[int, int], names: dict[str, str]) -> Worker:
    fence = worker.fence
    if fence is not None:
        fence = lease_.Fence(J, rank[fence.generation], names[fence.lease_id])
    return replace(worker, fence=fence, lease_id=names.get(worker.lease_id, ""))


def _time(at_ms: int | None) -> int | None:
    """Return a time as one of two: now, or later."""
    if at_ms is None:
        return None
    return NOW + TTL + 1 if at_ms > NOW else NOW
