"""RequestCancel and Interrupt: ask a run to stop, supersede the inputs of a user.  Spec: specs/cancel.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from ..event import EventKind
from ..machines import lease as lease_
from ..machines import run as run_
from ..machines.input import How
from ..outcome import Decided, Insert, Refusal, Refused
from ..policy import Lane
from ..queries import Command, Get, Reads, read
from ..records import (
    Cancel,
    CancelRequested,
    ExecutedCommand,
    Interrupted,
    MarkRaise,
    Phase,
    Run,
)
from ..scheduling import outdated
from ..transcript import hash_content, hash_parts
from .admit import AdmitView, admit_into, ingress_queries, look_up
from .busy import working
from .replay import check_command_id, not_found, replay
from .sendable import Sendable
from .session_view import SessionView, session_queries
from .submission import NewInput
from .transaction import Transaction

__all__ = [
    "Interrupt",
    "RequestCancel",
    "cancel_working",
    "end_lapsed_lease",
    "raise_mark",
    "stop_run",
]


@frozen
class RequestCancelView(SessionView):
    """The session, the run, and the row of the command if it was executed before."""

    run: Run | None
    executed: ExecutedCommand | None


@frozen
class RequestCancel(Command[RequestCancelView, CancelRequested], Sendable):
    """Ask exactly this run to stop.  Writes at most 64 queue entries and a few rows.  Refusals: UNKNOWN_RUN, ENDED."""

    moot: ClassVar = (Refusal.ENDED,)
    session_id: str
    command_id: str
    run_id: str

    def reads(self) -> Reads[RequestCancelView]:
        s = self.session_id
        return read(
            RequestCancelView,
            *session_queries(s),
            Get(Run, (s, self.run_id)),
            Get(ExecutedCommand, (s, self.command_id)),
        )

    def decide(self, view: RequestCancelView, now_ms: int) -> Decided[CancelRequested] | Refused:
        session, run, executed = view.session, view.run, view.executed
        digest = hash_parts(self.run_id)
        if refused := check_command_id(
            "request_cancel", self.command_id, executed, session, digest
        ):
            return refused
        if executed is not None:
            return replay(executed, CancelRequested, "CANCEL-1")
        if session is None or run is None:
            return not_found(session, Refusal.UNKNOWN_RUN, "CANCEL-2", self.run_id)
        if isinstance(run.state, run_.Done):
            return Refused(Refusal.ENDED, "CANCEL-4", run.state)
        tx = Transaction.on(view, session, now_ms, self.command_id)
        if is_superseded(tx, run):
            return Refused(Refusal.ENDED, "CANCEL-11", session.mark(run.lane))
        cancel = Cancel(self.run_id, self.command_id)
        requested = CancelRequested(self.run_id, stop_run(tx, run, cancel))
        tx.remember(self.command_id, "request_cancel", requested, digest)
        return tx.decided(requested, "CANCEL-5")


def stop_run(tx: Transaction, run: Run, cancel: Cancel) -> bool:
    """Ask an unfinished run to stop, or end it.  Return whether it has ended."""
    session, lease = tx.session, tx.session.lease
    if isinstance(lease, lease_.Held) and session.lease_run == run.run_id:
        if lease_.live_at(lease, tx.now_ms):
            tx.ask_to_cancel(run, cancel)
            return False
        tx.append_event(EventKind.CANCEL_REQUESTED, run.run_id, detail=cancel.by)
        tx.update(cancel=session.cancel or cancel)
        tx.lose_lease(lease_.step(lease, lease_.End(tx.now_ms)))
        left = tx.runs.get(run.run_id)
        if left is not None and left.state != run_.Rescheduled():
            tx.reschedule(left, None, "cancelled")  # due at once, so that it is closed
        return left is None
    if run.progress:
        tx.ask_to_cancel(run, cancel)
        return run.run_id not in tx.runs
    tx.append_event(EventKind.CANCEL_REQUESTED, run.run_id, detail=cancel.by)
    tx.end_cancelled(run, cancel.how, cancel.by)
    return True


def is_superseded(tx: Transaction, run: Run) -> bool:
    """CANCEL-11: return whether a mark has superseded this run, and no live lease or progress keeps it."""
    session, lease = tx.session, tx.session.lease
    live = isinstance(lease, lease_.Held) and lease_.live_at(lease, tx.now_ms)
    return outdated(session, run) and not (live and session.lease_run == run.run_id)


def end_lapsed_lease(tx: Transaction, lanes: tuple[Lane, ...]) -> None:
    """LEASE-10: end the lapsed lease of a run in these lanes, so that its holder cannot continue."""
    lease, run = tx.session.lease, tx.runs.get(tx.session.lease_run or "")
    if isinstance(lease, lease_.Held) and run is not None and run.lane in lanes:
        outcome = lease_.step(lease, lease_.End(tx.now_ms))
        if not isinstance(outcome, Refused) and not run.progress:
            tx.lose_lease(outcome)


def raise_mark(tx: Transaction, lane: Lane, how: How, by: str) -> int:
    """CANCEL-6: raise the mark of a lane.  For every reader, all inputs that it admitted so far have ended as `how`."""
    end_lapsed_lease(tx, (lane,))
    session = tx.session
    mark = session.mark(lane) + 1
    if lane is Lane.USER:
        tx.update(user_mark=mark, sweep=True)
    else:
        tx.update(system_mark=mark, sweep=True)
    tx.write(Insert(MarkRaise(session.session_id, lane, mark, how, by)))
    return mark


def cancel_working(tx: Transaction, how: How, by: str, lanes: tuple[Lane, ...]) -> str | None:
    """CANCEL-7: ask the run under the lease, or the open turn, to stop.  Return its id, or None."""
    session = tx.session
    run = tx.runs.get(session.open_run or session.lease_run or "")
    if run is None or run.lane not in lanes or session.cancel is not None:
        return None
    live = isinstance(session.lease, lease_.Held) and lease_.live_at(session.lease, tx.now_ms)
    if not run.progress and not live:
        return None  # the mark alone supersedes it
    tx.ask_to_cancel(run, Cancel(run.run_id, by, how))
    return run.run_id


def roll_back_working(tx: Transaction, by: str) -> tuple[str | None, bool]:
    """CANCEL-14: end the run of lane USER that is at work as if it had not begun, or ask its holder to do so.

    Return its id, as `cancel_working` does, and whether it is rolled back.
    """
    session, lease = tx.session, tx.session.lease
    run = tx.runs.get(session.open_run or session.lease_run or "")
    if run is None or run.lane is not Lane.USER or session.cancel is not None:
        return None, False
    if run.progress and not run.reversible:
        return cancel_working(tx, How.SUPERSEDED, by, (Lane.USER,)), False
    cancel = Cancel(run.run_id, by, How.SUPERSEDED, rollback=True)
    if isinstance(lease, lease_.Held) and lease_.live_at(lease, tx.now_ms):
        tx.ask_to_cancel(run, cancel)
    elif not run.progress:
        return None, False  # the mark alone supersedes it
    elif isinstance(lease, lease_.Held):
        tx.update(cancel=cancel)
        tx.lose_lease(lease_.step(lease, lease_.End(tx.now_ms)))
    else:
        tx.close(run, cancel)
    return run.run_id, True


# -- interrupt


@frozen
class InterruptView(AdmitView):
    """The view of Admit, and the row of the command if it was executed before."""

    executed: ExecutedCommand | None


@frozen
class Interrupt(Command[InterruptView, Interrupted]):
    """Supersede all inputs of lane USER, ask its run to stop, and admit a replacement, all or nothing.

    Inputs of lane SYSTEM stay.  Writes a few rows; Sweep writes the ends of the superseded inputs.
    `only_if_at_rest`: only if there is neither a live lease nor an open turn.
    `rollback`: the run ends as if it had not begun, unless it has started a once step.  Writes at most 64 queue entries.
    Refusals: UNKNOWN_SESSION, BUSY, and those of Admit for the replacement.
    """

    added: ClassVar = {"only_if_at_rest": 2, "rollback": 2}
    session_id: str
    command_id: str
    replacement: NewInput | None = None
    only_if_at_rest: bool = False
    rollback: bool = False

    def reads(self) -> Reads[InterruptView]:
        s = self.session_id
        new = () if self.replacement is None else (self.replacement,)
        return read(
            InterruptView,
            *session_queries(s, ready=2, delayed=2),
            *ingress_queries(s, new),
            Get(ExecutedCommand, (s, self.command_id)),
        )

    def decide(self, view: InterruptView, now_ms: int) -> Decided[Interrupted] | Refused:
        session, executed = view.session, view.executed
        new = self.replacement
        digest = hash_parts(new and hash_content(new.kind, new.payload), self.rollback)
        if refused := check_command_id("interrupt", self.command_id, executed, session, digest):
            return refused
        if executed is not None:
            return replay(executed, Interrupted, "CANCEL-8")
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "CANCEL-9", self.session_id)
        if session.phase is Phase.DESTROYED:
            return Refused(Refusal.PHASE, "CANCEL-12", session.phase.value)
        if self.only_if_at_rest and (busy := working(session, now_ms)):
            return Refused(Refusal.BUSY, "CANCEL-13", busy)
        tx = Transaction.on(view, session, now_ms, self.command_id)
        mark = raise_mark(tx, Lane.USER, How.SUPERSEDED, self.command_id)
        rolled_back: bool | None = None
        if self.rollback:
            run_id, rolled_back = roll_back_working(tx, self.command_id)
        else:
            run_id = cancel_working(tx, How.SUPERSEDED, self.command_id, (Lane.USER,))
        tx.append_event(EventKind.INTERRUPTED, run_id, detail=str(mark))
        admission = None
        if self.replacement is not None:
            known = look_up(tx.session, view, (self.replacement,))
            if isinstance(known, Refused):
                return known
            admitted = admit_into(tx, view, (self.replacement,), known)
            if isinstance(admitted, Refused):
                return admitted
            admission = admitted.admissions[0]
        interrupted = Interrupted(mark, run_id, admission, rolled_back)
        tx.remember(self.command_id, "interrupt", interrupted, digest)
        return tx.decided(interrupted, "CANCEL-10")
