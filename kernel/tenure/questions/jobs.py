"""Questions about jobs: one, a page of them, and those that an owner has started.  Spec: specs/job.md."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from ..indexes import (
    EMISSIONS,
    JOB_CHANGED,
    JOB_LEFT,
    JOB_OPEN,
    JOB_ORIGIN,
    JOB_STARTER,
    JOURNAL_ENTRIES,
)
from ..kind import Kind
from ..machines import job as job_
from ..machines import lease as lease_
from ..queries import Each, First, Get, Index, Question, existing
from ..records import Emission, Job, JobPart, JobText, JournalEntry, Phase, Session
from .core import PAGE, Steps
from .sessions import position_of

__all__ = [
    "Emissions",
    "JobItem",
    "JobStatus",
    "Jobs",
    "JobsPage",
    "LoadJob",
    "LoadedJob",
    "StartedBy",
]


@frozen
class JobItem:
    """A job with the row of its lease."""

    session: Session
    job: Job

    @property
    def status(self) -> str:
        """JOB-82: how it ended, or one of waiting, held, started, left, external."""
        state = self.job.state
        if isinstance(state, job_.Ended):
            return state.how.value
        if self.session.left_since_ms is not None:
            return "left"
        if self.job.disposition is job_.Disposition.EXTERNAL:
            return "external"
        return state.__class__.__name__.lower()

    @property
    def holder(self) -> lease_.Owner | None:
        """The owner of the lease on the row, which may be over."""
        lease = self.session.lease
        return lease.owner if isinstance(lease, lease_.Held) else None

    @property
    def why(self) -> str:
        """JOB-82: why it is not going on, or why it ended, for people; empty: it is."""
        job, state = self.job, self.job.state
        if isinstance(state, job_.Ended):
            return state.reason
        asked = []
        if job.request is not None:
            asked.append(f"abandon asked by {job.request.by}: waits for the end of the lease")
        if job.cancel is not None:
            asked.append(f"cancel asked by {job.cancel.by}: waits for the owner")
        if self.session.left_since_ms is not None:
            asked.append(f"left: {job.hold}")
        if job.waits is not None:
            asked.append(f"waits for signal {job.waits.name} {job.waits.number}")
        return "; ".join(asked)


@frozen
class JobStatus(Question[JobItem | None]):
    """A job as it is now; None if it does not exist."""

    session_id: str

    def steps(self) -> Steps:
        session = yield Get(Session, (self.session_id,))
        job = yield Get(Job, (self.session_id,))
        if session is None or session.kind is not Kind.JOB:
            return None
        if job is None and session.phase is Phase.DESTROYED:  # JOB-90: its rows were removed
            return None
        return JobItem(session, existing(job, f"job {self.session_id}"))


@frozen
class LoadedJob:
    """What the execution of a job needs: its input and its journal; also its output, if it has completed."""

    item: JobItem
    input: str
    output: str | None
    entries: tuple[JournalEntry, ...]
    more: bool  # whether its journal has further entries


@frozen
class LoadJob(Question[LoadedJob | None]):
    """A job with its texts and its journal, after the entry (n, i) `after`; None if it does not exist."""

    session_id: str
    after: tuple[int, int] | None = None
    limit: int = PAGE

    def steps(self) -> Steps:
        s = self.session_id
        item = yield from JobStatus(s).steps()
        if item is None:
            return None
        given = yield Get(JobText, (s, JobPart.INPUT))
        output = yield Get(JobText, (s, JobPart.OUTPUT))
        entries = yield First(JOURNAL_ENTRIES, (s, s, 1), self.limit, self.after or ())
        return LoadedJob(
            item,
            existing(given, f"input of job {s}").body,
            None if output is None else output.body,
            entries,
            len(entries) == self.limit,
        )


@frozen
class JobsPage:
    """Jobs in order.  `after`: where the next page begins; None: this is the last one."""

    items: tuple[JobItem, ...]
    after: str | None


@frozen
class Jobs(Question[JobsPage]):
    """JOB-80: a page of jobs: those that have not ended, in the order of registration, unless another order is asked for.

    `origin`: all of this session, in the order of registration.  `left`: those that were left, by since when.
    `changed`: all, in the order of their last change.  `backwards`: the last ones first.  `after`: of the last page.
    """

    origin: str | None = None
    left: bool = False
    changed: bool = False
    backwards: bool = False
    after: str = ""
    limit: int = PAGE

    def steps(self) -> Steps:
        limit = min(self.limit, PAGE)
        index, within, moment = self._order()
        at = position_of(self.after)
        found = yield First(index, within, limit, at, backwards=self.backwards)
        ids = [row.session_id for row in found]
        sessions = yield Each(tuple([Get(Session, (id_,)) for id_ in ids]))
        jobs = yield Each(tuple([Get(Job, (id_,)) for id_ in ids]))
        items = [
            JobItem(existing(session, f"row of job {id_}"), existing(job, f"job {id_}"))
            for id_, session, job in zip(ids, sessions, jobs, strict=True)
        ]
        last = f"{getattr(found[-1], moment)}/{ids[-1]}" if len(found) == limit else None
        return JobsPage(tuple(items), last)

    def _order(self) -> tuple[Index[Any], tuple[str, ...], str]:
        """Return the index that is read, its leading columns, and the column of the time."""
        if self.left:
            return JOB_LEFT, (), "left_since_ms"
        if self.origin is not None:
            return JOB_ORIGIN, (self.origin,), "registered_at_ms"
        if self.changed:
            return JOB_CHANGED, (), "changed_at_ms"
        return JOB_OPEN, (), "open_since_ms"


@frozen
class StartedBy(Question[tuple[Job, ...]]):
    """JOB-81: the owner-bound jobs that an incarnation has started and that have not ended, after the id `after`."""

    incarnation_id: str
    after: str = ""
    limit: int = PAGE

    def steps(self) -> Steps:
        after = (self.after,) if self.after else ()
        return (yield First(JOB_STARTER, (self.incarnation_id,), self.limit, after))


@frozen
class Emissions(Question[tuple[Emission, ...]]):
    """The events that a job has emitted, after number `after`.  Its readers keep the number of the last one."""

    session_id: str
    after: int = 0
    limit: int = PAGE

    def steps(self) -> Steps:
        return (yield First(EMISSIONS, (self.session_id,), self.limit, (self.after,)))
