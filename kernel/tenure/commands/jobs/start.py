"""Start: note that a job is started, before its effect.  Spec: specs/job.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from ...event import EventKind
from ...kind import Kind
from ...machines import job as job_
from ...machines import lease as lease_
from ...outcome import Decided, Refusal, Refused
from ...queries import Command, Reads, read
from ...replace import replace
from ...run_values import LastEnd
from ..grant import validate_process
from .job_transaction import (
    JobTransaction,
    JobView,
    job_queries,
    refuse_fence,
    unknown,
)
from .replay_end import ended_of, released_before
from .take import JobEnded

__all__ = ["JobStarted", "Start"]


@frozen
class JobStarted:
    """The job is started under this lease.  `attempts`: how often it was, with this time."""

    since: ClassVar = 2
    attempts: int


@frozen
class Start(Command[JobView, JobStarted | JobEnded]):
    """Note that the holder starts the job.  Sent once under a lease, before the effect.

    `process`: the child process that executes it, which waits until this is stored (JOB-39).

    If somebody has asked to abandon or to cancel it, it ends without being started.
    Refusals: UNKNOWN_JOB, FENCED, ENDED, STARTED, ILLEGAL.
    """

    since: ClassVar = 2
    serves: ClassVar = Kind.JOB
    session_id: str
    fence: lease_.Fence
    process: lease_.LocalProcess | None = None

    def reads(self) -> Reads[JobView]:
        return read(JobView, *job_queries(self.session_id))

    def decide(self, view: JobView, now_ms: int) -> Decided[JobStarted | JobEnded] | Refused:
        session, job = view.session, view.job
        if session is None or job is None:
            return unknown(session, self.session_id)
        start = job_.Start(self.fence.generation)
        if released_before(job, self.fence) == "ended":
            return Decided(ended_of(job), "JOB-53", replayed=True)
        if isinstance(job.state, job_.Ended):
            stepped = job_.step(job.state, start)
            assert isinstance(stepped, Refused)
            return stepped
        if refused := refuse_fence(session, self.fence):
            return refused
        if self.process is not None and (problem := validate_process(self.process)):
            return Refused(Refusal.ILLEGAL, "JOB-39", problem)
        stepped = job_.step(job.state, start)
        if isinstance(stepped, Refused):
            return stepped
        if isinstance(job.state, job_.Started):
            return Decided(JobStarted(job.attempts), stepped.clause, replayed=True)
        if not job.may_start:
            return Refused(Refusal.STARTED, "JOB-51", job.started_at_ms)
        tx = JobTransaction.on(view, now_ms, self.fence.lease_id)
        if job.request is not None or job.cancel is not None:
            return self._end(tx)
        lease = session.lease
        assert isinstance(lease, lease_.Held), lease
        state = tx.step_to(stepped)
        first = job.starter is None
        tx.job = replace(
            job,
            state=state,
            attempts=job.attempts + 1,
            process=self.process,
            starter=lease.owner if first else job.starter,
            started_at_ms=now_ms if first else job.started_at_ms,
        )
        tx.append_event(EventKind.JOB_STARTED, str(lease.generation))
        return tx.decided(JobStarted(tx.job.attempts), "JOB-50")

    def _end(self, tx: JobTransaction) -> Decided[JobStarted | JobEnded]:
        """JOB-52: end the job, because somebody has asked for it, without starting it."""
        tx.end_lease(self.fence)
        assert tx.honour(), tx.job
        tx.job = replace(tx.job, last_end=LastEnd(self.fence.lease_id, "ended"))
        return tx.decided(ended_of(tx.job), "JOB-52")
