"""Sweep: write out, in bounded steps, what marks and clocks have decided.  Spec: specs/sweep.md."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from ..event import EventKind
from ..indexes import AGED, MARK_RAISES, OPEN_TICKETS, TICKET_DEADLINES
from ..limits import (
    OPEN_TICKETS_MAX,
    RUN_INPUTS_MAX,
    SWEEP_ABANDONED_MAX,
    SWEEP_PROMOTED_MAX,
    SWEEP_ROWS_MAX,
    SWEEP_TICKETS_MAX,
)
from ..machines import lease as lease_
from ..machines import ticket as ticket_
from ..machines.input import Bound
from ..outcome import Decided, Drop, Refusal, Refused
from ..policy import LANES, Lane
from ..queries import Command, First, Reads, read
from ..records import Attachment, MarkRaise, QueueEntry, Run, Ticket
from ..scheduling import BEGINNING_PHASES, outdated
from .attach import drop_aged, intents_query
from .session_view import SessionView, session_queries
from .tickets import settle_ticket
from .transaction import Transaction

__all__ = ["Sweep", "Swept"]


AGED_READ = (
    RUN_INPUTS_MAX + 32
)  # for each lane; an active run may keep one group of old rows at the front
RAISES_READ = 32  # for each lane
TICKETS_READ = OPEN_TICKETS_MAX + SWEEP_TICKETS_MAX  # those of the open turn may come first


@frozen
class Swept:
    """How many inputs ended and were promoted.  `more`: sweep again."""

    ended: int
    promoted: int
    more: bool


@frozen
class SweepView(SessionView):
    """The session, and for each lane its oldest queue entries and the raises of its mark."""

    aged_users: tuple[QueueEntry, ...]
    aged_systems: tuple[QueueEntry, ...]
    raises_users: tuple[MarkRaise, ...]
    raises_systems: tuple[MarkRaise, ...]
    open_tickets: tuple[Ticket, ...]
    deadlines: tuple[Ticket, ...]
    intents: tuple[Attachment, ...]


@frozen
class Sweep(Command[SweepView, Swept]):
    """End a lapsed lease and what marks superseded or targets left behind, and promote due inputs.

    Writes at most 256 rows.

    A repetition is a new, monotone step.  Refusals: UNKNOWN_SESSION.
    """

    session_id: str

    def reads(self) -> Reads[SweepView]:
        s = self.session_id
        return read(
            SweepView,
            *session_queries(s, ready=SWEEP_ABANDONED_MAX + 1, delayed=SWEEP_ROWS_MAX + 1),
            First(AGED, (s, Lane.USER), AGED_READ),
            First(AGED, (s, Lane.SYSTEM), AGED_READ),
            First(MARK_RAISES, (s, Lane.USER), RAISES_READ),
            First(MARK_RAISES, (s, Lane.SYSTEM), RAISES_READ),
            First(OPEN_TICKETS, (s,), TICKETS_READ, counted="open_ticket_count"),
            First(TICKET_DEADLINES, (s,), SWEEP_TICKETS_MAX, counted="open_ticket_count"),
            intents_query(s),
        )

    def decide(self, view: SweepView, now_ms: int) -> Decided[Swept] | Refused:
        session = view.session
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "SWEEP-1", self.session_id)
        tx = Transaction.on(view, session, now_ms, "sweep")
        lease = session.lease
        if isinstance(lease, lease_.Held):
            outcome = lease_.step(lease, lease_.End(now_ms))
            if not isinstance(outcome, Refused):
                tx.lose_lease(outcome)
        self._settle_tickets(tx, view)
        ended, left = 0, self._tickets_left(tx)
        if session.sweep:
            aged = {Lane.USER: view.aged_users, Lane.SYSTEM: view.aged_systems}
            raises = {Lane.USER: view.raises_users, Lane.SYSTEM: view.raises_systems}
            for lane in LANES:
                count, more = sweep_lane(tx, lane, aged[lane], raises[lane])
                ended, left = ended + count, left or more
        left = drop_aged(tx, view.intents) or left
        if session.sweep:
            tx.update(sweep=left)
        room = max(SWEEP_ROWS_MAX - len(tx.changes), 0) // 2  # each may have an open key
        abandoned = tx.end_abandoned(min(SWEEP_ABANDONED_MAX, room))
        left = left or any(map(tx.head_has_ended, LANES))
        room = min(SWEEP_PROMOTED_MAX, SWEEP_ROWS_MAX - len(tx.changes))
        promoted = tx.promote(room) if session.phase in BEGINNING_PHASES else 0
        more = left or promoted == room
        return tx.decided(Swept(ended + abandoned, promoted, more), "SWEEP-2")

    def _settle_tickets(self, tx: Transaction, view: SweepView) -> None:
        """TICKET-30, TICKET-31: settle the open tickets of runs that have ended, and those whose time has come."""
        over = [each for each in view.open_tickets if each.ticket_id not in _open_of(tx)]
        for ticket in over[:SWEEP_TICKETS_MAX]:
            settle_ticket(tx, ticket, ticket_.Settled(ticket_.Action.RUN_ENDED, ticket.run_id))
        for ticket in view.deadlines:
            past = ticket.deadline_ms is not None and ticket.deadline_ms <= tx.now_ms
            if past and ticket.ticket_id in _open_of(tx):
                settle_ticket(tx, ticket, ticket_.Settled(ticket_.Action.TIMEOUT))

    def _tickets_left(self, tx: Transaction) -> bool:
        """Return whether tickets of runs that have ended are still open."""
        left = (tx.session.open_ticket_count or 0) + tx.tickets_added
        return left > len(_open_of(tx))


def _open_of(tx: Transaction) -> set[str]:
    """Return the open tickets of unfinished runs."""
    return {each.ticket_id for run in tx.runs.values() for each in run.open_tickets or ()}


def sweep_lane(
    tx: Transaction, lane: Lane, aged: tuple[QueueEntry, ...], raises: tuple[MarkRaise, ...]
) -> tuple[int, bool]:
    """SWEEP-3, SWEEP-4, SWEEP-6: end the superseded inputs of a lane.

    Marks are raised one by one, so the raise after the mark of a row tells how the row ends.  Return how many inputs
    ended, and whether any are left.
    """
    session, by_mark = tx.session, {r.mark: r for r in raises}
    ended, kept = 0, None
    for queue_entry in aged:
        mark = getattr(queue_entry.state, "mark", session.mark(lane))
        if mark >= session.mark(lane):
            break
        run = tx.runs.get(getattr(queue_entry.state, "run_id", ""))
        if isinstance(queue_entry.state, Bound) and run is None:
            continue  # its run ended in this sweep
        if run is not None and _kept(tx, run):
            kept = mark
            continue
        raised = by_mark.get(mark + 1)
        rows = 2 if run is None else 2 * len(run.contributors) + 1
        if raised is None or len(tx.changes) + rows > SWEEP_ROWS_MAX:
            _drop_raises(tx, lane, [r for r in raises if r.mark <= mark], kept)
            return ended, True
        ended += _end(tx, queue_entry, run, raised)
    else:
        if len(aged) == AGED_READ:
            return ended, True
    _drop_raises(tx, lane, raises, kept)
    return ended, len(raises) == RAISES_READ


def _end(tx: Transaction, queue_entry: QueueEntry, run: Run | None, raised: MarkRaise) -> int:
    if run is not None:
        tx.end_cancelled(run, raised.how, raised.by)
        return len(run.contributors)
    tx.end_queue_entry(queue_entry, raised.how, raised.by)
    tx.append_event(EventKind.INPUT_ENDED, None, (queue_entry.input_id,), raised.how.value)
    return 1


def _kept(tx: Transaction, run: Run) -> bool:
    """SWEEP-5: return whether a run ends its inputs itself: it is under the lease or the open turn."""
    return not outdated(tx.session, run) or tx.session.lease_run == run.run_id


def _drop_raises(
    tx: Transaction, lane: Lane, raises: Sequence[MarkRaise], kept_mark: int | None
) -> None:
    """SWEEP-7: drop the raises that no input needs any more.  An active run may still need one, after `kept_mark`."""
    for raised in raises:
        if kept_mark is None or raised.mark != kept_mark + 1:
            tx.write(Drop(MarkRaise, (tx.session.session_id, lane, raised.mark)))
