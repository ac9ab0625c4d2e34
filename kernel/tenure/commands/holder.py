"""Fail, Release, ReleaseSession, Renew and Reclaim: what ends or renews a lease besides a commit.

Specs: specs/run.md, specs/lease.md.
"""

from __future__ import annotations

from typing import ClassVar, Final

from attrs import frozen

from ..event import EventKind
from ..failure import Failure, LastFailure, decide_retry
from ..indexes import DELAYED
from ..machines import lease as lease_
from ..machines.run import Rescheduled
from ..outcome import Decided, Refusal, Refused, Stepped, Update
from ..queries import Command, First, Get, Reads, read
from ..records import (
    Cancel,
    ExecutedCommand,
    Job,
    LastEnd,
    LeaseTaken,
    QueueEntry,
    Reclaimed,
    Run,
    Session,
    Usage,
)
from ..replace import replace
from ..scheduling import due_at_ms
from ..transcript import UsageDelta, hash_parts
from .checkpoint import check_fence
from .hints import hints_of
from .jobs.job_transaction import JobTransaction, JobView
from .replay import check_command_id, not_found, replay
from .session_view import CommandView, SessionView, session_queries
from .transaction import Transaction
from .usage import count_usage, usage_queries, validate_usage
from .validation import sanitize

__all__ = ["Ended", "Fail", "Reclaim", "Release", "ReleaseSession", "Renew", "Renewed"]


MESSAGE_MAX: Final = 1_900  # characters; with the kind before it, a reason has at most 2,000


@frozen
class Ended:
    """What became of the run: `rescheduled`, `ended`, `split` or `released`.

    `due_at_ms`: when a rescheduled run may begin again; None: at once.
    """

    verdict: str
    due_at_ms: int | None = None


@frozen
class ReleaseView(SessionView):
    """The session and the run."""

    run: Run | None


@frozen
class FailView(ReleaseView):
    """The session, the run, and the usage rows to add to."""

    usage: tuple[Usage | None, ...]


@frozen
class Fail(Command[FailView, Ended]):
    """Report a failed turn, and end its lease.  Writes at most 64 queue entries and a few rows.

    A repetition is recognised by its lease id.  Refusals: UNKNOWN_RUN, FENCED, STALE, ILLEGAL.
    """

    session_id: str
    fence: lease_.Fence
    run_id: str
    turn: int
    failure: Failure
    usage: tuple[UsageDelta, ...] = ()

    def reads(self) -> Reads[FailView]:
        s = self.session_id
        return read(
            FailView, *session_queries(s), Get(Run, (s, self.run_id)), usage_queries(s, self.usage)
        )

    def decide(self, view: FailView, now_ms: int) -> Decided[Ended] | Refused:
        session, run = view.session, view.run
        if session is None or run is None:
            return not_found(session, Refusal.UNKNOWN_RUN, "FAIL-10", self.run_id)
        if refused := replay_or_fence(session, run, self.fence):
            return refused
        if self.turn != run.turn:
            return Refused(Refusal.STALE, "FAIL-12", run.turn)
        if problem := validate_usage(self.usage):
            return Refused(Refusal.ILLEGAL, "FAIL-14", problem)
        tx = Transaction.on(view, session, now_ms, self.fence.lease_id)
        tx.write(*count_usage(self.session_id, self.usage, view.usage))
        release(tx, self.fence)
        verdict = decide_retry(run.retry, self.failure, now_ms, run.limits)
        tx.via.append(verdict.clause)
        last = self._last_failure(run)
        tx.append_event(EventKind.RUN_FAILED, run.run_id, detail=str(last))
        failed = replace(run, retry=replace(verdict.state, last=last))
        verdict_text = tx.end_or_retry(failed, verdict, last.kind, last.text)
        due = remember_verdict(tx, run.run_id, self.fence.lease_id, verdict_text)
        return tx.decided(Ended(verdict_text, due), "FAIL-13")

    def _last_failure(self, run: Run) -> LastFailure:
        """FAIL-16: return what the run keeps of this failure."""
        message = sanitize(self.failure.message)[:MESSAGE_MAX]
        return LastFailure(self.failure.kind, message, run.retry.failure_count() + 1)


