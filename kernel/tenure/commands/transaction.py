"""The unit of work of one command: what it changes, while it is being decided.

A `Transaction` is the one mutable object of the kernel.  `decide` makes it, it never leaves `decide`, and it ends in a
`Decided`.  It does what every command owes the session: it numbers events, settles the phase, recomputes `due_at_ms`
and gives hints.  A row is written at most once in a decision: the last write of a row wins (STORE-9).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar, Unpack, cast

from attrs import define, field

from ..event import Event, EventKind, Origin
from ..failure import LOSSES_BEFORE_SPLIT, ErrorKind, GiveUp, Retry, decide_after_loss
from ..machines import input as input_
from ..machines import lease as lease_
from ..machines import run as run_
from ..outcome import Decided, Drop, Insert, Key, Refused, Stepped, Update, Write
from ..policy import LANES, Lane
from ..queries import Record
from ..records import (
    RECORDS,
    Cancel,
    Contributor,
    EventBatch,
    ExecutedCommand,
    ExecutedOutcome,
    OpenKey,
    Phase,
    QueueEntry,
    Run,
    Session,
)
from ..replace import replace
from ..scheduling import (
    asking_since_ms,
    delay_order,
    due_at_ms,
    head,
    outdated,
    queue_order,
    retry_from_ms,
    target_ended,
    unpublished_since_ms,
)
from ..world import key_of
from .attachment_counts import count_attachments
from .contributors import bound_state, ended_by, is_targeted, queue_entry_of, returned_state
from .hints import hints_of
from .merge import merge
from .nodes import close_open_calls, first_number
from .session_changes import SessionChanges
from .session_view import SessionView
from .work_end import write_end

__all__ = ["Transaction"]


S = TypeVar("S")
O = TypeVar("O")
R = TypeVar("R", bound=Record)
KEYS: Final = {record: key_of(record) for record in RECORDS}


@define
class Transaction:
    """What one decision changes.  `session`, `runs`, `ready` and `delayed` are as of the writes so far."""

    before: Session | None
    session: Session
    now_ms: int
    causation_id: str
    runs: dict[str, Run]  # the unfinished ones
    ready: dict[Lane, list[QueueEntry]]
    delayed: list[QueueEntry]
    unfinished_before: int
    changes: dict[tuple[type[Record], Key], Write] = field(factory=dict)
    events: list[Event] = field(factory=list)
    origins: list[Origin] = field(factory=list)
    via: list[str] = field(factory=list)
    cancelled: str | None = None
    steered: str | None = None
    targeted_added: int = 0
    tickets_added: int = 0
    intents_added: int = 0
    scraps_added: int = 0
    ready_added: dict[Lane, int] = field(factory=lambda: {Lane.USER: 0, Lane.SYSTEM: 0})
    delayed_added: int = 0
    settled: bool = False
    head: Insert | Update | None = None  # the session's row, once settled
    batch: tuple[Write, ...] = ()  # the row of the events, once settled

    @classmethod
    def on(cls, view: SessionView, session: Session, now_ms: int, causation_id: str) -> Transaction:
        """Begin a transaction over a view.  `session` is the stored one, or a new one if there is none."""
        return cls(
            view.session,
            session,
            now_ms,
            causation_id,
            {run.run_id: run for run in view.runs},
            {Lane.USER: list(view.users), Lane.SYSTEM: list(view.systems)},
            list(view.delayed),
            len(view.runs),
        )

    # -- rows

    def update(self, **changes: Unpack[SessionChanges]) -> None:
        """Change fields of the session."""
        self.session = replace(self.session, **changes)

    def write(self, *writes: Write) -> None:
        """Add writes.  A second write of a row replaces the first.

        AssertionError: the second write can never be done, such as an insert of a row that was inserted.
        """
        changes = self.changes
        for write in writes:
            if isinstance(write, Drop):
                at: tuple[type[Record], Key] = (write.record, write.key)
            else:
                record = write.record
                kind = record.__class__
                at = (kind, KEYS[kind](record))
            before = changes.setdefault(at, write)
            if before is not write:
                merged = merge(before, write)
                if merged is None:
                    del changes[at]
                else:
                    changes[at] = merged

    def get(self, record: type[R], *key: str | int) -> R | None:
        """Return what this decision has written under a key of the session so far; None if nothing."""
        write = self.changes.get((record, (self.session.session_id, *key)))
        return None if write is None or isinstance(write, Drop) else cast(R, write.record)

    # -- machines

    def step_to(self, outcome: Stepped[S, Any] | Refused) -> S:
        """Return the state after a step of a machine, and note its clause.

        AssertionError: the machine refused.  The command must check before, so this is a bug of the kernel.
        """
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
        """Write a run, and keep the map of unfinished runs up to date."""
        self.write(Insert(run) if new else Update(run))
        if isinstance(run.state, run_.Done):
            self.runs.pop(run.run_id, None)
        else:
            self.runs[run.run_id] = run

    # -- queue entries

    def put_ready(self, queue_entry: QueueEntry) -> None:
        """Add a ready queue entry to its lane, in order."""
        heads = self.ready[queue_entry.lane]
        heads.append(queue_entry)
        self.targeted_added += is_targeted(queue_entry)
        order = queue_order(queue_entry)
        if len(heads) > 1 and queue_order(heads[-2]) > order:  # seldom: ranks ascend
            heads.sort(key=queue_order)
        self.ready_added[queue_entry.lane] += 1

    def move_ready(self, lane: Lane, moved: Sequence[QueueEntry]) -> None:
        """Write ready inputs of a lane that have exchanged their places."""
        self.write(*[Update(queue_entry) for queue_entry in moved])
        names = {queue_entry.input_id for queue_entry in moved}
        others = [p for p in self.ready[lane] if p.input_id not in names]
        self.ready[lane] = sorted([*others, *moved], key=queue_order)

    def put_delayed(self, queue_entry: QueueEntry) -> None:
        """Add a delayed queue entry, in order."""
        self.delayed = sorted([*self.delayed, queue_entry], key=delay_order)
        self.delayed_added += 1

    def take_ready(self, lane: Lane, count: int) -> None:
        """Remove the first `count` queue entries of a lane: a run binds them."""
        self.targeted_added -= sum(map(is_targeted, self.ready[lane][:count]))
        self.ready[lane] = self.ready[lane][count:]
        self.ready_added[lane] -= count

    def end_queue_entry(self, queue_entry: QueueEntry, how: input_.How, by: str) -> None:
        """End an input that is ready or delayed and that no run has bound."""
        old = queue_entry.state
        key, mark = getattr(old, "open_key", None), getattr(old, "mark", 0)
        state = self.step_to(input_.step(queue_entry.state, input_.End(how, by)))
        write_end(self, replace(queue_entry, state=state))
        self.release_key(key, queue_entry.lane, mark)
        if isinstance(queue_entry.state, input_.Ready):
            heads = self.ready[queue_entry.lane]
            self.ready[queue_entry.lane] = [p for p in heads if p.input_id != queue_entry.input_id]
            self.ready_added[queue_entry.lane] -= 1
            self.targeted_added -= is_targeted(queue_entry)
        else:
            self.delayed = [p for p in self.delayed if p.input_id != queue_entry.input_id]
            self.delayed_added -= 1

    def end_abandoned(self, limit: int) -> int:
        """INBOX-55: end at most `limit` heads of lanes that have ended with their targets.  Return how many."""
        count = 0
        for lane in LANES:
            while count < limit and self.head_has_ended(lane):
                first = self.ready[lane][0]
                by = getattr(first.state, "target_run", "")
                self.end_queue_entry(first, input_.How.ABANDONED, by)
                detail = f"abandoned: {by} has ended"
                self.append_event(EventKind.INPUT_ENDED, None, (first.input_id,), detail)
                count += 1
        return count

    def head_has_ended(self, lane: Lane) -> bool:
        """Return whether the head of a lane has ended with its target."""
        first = head(self.session, self.ready[lane], lane)
        return first is not None and target_ended(first, self.runs)

    def release_key(self, key: str | None, lane: Lane, mark: int) -> None:
        """Drop the open key of an input that ends, if it has one."""
        if key is not None:
            self.write(Drop(OpenKey, (self.session.session_id, key, lane, mark)))

    def waiting(self) -> int:
        """Return how many inputs are ready or delayed, as of the writes so far."""
        return self.session.waiting + sum(self.ready_added.values()) + self.delayed_added

    def release_key_of(self, run: Run, contributor: Contributor) -> None:
        """Drop the open key of an input that ends with its run or is taken out of it."""
        self.release_key(contributor.open_key, run.lane_of(contributor), run.mark_of(contributor))

    def promote(self, limit: int) -> int:
        """INBOX-9: make at most `limit` due inputs ready, in the order of their times.  Return how many."""
        count = 0
        while self.delayed and count < limit:
            queue_entry = self.delayed[0]
            rank = self.session.next_rank
            outcome = input_.step(queue_entry.state, input_.Promote(rank, self.now_ms))
            if isinstance(outcome, Refused):
                break
            self.delayed.pop(0)
            self.delayed_added -= 1
            ready = replace(queue_entry, state=self.step_to(outcome))
            self.write(Update(ready))
            self.update(next_rank=rank + 1)
            self.put_ready(ready)
            count += 1
        if count:
            self.append_event(EventKind.INPUT_PROMOTED, detail=str(count))
        return count

    def attach(self, writes: Sequence[Update]) -> None:
        """ATTACH-12: write intents that become attachments."""
        self.write(*writes)
        self.intents_added -= len(writes)

    # -- the lease

    def vacate(self, outcome: Stepped[lease_.Lease, None] | Refused) -> None:
        """End the lease by a step of its machine."""
        self.update(lease=self.step_to(outcome), lease_run=None)

    def lose_lease(self, outcome: Stepped[lease_.Lease, None] | Refused) -> None:
        """RUN-7: end a lease without its holder's command.  Its run counts a loss if nothing was recorded."""
        run = self.runs.get(self.session.lease_run or "")
        self.vacate(outcome)
        if run is None:
            return
        assert isinstance(run.state, run_.Running), run
        self.append_event(EventKind.LEASE_LOST, run.run_id, detail=str(run.state.generation))
        recorded = run.state.recorded
        verdict = decide_after_loss(run.run_id, run.retry, recorded, self.now_ms, run.limits)
        self.via.append(verdict.clause)
        lost = ErrorKind.LOST
        self.end_or_retry(replace(run, retry=verdict.state), verdict, lost, lost.value)

    def end_or_retry(self, run: Run, verdict: Retry | GiveUp, kind: ErrorKind, message: str) -> str:
        """RUN-8: decide what becomes of a run whose lease has ended, and write it.

        A requested cancel comes first.  Return `ended`, `split` or `rescheduled`.
        """
        why = f"{kind.value} {run.retry.failure_count()}"
        cancel = self.session.cancel
        if cancel is not None and cancel.run_id == run.run_id:
            if not run.progress or cancel.rollback:
                self.close(run, cancel)
                return "ended"
            if isinstance(verdict, GiveUp):
                self.finish(run, run_.Termination.CANCELLED, cancel.by)
                return "ended"
            # due at once after the first failure, so that it is closed
            again = run.retry.failure_count() > 1
            self.reschedule(run, verdict.due_at_ms if again else None, why)
            return "rescheduled"
        if not run.progress and run.mark < self.session.mark(run.lane):
            self.reschedule(run, None, why)  # superseded by a mark: Sweep ends it
            return "rescheduled"
        several = len(run.contributors) > 1 and not run.progress
        permanent = isinstance(verdict, GiveUp) and verdict.permanent
        lost_max = min(LOSSES_BEFORE_SPLIT, run.limits.losses)
        if several and (permanent or run.retry.losses >= lost_max):
            self.split(run, message)
            return "split"
        if isinstance(verdict, GiveUp):
            self.finish(run, run_.Termination.ERROR, message)
            return "ended"
        due = verdict.due_at_ms if verdict.due_at_ms > self.now_ms else None
        self.reschedule(run, due, why, verdict.hold)
        return "rescheduled"

    # -- runs

    def reschedule(self, run: Run, due: int | None, why: str, hold: bool = False) -> None:
        """Make a run wait for the next Begin, until `due` or not at all.  `hold`: the session waits too.

        EVENT-28: the event says why.
        """
        since_ms = None if due is None else self.now_ms
        state = self.step_to(run_.step(run.state, run_.Reschedule(due, hold, since_ms)))
        self.write_run(replace(run, state=state))
        detail = why if due is None else f"{why} until {due}"
        self.append_event(EventKind.RUN_RESCHEDULED, run.run_id, detail=detail)

    def close(self, run: Run, cancel: Cancel) -> None:
        """Finish a run that was asked to stop, and that has written nothing or is rolled back."""
        if cancel.rollback:
            self.finish(run, run_.Termination.ROLLED_BACK, cancel.by)
        else:
            self.end_cancelled(run, cancel.how, cancel.by)

    def end_cancelled(self, run: Run, how: input_.How, by: str) -> None:
        """Finish a run that was cancelled or superseded by `by`."""
        superseded = how is input_.How.SUPERSEDED
        how_run = run_.Termination.SUPERSEDED if superseded else run_.Termination.CANCELLED
        self.finish(run, how_run, by)

    def finish(self, run: Run, termination: run_.Termination, reason: str = "") -> None:
        """RUN-9: finish a run.  Its inputs end by the settling table, and its nodes become visible.

        RUN-24: what a run that is rolled back has written stays invisible, and its inputs of lane SYSTEM do not end.
        """
        how, back = run_.settle(termination, run.tip is not None), False
        if termination is run_.Termination.ROLLED_BACK:
            run, back = replace(run, tip=None, open_calls=()), True
            self.via.append("RUN-24")
        run, closings = close_open_calls(self.session, run, termination, self.now_ms)
        self.write(*closings)
        if run.node_count:  # READ-2
            self.update(next_node=first_number(self.session) + run.node_count)
        if run.tip is not None and self.session.leaf != run.tip:
            self.update(leaf=run.tip, revision=self.session.revision + 1)
        state = self.step_to(run_.step(run.state, run_.Finish(termination, reason)))
        by = ended_by(run, how, termination, reason)
        ids: list[str] = []
        for position, contributor in enumerate(run.contributors):
            if back and run.lane_of(contributor) is Lane.SYSTEM:
                self.give_back(run, contributor, position)
                continue
            bound = bound_state(run, contributor, position)
            ended = self.step_to(input_.step(bound, input_.End(how, by)))
            write_end(self, queue_entry_of(run, contributor, ended), replace(run, state=state))
            self.release_key_of(run, contributor)
            ids.append(contributor.input_id)
        self.write_run(replace(run, state=state))
        self.clear_run_flags(run)
        if run.open_tickets:
            self.update(sweep=True)  # TICKET-30
        self.append_event(
            EventKind.RUN_FINISHED, run.run_id, tuple(ids), f"{termination.value}: {how.value}"
        )

    def split(self, run: Run, reason: str) -> None:
        """RUN-16: finish a run of several inputs, and make each input ready alone, with its former rank.

        This is done after a permanent failure or a second loss.
        """
        state = self.step_to(run_.step(run.state, run_.Finish(run_.Termination.SPLIT, reason)))
        for position, contributor in enumerate(run.contributors):
            self.give_back(run, contributor, position)
        self.write_run(replace(run, state=state))
        self.clear_run_flags(run)
        self.append_event(EventKind.RUN_FINISHED, run.run_id, (), f"split: {reason}")

    def give_back(self, run: Run, contributor: Contributor, position: int) -> None:
        """PLACE-8: make an input of a run that ends ready again, alone, with its former rank."""
        state = self.step_to(returned_state(run, contributor, position))
        queue_entry = queue_entry_of(run, contributor, state)
        self.write(Update(queue_entry))
        self.put_ready(queue_entry)
        if run.mark_of(contributor) < self.session.mark(queue_entry.lane):
            self.update(sweep=True)  # a mark was raised while the run had it

    def clear_run_flags(self, run: Run) -> None:
        """Clear the flags of the session that name this run."""
        cancel = self.session.cancel
        if self.session.open_run == run.run_id:
            self.update(open_run=None)
        if cancel is not None and cancel.run_id == run.run_id:
            self.update(cancel=None)
        if (self.session.intent_count or 0) + self.intents_added:
            self.update(sweep=True)  # ATTACH-31

    def ask_to_cancel(self, run: Run, cancel: Cancel) -> None:
        """CANCEL-3, CANCEL-60: end a run that waits; else set the cancel flag unless it is set, and make the run due."""
        if isinstance(run.state, run_.Waiting):
            self.append_event(EventKind.CANCEL_REQUESTED, run.run_id, detail=cancel.by)
            self.finish(run, run_.Termination.CANCELLED, cancel.by)
            return
        if self.session.cancel is None:
            self.update(cancel=cancel)
        self.cancelled = run.run_id
        self.append_event(EventKind.CANCEL_REQUESTED, run.run_id, detail=cancel.by)
        if isinstance(run.state, run_.Rescheduled) and run.state.due_at_ms is not None:
            self.reschedule(run, None, "cancelled")

    # -- the end

    def remember(
        self, command_id: str, command: str, outcome: ExecutedOutcome, digest: str | None = None
    ) -> None:
        """Store the outcome of this command under its id, for its repetition (STORE-2), and the digest of its content (STORE-56)."""
        at = (self.session.session_id, command_id, command, self.now_ms)
        self.write(Insert(ExecutedCommand(*at, outcome, digest)))

    def settle(self) -> None:
        """Settle the phase, recompute `due_at_ms`, number the events and write the session, once.

        Writes nothing if nothing happened.  Afterwards `session` is the row as it will be stored.
        """
        if self.settled:
            return
        self.settled = True
        session, before = self.session, self.before
        if session.phase is Phase.STOPPING and session.open_run is None:
            if isinstance(session.lease, lease_.Vacant):
                self.update(phase=Phase.STOPPED)
                self.append_event(EventKind.PHASE_CHANGED, detail=Phase.STOPPED.value)
        if self.runs and not session.sweep and any(map(self._left_over, self.runs.values())):
            self.update(sweep=True)
        session = self.session
        if not self.changes and not self.events and session == before:
            return
        session = count_attachments(session, self.intents_added, self.scraps_added, self.now_ms)
        unfinished = session.unfinished_run_count + len(self.runs) - self.unfinished_before
        self.session = session = replace(
            session,
            next_event=session.next_event + len(self.events),
            unfinished_run_count=unfinished,
            ready_user_count=session.ready_user_count + self.ready_added[Lane.USER],
            ready_system_count=session.ready_system_count + self.ready_added[Lane.SYSTEM],
            delayed_count=session.delayed_count + self.delayed_added,
            targeted_count=((session.targeted_count or 0) + self.targeted_added) or None,
            open_ticket_count=((session.open_ticket_count or 0) + self.tickets_added) or None,
            asking_since_ms=asking_since_ms(session, self.runs, self.now_ms),
            unpublished_since_ms=unpublished_since_ms(session, len(self.events), self.now_ms),
            due_at_ms=due_at_ms(session, self.runs, self.ready, self.delayed),
            retry_from_ms=retry_from_ms(session, self.runs, self.ready),
            changed_at_ms=max(self.now_ms, session.changed_at_ms),
        )
        self.head = Insert(session) if before is None else Update(session)
        if self.events:
            seq, events = session.next_event - len(self.events), tuple(self.events)
            at = (session.session_id, seq, self.now_ms, self.causation_id)
            batch = EventBatch(*at, events, tuple(self.origins) or None)
            self.batch = (Insert(batch),)

    def decided(self, outcome: O, clause: str) -> Decided[O]:
        """Settle, unless that was done, and return the decision.  The session's row is its first write."""
        self.settle()
        via = tuple(self.via)
        if self.head is None:
            return Decided(outcome, clause, (), (), False, via)
        writes = (self.head, *self.changes.values(), *self.batch)
        hints = hints_of(self.before, self.session, self.cancelled, self.steered)
        return Decided(outcome, clause, writes, hints, False, via)

    def _left_over(self, run: Run) -> bool:
        return outdated(self.session, run) and self.session.lease_run != run.run_id
