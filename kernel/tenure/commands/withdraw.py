"""Withdraw and WithdrawFrom: withdraw inputs that no run has worked on.  Spec: specs/inbox.md."""

from __future__ import annotations

from attrs import frozen

from .. import scheduling
from ..event import EventKind
from ..indexes import AGED
from ..limits import WITHDRAW_ROWS_MAX
from ..machines import input as input_
from ..machines import lease as lease_
from ..machines import run as run_
from ..outcome import Decided, Refusal, Refused
from ..policy import Lane
from ..queries import Command, First, Get, Reads, read
from ..records import ExecutedCommand, QueueEntry, Run, Session, WithdrawnCount
from ..replace import replace
from ..transcript import hash_parts
from .contributors import bound_state, queue_entry_of
from .replay import check_command_id, not_found, replay
from .session_view import SessionView, session_queries
from .transaction import Transaction
from .work_end import write_end

__all__ = ["Withdraw", "WithdrawFrom", "Withdrawn", "withdraw_bound"]


WITHDRAWN_MAX = 256
BOUND_RUNS_MAX = 8


@frozen
class Withdrawn:
    """The input was withdrawn."""

    input_id: str


@frozen
class WithdrawView(SessionView):
    """The session and the queue entry of the input."""

    queue_entry: QueueEntry | None


@frozen
class Withdraw(Command[WithdrawView, Withdrawn]):
    """Withdraw one input.  Writes a few rows.  Refusals: UNKNOWN_INPUT, ENDED, BOUND."""

    session_id: str
    command_id: str
    input_id: str

    def reads(self) -> Reads[WithdrawView]:
        s = self.session_id
        return read(
            WithdrawView,
            *session_queries(s, ready=2, delayed=2),
            Get(QueueEntry, (s, self.input_id)),
        )

    def decide(self, view: WithdrawView, now_ms: int) -> Decided[Withdrawn] | Refused:
        session, queue_entry = view.session, view.queue_entry
        if session is None or queue_entry is None:
            return not_found(session, Refusal.UNKNOWN_INPUT, "INBOX-20", self.input_id)
        state, answer = queue_entry.state, Withdrawn(self.input_id)
        if isinstance(state, input_.Ended):
            if state.how is input_.How.WITHDRAWN and state.by == self.command_id:
                return Decided(answer, "INBOX-21", replayed=True)
            return Refused(Refusal.ENDED, "INBOX-22", state)
        runs = {run.run_id: run for run in view.runs}
        run = runs.get(getattr(state, "run_id", ""))
        if ended := scheduling.ended_unwritten(session, queue_entry, run, runs):
            return Refused(Refusal.ENDED, "INBOX-22", ended)
        if refused := check_command_id("withdraw", self.command_id, None, session):
            return refused
        tx = Transaction.on(view, session, now_ms, self.command_id)
        if run is None:
            tx.end_queue_entry(queue_entry, input_.How.WITHDRAWN, self.command_id)
        elif not withdraw_bound(tx, run, self.input_id, self.command_id):
            return Refused(Refusal.BOUND, "INBOX-23", run.run_id)
        tx.append_event(EventKind.INPUT_ENDED, None, (self.input_id,), "withdrawn")
        return tx.decided(answer, "INBOX-24")


def withdraw_bound(tx: Transaction, run: Run, input_id: str, by: str) -> bool:
    """INBOX-23, INBOX-25: withdraw an input from a run, and return whether that was possible.

    The run must have no progress and no live lease.  Its lapsed lease ends in the same transaction.  Withdrawing the
    last input ends the run.
    """
    session, lease = tx.session, tx.session.lease
    if run.progress:
        return False
    if isinstance(lease, lease_.Held) and session.lease_run == run.run_id:
        outcome = lease_.step(lease, lease_.End(tx.now_ms))
        if isinstance(outcome, Refused):
            return False
        if len(run.contributors) == 1:  # no other input is left for a loss or a cancel to end
            tx.append_event(EventKind.LEASE_LOST, run.run_id, detail=str(lease.generation))
            tx.vacate(outcome)
            return _take_out(tx, run, input_id, by)
        tx.lose_lease(outcome)
        lost = tx.runs.get(run.run_id)
        if lost is None:  # the loss ended or split the run
            return _after_loss(tx, input_id, by)
        run = lost
    return _take_out(tx, run, input_id, by)


