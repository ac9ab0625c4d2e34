"""RequestAbandon and CancelJob: what anybody may ask of a job.  Drain: what its owner does itself.  Spec: specs/job.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from ...event import EventKind
from ...kind import Kind
from ...machines import job as job_
from ...machines import lease as lease_
from ...outcome import Decided, Refusal, Refused
from ...queries import Command, Reads, read
from ...records import Cancel, JobAsked, Requested
from ...replace import replace
from ...transcript import hash_parts
from ..replay import check_command_id, replay
from ..sendable import Sendable
from ..validation import validate_id, validate_text
from .job_transaction import (
    CommandView,
    JobTransaction,
    JobView,
    command_queries,
    digest_of_end,
    job_queries,
    unknown,
)
from .take import JobEnded

__all__ = ["CancelJob", "Drain", "RequestAbandon"]


@frozen
class _Asking(Command[CommandView, JobAsked]):
    """A request that is stored once: the first one wins."""

    since: ClassVar = 2
    serves: ClassVar = Kind.JOB
    name: ClassVar[str]
    clause: ClassVar[str]
    session_id: str
    command_id: str
    by: str

    def reads(self) -> Reads[CommandView]:
        return read(CommandView, *command_queries(self.session_id, self.command_id))

    def decide(self, view: CommandView, now_ms: int) -> Decided[JobAsked] | Refused:
        session, job = view.session, view.job
        if session is None or job is None:
            return unknown(session, self.session_id)
        digest = hash_parts(self.by, self._reason())
        if refused := check_command_id(self.name, self.command_id, view.executed, session, digest):
            return refused
        if view.executed is not None:
            return replay(view.executed, JobAsked, "JOB-75")
        if problem := validate_id("by", self.by) or self._validate():
            return Refused(Refusal.ILLEGAL, "JOB-76", problem)
        if isinstance(job.state, job_.Ended):
            return Refused(Refusal.ENDED, "JOB-21", job.state.how.value)
        tx = JobTransaction.on(view, now_ms, self.command_id)
        counts = self._store(tx, Requested(self.command_id, self.by, now_ms, self._reason()))
        ended = tx.honour()
        asked = JobAsked(counts.by, ended)
        tx.remember(self.command_id, self.name, asked, digest)
        return tx.decided(asked, self.clause)

    def _validate(self) -> str | None:
        return None

    def _reason(self) -> str:
        return ""

    def _store(self, tx: JobTransaction, requested: Requested) -> Requested:
        """Store a request, unless there is one.  Return the one that counts."""
        raise NotImplementedError


@frozen
class RequestAbandon(_Asking):
    """Ask to abandon a job, because its owner is lost.  It never starts (again).

    What no live lease protects ends at once; else the request is kept, and honoured when the lease has ended.
    Refusals: UNKNOWN_JOB, ENDED, KEY_CONFLICT, ILLEGAL.
    """

    name: ClassVar = "request_abandon"
    clause: ClassVar = "JOB-70"
    reason: str = ""

    def _validate(self) -> str | None:
        return validate_text("reason", self.reason)

    def _reason(self) -> str:
        return self.reason

    def _store(self, tx: JobTransaction, requested: Requested) -> Requested:
        if tx.job.request is not None:
            return tx.job.request
        tx.job = replace(tx.job, request=requested)
        tx.append_event(EventKind.ABANDON_REQUESTED, f"{self.by} {self.reason}".rstrip())
        return requested


@frozen
class CancelJob(Sendable, _Asking):
    """Ask to cancel a job.  What nobody works on, and may be started, ends at once; else its holder is told by Renew.

    Owner-bound work that was started waits for its owner.  Refusals: UNKNOWN_JOB, ENDED, KEY_CONFLICT, ILLEGAL.
    """

    moot: ClassVar = (Refusal.ENDED, Refusal.UNKNOWN_JOB)
    name: ClassVar = "cancel_job"
    clause: ClassVar = "JOB-73"

    def _store(self, tx: JobTransaction, requested: Requested) -> Requested:
        if tx.job.cancel is not None:
            return tx.job.cancel
        tx.job = replace(tx.job, cancel=requested)
        tx.update(cancel=Cancel(tx.job.session_id, self.command_id))
        tx.cancelled = tx.job.session_id
        tx.append_event(EventKind.CANCEL_REQUESTED, self.by)
        return requested


@frozen
class Drain(Command[JobView, JobEnded]):
    """End owner-bound work that this owner has started, as abandoned by its own drain.

    `lease_id`: of the lease under which it works; it may have ended.  Refusals: UNKNOWN_JOB, HELD, NOT_OBSERVED, ENDED.
    """

    since: ClassVar = 2
    serves: ClassVar = Kind.JOB
    session_id: str
    owner: lease_.Owner
    lease_id: str

    def reads(self) -> Reads[JobView]:
        return read(JobView, *job_queries(self.session_id))

    def decide(self, view: JobView, now_ms: int) -> Decided[JobEnded] | Refused:
        session, job = view.session, view.job
        if session is None or job is None:
            return unknown(session, self.session_id)
        how, writer = job_.How.ABANDONED, job_.Writer.DRAIN
        state, lease = job.state, session.lease
        if isinstance(state, job_.Ended):
            if state.end_digest != digest_of_end(how, writer.value):
                return Refused(Refusal.ENDED, "JOB-21", state.how.value)
            return Decided(JobEnded(state.how, state.reason), "JOB-20", replayed=True)
        if job.started_by is None or job.starter != self.owner:
            starter = None if job.starter is None else job.starter.owner_id
            return Refused(Refusal.NOT_OBSERVED, "JOB-78", starter)
        own: lease_.Fence | None = None
        if isinstance(lease, lease_.Held):
            if lease.lease_id == self.lease_id:
                own = lease_.Fence(self.session_id, lease.generation, lease.lease_id)
            elif lease_.live_at(lease, now_ms):
                holder = lease_.Holder(lease.owner.owner_id, lease.expires_at_ms)
                return Refused(Refusal.HELD, "JOB-79", holder)
        tx = JobTransaction.on(view, now_ms, self.lease_id)
        tx.end_abandoned(writer, True, own)
        return tx.decided(JobEnded(how, writer.value), "JOB-77")
