"""DestroyJob: let Prune remove a job that has ended.  Spec: specs/job.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from ...event import EventKind
from ...kind import Kind
from ...machines import job as job_
from ...outcome import Decided, Refusal, Refused
from ...queries import Command, Reads, read
from ...records import Phase, PhaseChanged
from ...transcript import hash_parts
from ..replay import check_command_id, replay
from .job_transaction import CommandView, JobTransaction, command_queries, unknown

__all__ = ["DestroyJob"]


@frozen
class DestroyJob(Command[CommandView, PhaseChanged]):
    """Let Prune remove the rows of a job that has ended, as it removes those of a destroyed session.  Its id stays used.

    `erase_payloads`: its texts are erased first, and at once.  Refusals: UNKNOWN_JOB, BUSY, KEY_CONFLICT, ILLEGAL.
    """

    since: ClassVar = 2
    serves: ClassVar = Kind.JOB
    session_id: str
    command_id: str
    erase_payloads: bool = False

    def reads(self) -> Reads[CommandView]:
        return read(CommandView, *command_queries(self.session_id, self.command_id))

    def decide(self, view: CommandView, now_ms: int) -> Decided[PhaseChanged] | Refused:
        session, job = view.session, view.job
        digest = hash_parts(self.erase_payloads)
        if refused := check_command_id(
            "destroy_job", self.command_id, view.executed, session, digest
        ):
            return refused
        if view.executed is not None:
            return replay(view.executed, PhaseChanged, "JOB-91")
        if session is None or job is None:
            return unknown(session, self.session_id)
        if not isinstance(job.state, job_.Ended):
            state = job.state.__class__.__name__.lower()
            return Refused(Refusal.BUSY, "JOB-92", state)
        tx = JobTransaction.on(view, now_ms, self.command_id)
        if session.phase is not Phase.DESTROYED:
            tx.update(phase=Phase.DESTROYED)
            tx.append_event(EventKind.PHASE_CHANGED, Phase.DESTROYED.value)
        if self.erase_payloads and session.erased is None:
            tx.update(erased=False, prune_at_ms=0)
        changed = PhaseChanged(Phase.DESTROYED)
        tx.remember(self.command_id, "destroy_job", changed, digest)
        return tx.decided(changed, "JOB-90")
