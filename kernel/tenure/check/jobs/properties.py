"""Properties of the stored rows of a job.  `tenure store check`, the walk and the conformance suite check them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from attrs import frozen

from ...kind import Kind
from ...machines import job as job_
from ...machines import lease as lease_
from ...records import Emission, EventBatch, Job, JobPart, JobSignal, JobText, Phase, Session
from ...world import World

__all__ = ["JOB_PROPERTIES", "JobRows", "due_of_job", "job_rows", "retry_from_of_job", "violated"]


@frozen
class JobRows:
    """The rows of one job."""

    session: Session
    job: Job
    world: World


def job_rows(world: World) -> JobRows:
    """Return the rows of the one job in a world.  Raises ValueError if there are other rows."""
    (session,), (job,) = world.all(Session), world.all(Job)
    return JobRows(session, job, world)


def due_of_job(session: Session, job: Job) -> int | None:
    """Return when a job is due, computed in another way than the kernel does."""
    if isinstance(job.state, job_.Ended) or job.disposition is job_.Disposition.EXTERNAL:
        return None
    if session.left_since_ms is not None:
        return job.look_at_ms
    if isinstance(session.lease, lease_.Held):
        return session.lease.expires_at_ms + 1
    if not isinstance(job.state, job_.Waiting):
        return 0
    return None if job.waits is not None else job.state.due_at_ms or 0


def retry_from_of_job(session: Session, job: Job) -> int | None:
    """Return before which time a job is due at once, computed in another way than the kernel does."""
    if isinstance(job.state, job_.Ended) or job.disposition is job_.Disposition.EXTERNAL:
        return None
    if session.left_since_ms is not None:
        return (job.look_at_ms or 0) - 3_600_000
    state = job.state
    if not isinstance(state, job_.Waiting) or job.waits is not None:
        return None
    if state.due_at_ms is None or state.since_ms is None:
        return None
    return state.since_ms - (state.due_at_ms - state.since_ms)


def has_its_rows(r: JobRows) -> bool:
    parts = {text.part for text in r.world.all(JobText)}
    completed = isinstance(r.job.state, job_.Ended) and r.job.state.how is job_.How.COMPLETED
    return r.session.kind is Kind.JOB and parts == (
        {JobPart.INPUT, JobPart.OUTPUT} if completed else {JobPart.INPUT}
    )


def is_due(r: JobRows) -> bool:
    return r.session.due_at_ms == due_of_job(r.session, r.job)


def found_if_ahead(r: JobRows) -> bool:
    return r.session.retry_from_ms == retry_from_of_job(r.session, r.job)


def ended_rests(r: JobRows) -> bool:
    if not isinstance(r.job.state, job_.Ended):
        return True
    idle = isinstance(r.session.lease, lease_.Vacant) and r.session.left_since_ms is None
    return idle and r.job.waits is None and r.session.cancel is None


def held_has_its_lease(r: JobRows) -> bool:
    """A job that was taken and may be started is under the lease that has taken it."""
    state, lease = r.job.state, r.session.lease
    if not isinstance(state, job_.Held | job_.Started) or not (
        r.job.may_start or isinstance(state, job_.Held)
    ):
        return isinstance(lease, lease_.Vacant) or isinstance(state, job_.Started)
    return isinstance(lease, lease_.Held) and lease.generation == state.generation


def started_by_its_holder(r: JobRows) -> bool:
    """Nobody but its starter holds owner-bound work that was started."""
    bound = r.job.disposition is job_.Disposition.OWNER_BOUND and r.job.starter is not None
    lease = r.session.lease
    return not (bound and isinstance(lease, lease_.Held)) or lease.owner == r.job.starter


def emissions_numbered(r: JobRows) -> bool:
    numbers = sorted(row.seq for row in r.world.all(Emission))
    return numbers == list(range(1, r.job.emitted + 1))


def signals_counted(r: JobRows) -> bool:
    counts = {each.name: each.count for each in r.job.signals}
    found: dict[str, list[int]] = {name: [] for name in counts}
    for row in r.world.all(JobSignal):
        found.setdefault(row.name, []).append(row.number)
    return counts.keys() == found.keys() and all(
        sorted(numbers) == list(range(1, counts[name] + 1)) for name, numbers in found.items()
    )


def waits_for_what_comes(r: JobRows) -> bool:
    """A job never waits for a signal that has come."""
    waits = r.job.waits
    return waits is None or all(
        (row.name, row.number) != (waits.name, waits.number) for row in r.world.all(JobSignal)
    )


def events_numbered(r: JobRows) -> bool:
    rows = sorted(r.world.all(EventBatch), key=lambda row: row.seq)
    number = rows[0].seq if rows else r.session.next_event
    for row in rows:
        if row.seq != number:
            return False
        number += len(row.events)
    return number == r.session.next_event


JOB_PROPERTIES: Final[dict[str, Callable[[JobRows], bool]]] = {
    "a job has its input, and its output if it has completed": has_its_rows,
    "due_at_ms agrees with the rows of the job": is_due,
    "retry_from_ms agrees with the rows of the job": found_if_ahead,
    "a job that has ended has no lease, and waits for nothing": ended_rests,
    "a job that was taken is under the lease that has taken it": held_has_its_lease,
    "nobody but its starter holds owner-bound work that was started": started_by_its_holder,
    "the events that a job has emitted are numbered without gaps": emissions_numbered,
    "the signals of every name are numbered without gaps": signals_counted,
    "no job waits for a signal that has come": waits_for_what_comes,
    "the history of a job is numbered without gaps": events_numbered,
}


def violated(world: World) -> Iterator[str]:
    """Yield the properties that the rows of a job violate."""
    (session,) = world.all(Session)
    if session.phase is Phase.DESTROYED:
        return  # its rows may be removed table by table (JOB-90)
    rows = job_rows(world)
    for name, holds in JOB_PROPERTIES.items():
        if not holds(rows):
            yield name
