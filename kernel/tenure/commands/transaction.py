"""What one decision changes, while it is being decided.

The one mutable thing of the kernel: it is made by `decide`, never leaves it, and ends in a `Decided`.  It keeps what
every command owes the session: events numbered, `due_at_ms` recomputed, phases settled, hints given.
"""

from __future__ import annotations

from typing import Any, TypeVar

from attrs import define, field

from ..event import Event, EventKind
from ..failure import GiveUp, Retry, decide_after_loss
from ..machines import input as input_
from ..machines import lease as lease_
from ..machines import run as run_
from ..outcome import Decided, Drop, Hint, Insert, Refused, Stepped, Update, Write
from ..policy import Lane
from ..records import EventBatch, OpenKey, Phase, QueueEntry, Run, Session
from ..replace import replace
from ..scheduling import due_at_ms, outdated
from .nodes import close_open_calls
from .session_view import SessionView
from .settle import LOSSES_BEFORE_SPLIT, bound_state, ended_by, input_ids_of, queue_entry_of

S = TypeVar("S")
O = TypeVar("O")


@define
class Transaction:
    before: Session | None
    session: Session
    now_ms: int
    causation_id: str
    runs: dict[str, Run]
    ready: dict[Lane, list[QueueEntry]]
    delayed: list[QueueEntry]
    touched: dict[str, Write] = field(factory=dict)  # runs, by id
    writes: list[Write] = field(factory=list)
    events: list[Event] = field(factory=list)
    via: list[str] = field(factory=list)
    cancelled: str | None = None
    unfinished: int = 0  # by how much the counts of the session change
    waiting: dict[Lane, int] = field(factory=lambda: {Lane.USER: 0, Lane.SYSTEM: 0})
    postponed: int = 0

    @classmethod
    def on(cls, view: SessionView, session: Session, now_ms: int, causation_id: str) -> Transaction:
        return cls(
            view.session,
            session,
            now_ms,
            causation_id,
            {run.run_id: run for run in view.runs},
            {Lane.USER: list(view.users), Lane.SYSTEM: list(view.systems)},
            list(view.delayed),
        )

    # -- machines

    def step_to(self, outcome: Stepped[S, Any] | Refused) -> S:
        """The state that a machine stepped to; where a command has checked before, a refusal is our bug."""
        if isinstance(outcome, Refused):
            raise AssertionError(outcome)
        self.via.append(outcome.clause)
        return outcome.state

    def append_event(
        self,
        kind: EventKind,
        run_id: str | None = None,
        input_ids: tuple[str, ...] = (),
        detail: str = "",
        correlation_id: str | None = None,
    ) -> int:
        """Append an event; return its number."""
        self.events.append(Event(kind, run_id, input_ids, detail, correlation_id))
        return self.session.next_event + len(self.events) - 1

    def write_run(self, run: Run, *, new: bool = False) -> None:
        """A run may be touched more than once in a decision; it is written once."""
        new = new or isinstance(self.touched.get(run.run_id), Insert)
        self.touched[run.run_id] = Insert(run) if new else Update(run)
        before = len(self.runs)
        if isinstance(run.state, run_.Done):
            self.runs.pop(run.run_id, None)
        else:
            self.runs[run.run_id] = run
        self.unfinished += len(self.runs) - before

    # -- places

    def put_ready(self, queue_entry: QueueEntry) -> None:
        """A place has become ready: it may be the new head of its lane."""
        heads = self.ready[queue_entry.lane]
        heads.append(queue_entry)
        if len(heads) > 1:
            heads.sort(key=_order)
        self.waiting[queue_entry.lane] += 1

    def put_delayed(self, queue_entry: QueueEntry) -> None:
        self.delayed = sorted([*self.delayed, queue_entry], key=_when)
        self.postponed += 1

    def take_ready(self, lane: Lane, count: int) -> None:
        """The first of a lane are bound."""
        self.ready[lane] = self.ready[lane][count:]
        self.waiting[lane] -= count

    def end_queue_entry(self, queue_entry: QueueEntry, how: input_.How, by: str) -> None:
        """An input that was ready or delayed ends by itself, outside any run."""
        key, mark = (
            getattr(queue_entry.state, "open_key", None),
            getattr(queue_entry.state, "mark", 0),
        )
        state = self.step_to(input_.step(queue_entry.state, input_.End(how, by)))
        self.writes.append(Update(replace(queue_entry, state=state)))
        self.release_key(key, queue_entry.lane, mark)
        if isinstance(queue_entry.state, input_.Ready):
            heads = self.ready[queue_entry.lane]
            self.ready[queue_entry.lane] = [p for p in heads if p.input_id != queue_entry.input_id]
            self.waiting[queue_entry.lane] -= 1
        else:
            self.delayed = [p for p in self.delayed if p.input_id != queue_entry.input_id]
            self.postponed -= 1

    def release_key(self, key: str | None, lane: Lane, mark: int) -> None:
        if key is not None:
            self.writes.append(Drop(OpenKey, (self.session.session_id, key, lane, mark)))

    def promote(self, limit: int) -> int:
        """INBOX-9: what is due becomes ready, in the order of its time.  Returns how many."""
        count = 0
        while self.delayed and count < limit:
            queue_entry = self.delayed[0]
            rank = self.session.next_rank
            outcome = input_.step(queue_entry.state, input_.Promote(rank, self.now_ms))
            if isinstance(outcome, Refused):
                break
            self.delayed.pop(0)
            self.postponed -= 1
            ready = replace(queue_entry, state=self.step_to(outcome))
            self.writes.append(Update(ready))
            self.session = replace(self.session, next_rank=rank + 1)
            self.put_ready(ready)
            count += 1
        if count:
            self.append_event(EventKind.INPUT_PROMOTED, detail=str(count))
        return count

    # -- the lease

    def vacate(self, outcome: Stepped[lease_.Lease, None] | Refused) -> None:
        self.session = replace(self.session, lease=self.step_to(outcome), lease_run=None)

    def lose_lease(self, outcome: Stepped[lease_.Lease, None] | Refused) -> None:
        """RUN-7: a lease ended by other means than its holder's answer; its run counts a loss if nothing was recorded."""
        run = self.runs.get(self.session.lease_run or "")
        self.vacate(outcome)
        if run is None:
            return
        assert isinstance(run.state, run_.Running), run
        self.append_event(EventKind.LEASE_LOST, run.run_id, detail=str(run.state.generation))
        verdict = decide_after_loss(run.retry, run.state.recorded, self.now_ms)
        self.via.append(verdict.clause)
        self.end_or_retry(replace(run, retry=verdict.state), verdict, "lost")

    def end_or_retry(self, run: Run, verdict: Retry | GiveUp, message: str) -> str:
        """RUN-8: the end of a holding: end, split or try again, a cancel before everything."""
        cancel = self.session.cancel
        if cancel is not None and cancel.run_id == run.run_id:
            if not run.progress:
                self.end_cancelled(run, cancel.how, cancel.by)
                return "ended"
            if isinstance(verdict, GiveUp):
                self.finish(run, run_.Termination.CANCELLED, cancel.by)
                return "ended"
            again = run.retry.failure_count() > 1  # the first time it is due at once, to be closed
            self.reschedule(run, verdict.due_at_ms if again else None)
            return "rescheduled"
        if not run.progress and run.mark < self.session.mark(run.lane):
            self.reschedule(run, None)  # a mark has taken it back: Sweep says how it ends
            return "rescheduled"
        several = len(run.contributors) > 1 and not run.progress
        permanent = isinstance(verdict, GiveUp) and verdict.permanent
        if several and (permanent or run.retry.losses >= LOSSES_BEFORE_SPLIT):
            self.split(run, message)
            return "split"
        if isinstance(verdict, GiveUp):
            self.finish(run, run_.Termination.ERROR, message)
            return "ended"
        due = verdict.due_at_ms if verdict.due_at_ms > self.now_ms else None
        self.reschedule(run, due, verdict.hold)
        return "rescheduled"

    # -- runs

    def reschedule(self, run: Run, due: int | None, hold: bool = False) -> None:
        state = self.step_to(run_.step(run.state, run_.Reschedule(due, hold)))
        self.write_run(replace(run, state=state))
        self.append_event(
            EventKind.RUN_RESCHEDULED, run.run_id, detail="" if due is None else str(due)
        )

    def end_cancelled(self, run: Run, how: input_.How, by: str) -> None:
        if how is input_.How.SUPERSEDED:
            self.finish(run, run_.Termination.SUPERSEDED, by)
        else:
            self.finish(run, run_.Termination.CANCELLED, by)

    def finish(self, run: Run, termination: run_.Termination, reason: str = "") -> None:
        """RUN-9: the run is Done, its inputs end by the settling table, what it wrote becomes visible."""
        how = run_.settle(termination, run.tip is not None)
        run, closings = close_open_calls(self.session, run, termination, self.now_ms)
        self.writes += closings
        if run.tip is not None and self.session.leaf != run.tip:
            self.session = replace(self.session, leaf=run.tip, revision=self.session.revision + 1)
        state = self.step_to(run_.step(run.state, run_.Finish(termination, reason)))
        by = ended_by(run, how, termination, reason)
        for position, contributor in enumerate(run.contributors):
            bound = bound_state(run, contributor, position)
            ended = self.step_to(input_.step(bound, input_.End(how, by)))
            self.writes.append(Update(queue_entry_of(run, contributor, ended)))
            self.release_key(contributor.open_key, run.lane, run.mark)
        self.write_run(replace(run, state=state))
        self.clear_run_flags(run)
        ids = tuple([c.input_id for c in run.contributors])
        self.append_event(
            EventKind.RUN_FINISHED, run.run_id, ids, f"{termination.value}: {how.value}"
        )

    def split(self, run: Run, reason: str) -> None:
        """RUN-16: a group that fails permanently or is lost twice: each goes on alone, with the rank it had."""
        state = self.step_to(run_.step(run.state, run_.Finish(run_.Termination.SPLIT, reason)))
        for position, contributor in enumerate(run.contributors):
            bound = bound_state(run, contributor, position)
            command = input_.Return(run.hold, contributor.size)
            queue_entry = queue_entry_of(
                run, contributor, self.step_to(input_.step(bound, command))
            )
            self.writes.append(Update(queue_entry))
            self.put_ready(queue_entry)
        self.write_run(replace(run, state=state))
        self.clear_run_flags(run)
        self.append_event(EventKind.RUN_FINISHED, run.run_id, input_ids_of(run), f"split: {reason}")

    def clear_run_flags(self, run: Run) -> None:
        """The run is over: flags that named it go with it."""
        session = self.session
        if session.open_run == run.run_id:
            session = replace(session, open_run=None)
        if session.cancel is not None and session.cancel.run_id == run.run_id:
            session = replace(session, cancel=None)
        self.session = session

    def ask_to_cancel(self, run: Run, cancel: Any) -> None:
        """CANCEL-3: one durable flag on the session's row, the first to ask; a rescheduled open turn becomes due."""
        if self.session.cancel is None:
            self.session = replace(self.session, cancel=cancel)
        self.cancelled = run.run_id
        self.append_event(EventKind.CANCEL_REQUESTED, run.run_id, detail=cancel.by)
        if isinstance(run.state, run_.Rescheduled) and run.state.due_at_ms is not None:
            self.reschedule(run, None)

    # -- the end

    def decided(self, outcome: O, clause: str) -> Decided[O]:
        """Settle the phase, recompute `due_at_ms`, number the events; nothing is written if nothing happened."""
        session, before = self.session, self.before
        if session.phase is Phase.STOPPING and session.open_run is None:
            if isinstance(session.lease, lease_.Vacant):
                session = replace(session, phase=Phase.STOPPED)
                self.append_event(EventKind.PHASE_CHANGED, detail=Phase.STOPPED.value)
        runs = self.runs
        if runs and not session.sweep and any(self._left_over(session, r) for r in runs.values()):
            session = replace(session, sweep=True)
        if not self.writes and not self.touched and not self.events and session == before:
            return Decided(outcome, clause, (), (), False, tuple(self.via))
        due = due_at_ms(session, self.runs, self.ready, self.delayed)
        event_number = session.next_event
        session = replace(
            session,
            next_event=event_number + len(self.events),
            unfinished_run_count=session.unfinished_run_count + self.unfinished,
            ready_user_count=session.ready_user_count + self.waiting[Lane.USER],
            ready_system_count=session.ready_system_count + self.waiting[Lane.SYSTEM],
            delayed_count=session.delayed_count + self.postponed,
            due_at_ms=due,
            changed_at_ms=max(self.now_ms, session.changed_at_ms),
        )
        head = Insert(session) if before is None else Update(session)
        writes = [head, *self.touched.values(), *self.writes]
        if self.events:
            batch = EventBatch(
                session.session_id,
                event_number,
                self.now_ms,
                self.causation_id,
                tuple(self.events),
            )
            writes.append(Insert(batch))
        hints: tuple[Hint, ...] = ()
        earlier = due is not None and (
            before is None or before.due_at_ms is None or due < before.due_at_ms
        )
        if earlier or self.cancelled is not None:
            hints = (Hint(session.session_id, due, self.cancelled),)
        return Decided(outcome, clause, tuple(writes), hints, False, tuple(self.via))

    def _left_over(self, session: Session, run: Run) -> bool:
        return outdated(session, run) and session.lease_run != run.run_id


def _order(queue_entry: QueueEntry) -> tuple[int, int, int]:
    state = queue_entry.state
    assert isinstance(state, input_.Ready), queue_entry
    return (-state.mark, queue_entry.priority, state.ready_rank)


def _when(queue_entry: QueueEntry) -> tuple[int, int]:
    state = queue_entry.state
    assert isinstance(state, input_.Delayed), queue_entry
    return (state.until_ms, queue_entry.seq)
