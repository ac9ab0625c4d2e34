"""The unit of work of a command on a job: its row `Job` beside that of its lease and its events.  Spec: specs/job.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from attrs import define, field, frozen

from ...event import EventKind
from ...failure import ErrorKind, GiveUp, Retry, decide_after_loss
from ...job_records import SignalCount
from ...machines import job as job_
from ...machines import lease as lease_
from ...outcome import Decided, Insert, Refusal, Refused, Stepped, Update
from ...queries import Get, Query
from ...records import ExecutedCommand, Job, Session
from ...replace import replace
from ...transcript import hash_parts
from ...verdict import Observed, Rule, Verdict, facts_of, judge
from ..aggregate import AggregateTransaction
from ..replay import check_pruned
from ..send import send
from .wakes import end_of_work, end_wake

__all__ = [
    "CommandView",
    "JobTransaction",
    "JobView",
    "command_queries",
    "digest_of_end",
    "fence_of",
    "job_queries",
    "refuse_fence",
    "retry_from_ms",
    "unknown",
    "work_at_ms",
]


O = TypeVar("O")
LOOK_FIRST_MS: Final = 30_000  # JOB-42: the first pause after a job was left; it doubles
LOOK_MOST_MS: Final = 3_600_000


@frozen
class JobView:
    """The two rows of a job that every command on it reads."""

    session: Session | None
    job: Job | None


@frozen
class CommandView(JobView):
    """The job, and what the command left when it was executed before."""

    executed: ExecutedCommand | None


def job_queries(job_id: str) -> tuple[Query[Session | None], Query[Job | None]]:
    """The queries of a `JobView`."""
    return Get(Session, (job_id,)), Get(Job, (job_id,))


def command_queries(
    job_id: str, command_id: str
) -> tuple[Query[Session | None], Query[Job | None], Query[ExecutedCommand | None]]:
    """The queries of a `CommandView`."""
    return *job_queries(job_id), Get(ExecutedCommand, (job_id, command_id))


def unknown(session: Session | None, job_id: str) -> Refused:
    """JOB-3: refuse a command on a job that does not exist, or that was removed."""
    return check_pruned(session, job_id) or Refused(Refusal.UNKNOWN_JOB, "JOB-3", job_id)


def refuse_fence(session: Session, fence: lease_.Fence) -> Refused | None:
    """JOB-4: refuse a fence that is not exactly that of the job's lease."""
    outcome = lease_.step(session.lease, lease_.Use(fence.generation, fence.lease_id))
    if isinstance(outcome, Refused):
        return outcome
    if fence.session_id != session.session_id:
        return Refused(Refusal.FENCED, "LEASE-25", fence.session_id)
    return None


def fence_of(session: Session) -> lease_.Fence:
    """Return the fence of the lease on a row."""
    lease = session.lease
    assert isinstance(lease, lease_.Held), session
    return lease_.Fence(session.session_id, lease.generation, lease.lease_id)


def digest_of_end(how: job_.How, *parts: object) -> str:
    """JOB-20: return the digest by which a repetition of an end is recognised."""
    return hash_parts(how.value, *parts)


def work_at_ms(session: Session, job: Job) -> int | None:
    """DUE-62: return when a job has work that needs no live lease; None: nothing, until a command comes."""
    state = job.state
    if isinstance(state, job_.Ended) or job.disposition is job_.Disposition.EXTERNAL:
        return None
    if session.left_since_ms is not None:
        return job.look_at_ms
    if isinstance(state, job_.Waiting):
        return None if job.waits is not None else state.due_at_ms or 0
    return 0


def retry_from_ms(session: Session, job: Job) -> int | None:
    """DUE-64: return before which time the retry of a job, or the look at one that was left, is due at once."""
    if work_at_ms(session, job) is None:
        return None
    if session.left_since_ms is not None:
        return None if job.look_at_ms is None else job.look_at_ms - LOOK_MOST_MS
    return job.state.from_ms if isinstance(job.state, job_.Waiting) else None


