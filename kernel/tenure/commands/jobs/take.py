"""Take: judge a job behind its lock, and take it if the verdict says so.  Spec: specs/job.md."""

from __future__ import annotations

from typing import ClassVar, Final

from attrs import frozen

from ...event import EventKind
from ...kind import Kind
from ...machines import job as job_
from ...machines import lease as lease_
from ...outcome import Decided, Refusal, Refused
from ...queries import Command, Reads, read
from ...records import Job, LeaseTaken, Session
from ...replace import replace
from ...verdict import Observed, Rule, Verdict
from ..grant import TTL_MS_DEFAULT, validate_grant
from ..replay import check_command_id, check_pruned
from .job_transaction import (
    CommandView,
    JobTransaction,
    command_queries,
    digest_of_end,
    fence_of,
    unknown,
)

__all__ = [
    "NO_RUNNER",
    "Deferred",
    "JobEnded",
    "Left",
    "NotDue",
    "Take",
    "TakeOutcome",
    "Taken",
    "TakenBefore",
]


OBSERVED_MAX: Final = 4  # the holder and the starter, as they were and as they are
SILENT_OWNER: Final = "silent_owner"
NO_RUNNER: Final = "no_runner"
RUNNER_MISSING: Final = "runner_missing"
RUNNER_MISSING_MS: Final = (
    3_600_000  # JOB-38: how long a job waits for a worker that has its runner
)


@frozen
class Taken:
    """The fence of the lease, valid for `ttl_ms` from when the command was first sent, and what is to be executed.

    `n` is the number of the next checkpoint.  `attempts`: how often it was started before.
    """

    since: ClassVar = 2
    fence: lease_.Fence
    ttl_ms: int
    runner: str
    disposition: job_.Disposition
    n: int
    attempts: int


@frozen
class TakenBefore:
    """A replay: this command has taken the job, and its lease has ended since."""

    since: ClassVar = 2


@frozen
class JobEnded:
    """The job has ended, in this transaction or before."""

    since: ClassVar = 2
    how: job_.How
    reason: str = ""


@frozen
class Deferred:
    """Another owner's lease is live, and there is no evidence that it is dead."""

    since: ClassVar = 2
    owner_id: str
    expires_at_ms: int


@frozen
class Left:
    """Nobody knows whether the owner is at work.  The job stays as it is until `look_at_ms`."""

    since: ClassVar = 2
    reason: str
    look_at_ms: int


@frozen
class NotDue:
    """There is nothing to take before `due_at_ms`; None: until a command comes.  `reason`: external, retry, signal or no_runner."""

    since: ClassVar = 2
    reason: str
    due_at_ms: int | None


TakeOutcome = Taken | TakenBefore | JobEnded | Deferred | Left | NotDue


