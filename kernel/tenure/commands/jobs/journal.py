"""JobCheckpoint: make the progress of a job durable before an effect depends on it.  Spec: specs/job.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from ...indexes import JOURNAL_ENTRIES
from ...kind import Kind
from ...limits import CHECKPOINT_ENTRIES_MAX
from ...machines import job as job_
from ...machines import lease as lease_
from ...outcome import Decided, Insert, Refusal, Refused
from ...queries import Command, First, Reads, read
from ...records import EntryKind, Job, JournalEntry, Session
from ...replace import replace
from ...transcript import hash_parts, hash_text
from ..checkpoint import NewEntry, validate_effect_id
from ..nodes import validate_body
from .job_transaction import JobTransaction, JobView, job_queries, refuse_fence, unknown

__all__ = ["JobCheckpoint", "JobCheckpointed"]


TURN = 1  # of all entries of a job
KINDS = (EntryKind.START, EntryKind.REPORT, EntryKind.UNKNOWN)


@frozen
class JobCheckpointed:
    """`n` is the number of the next checkpoint.  `cancel`: somebody has asked to cancel the job."""

    since: ClassVar = 2
    n: int
    cancel: bool = False


@frozen
class JournalView(JobView):
    """The job, and the first entry of this checkpoint if it was written before."""

    written: tuple[JournalEntry, ...]


@frozen
class JobCheckpoint(Command[JournalView, JobCheckpointed]):
    """Write at most 64 entries into the journal of a started job.  A new attempt reads them, and repeats no step.

    The START entry of a once step must be stored before the step runs.
    Refusals: UNKNOWN_JOB, FENCED, STALE, CANCELLED, ENDED, ILLEGAL.
    """

    since: ClassVar = 2
    serves: ClassVar = Kind.JOB
    session_id: str
    fence: lease_.Fence
    n: int
    entries: tuple[NewEntry, ...]

    def reads(self) -> Reads[JournalView]:
        s = self.session_id
        written = First(JOURNAL_ENTRIES, (s, s, TURN, self.n), 1)
        return read(JournalView, *job_queries(s), written)

    def decide(self, view: JournalView, now_ms: int) -> Decided[JobCheckpointed] | Refused:
        session, job = view.session, view.job
        if session is None or job is None:
            return unknown(session, self.session_id)
        digest = hash_parts([[e.kind.value, e.effect_id, hash_text(e.body)] for e in self.entries])
        if view.written:
            first = view.written[0]
            if first.lease_id == self.fence.lease_id and first.digest == digest:
                answer = JobCheckpointed(self.n + 1, job.cancel is not None)
                return Decided(answer, "JOB-55", replayed=True)
        if refused := self._refused(session, job):
            return refused
        tx = JobTransaction.on(view, now_ms, self.fence.lease_id)
        state = tx.step_to(job_.step(job.state, job_.Record()))
        tx.job = replace(
            job, state=state, next_checkpoint=self.n + 1, failures=job.failures.reset()
        )
        lease_id = self.fence.lease_id
        for i, e in enumerate(self.entries):
            key = (self.session_id, self.session_id, TURN, self.n, i)
            entry = JournalEntry(*key, e.kind, e.effect_id, lease_id, digest, None, e.body)
            tx.write(Insert(entry))
        return tx.decided(JobCheckpointed(self.n + 1, job.cancel is not None), "JOB-54")

    def _refused(self, session: Session, job: Job) -> Refused | None:
        if isinstance(job.state, job_.Ended):
            return Refused(Refusal.ENDED, "JOB-21", job.state.how.value)
        if refused := refuse_fence(session, self.fence):
            return refused
        stepped = job_.step(job.state, job_.Record())
        if isinstance(stepped, Refused):
            return stepped
        if self.n != job.next_checkpoint:
            return Refused(Refusal.STALE, "JOB-56", job.next_checkpoint)
        if problem := self._validate():
            return Refused(Refusal.ILLEGAL, "JOB-57", problem)
        if job.cancel is not None and any(e.kind is EntryKind.START for e in self.entries):
            return Refused(Refusal.CANCELLED, "JOB-58", job.cancel.by)
        return None

    def _validate(self) -> str | None:
        if not 0 < len(self.entries) <= CHECKPOINT_ENTRIES_MAX:
            return f"{len(self.entries)} entries; expected 1 to {CHECKPOINT_ENTRIES_MAX}"
        for entry in self.entries:
            if entry.kind not in KINDS:
                return f"entry of kind {entry.kind.value}: expected one of {', '.join(KINDS)}"
            problem = validate_effect_id(entry.effect_id) or validate_body(entry.body)
            if problem is not None:
                return problem
        return None