@frozen
class Release(Command[ReleaseView, Ended]):
    """Release the lease without counting a failure; the run is due again at once.  Refusals: UNKNOWN_RUN, FENCED."""

    session_id: str
    fence: lease_.Fence
    run_id: str

    def reads(self) -> Reads[ReleaseView]:
        return read(
            ReleaseView, *session_queries(self.session_id), Get(Run, (self.session_id, self.run_id))
        )

    def decide(self, view: ReleaseView, now_ms: int) -> Decided[Ended] | Refused:
        session, run = view.session, view.run
        if session is None or run is None:
            return not_found(session, Refusal.UNKNOWN_RUN, "FAIL-10", self.run_id)
        if refused := replay_or_fence(session, run, self.fence):
            return refused
        tx = Transaction.on(view, session, now_ms, self.fence.lease_id)
        release(tx, self.fence)
        cancel = session.cancel
        verdict_text = "released"
        if cancel is not None and (cancel.rollback or not run.progress):
            tx.close(run, cancel)
            verdict_text = "ended"
        else:
            tx.reschedule(run, None, "released")
        remember_verdict(tx, run.run_id, self.fence.lease_id, verdict_text)
        return tx.decided(Ended(verdict_text), "LEASE-26")


def replay_or_fence(
    session: Session, run: Run, fence: lease_.Fence
) -> Decided[Ended] | Refused | None:
    """FAIL-11: answer a repeated Fail or Release, known by its lease id; refuse one whose fence is not valid."""
    last = run.last_end
    if last is not None and last.lease_id == fence.lease_id:
        if check_fence(session, fence, run.run_id) is not None:
            return Decided(Ended(last.verdict, last.due_at_ms), "FAIL-11", replayed=True)
    if run.pruned:
        return Refused(Refusal.PRUNED, "RETENTION-10", run.run_id)
    return check_fence(session, fence, run.run_id)


def release(tx: Transaction, fence: lease_.Fence) -> None:
    """End the lease of this fence."""
    command = lease_.Release(fence.generation, fence.lease_id)
    tx.vacate(lease_.step(tx.session.lease, command))


def remember_verdict(tx: Transaction, run_id: str, lease_id: str, verdict_text: str) -> int | None:
    """Store the verdict on the run, for a repetition of the command.  Return when the run is due."""
    run = tx.get(Run, run_id)
    assert run is not None, run_id
    due = run.state.due_at_ms if isinstance(run.state, Rescheduled) else None
    tx.write_run(replace(run, last_end=LastEnd(lease_id, verdict_text, due)))
    return due


# -- without a run


@frozen
class ReleaseSession(Command[CommandView, Ended]):
    """End a lease of Acquire.  Refusals: UNKNOWN_SESSION, FENCED."""

    session_id: str
    fence: lease_.Fence

    def reads(self) -> Reads[CommandView]:
        s = self.session_id
        return read(
            CommandView, *session_queries(s), Get(ExecutedCommand, (s, self.fence.lease_id))
        )

    def decide(self, view: CommandView, now_ms: int) -> Decided[Ended] | Refused:
        session, executed = view.session, view.executed
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "LEASE-20", self.session_id)
        if executed is not None and executed.outcome == LeaseTaken(released=True):
            return Decided(Ended("released"), "LEASE-27", replayed=True)
        if refused := check_fence(session, self.fence, None):
            return refused
        tx = Transaction.on(view, session, now_ms, self.fence.lease_id)
        release(tx, self.fence)
        assert executed is not None
        tx.write(Update(replace(executed, outcome=LeaseTaken(released=True))))
        return tx.decided(Ended("released"), "LEASE-28")


# -- renewal


@frozen
class Renewed:
    """The lease is valid for `ttl_ms` from when the command was first sent.  The rest is for the holder to act on."""

    ttl_ms: int
    cancel: Cancel | None
    user_mark: int
    steering: bool = False  # ready inputs name a run, perhaps this one


@frozen
class RenewView:
    """The session and its first delayed input, which decide when it is due."""

    session: Session | None
    delayed: tuple[QueueEntry, ...]