@frozen
class Take(Command[CommandView, TakeOutcome]):
    """Carry out the verdict on a job: take it, end it, or leave it.  `evidence`: what was observed of its owners.

    `able`: this worker has the runner of the job.  Otherwise it takes nothing (JOB-38).

    The verdict is computed from the rows behind the lock, never from a row that was read before.  Writes a few rows.
    Refusals: UNKNOWN_JOB, KEY_CONFLICT, ILLEGAL.
    """

    since: ClassVar = 2
    serves: ClassVar = Kind.JOB
    session_id: str
    lease_id: str
    owner: lease_.Owner
    ttl_ms: int = TTL_MS_DEFAULT
    evidence: tuple[Observed, ...] = ()
    able: bool = True

    def reads(self) -> Reads[CommandView]:
        return read(CommandView, *command_queries(self.session_id, self.lease_id))

    def decide(self, view: CommandView, now_ms: int) -> Decided[TakeOutcome] | Refused:
        session, job = view.session, view.job
        if session is None or job is None:
            return unknown(session, self.session_id)
        if refused := check_command_id("take", self.lease_id, view.executed, None):
            return refused
        lease = session.lease
        if isinstance(lease, lease_.Held) and lease.lease_id == self.lease_id:
            return Decided(_taken(session, job), "JOB-40", replayed=True)
        if view.executed is not None:
            return Decided(TakenBefore(), "JOB-41", replayed=True)
        if refused := check_pruned(session, self.lease_id):
            return refused
        if problem := self._validate():
            return Refused(Refusal.ILLEGAL, "JOB-44", problem)
        tx = JobTransaction.on(view, now_ms, self.lease_id)
        rule = tx.rule(self.evidence)
        return tx.decided(self._carry_out(tx, rule), rule.clause)

    def _validate(self) -> str | None:
        if len(self.evidence) > OBSERVED_MAX:
            return f"evidence about {len(self.evidence)} owners; at most {OBSERVED_MAX}"
        return validate_grant(self.lease_id, self.owner, self.ttl_ms)

    def _carry_out(self, tx: JobTransaction, rule: Rule) -> TakeOutcome:
        if tx.carry_out(rule):
            return _ended(tx.job)
        match rule.verdict:
            case Verdict.SKIP:
                if isinstance(tx.job.state, job_.Ended):
                    return _ended(tx.job)
                return NotDue("external", None)
            case Verdict.DEFER:
                lease = tx.session.lease
                assert isinstance(lease, lease_.Held), lease
                return Deferred(lease.owner.owner_id, lease.expires_at_ms)
            case Verdict.LEAVE:
                return Left(SILENT_OWNER, tx.leave(SILENT_OWNER))
        return self._take(tx)

    def _take(self, tx: JobTransaction) -> TakeOutcome:
        """JOB-43, JOB-45: end what is left of the last lease, then grant one, if the job is due."""
        if not self.able:
            tx.via.append("JOB-38")
            if not self._is_overdue(tx):
                return NotDue(NO_RUNNER, None)
        tx.lose()
        state = tx.job.state
        if isinstance(state, job_.Ended):
            return _ended(tx.job)
        assert isinstance(state, job_.Waiting), state
        if tx.job.waits is not None:
            return NotDue("signal", None)
        if not state.is_due(tx.now_ms):
            return NotDue("retry", state.due_at_ms)
        if state.due_at_ms is not None and state.due_at_ms > tx.now_ms:
            tx.via.append("JOB-59")
        if not self.able:
            tx.end(job_.How.FAILED, digest_of_end(job_.How.FAILED, RUNNER_MISSING), RUNNER_MISSING)
            return _ended(tx.job)
        acquire = lease_.Acquire(self.lease_id, self.owner, self.ttl_ms, tx.now_ms)
        lease = tx.step_to(lease_.step(tx.session.lease, acquire))
        tx.update(lease=lease, left_since_ms=None)
        held = tx.step_to(job_.step(state, job_.Take(lease.generation)))
        tx.job = replace(tx.job, state=held, hold=None, look_at_ms=None, looks=0)
        tx.append_event(EventKind.JOB_TAKEN, str(lease.generation))
        tx.remember(self.lease_id, "take", LeaseTaken())
        return _taken(tx.session, tx.job)

    def _is_overdue(self, tx: JobTransaction) -> bool:
        """JOB-38: return whether nobody has taken the job for so long that nobody has its runner."""
        state, lease = tx.job.state, tx.session.lease
        since = tx.job.changed_at_ms
        if isinstance(state, job_.Waiting):
            since = max(since, state.due_at_ms or 0)
        if isinstance(lease, lease_.Held):
            since = max(since, lease.expires_at_ms)
        return tx.now_ms - since > RUNNER_MISSING_MS


def _taken(session: Session, job: Job) -> Taken:
    lease = session.lease
    assert isinstance(lease, lease_.Held), lease
    return Taken(
        fence_of(session), lease.ttl_ms, job.runner, job.disposition, job.next_checkpoint, job.attempts
    )  # fmt: skip


def _ended(job: Job) -> JobEnded:
    state = job.state
    assert isinstance(state, job_.Ended), state
    return JobEnded(state.how, state.reason)