def _take_out(tx: Transaction, run: Run, input_id: str, by: str) -> bool:
    rest = tuple([c for c in run.contributors if c.input_id != input_id])
    position = next(i for i, c in enumerate(run.contributors) if c.input_id == input_id)
    gone = run.contributors[position]
    bound = bound_state(run, gone, position)
    state = tx.step_to(input_.step(bound, input_.End(input_.How.WITHDRAWN, by)))
    write_end(tx, queue_entry_of(run, gone, state))
    tx.release_key_of(run, gone)
    if rest:
        tx.write_run(replace(run, contributors=rest))
        return True
    done = tx.step_to(run_.step(run.state, run_.Finish(run_.Termination.CANCELLED, "withdrawn")))
    tx.write_run(replace(run, contributors=(), state=done))
    tx.clear_run_flags(run)
    tx.append_event(EventKind.RUN_FINISHED, run.run_id, (), "cancelled: withdrawn")
    return True


def _after_loss(tx: Transaction, input_id: str, by: str) -> bool:
    """Withdraw an input after its run ended with its lease: a split made the input ready, anything else ended it."""
    queue_entry = tx.get(QueueEntry, input_id)
    if queue_entry is None or not isinstance(queue_entry.state, input_.Ready):
        return False
    tx.end_queue_entry(queue_entry, input_.How.WITHDRAWN, by)
    return True


# -- all inputs from one on


@frozen
class WithdrawFromView(SessionView):
    """The session, the queue entry of the input, the latest of its lane, and the row of the command."""

    queue_entry: QueueEntry | None
    executed: ExecutedCommand | None
    latest: tuple[QueueEntry, ...]


@frozen
class WithdrawFrom(Command[WithdrawFromView, WithdrawnCount]):
    """Withdraw an input and all that its lane admitted after it, latest first, at most 240 rows for each command.

    Inputs of a run with progress or under the lease stay.  Refusals: UNKNOWN_INPUT.
    """

    session_id: str
    command_id: str
    input_id: str
    lane: Lane = Lane.USER

    def reads(self) -> Reads[WithdrawFromView]:
        s = self.session_id
        return read(
            WithdrawFromView,
            *session_queries(s, ready=WITHDRAWN_MAX + 1, delayed=WITHDRAWN_MAX + 1),
            Get(QueueEntry, (s, self.input_id)),
            Get(ExecutedCommand, (s, self.command_id)),
            First(AGED, (s, self.lane), WITHDRAWN_MAX, backwards=True),
        )

    def decide(self, view: WithdrawFromView, now_ms: int) -> Decided[WithdrawnCount] | Refused:
        session, queue_entry, executed = view.session, view.queue_entry, view.executed
        digest = hash_parts(self.input_id, self.lane.value)
        if refused := check_command_id("withdraw_from", self.command_id, executed, session, digest):
            return refused
        if executed is not None:
            return replay(executed, WithdrawnCount, "INBOX-26")
        if session is None or queue_entry is None or queue_entry.lane is not self.lane:
            return not_found(session, Refusal.UNKNOWN_INPUT, "INBOX-20", self.input_id)
        tx = Transaction.on(view, session, now_ms, self.command_id)
        taken, more = self._take(tx, session, queue_entry.seq, view.latest)
        if taken:
            tx.append_event(EventKind.INPUT_ENDED, None, tuple(taken), "withdrawn")
        withdrawn = WithdrawnCount(len(taken), more)
        tx.remember(self.command_id, "withdraw_from", withdrawn, digest)
        return tx.decided(withdrawn, "INBOX-27")

    def _take(
        self, tx: Transaction, session: Session, seq: int, latest: tuple[QueueEntry, ...]
    ) -> tuple[list[str], bool]:
        taken: list[str] = []
        rewritten: set[str] = set()
        for queue_entry in latest:
            if queue_entry.seq < seq:
                return taken, False
            if len(tx.changes) + 2 > WITHDRAW_ROWS_MAX:
                return taken, True
            run = tx.runs.get(getattr(queue_entry.state, "run_id", ""))
            if scheduling.ended_unwritten(session, queue_entry, run, tx.runs):
                continue
            if isinstance(queue_entry.state, input_.Bound):
                if run is None:
                    continue
                rewritten.add(run.run_id)
                if len(rewritten) > BOUND_RUNS_MAX:
                    return taken, True
                if tx.session.lease_run == run.run_id:
                    continue  # its holder, or the next Begin, decides what becomes of it
                if not withdraw_bound(tx, run, queue_entry.input_id, self.command_id):
                    continue
            else:
                tx.end_queue_entry(queue_entry, input_.How.WITHDRAWN, self.command_id)
            taken.append(queue_entry.input_id)
        return taken, len(latest) == WITHDRAWN_MAX and bool(taken)
