"""CancelInput: withdraw an input, or ask the run that has it to stop.  Spec: specs/cancel.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from .. import scheduling
from ..event import EventKind
from ..machines import input as input_
from ..outcome import Decided, Refusal, Refused
from ..queries import Command, Get, Reads, read
from ..records import Cancel, CancelRequested, ExecutedCommand, QueueEntry
from .cancel import stop_run
from .replay import check_command_id, not_found, replay
from .sendable import Sendable
from .session_view import SessionView, session_queries
from .transaction import Transaction
from .withdraw import withdraw_bound

__all__ = ["CancelInput"]


@frozen
class CancelInputView(SessionView):
    """The session, the queue entry of the input, and the row of the command if it was executed before."""

    queue_entry: QueueEntry | None
    executed: ExecutedCommand | None


@frozen
class CancelInput(Command[CancelInputView, CancelRequested], Sendable):
    """Withdraw an input if no run has worked on it, else ask its run to stop, with all of its inputs.

    Writes at most 64 queue entries and a few rows.  `CancelRequested.run_id` is empty if the input was withdrawn.
    Refusals: UNKNOWN_INPUT, ENDED.
    """

    since: ClassVar = 2
    moot: ClassVar = (Refusal.ENDED,)
    session_id: str
    command_id: str
    input_id: str

    def reads(self) -> Reads[CancelInputView]:
        s = self.session_id
        return read(
            CancelInputView,
            *session_queries(s, ready=2, delayed=2),
            Get(QueueEntry, (s, self.input_id)),
            Get(ExecutedCommand, (s, self.command_id)),
        )

    def decide(self, view: CancelInputView, now_ms: int) -> Decided[CancelRequested] | Refused:
        session, entry, executed = view.session, view.queue_entry, view.executed
        if refused := check_command_id("cancel_input", self.command_id, executed, session):
            return refused
        if executed is not None:
            return replay(executed, CancelRequested, "CANCEL-1")
        if session is None or entry is None:
            return not_found(session, Refusal.UNKNOWN_INPUT, "INBOX-20", self.input_id)
        runs = {run.run_id: run for run in view.runs}
        run = runs.get(getattr(entry.state, "run_id", ""))
        ended = entry.state if isinstance(entry.state, input_.Ended) else None
        ended = ended or scheduling.ended_unwritten(session, entry, run, runs)
        if ended is not None:
            return Refused(Refusal.ENDED, "CANCEL-61", ended)
        tx = Transaction.on(view, session, now_ms, self.command_id)
        if run is None:
            tx.end_queue_entry(entry, input_.How.WITHDRAWN, self.command_id)
        elif not withdraw_bound(tx, run, self.input_id, self.command_id):
            left = tx.runs.get(run.run_id)  # None: it has ended with its lapsed lease
            cancel = Cancel(run.run_id, self.command_id)
            stopped = left is None or stop_run(tx, left, cancel)
            return self._remember(tx, CancelRequested(run.run_id, stopped), "CANCEL-63")
        tx.append_event(EventKind.INPUT_ENDED, None, (self.input_id,), "withdrawn")
        return self._remember(tx, CancelRequested("", True), "CANCEL-62")

    def _remember(
        self, tx: Transaction, requested: CancelRequested, clause: str
    ) -> Decided[CancelRequested]:
        tx.remember(self.command_id, "cancel_input", requested)
        return tx.decided(requested, clause)