@define
class JobTransaction(AggregateTransaction):
    """What one decision on a job changes.  `job` is as of the writes so far."""

    job_before: Job | None = field(kw_only=True)
    job: Job = field(kw_only=True)

    @classmethod
    def on(cls, view: JobView, now_ms: int, causation_id: str) -> JobTransaction:
        """Begin a transaction over the rows of a job that exists."""
        session, job = view.session, view.job
        assert session is not None and job is not None, view
        return cls(session, session, now_ms, causation_id, job_before=job, job=job)

    def rule(self, observed: Sequence[Observed] = ()) -> Rule:
        """Return the rule of the verdict that holds for the rows as they are now."""
        return judge(facts_of(self.session, self.job, observed, self.now_ms))

    # -- its life

    def lose(self) -> None:
        """JOB-45: end the lease of a job that may be started, without its holder's command.  It counts a loss."""
        job, lease = self.job, self.session.lease
        if isinstance(lease, lease_.Held):
            self.append_event(EventKind.LEASE_LOST, str(lease.generation))
        self.end_lease()
        if not isinstance(job.state, job_.Held | job_.Started):
            return
        recorded = isinstance(job.state, job_.Started) and job.state.recorded
        verdict = decide_after_loss(job.session_id, job.failures, recorded, self.now_ms, job.limits)
        self.via.append(verdict.clause)
        self.job = replace(job, failures=verdict.state)
        self.end_or_retry(verdict, ErrorKind.LOST.value)

    def end_or_retry(self, verdict: Retry | GiveUp, reason: str) -> str:
        """JOB-46: decide what becomes of a job that may be started, and whose lease has ended.

        A request or a cancel comes first (VERDICT-8, VERDICT-9).  Return `ended` or `rescheduled`.
        """
        if self.honour():
            return "ended"
        if isinstance(verdict, GiveUp):
            self.end(job_.How.FAILED, digest_of_end(job_.How.FAILED, reason), reason)
            return "ended"
        due = verdict.due_at_ms if verdict.due_at_ms > self.now_ms else None
        self.reschedule(due, f"{reason} {self.job.failures.failure_count()}")
        return "rescheduled"

    def reschedule(self, due: int | None, why: str) -> None:
        """Make the job wait until somebody takes it, from `due` on."""
        since_ms = None if due is None else self.now_ms
        state = self.step_to(job_.step(self.job.state, job_.LetGo(due, since_ms)))
        self.job = replace(self.job, state=state)
        detail = why if due is None else f"{why} until {due}"
        self.append_event(EventKind.JOB_RESCHEDULED, detail)

    def honour(self, observed: Sequence[Observed] = ()) -> bool:
        """JOB-47: end the job if the verdict says so.  Return whether it has ended."""
        return self.carry_out(self.rule(observed))

    def carry_out(self, rule: Rule) -> bool:
        """End the job if that is what a rule says.  Return whether it has ended."""
        if rule.verdict is Verdict.CANCEL:
            self.via.append(rule.clause)
            self.end_cancelled()
            return True
        if rule.verdict is Verdict.ABANDON:
            self.via.append(rule.clause)
            assert rule.writer is not None
            self.end_abandoned(rule.writer, rule.names_owners)
            return True
        return False

    def end_cancelled(self, reason: str = "") -> None:
        """End the job as cancelled."""
        cancel = self.job.cancel
        by = "" if cancel is None else cancel.by
        how = job_.How.CANCELLED
        self.end(how, digest_of_end(how), " ".join(filter(None, (by, reason))))

    def end_abandoned(
        self, writer: job_.Writer, names_owners: bool, fence: lease_.Fence | None = None
    ) -> None:
        """End the job as abandoned.  The evidence names its starter and its holder, unless it never started."""
        owners: list[lease_.Owner] = []
        if names_owners:
            lease = self.session.lease
            holder = lease.owner if isinstance(lease, lease_.Held) else None
            owners = [each for each in (self.job.starter, holder) if each is not None]
        evidence = job_.AbandonEvidence(writer, tuple(dict.fromkeys(owners)))
        request, reason = self.job.request, writer.value
        if writer is job_.Writer.REQUEST and request is not None:
            reason = " ".join(filter(None, (request.by, request.reason)))
        how = job_.How.ABANDONED
        self.end(how, digest_of_end(how, writer.value), reason, evidence, fence)

    def end(
        self,
        how: job_.How,
        digest: str,
        reason: str = "",
        evidence: job_.AbandonEvidence | None = None,
        fence: lease_.Fence | None = None,
        output: str = "",
    ) -> None:
        """JOB-19: end the job and its lease, for ever.  `fence`: of the holder that ends it.

        Tell the session that it wakes, and the ticket that it settles.
        """
        ended = job_.Ended(how, digest, self.now_ms, reason, evidence)
        state = self.step_to(job_.step(self.job.state, job_.End(ended)))
        self.end_lease(fence)
        self.job = replace(self.job, state=state, waits=None, hold=None, look_at_ms=None, looks=0)
        self.update(cancel=None, left_since_ms=None)
        self.append_event(EventKind.JOB_ENDED, f"{how.value}: {reason}" if reason else how.value)
        if self.job.wake_target is not None:
            send(self, end_wake(self.job, how, reason))
        if (settles := self.job.settles) is not None:
            send(self, end_of_work(self.job, settles, how, reason, output), settles.peer)
            self.via.append("JOB-69")

    def leave(self, reason: str) -> int:
        """JOB-42: note that the job is left, and return when to look again.

        A look before that time changes nothing.  Its lease stays on the row, so that its holder may renew it.
        """
        job, before = self.job, self.session.left_since_ms
        looks = 0 if before is None else job.looks
        if before is not None and job.look_at_ms is not None:
            if job.look_at_ms - LOOK_MOST_MS <= self.now_ms < job.look_at_ms:
                return job.look_at_ms
        at_ms: int = self.now_ms + min(LOOK_FIRST_MS * 2 ** min(looks, 20), LOOK_MOST_MS)
        self.job = replace(job, hold=reason, look_at_ms=at_ms, looks=looks + 1)
        self.update(left_since_ms=self.now_ms if before is None else before)
        if before is None:
            self.append_event(EventKind.JOB_LEFT, reason)
        return at_ms

    def count_signal(self, name: str) -> int:
        """SIGNAL-1: count a signal of a name, and return its number."""
        counts = {each.name: each.count for each in self.job.signals}
        counts[name] = counts.get(name, 0) + 1
        signals = tuple([SignalCount(*each) for each in counts.items()])
        self.job = replace(self.job, signals=signals)
        return counts[name]

    def vacate(self, outcome: Stepped[lease_.Lease, None] | Refused, counts: bool) -> None:
        """JOB-49: end the lease by a command that is not its holder's.  `counts`: it counts a loss.

        Owner-bound work that was started stays so: the next verdict tells what becomes of it.
        """
        job, lease = self.job, self.session.lease
        if isinstance(lease, lease_.Held):
            self.append_event(EventKind.LEASE_LOST, str(lease.generation))
        self.update(lease=self.step_to(outcome), left_since_ms=None)
        if not isinstance(job.state, job_.Held | job_.Started) or not job.may_start:
            return
        if counts:
            self.lose()
        elif not self.honour():
            self.reschedule(None, "fenced_off")

    # -- the end

    def decided(self, outcome: O, clause: str) -> Decided[O]:
        """Settle and return the decision, with the row of the job if it has changed."""
        session, job = self.session, self.job
        self.update(work_at_ms=work_at_ms(session, job), retry_from_ms=retry_from_ms(session, job))
        before = self.job_before
        if self.job != before:
            changed_at_ms = max(self.now_ms, self.job.changed_at_ms)
            self.job = replace(self.job, changed_at_ms=changed_at_ms)
            write = Insert(self.job) if before is None else Update(self.job)
            self.rows.insert(0, write)
        return super().decided(outcome, clause)
