"""Retire, Stop, Reset, Reopen and Destroy: change the phase of a session.  Spec: specs/phase.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import astuple, frozen

from ..event import EventKind
from ..machines import lease as lease_
from ..machines import run as run_
from ..machines.input import How
from ..outcome import Decided, Refusal, Refused
from ..policy import LANES
from ..queries import Command, Get, Reads, read
from ..records import ExecutedCommand, Phase, PhaseChanged, Session
from ..transcript import hash_parts
from .cancel import cancel_working, end_lapsed_lease, raise_mark
from .replay import check_command_id, replay
from .session_view import CommandView, session_queries
from .transaction import Transaction

__all__ = ["Destroy", "Reopen", "Reset", "Retire", "Stop"]


@frozen
class _PhaseCommand(Command[CommandView, PhaseChanged]):
    session_id: str
    command_id: str

    def reads(self) -> Reads[CommandView]:
        s = self.session_id
        return read(CommandView, *session_queries(s), Get(ExecutedCommand, (s, self.command_id)))

    def decide(self, view: CommandView, now_ms: int) -> Decided[PhaseChanged] | Refused:
        session, executed = view.session, view.executed
        if refused := check_command_id(
            self.__class__.__name__.lower(), self.command_id, executed, session, self._digest()
        ):
            return refused
        if executed is not None:
            return replay(executed, PhaseChanged, "PHASE-4")
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "PHASE-5", self.session_id)
        if session.phase is Phase.DESTROYED and not self._may_follow_destroy(session):
            return Refused(Refusal.PHASE, "PHASE-6", session.phase.value)
        if session.phase is Phase.IMPORTING and not isinstance(self, Destroy):
            return Refused(Refusal.PHASE, "PHASE-18", session.phase.value)
        tx = Transaction.on(view, session, now_ms, self.command_id)
        return self._change(tx, session)

    def _digest(self) -> str:
        """STORE-56: return the digest of how the phase is to change."""
        return hash_parts(*astuple(self)[2:])

    def _may_follow_destroy(self, session: Session) -> bool:
        return False

    def _change(self, tx: Transaction, session: Session) -> Decided[PhaseChanged] | Refused:
        raise NotImplementedError

    def _move(
        self, tx: Transaction, phase: Phase, clause: str, run_id: str | None = None
    ) -> Decided[PhaseChanged]:
        if tx.session.phase is not phase:
            tx.update(phase=phase)
            tx.append_event(EventKind.PHASE_CHANGED, detail=phase.value)
        name = self.__class__.__name__.lower()
        changed = PhaseChanged(phase, run_id, *_counts(tx.before))
        tx.remember(self.command_id, name, changed, self._digest())
        return tx.decided(changed, clause)

    def _abandon(self, tx: Transaction, reason: str) -> None:
        for lane in LANES:
            raise_mark(tx, lane, How.ABANDONED, reason)


@frozen
class Retire(_PhaseCommand):
    """Admit only inputs that continue earlier work, and drain or abandon the queue.  Refusals: PHASE, UNKNOWN_SESSION."""

    abandon_queued: bool = False

    def _change(self, tx: Transaction, session: Session) -> Decided[PhaseChanged] | Refused:
        if session.phase not in (Phase.OPEN, Phase.RETIRED):
            return Refused(Refusal.PHASE, "PHASE-7", session.phase.value)
        if self.abandon_queued:
            self._abandon(tx, "retired")
        return self._move(tx, Phase.RETIRED, "PHASE-8")


@frozen
class Stop(_PhaseCommand):
    """Admit nothing, close the open turn, begin nothing else.  Stopped once no lease and no open turn are left."""

    abandon: bool = False

    def _change(self, tx: Transaction, session: Session) -> Decided[PhaseChanged] | Refused:
        if self.abandon:
            self._abandon(tx, "stopped")
        end_lapsed_lease(tx, LANES)
        run_id = cancel_working(tx, How.ABANDONED, self.command_id, LANES)
        vacant = isinstance(tx.session.lease, lease_.Vacant)
        idle = tx.session.open_run is None and vacant
        phase = Phase.STOPPED if idle else Phase.STOPPING
        return self._move(tx, phase, "PHASE-9", run_id)


@frozen
class Reset(_PhaseCommand):
    """End the open turn, abandon all inputs, and open the session again.  Refusals: HELD, PHASE, UNKNOWN_SESSION."""

    def _change(self, tx: Transaction, session: Session) -> Decided[PhaseChanged] | Refused:
        lease = session.lease
        if isinstance(lease, lease_.Held):
            outcome = lease_.step(lease, lease_.End(tx.now_ms))
            if isinstance(outcome, Refused):
                return outcome
            tx.lose_lease(outcome)
        run_id = end_open_turn(tx, "reset")
        self._abandon(tx, "reset")
        tx.append_event(EventKind.RESET)
        return self._move(tx, Phase.OPEN, "PHASE-10", run_id)


@frozen
class Reopen(_PhaseCommand):
    """Open the session again, from every phase but Destroyed.  Refusals: PHASE, UNKNOWN_SESSION."""

    def _change(self, tx: Transaction, session: Session) -> Decided[PhaseChanged] | Refused:
        return self._move(tx, Phase.OPEN, "PHASE-11")


@frozen
class Destroy(_PhaseCommand):
    """End all work, also under a live lease.  The session's row stays, with its generation.

    `erase_payloads`: its texts are to be erased, by Prune (RETENTION-11); also of a session that is destroyed already.
    Refusals: PHASE, UNKNOWN_SESSION.
    """

    added: ClassVar = {"erase_payloads": 2}
    erase_payloads: bool = False

    def _may_follow_destroy(self, session: Session) -> bool:
        """PHASE-16: return whether texts are to be erased of which nobody has asked that before."""
        return self.erase_payloads and session.erased is None

    def _change(self, tx: Transaction, session: Session) -> Decided[PhaseChanged] | Refused:
        working = tx.runs.get(session.lease_run or "")
        if isinstance(session.lease, lease_.Held):
            tx.vacate(lease_.step(session.lease, lease_.Revoke()))
        if working is not None:
            tx.reschedule(working, None, "destroyed")
        run_id = end_open_turn(tx, "destroyed")
        if session.phase is not Phase.DESTROYED:
            self._abandon(tx, "destroyed")
        if self.erase_payloads:
            tx.update(erased=False, prune_at_ms=0)
        return self._move(tx, Phase.DESTROYED, "PHASE-12", run_id)


def _counts(session: Session | None) -> tuple[int, int, int]:
    """PHASE-15: return how many inputs are ready, how many are delayed, and how many runs are unfinished."""
    assert session is not None
    ready = session.ready_user_count + session.ready_system_count
    return ready, session.delayed_count, session.unfinished_run_count


def end_open_turn(tx: Transaction, reason: str) -> str | None:
    """PHASE-13: finish the open turn as cancelled, or roll it back if that was asked.  Return the id of its run, or None."""
    run, cancel = tx.runs.get(tx.session.open_run or ""), tx.session.cancel
    if run is None:
        return None
    if cancel is not None and cancel.rollback:
        tx.close(run, cancel)
    else:
        tx.finish(run, run_.Termination.CANCELLED, reason)
    return run.run_id