@frozen
class Renew(Command[RenewView, Renewed]):
    """Renew a lease.  A repetition is a new, monotone step.  Writes one row.  Refusals: UNKNOWN_SESSION, FENCED."""

    serves_all: ClassVar[bool] = True
    urgent: ClassVar[bool] = True  # a store may execute it before others

    session_id: str
    fence: lease_.Fence

    def reads(self) -> Reads[RenewView]:
        s = self.session_id
        return read(RenewView, Get(Session, (s,)), First(DELAYED, (s,), 1, counted="delayed_count"))

    def decide(self, view: RenewView, now_ms: int) -> Decided[Renewed] | Refused:
        session = view.session
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "LEASE-20", self.session_id)
        command = lease_.Renew(self.fence.generation, self.fence.lease_id, now_ms)
        outcome = lease_.step(session.lease, command)
        if isinstance(outcome, Refused):
            return outcome
        if self.fence.session_id != self.session_id:
            return Refused(Refusal.FENCED, "LEASE-25", session.lease_run)
        held = outcome.state
        assert isinstance(
            held, lease_.Held
        )  # then only the lease and delayed inputs decide when it is due
        after = replace(session, lease=held)
        if session.left_since_ms is not None:  # JOB-48
            after = replace(after, left_since_ms=None, retry_from_ms=None)
        after = replace(after, due_at_ms=due_at_ms(after, {}, {}, view.delayed))
        steering = bool(session.targeted_count)  # LEASE-52
        answer = Renewed(held.ttl_ms, session.cancel, session.user_mark, steering)
        hints = hints_of(session, after)  # the clock may have been set back
        return Decided(answer, outcome.clause, (Update(after),), hints, via=(outcome.clause,))


# -- reclaim


@frozen
class ReclaimView(CommandView):
    """The session, the row of the command if it was executed before, and the job, if it is one."""

    job: Job | None


@frozen
class Reclaim(Command[ReclaimView, Reclaimed]):
    """End the observed lease if there is evidence that its holder is dead, or if it has lapsed.

    Refusals: UNKNOWN_SESSION, NOT_OBSERVED, HELD.
    """

    serves_all: ClassVar[bool] = True
    session_id: str
    command_id: str
    observed: lease_.Fence
    evidence: lease_.Evidence

    def reads(self) -> Reads[ReclaimView]:
        s, executed = self.session_id, Get(ExecutedCommand, (self.session_id, self.command_id))
        return read(ReclaimView, *session_queries(s), executed, Get(Job, (s,)))

    def decide(self, view: ReclaimView, now_ms: int) -> Decided[Reclaimed] | Refused:
        session, executed = view.session, view.executed
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "LEASE-20", self.session_id)
        digest = hash_parts(self.observed.generation, self.observed.lease_id)
        if refused := check_command_id("reclaim", self.command_id, executed, session, digest):
            return refused
        if executed is not None:
            return replay(executed, Reclaimed, "LEASE-29")
        seen = self.observed
        command = lease_.Reclaim(seen.generation, seen.lease_id, self.evidence, now_ms)
        outcome = lease_.step(session.lease, command)
        if isinstance(outcome, Refused):
            return outcome
        if view.job is not None:
            return self._decide_job(JobView(session, view.job), outcome, now_ms, digest)
        tx = Transaction.on(view, session, now_ms, self.command_id)
        run_id = session.lease_run
        tx.lose_lease(outcome)
        reclaimed = Reclaimed(seen.generation, run_id)
        tx.remember(self.command_id, "reclaim", reclaimed, digest)
        return tx.decided(reclaimed, outcome.clause)

    def _decide_job(
        self, view: JobView, outcome: Stepped[lease_.Lease, None], now_ms: int, digest: str
    ) -> Decided[Reclaimed]:
        """JOB-49: end the lease of a job.  It counts a loss if the job may be started."""
        tx = JobTransaction.on(view, now_ms, self.command_id)
        tx.vacate(outcome, counts=True)
        reclaimed = Reclaimed(self.observed.generation, None)
        tx.remember(self.command_id, "reclaim", reclaimed, digest)
        return tx.decided(reclaimed, outcome.clause)
