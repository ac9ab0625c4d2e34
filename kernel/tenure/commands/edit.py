"""Replace and Reorder: change inputs that wait.  Spec: specs/inbox.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from .. import scheduling
from ..limits import RUN_INPUTS_MAX
from ..machines import input as input_
from ..outcome import Decided, Refusal, Refused
from ..policy import Lane
from ..queries import Command, Each, Get, Reads, read
from ..records import (
    Admission,
    ExecutedCommand,
    QueueEntry,
    Reordered,
    Replaced,
    Session,
)
from ..replace import replace
from ..transcript import hash_content, hash_parts
from .admit import (
    AdmitView,
    admit_into,
    end_for,
    ingress_queries,
    look_up,
    slot_at,
    slot_holders,
    slots_of,
)
from .replay import check_command_id, not_found
from .replay import replay as replay_of
from .session_view import SessionView, session_queries
from .submission import Conflict, NewInput
from .transaction import Transaction

__all__ = ["NotReady", "Reorder", "Replace"]


@frozen
class ReplaceView(AdmitView):
    """The view of Admit, the queue entry of the input, and the row of the command if it was executed before."""

    queue_entry: QueueEntry | None
    executed: ExecutedCommand | None


@frozen
class Replace(Command[ReplaceView, Replaced]):
    """End an input that waits, and admit a new one in its place.  The id of the old one is the expected revision.

    The new one gets its priority, its rank and, if it is delayed, its time, unless `new` has its own.  Writes a few rows.
    Refusals: UNKNOWN_INPUT, BOUND, ENDED, KEY_CONFLICT, and those of Admit.
    """

    since: ClassVar = 2
    session_id: str
    command_id: str
    input_id: str
    new: NewInput

    def reads(self) -> Reads[ReplaceView]:
        s, new = self.session_id, (self.new,)
        waiting = 2 + len(slots_of(new))
        return read(
            ReplaceView,
            *session_queries(s, ready=waiting, delayed=waiting),
            *ingress_queries(s, new),
            Get(QueueEntry, (s, self.input_id)),
            Get(ExecutedCommand, (s, self.command_id)),
        )

    def decide(self, view: ReplaceView, now_ms: int) -> Decided[Replaced] | Refused:
        session, old, executed = view.session, view.queue_entry, view.executed
        digest = hash_parts(self.input_id, hash_content(self.new.kind, self.new.payload))
        if refused := check_command_id("replace", self.command_id, executed, session, digest):
            return refused
        if executed is not None:
            return replay_of(executed, Replaced, "INBOX-36")
        if session is None or old is None:
            return not_found(session, Refusal.UNKNOWN_INPUT, "INBOX-20", self.input_id)
        if refused := _refuse_unless_waiting(view, session, old):
            return refused
        tx = Transaction.on(view, session, now_ms, self.command_id)
        end_for(tx, old, input_.How.SUPERSEDED, self.new.input_id)
        admission = self._admit(tx, _without(view, old), old)
        if isinstance(admission, Refused):
            return admission
        replaced = Replaced(admission)
        tx.remember(self.command_id, "replace", replaced, digest)
        return tx.decided(replaced, "INBOX-38")

    def _admit(self, tx: Transaction, view: ReplaceView, old: QueueEntry) -> Admission | Refused:
        """Admit the new input in the place of the old one."""
        state = old.state
        new = (
            self.new if self.new.priority is not None else replace(self.new, priority=old.priority)
        )
        if isinstance(state, input_.Delayed) and new.available_at_ms is None:
            new = replace(new, available_at_ms=state.until_ms)
        known = look_up(tx.session, view, (new,))
        if isinstance(known, Refused):
            return known
        if isinstance(known[0], Admission):
            conflict = Conflict(0, new.input_id, known[0].input_id)
            return Refused(Refusal.KEY_CONFLICT, "INBOX-39", conflict)
        holder = slot_holders(tx, view).get(slot_at(new, tx.now_ms))
        if holder is not None:
            conflict = Conflict(0, new.supersession_key or "", holder.input_id)
            return Refused(Refusal.KEY_CONFLICT, "INBOX-44", conflict)
        admitted = admit_into(tx, view, (new,), known, getattr(state, "ready_rank", None))
        return admitted if isinstance(admitted, Refused) else admitted.admissions[0]


def _refuse_unless_waiting(view: SessionView, session: Session, old: QueueEntry) -> Refused | None:
    """INBOX-37: refuse an input that a run has bound, or that has ended."""
    state = old.state
    if isinstance(state, input_.Ended):
        return Refused(Refusal.ENDED, "INBOX-37", state)
    run = next((r for r in view.runs if r.run_id == getattr(state, "run_id", None)), None)
    if ended := scheduling.ended_unwritten(session, old, run, [r.run_id for r in view.runs]):
        return Refused(Refusal.ENDED, "INBOX-37", ended)
    if isinstance(state, input_.Bound):
        return Refused(Refusal.BOUND, "INBOX-37", state.run_id)
    return None


def _without(view: ReplaceView, old: QueueEntry) -> ReplaceView:
    """Return what the new input may repeat or supersede, without the old one, which ends in this transaction."""
    gone = old.input_id
    return replace(
        view,
        open_keys=tuple([tuple([k for k in f if k.input_id != gone]) for f in view.open_keys]),
        slots=tuple([tuple([e for e in found if e.input_id != gone]) for found in view.slots]),
    )


# -- reorder


@frozen
class NotReady:
    """The first input that could not be moved.  `status`: delayed, bound, how it ended, the other lane, or unknown."""

    input_id: str
    status: str


@frozen
class ReorderView(SessionView):
    """The session, the queue entries of the inputs, and the row of the command if it was executed before."""

    queue_entries: tuple[QueueEntry | None, ...]
    executed: ExecutedCommand | None


@frozen
class Reorder(Command[ReorderView, Reordered]):
    """Let ready inputs of a lane exchange the places that they hold; no other input moves.  Writes at most 66 rows.

    Refusals: ILLEGAL, NOT_READY, which names the first input that is not ready.
    """

    since: ClassVar = 2
    session_id: str
    command_id: str
    lane: Lane
    input_ids: tuple[str, ...]

    def reads(self) -> Reads[ReorderView]:
        s = self.session_id
        return read(
            ReorderView,
            *session_queries(s),
            Each(tuple([Get(QueueEntry, (s, i)) for i in self.input_ids[:RUN_INPUTS_MAX]])),
            Get(ExecutedCommand, (s, self.command_id)),
        )

    def decide(self, view: ReorderView, now_ms: int) -> Decided[Reordered] | Refused:
        session, executed = view.session, view.executed
        digest = hash_parts(self.lane.value, self.input_ids)
        if refused := check_command_id("reorder", self.command_id, executed, session, digest):
            return refused
        if executed is not None:
            return replay_of(executed, Reordered, "INBOX-36")
        count = len(self.input_ids)
        if not 0 < count <= RUN_INPUTS_MAX or len(set(self.input_ids)) < count:
            problem = f"{count} inputs; 1 to {RUN_INPUTS_MAX} different ones are reordered"
            return Refused(Refusal.ILLEGAL, "INBOX-40", problem)
        entries = []
        for input_id, entry in zip(self.input_ids, view.queue_entries, strict=True):
            if session is None or entry is None:
                return Refused(Refusal.NOT_READY, "INBOX-41", NotReady(input_id, "unknown"))
            if status := self._not_ready(view, session, entry):
                return Refused(Refusal.NOT_READY, "INBOX-41", NotReady(input_id, status))
            entries.append(entry)
        assert session is not None
        tx = Transaction.on(view, session, now_ms, self.command_id)
        tx.move_ready(self.lane, [e for e in _exchanged(entries) if e not in entries])
        reordered = Reordered(count)
        tx.remember(self.command_id, "reorder", reordered, digest)
        return tx.decided(reordered, "INBOX-42")

    def _not_ready(self, view: ReorderView, session: Session, entry: QueueEntry) -> str | None:
        run = next((r for r in view.runs if r.run_id == getattr(entry.state, "run_id", None)), None)
        unfinished = [r.run_id for r in view.runs]
        status = scheduling.visible_status(session, entry, run, unfinished)
        if status != "ready":
            return status
        return None if entry.lane is self.lane else f"in lane {entry.lane.value}"


def _exchanged(entries: list[QueueEntry]) -> list[QueueEntry]:
    """Return the entries, which are in the new order, each with the place that it gets."""
    places = sorted([scheduling.order_of(e) for e in entries])
    return [
        replace(e, priority=priority, state=replace(e.state, ready_rank=rank))
        for e, (priority, rank) in zip(entries, places, strict=True)
    ]
