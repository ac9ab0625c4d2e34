"""Complete, FailJob and LetGo: how a job ends or is let go by its holder, or by who registered it.  Spec: specs/job.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen

from ...failure import Failure, LastFailure, decide_retry
from ...kind import Kind
from ...limits import BODY_BYTES_MAX
from ...machines import job as job_
from ...machines import lease as lease_
from ...outcome import Decided, Insert, Refusal, Refused
from ...queries import Command, Reads, read
from ...records import Job, JobPart, JobText, Session
from ...replace import replace
from ...run_values import LastEnd
from ...transcript import hash_text
from ..validation import sanitize, size_of, validate_text
from .job_transaction import (
    JobTransaction,
    JobView,
    digest_of_end,
    job_queries,
    refuse_fence,
    unknown,
)
from .replay_end import ended_of
from .take import JobEnded

__all__ = ["Complete", "FailJob", "JobReleased", "LetGo"]


MESSAGE_MAX = 1_900  # characters; with the kind before it, a reason has at most 2,000


@frozen
class JobReleased:
    """What became of the job: `rescheduled`, `released` or `ended`.

    `due_at_ms`: when a rescheduled job may be taken again; None: at once.
    """

    since: ClassVar = 2
    verdict: str
    due_at_ms: int | None = None


@frozen
class _Ending:
    """Who ends a job: its holder with a fence, or who registered it, by name."""

    fence: lease_.Fence | None
    authority: str | None

    def refused(self, session: Session, job: Job) -> Refused | None:
        """JOB-4, JOB-60, JOB-61: refuse who may not end it."""
        if (self.fence is None) is (self.authority is None):
            problem = "fence and authority: expected exactly one of them"
            return Refused(Refusal.ILLEGAL, "JOB-62", problem)
        if self.fence is not None:
            return refuse_fence(session, self.fence)
        external = job.disposition is job_.Disposition.EXTERNAL
        if external and job.registered_by == self.authority:
            return None
        return Refused(Refusal.NO_AUTHORITY, "JOB-61", self.authority)

    @property
    def causation_id(self) -> str:
        return self.fence.lease_id if self.fence is not None else self.authority or ""


def _known_end(job: Job, digest: str) -> Decided[JobEnded] | Refused | None:
    """JOB-20, JOB-21: answer an end of a job that has ended: an equal one is a repetition."""
    state = job.state
    if not isinstance(state, job_.Ended):
        return None
    outcome = job_.step(state, job_.End(replace(state, end_digest=digest)))
    if isinstance(outcome, Refused):
        return outcome
    return Decided(JobEnded(state.how, state.reason), outcome.clause, replayed=True)


@frozen
class Complete(Command[JobView, JobEnded]):
    """End a job as completed, with its output.

    With the fence of a holder that has started it; or, if it is EXTERNAL, with the name of who registered it.
    Refusals: UNKNOWN_JOB, ENDED, FENCED, NO_AUTHORITY, ILLEGAL.
    """

    since: ClassVar = 2
    serves: ClassVar = Kind.JOB
    session_id: str
    output: str = field(repr=lambda o: repr(o) if len(o) < 80 else f"<{len(o)} characters>")
    fence: lease_.Fence | None = None
    authority: str | None = None

    def reads(self) -> Reads[JobView]:
        return read(JobView, *job_queries(self.session_id))

    def decide(self, view: JobView, now_ms: int) -> Decided[JobEnded] | Refused:
        session, job = view.session, view.job
        if session is None or job is None:
            return unknown(session, self.session_id)
        how = job_.How.COMPLETED
        digest = digest_of_end(how, hash_text(self.output), self.authority)
        if (known := _known_end(job, digest)) is not None:
            return known
        by = _Ending(self.fence, self.authority)
        if refused := by.refused(session, job):
            return refused
        if self.fence is not None and not isinstance(job.state, job_.Started):
            return Refused(Refusal.ILLEGAL, "JOB-63", "the job was not started")
        if (size := size_of(self.output)) > BODY_BYTES_MAX:
            return Refused(
                Refusal.ILLEGAL, "JOB-62", f"output of {size} bytes; at most {BODY_BYTES_MAX}"
            )
        if problem := validate_text("output", self.output, BODY_BYTES_MAX):
            return Refused(Refusal.ILLEGAL, "JOB-62", problem)
        tx = JobTransaction.on(view, now_ms, by.causation_id)
        tx.end(how, digest, self.authority or "", None, self.fence, self.output)
        tx.write(Insert(JobText(self.session_id, JobPart.OUTPUT, self.output)))
        return tx.decided(JobEnded(how, self.authority or ""), "JOB-60")


@frozen
class FailJob(Command[JobView, JobReleased | JobEnded]):
    """Report that a job has failed.

    One that may start again is retried as runs are; owner-bound work that was started ends, and so does an external job.
    If somebody has asked to cancel it, it ends as cancelled.  A repetition is recognised by its lease id.
    Refusals: UNKNOWN_JOB, ENDED, FENCED, NO_AUTHORITY, ILLEGAL.
    """

    since: ClassVar = 2
    serves: ClassVar = Kind.JOB
    session_id: str
    failure: Failure
    fence: lease_.Fence | None = None
    authority: str | None = None

    def reads(self) -> Reads[JobView]:
        return read(JobView, *job_queries(self.session_id))

    def decide(self, view: JobView, now_ms: int) -> Decided[JobReleased | JobEnded] | Refused:
        session, job = view.session, view.job
        if session is None or job is None:
            return unknown(session, self.session_id)
        if (again := _released_before(job, self.fence)) is not None:
            return again
        digest = self._digest()
        if (known := _known_end(job, digest)) is not None:
            return known
        by = _Ending(self.fence, self.authority)
        if refused := by.refused(session, job):
            return refused
        tx = JobTransaction.on(view, now_ms, by.causation_id)
        failed = LastFailure(self.failure.kind, self._message(), job.failures.failure_count() + 1)
        if job.cancel is not None:
            tx.end(job_.How.CANCELLED, digest, f"{job.cancel.by} {failed.text}", None, self.fence)
        elif not job.may_start:
            tx.end(job_.How.FAILED, digest, failed.text, None, self.fence)
        else:
            return self._retry(tx, failed)
        return tx.decided(ended_of(tx.job), "JOB-65")

    def _retry(self, tx: JobTransaction, failed: LastFailure) -> Decided[JobReleased | JobEnded]:
        """JOB-64: retry it as a run is, or give it up."""
        tx.end_lease(self.fence)
        job = tx.job
        verdict = decide_retry(job.failures, self.failure, tx.now_ms, job.limits)
        tx.via.append(verdict.clause)
        tx.job = replace(job, failures=replace(verdict.state, last=failed))
        how = tx.end_or_retry(verdict, failed.text)
        return tx.decided(_remember(tx, how, self.fence), "JOB-64")

    def _digest(self) -> str:
        failure = (self.failure.kind.value, hash_text(self.failure.message))
        return digest_of_end(job_.How.FAILED, *failure, self.authority)

    def _message(self) -> str:
        return sanitize(self.failure.message)[:MESSAGE_MAX]


@frozen
class LetGo(Command[JobView, JobReleased | JobEnded]):
    """End the lease without counting a failure; the job may be taken again at once.

    Owner-bound work that was started is not let go, unless somebody has asked to cancel it: then it ends as cancelled.
    A repetition is recognised by its lease id.  Refusals: UNKNOWN_JOB, ENDED, FENCED, STARTED.
    """

    since: ClassVar = 2
    serves: ClassVar = Kind.JOB
    session_id: str
    fence: lease_.Fence

    def reads(self) -> Reads[JobView]:
        return read(JobView, *job_queries(self.session_id))

    def decide(self, view: JobView, now_ms: int) -> Decided[JobReleased | JobEnded] | Refused:
        session, job = view.session, view.job
        if session is None or job is None:
            return unknown(session, self.session_id)
        if (again := _released_before(job, self.fence)) is not None:
            return again
        if (known := _known_end(job, digest_of_end(job_.How.CANCELLED))) is not None:
            return known
        if refused := refuse_fence(session, self.fence):
            return refused
        tx = JobTransaction.on(view, now_ms, self.fence.lease_id)
        if not job.may_start:
            if job.cancel is None:
                return Refused(Refusal.STARTED, "JOB-67", job.started_at_ms)
            how = job_.How.CANCELLED
            tx.end(how, digest_of_end(how), job.cancel.by, None, self.fence)
            return tx.decided(ended_of(tx.job), "JOB-66")
        tx.end_lease(self.fence)
        if tx.honour():
            return tx.decided(_remember(tx, "ended", self.fence), "JOB-66")
        tx.reschedule(None, "released")
        return tx.decided(_remember(tx, "released", self.fence), "JOB-66")


def _released_before(
    job: Job, fence: lease_.Fence | None
) -> Decided[JobReleased | JobEnded] | None:
    """JOB-68: answer a repeated FailJob or LetGo, known by its lease id."""
    last = job.last_end
    if last is None or fence is None or last.lease_id != fence.lease_id:
        return None
    return Decided(JobReleased(last.verdict, last.due_at_ms), "JOB-68", replayed=True)


def _remember(tx: JobTransaction, verdict: str, fence: lease_.Fence | None) -> JobReleased:
    """Store what became of the job, for a repetition of the command."""
    state = tx.job.state
    due = state.due_at_ms if isinstance(state, job_.Waiting) else None
    if fence is not None:
        tx.job = replace(tx.job, last_end=LastEnd(fence.lease_id, verdict, due))
    return JobReleased(verdict, due)
