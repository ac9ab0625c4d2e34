"""Park: a turn that waits lets go of its session.  Spec: specs/ticket.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen

from ..event import EventKind
from ..indexes import JOURNAL_ENTRIES
from ..limits import OPEN_TICKETS_MAX
from ..machines import lease as lease_
from ..machines import run as run_
from ..machines import ticket as ticket_
from ..outcome import Decided, Refusal, Refused
from ..policy import WhileWaiting
from ..queries import Command, Each, First, Get, Reads, read
from ..records import Blob, EntryKind, EventBatch, JournalEntry, Run, Session, Ticket, Usage
from ..replace import replace
from ..scheduling import FOLDING
from ..transcript import NewNode, UsageDelta, hash_node, hash_parts, hash_text
from .cancel_work import cancel_of
from .checkpoint import EFFECT_ID_MAX, Checkpoint, CheckpointView, NewEntry, check_fence
from .nodes import open_calls_after, validate_nodes
from .replay import not_found
from .send import send
from .session_view import SessionView, session_queries
from .tickets import NewTicket, settle_rest, ticket_queries, validate_tickets
from .transaction import Transaction
from .usage import usage_queries
from .validation import validate_text

__all__ = ["GoOn", "Park", "Parked"]


@frozen
class Parked:
    """The run waits, and its lease has ended.  `n`: the number of its next checkpoint."""

    n: int


@frozen
class GoOn:
    """Enough of the tickets are settled already: the holder goes on.  What Park would record was not written."""


@frozen
class ParkView(SessionView):
    """The session, the run, and the rows that the command may have written or must change."""

    run: Run | None
    written: tuple[JournalEntry, ...]
    usage: tuple[Usage | None, ...]
    blobs: tuple[Blob | None, ...]
    known: tuple[Ticket | None, ...]
    waited: tuple[Ticket | None, ...]


@frozen
class Park(Command[ParkView, Parked | GoOn]):
    """Write what a checkpoint writes, end the lease, and let the run wait for tickets or inputs.

    It waits for the tickets in `waits_for`, which the run has opened, and for those that it opens here.  `needs`: how many
    of them must be settled before the run goes on; None: all.  `rest`: what becomes of the others then, when the run is
    taken up and sends its Park again.  `on_input`: what an input of lane USER does to it; None: as the reason says.
    Refusals: UNKNOWN_RUN, FENCED, STALE, CANCELLED, ILLEGAL.
    """

    since: ClassVar = 2
    session_id: str
    fence: lease_.Fence
    run_id: str
    turn: int
    n: int
    effect_id: str
    reason: run_.WaitReason
    waits_for: tuple[str, ...] = ()
    needs: int | None = None
    on_input: WhileWaiting | None = None
    entries: tuple[NewEntry, ...] = ()
    nodes: tuple[NewNode, ...] = ()
    tickets: tuple[NewTicket, ...] = ()
    usage: tuple[UsageDelta, ...] = ()
    environment: str | None = field(
        default=None, repr=lambda e: "None" if e is None else f"<{len(e)}>"
    )
    rest: ticket_.Rest = ticket_.Rest.KEEP

    def reads(self) -> Reads[ParkView]:
        s, environment = self.session_id, self.environment
        return read(
            ParkView,
            *session_queries(s),
            Get(Run, (s, self.run_id)),
            First(JOURNAL_ENTRIES, (s, self.run_id, self.turn, self.n), 1),
            usage_queries(s, self.usage),
            Each(() if environment is None else (Get(Blob, (s, hash_text(environment))),)),
            ticket_queries(s, [new.ticket_id for new in self.tickets]),
            ticket_queries(s, self.waits_for),
        )

    def decide(self, view: ParkView, now_ms: int) -> Decided[Parked | GoOn] | Refused:
        session, run = view.session, view.run
        if session is None or run is None:
            return not_found(session, Refusal.UNKNOWN_RUN, "WAIT-1", self.run_id)
        contents = [hash_node(node) for node in self.nodes]
        digest = self.digest(contents)
        if view.written:
            first = view.written[0]
            if (first.lease_id, first.digest) == (self.fence.lease_id, digest):
                return Decided(Parked(self.n + 1), "WAIT-2", replayed=True)
        if run.pruned:
            return Refused(Refusal.PRUNED, "RETENTION-10", self.run_id)
        if refused := self._refused(session, run, view, now_ms):
            return refused
        tx = Transaction.on(view, session, now_ms, self.fence.lease_id)
        if self._has_enough(view):
            return self._go_on(tx, view)
        run = self._record(tx, view, run, digest, contents)
        self._wait(tx, run, self._missing(view))
        return tx.decided(Parked(run.next_checkpoint), "WAIT-7")

    def _go_on(self, tx: Transaction, view: ParkView) -> Decided[GoOn]:
        """WAIT-6, WAIT-35: settle what the wait does not need any more, and cancel its work if that is asked."""
        if self.rest is ticket_.Rest.KEEP:
            return Decided(GoOn(), "WAIT-6")
        left = settle_rest(tx, view.waited)
        for ticket in left if self.rest is ticket_.Rest.CANCEL else ():
            if (cancel := cancel_of(ticket, tx.session.session_id)) is not None:
                send(tx, cancel.command, cancel.peer)
                tx.via.append("WAIT-37")
        return tx.decided(GoOn(), "WAIT-35") if left else Decided(GoOn(), "WAIT-6")

    def digest(self, contents: list[tuple[object, ...]]) -> str:
        """Return the digest by which a repetition is recognised."""
        on_input = None if self.on_input is None else self.on_input.value
        wait = [list(self.waits_for), self.needs, self.rest.value, on_input]
        words = [self.effect_id, self.reason.value, *wait]
        return hash_parts(self._checkpoint().digest(contents), words)

    def _checkpoint(self) -> Checkpoint:
        """Return the checkpoint that writes what this command records."""
        entries = (*self.entries, NewEntry(EntryKind.WAIT, self.effect_id))
        return Checkpoint(
            self.session_id, self.fence, self.run_id, self.turn, self.n,
            entries, self.nodes, self.usage, self.environment, tickets=self.tickets,
        )  # fmt: skip

    def _refused(self, session: Session, run: Run, view: ParkView, now_ms: int) -> Refused | None:
        if refused := check_fence(session, self.fence, self.run_id):
            return refused
        if (self.turn, self.n) != (run.turn, run.next_checkpoint):
            return Refused(Refusal.STALE, "WAIT-3", (run.turn, run.next_checkpoint))
        if session.cancel is not None:
            return Refused(Refusal.CANCELLED, "WAIT-4", session.cancel)
        problem = self._validate(view, run) or validate_tickets(
            run, self.tickets, view.known, now_ms
        )
        if problem is None:
            recorded = replace(self._checkpoint(), entries=self.entries, tickets=())
            problem = recorded.problem(run, (), now_ms)
        return None if problem is None else Refused(Refusal.ILLEGAL, "WAIT-5", problem)

    def _validate(self, view: ParkView, run: Run) -> str | None:
        if not self.effect_id:
            return "effect_id '': expected the name of the wait"
        if not self.waits_for and not self.tickets and (problem := self._endless(run)):
            return problem
        if len(set(self.waits_for)) < len(self.waits_for):
            return "waits_for names a ticket twice"
        if len(self.waits_for) > 2 * OPEN_TICKETS_MAX:
            return f"waits_for names {len(self.waits_for)} tickets; at most {2 * OPEN_TICKETS_MAX}"
        if self.needs is not None and not 1 <= self.needs <= self._count:
            return f"needs {self.needs} of {self._count} tickets"
        if self.on_input is WhileWaiting.BACKGROUND:
            return "on_input background: only an input may say so"
        for ticket_id, found in zip(self.waits_for, view.waited, strict=True):
            if found is None or found.run_id != self.run_id:
                return f"ticket {ticket_id} is not one of run {self.run_id}"
        return validate_text("effect_id", self.effect_id, EFFECT_ID_MAX)

    def _endless(self, run: Run) -> str | None:
        """WAIT-5: return why a wait without a ticket would never end, or None."""
        if self.reason not in FOLDING:
            return f"a wait for {self.reason.value} without a ticket"
        if self.on_input is WhileWaiting.HOLD:
            return "a wait without a ticket that holds what comes in"
        nodes = self.nodes if validate_nodes(run.open_calls, self.nodes) is None else ()
        if open_calls_after(run.open_calls, nodes):
            return "a wait without a ticket while calls are open"
        return None

    @property
    def _count(self) -> int:
        """How many tickets it waits for."""
        return len(self.waits_for) + len(self.tickets)

    def _missing(self, view: ParkView) -> int:
        """Return how many tickets must still be settled."""
        settled = sum([t is not None and t.open_run is None for t in view.waited])
        return (self._count if self.needs is None else self.needs) - settled

    def _has_enough(self, view: ParkView) -> bool:
        """WAIT-6: return whether the run need not wait."""
        return self._count > 0 and self._missing(view) <= 0

    def _record(
        self,
        tx: Transaction,
        view: ParkView,
        run: Run,
        digest: str,
        contents: list[tuple[object, ...]],
    ) -> Run:
        """Write what a checkpoint writes."""
        session = tx.session
        rows = CheckpointView(session, run, (), view.usage, view.blobs, (), (), (), view.known)
        decided = self._checkpoint().write(rows, session, run, digest, contents, tx.now_ms)
        tx.via += decided.via
        for write in decided.writes:
            record = getattr(write, "record", None)
            if isinstance(record, EventBatch):
                tx.events += record.events
            elif isinstance(record, Session):
                tx.update(
                    environment_digest=record.environment_digest,
                    current_frame=record.current_frame,
                    next_node=record.next_node,
                )
            else:
                tx.write(write)
        tx.tickets_added += len(self.tickets)
        tx.update(open_run=self.run_id)
        after = tx.get(Run, self.run_id)
        assert after is not None
        return after

    def _wait(self, tx: Transaction, run: Run, needs: int) -> None:
        """WAIT-7: end the lease, and let the run wait."""
        wanted = {*self.waits_for, *[new.ticket_id for new in self.tickets]}
        open_ = tuple(
            [each.ticket_id for each in run.open_tickets or () if each.ticket_id in wanted]
        )
        waiting = run_.Waiting(self.reason, open_, needs, self.on_input, self.effect_id)
        state = tx.step_to(run_.step(run.state, run_.Wait(waiting)))
        tx.write_run(replace(run, state=state))
        release = lease_.Release(self.fence.generation, self.fence.lease_id)
        tx.vacate(lease_.step(tx.session.lease, release))
        detail = " ".join([self.reason.value, *open_])
        tx.append_event(EventKind.RUN_WAITING, self.run_id, detail=detail)
