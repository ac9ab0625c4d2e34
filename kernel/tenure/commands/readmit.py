"""Readmit: admit the content of a dead letter again.  Spec: specs/inbox.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from .. import scheduling
from ..event import EventKind
from ..machines import input as input_
from ..outcome import Decided, Refusal, Refused, Update
from ..queries import Command, Get, Reads, existing, read
from ..records import Admission, ExecutedCommand, Input, QueueEntry, Readmitted, Session
from ..replace import replace
from ..transcript import hash_parts
from .admit import AdmitView, admit_into
from .replay import check_command_id, not_found
from .replay import replay as replay_of
from .session_view import SessionView, session_queries
from .submission import Conflict, NewInput, Target
from .transaction import Transaction

__all__ = ["Readmit"]


@frozen
class ReadmitView(SessionView):
    """The session, the dead letter, the input with the new id, and the row of the command if it was executed before."""

    queue_entry: QueueEntry | None
    old: Input | None
    known: Input | None
    executed: ExecutedCommand | None


@frozen
class Readmit(Command[ReadmitView, Readmitted]):
    """Admit the content and the origin (INBOX-62) of a dead letter as a new input at the tail (EVENT-27).  Writes six rows.

    Refusals: UNKNOWN_INPUT, NOT_DEAD, ENDED (readmitted before), KEY_CONFLICT, PHASE, ILLEGAL.
    """

    since: ClassVar = 2
    session_id: str
    command_id: str
    input_id: str
    new_id: str

    def reads(self) -> Reads[ReadmitView]:
        s = self.session_id
        return read(
            ReadmitView,
            *session_queries(s),
            Get(QueueEntry, (s, self.input_id)),
            Get(Input, (s, self.input_id)),
            Get(Input, (s, self.new_id)),
            Get(ExecutedCommand, (s, self.command_id)),
        )

    def decide(self, view: ReadmitView, now_ms: int) -> Decided[Readmitted] | Refused:
        session, letter, executed = view.session, view.queue_entry, view.executed
        digest = hash_parts(self.input_id)
        if refused := check_command_id("readmit", self.command_id, executed, session, digest):
            return refused
        if executed is not None:
            return replay_of(executed, Readmitted, "INBOX-36")
        if session is None or letter is None:
            return not_found(session, Refusal.UNKNOWN_INPUT, "INBOX-20", self.input_id)
        state = letter.state
        if not isinstance(state, input_.Ended) or state.how is not input_.How.DEAD_LETTERED:
            return Refused(Refusal.NOT_DEAD, "INBOX-56", _status(view, session, letter))
        if state.readmitted_as is not None:
            return Refused(Refusal.ENDED, "INBOX-57", state)
        if view.known is not None:
            conflict = Conflict(0, self.new_id, self.new_id)
            return Refused(Refusal.KEY_CONFLICT, "INBOX-39", conflict)
        tx = Transaction.on(view, session, now_ms, self.command_id)
        named = tx.step_to(input_.step(state, input_.Readmit(self.new_id)))
        tx.write(Update(replace(letter, state=named)))
        tx.append_event(EventKind.INPUT_READMITTED, None, (self.input_id,), self.new_id)
        old = existing(view.old, f"input {self.input_id} of its queue entry")
        admission = self._admit(tx, old, letter)
        if isinstance(admission, Refused):
            return admission
        readmitted = Readmitted(admission)
        tx.remember(self.command_id, "readmit", readmitted, digest)
        return tx.decided(readmitted, "INBOX-58")

    def _admit(self, tx: Transaction, old: Input, letter: QueueEntry) -> Admission | Refused:
        new = NewInput(
            self.new_id, old.kind, old.payload, old.source, priority=letter.priority,
            correlation_id=old.correlation_id, policy=old.policy, target=Target.NOBODY,
            origin=old.origin, parent=old.parent, resolution=old.resolution,
        )  # fmt: skip
        nothing = AdmitView(tx.session, (), (), (), (), (), (), (), ())  # without keys and slots
        admitted = admit_into(tx, nothing, (new,), [old.content_digest])
        if isinstance(admitted, Refused):
            return admitted
        made = tx.get(Input, self.new_id)
        assert made is not None, self.new_id
        tx.write(Update(replace(made, retry_of=old.input_id)))
        return admitted.admissions[0]


def _status(view: SessionView, session: Session, entry: QueueEntry) -> str:
    runs = {run.run_id: run for run in view.runs}
    run = runs.get(getattr(entry.state, "run_id", None) or "")
    return scheduling.visible_status(session, entry, run, runs)
