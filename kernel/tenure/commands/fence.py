"""FenceOff: invalidate every fence that was granted so far, after a failover or a restored backup.

Spec: specs/lease.md.
"""

from __future__ import annotations

from typing import ClassVar, Final

from attrs import frozen

from ..event import EventKind
from ..machines import lease as lease_
from ..outcome import Decided, Refusal, Refused
from ..queries import Command, Get, Reads, read
from ..records import ExecutedCommand, FencedOff, Job
from ..transcript import hash_parts
from .jobs.job_transaction import JobTransaction, JobView
from .replay import check_command_id, replay
from .session_view import CommandView, session_queries
from .transaction import Transaction

__all__ = ["BY_MAX", "FenceOff"]


BY_MAX: Final = 1_000_000_000


@frozen
class FenceView(CommandView):
    """The session, the row of the command if it was executed before, and the job, if it is one."""

    job: Job | None


@frozen
class FenceOff(Command[FenceView, FencedOff]):
    """End any lease, live or not, and raise the generation by `by`.  Its run counts no failure and is due at once.

    A store that lost its last transactions may grant a generation twice.  `by` must exceed the number of leases that
    may have been granted in them.  Writes a few rows.  Refusals: UNKNOWN_SESSION, ILLEGAL.
    """

    serves_all: ClassVar = True
    session_id: str
    command_id: str
    by: int = 1

    def reads(self) -> Reads[FenceView]:
        s, executed = self.session_id, Get(ExecutedCommand, (self.session_id, self.command_id))
        return read(FenceView, *session_queries(s), executed, Get(Job, (s,)))

    def decide(self, view: FenceView, now_ms: int) -> Decided[FencedOff] | Refused:
        session, executed = view.session, view.executed
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "LEASE-20", self.session_id)
        digest = hash_parts(self.by)
        if refused := check_command_id("fence_off", self.command_id, executed, session, digest):
            return refused
        if executed is not None:
            return replay(executed, FencedOff, "LEASE-31")
        if not 1 <= self.by <= BY_MAX:
            return Refused(Refusal.ILLEGAL, "LEASE-32", f"by {self.by}: expected 1 to {BY_MAX}")
        if view.job is not None:
            return self._decide_job(JobView(session, view.job), now_ms, digest)
        tx = Transaction.on(view, session, now_ms, self.command_id)
        run_id = session.lease_run
        if isinstance(session.lease, lease_.Held):
            tx.append_event(EventKind.LEASE_LOST, run_id, detail=str(session.lease.generation))
        tx.vacate(lease_.step(session.lease, lease_.FenceOff(self.by)))
        run = tx.runs.get(run_id or "")
        if run is not None:
            cancel = session.cancel
            if cancel is not None and (cancel.rollback or not run.progress):
                tx.close(run, cancel)
            else:
                tx.reschedule(run, None, "fenced_off")
        fenced = FencedOff(tx.session.lease.generation, run_id)
        tx.remember(self.command_id, "fence_off", fenced, digest)
        return tx.decided(fenced, "LEASE-30")

    def _decide_job(self, view: JobView, now_ms: int, digest: str) -> Decided[FencedOff]:
        """JOB-49: fence off a job.  It counts no loss."""
        tx = JobTransaction.on(view, now_ms, self.command_id)
        tx.vacate(lease_.step(tx.session.lease, lease_.FenceOff(self.by)), counts=False)
        fenced = FencedOff(tx.session.lease.generation)
        tx.remember(self.command_id, "fence_off", fenced, digest)
        return tx.decided(fenced, "LEASE-30")
