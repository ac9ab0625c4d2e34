"""Retire, stop, reset, reopen and destroy a session.  Spec: specs/phase.md."""

from __future__ import annotations

from attrs import frozen

from ..event import Happening
from ..machines import lease as lease_
from ..machines import run as run_
from ..machines.input import How
from ..outcome import Decided, Insert, Refusal, Refused
from ..policy import LANES
from ..queries import Command, Get, Reads, read
from ..records import Executed, Phase, Session
from ..replace import replace
from .cancel import cancel_working, end_if_over, raise_mark
from .executed import misused
from .session_view import Desk, desk
from .transaction import Draft


@frozen
class PhaseChanged:
    """The phase now, and the run that was asked to stop or has ended.  Sweep writes the rest out."""

    phase: Phase
    run_id: str | None = None


@frozen
class Office(Desk):
    executed: Executed | None


@frozen
class _PhaseCommand(Command[Office, PhaseChanged]):
    session_id: str
    command_id: str

    def reads(self) -> Reads[Office]:
        s = self.session_id
        return read(Office, *desk(s), Get(Executed, (s, self.command_id)))

    def decide(self, view: Office, now_ms: int) -> Decided[PhaseChanged] | Refused:
        session, executed = view.session, view.executed
        if refused := misused(self.__class__.__name__.lower(), self.command_id, executed):
            return refused
        if executed is not None:
            answer = PhaseChanged(Phase(executed.text), executed.run_id)
            return Decided(answer, "PHASE-4", replayed=True)
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "PHASE-5", self.session_id)
        if session.phase is Phase.DESTROYED:
            return Refused(Refusal.PHASE, "PHASE-6", session.phase.value)
        draft = Draft.on(view, session, now_ms, self.command_id)
        return self._change(draft, session)

    def _change(self, draft: Draft, session: Session) -> Decided[PhaseChanged] | Refused:
        raise NotImplementedError

    def _move(
        self, draft: Draft, phase: Phase, clause: str, run_id: str | None = None
    ) -> Decided[PhaseChanged]:
        if draft.session.phase is not phase:
            draft.session = replace(draft.session, phase=phase)
            draft.say(Happening.PHASE_CHANGED, detail=phase.value)
        draft.writes.append(
            Insert(
                Executed(
                    self.session_id, self.command_id, self.__class__.__name__.lower(),
                    draft.now_ms, run_id,
                    text=phase.value,
                )
            )
        )  # fmt: skip
        return draft.decided(PhaseChanged(phase, run_id), clause)

    def _abandon(self, draft: Draft, reason: str) -> None:
        for lane in LANES:
            raise_mark(draft, lane, How.ABANDONED, reason)


@frozen
class Retire(_PhaseCommand):
    """Admit only what belongs to work already here; drain, or abandon what is queued.  Refusals: PHASE, UNKNOWN_SESSION."""

    abandon_queued: bool = False

    def _change(self, draft: Draft, session: Session) -> Decided[PhaseChanged] | Refused:
        if session.phase not in (Phase.OPEN, Phase.RETIRED):
            return Refused(Refusal.PHASE, "PHASE-7", session.phase.value)
        if self.abandon_queued:
            self._abandon(draft, "retired")
        return self._move(draft, Phase.RETIRED, "PHASE-8")


@frozen
class Stop(_PhaseCommand):
    """Admit nothing, close the open turn, begin nothing else; stopped once no lease and no open turn is left."""

    abandon: bool = False

    def _change(self, draft: Draft, session: Session) -> Decided[PhaseChanged] | Refused:
        if self.abandon:
            self._abandon(draft, "stopped")
        end_if_over(draft, LANES)
        run_id = cancel_working(draft, How.ABANDONED, self.command_id, LANES)
        vacant = isinstance(draft.session.lease, lease_.Vacant)
        at_rest = draft.session.open_run is None and vacant
        phase = Phase.STOPPED if at_rest else Phase.STOPPING
        return self._move(draft, phase, "PHASE-9", run_id)


@frozen
class Reset(_PhaseCommand):
    """End the open turn, abandon all that has not ended, and open again.  Refusals: HELD, PHASE, UNKNOWN_SESSION."""

    def _change(self, draft: Draft, session: Session) -> Decided[PhaseChanged] | Refused:
        lease = session.lease
        if isinstance(lease, lease_.Held):
            outcome = lease_.step(lease, lease_.End(draft.now_ms))
            if isinstance(outcome, Refused):
                return outcome
            draft.lose_lease(outcome)
        run_id = end_open_turn(draft, "reset")
        self._abandon(draft, "reset")
        draft.say(Happening.RESET)
        return self._move(draft, Phase.OPEN, "PHASE-10", run_id)


@frozen
class Reopen(_PhaseCommand):
    """Back to Open, from every phase but Destroyed.  Refusals: PHASE, UNKNOWN_SESSION."""

    def _change(self, draft: Draft, session: Session) -> Decided[PhaseChanged] | Refused:
        return self._move(draft, Phase.OPEN, "PHASE-11")


@frozen
class Destroy(_PhaseCommand):
    """End everything for good, a live lease included; the row stays, with its generation.  Refusals: PHASE, UNKNOWN_SESSION."""

    def _change(self, draft: Draft, session: Session) -> Decided[PhaseChanged] | Refused:
        working = draft.runs.get(session.lease_run or "")
        if isinstance(session.lease, lease_.Held):
            draft.vacate(lease_.step(session.lease, lease_.Revoke()))
        if working is not None:
            draft.reschedule(working, None)
        run_id = end_open_turn(draft, "destroyed")
        self._abandon(draft, "destroyed")
        return self._move(draft, Phase.DESTROYED, "PHASE-12", run_id)


def end_open_turn(draft: Draft, reason: str) -> str | None:
    """PHASE-13: by the settling table, what it wrote becomes visible."""
    run = draft.runs.get(draft.session.open_run or "")
    if run is None:
        return None
    draft.finish(run, run_.Termination.CANCELLED, reason)
    return run.run_id
