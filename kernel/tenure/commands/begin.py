"""Begin: take the lease of a session and the run that comes next.  Spec: specs/lease.md, specs/inbox.md."""

from __future__ import annotations

from typing import ClassVar, TypeAlias

from attrs import frozen

from .. import scheduling
from ..failure import others_max
from ..limits import (
    BEGIN_ABANDONED_MAX,
    BEGIN_PROMOTED_MAX,
    RUN_BYTES_DEFAULT,
    RUN_INPUTS_DEFAULT,
    RUN_INPUTS_MAX,
)
from ..machines import lease as lease_
from ..machines import run as run_
from ..outcome import Decided, Refusal, Refused
from ..queries import Command, Get, Reads, read
from ..records import ExecutedCommand, Run, RunTakenUp, Session
from .grant import (
    TTL_MS_DEFAULT,
    Begun,
    BegunBefore,
    begun_of,
    bind,
    end_lapsed,
    fold,
    grant,
    take_up,
    validate_grant,
)
from .replay import check_command_id, check_pruned
from .session_view import SessionView, session_queries
from .transaction import Transaction
from .validation import validate_id, validate_limits

__all__ = ["Begin", "NothingDue"]


@frozen
class NothingDue:
    """Nothing to begin until `due_at_ms`.  `sweep`: execute Sweep and repeat Begin with another lease id.

    `others_max`: a run is due, for an owner that runs at most so many other sessions beside it.
    """

    due_at_ms: int | None
    sweep: bool = False
    others_max: int | None = None


BeginOutcome: TypeAlias = Begun | NothingDue | BegunBefore


@frozen
class BeginView(SessionView):
    """The session, the run of this id, and the row of the command if it was executed before."""

    known: Run | None
    executed: ExecutedCommand | None


@frozen
class Begin(Command[BeginView, BeginOutcome]):
    """Acquire the session and bind what comes next to a run, or take up a run that exists.

    `run_id` names the run if a new one is made.  A new run binds at most `limit` inputs of `limit_bytes` together.
    The owner runs at most `others` other sessions in its process under this lease.
    `exactly`: begin only if what comes next are these inputs, in this order.
    `resolution`: the version of the agent for a new run whose inputs ask for none (RUN-70).
    Writes at most 64 bound and 8 promoted queue entries, and a few rows.
    Refusals: UNKNOWN_SESSION, HELD, RUN_ACTIVE, PHASE, ILLEGAL, NOT_NEXT, which names what comes next.
    """

    added: ClassVar = {"exactly": 2, "resolution": 2}
    ignorable: ClassVar = ("resolution",)
    session_id: str
    lease_id: str
    run_id: str
    owner: lease_.Owner
    ttl_ms: int = TTL_MS_DEFAULT
    limit: int = RUN_INPUTS_DEFAULT
    limit_bytes: int = RUN_BYTES_DEFAULT
    others: int = 0
    exactly: tuple[str, ...] | None = None
    resolution: str | None = None

    def reads(self) -> Reads[BeginView]:
        s, group_max = self.session_id, min(max(self.limit, 1), RUN_INPUTS_MAX)
        return read(
            BeginView,
            *session_queries(
                s, ready=BEGIN_ABANDONED_MAX + group_max + 1, delayed=BEGIN_PROMOTED_MAX + 1
            ),
            Get(Run, (s, self.run_id)),
            Get(ExecutedCommand, (s, self.lease_id)),
        )

    def decide(self, view: BeginView, now_ms: int) -> Decided[BeginOutcome] | Refused:
        session = view.session
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "LEASE-20", self.session_id)
        if refused := check_command_id("begin", self.lease_id, view.executed, None):
            return refused
        replay = self._replay(view, session)
        if replay is not None:
            return replay
        if refused := check_pruned(session, self.lease_id):
            return refused
        if problem := validate_grant(self.lease_id, self.owner, self.ttl_ms):
            return Refused(Refusal.ILLEGAL, "LEASE-21", problem)
        problem = (
            validate_id("run_id", self.run_id)
            or validate_limits(self.limit, self.limit_bytes)
            or (None if self.others >= 0 else f"others {self.others}: expected at least 0")
            or (None if self.resolution is None else validate_id("resolution", self.resolution))
        )
        if problem is not None:
            return Refused(Refusal.ILLEGAL, "LEASE-21", problem)
        if session.phase in scheduling.UNLEASED_PHASES:
            if session.sweep:
                return Decided(NothingDue(session.due_at_ms, True), "PHASE-14")
            return Refused(Refusal.PHASE, "PHASE-3", session.phase.value)
        tx = Transaction.on(view, session, now_ms, self.lease_id)
        acquire = lease_.Acquire(self.lease_id, self.owner, self.ttl_ms, now_ms)
        refused = end_lapsed(tx, acquire)
        if refused is not None:
            return _held(refused, session, now_ms)
        if session.phase in scheduling.BEGINNING_PHASES:
            tx.promote(BEGIN_PROMOTED_MAX)
            if scheduling.heads_matter(tx.session, tx.runs):
                tx.end_abandoned(BEGIN_ABANDONED_MAX)
        return self._next(tx, acquire)

    def _replay(self, view: BeginView, session: Session) -> Decided[BeginOutcome] | None:
        lease = session.lease
        if isinstance(lease, lease_.Held) and lease.lease_id == self.lease_id:
            run = next((r for r in view.runs if r.run_id == session.lease_run), None)
            if run is not None:
                resumed = (
                    view.executed is not None or run.next_checkpoint > 0
                )  # its first answer said so
                begun = begun_of(session, run, resumed=resumed)
                return Decided(begun, "LEASE-22", replayed=True)
            return Decided(BegunBefore(None, None, held=True), "LEASE-22", replayed=True)
        if view.known is not None:
            state = view.known.state
            termination = state.termination.value if isinstance(state, run_.Done) else None
            return Decided(BegunBefore(self.run_id, termination), "LEASE-23", replayed=True)
        if view.executed is not None:
            taken = view.executed.outcome
            assert isinstance(taken, RunTakenUp), taken
            return Decided(BegunBefore(taken.run_id, None), "LEASE-23", replayed=True)
        return None

    def _next(self, tx: Transaction, acquire: lease_.Acquire) -> Decided[BeginOutcome] | Refused:
        step = scheduling.next_work(tx.session, tx.runs, tx.ready, tx.now_ms)
        if isinstance(step, scheduling.Supersede):  # WAIT-16
            tx.finish(step.run, run_.Termination.CANCELLED, tx.ready[step.lane][0].input_id)
            tx.via.append("WAIT-16")
            step = scheduling.next_work(tx.session, tx.runs, tx.ready, tx.now_ms)
        if self.exactly is not None and (inputs := self._inputs(tx, step)) != self.exactly:
            return Refused(Refusal.NOT_NEXT, "INBOX-43", inputs)
        match step:
            case scheduling.Wait() | scheduling.EndHead() | scheduling.TimedOut():
                tx.settle()
                sweep = tx.session.sweep or not isinstance(step, scheduling.Wait)
                sweep = sweep or scheduling.intents_aged(tx.session, tx.now_ms)
                return tx.decided(NothingDue(tx.session.due_at_ms, sweep), "INBOX-14")
            case scheduling.TakeUp(run) if (most := self._exceeded(run)) is not None:
                tx.settle()
                apart = NothingDue(tx.session.due_at_ms, tx.session.sweep, most)
                return tx.decided(apart, "INBOX-18")
            case scheduling.TakeUp(run):
                due = run.state.due_at_ms if isinstance(run.state, run_.Rescheduled) else None
                if due is not None and due > tx.now_ms:
                    tx.via.append("RUN-25")
                tx.remember(self.lease_id, "begin", RunTakenUp(run.run_id))
                grant(tx, acquire, run.run_id)
                run = take_up(tx, run)
                return tx.decided(begun_of(tx.session, run, resumed=True), "INBOX-12")
            case scheduling.Fold(run, lane):
                tx.remember(self.lease_id, "begin", RunTakenUp(run.run_id))
                grant(tx, acquire, run.run_id)
                run = take_up(tx, fold(tx, run, lane))
                return tx.decided(begun_of(tx.session, run, resumed=True), "WAIT-15")
            case scheduling.Supersede():
                raise AssertionError("two open turns")
            case scheduling.NewRun(lane):
                grant(tx, acquire, self.run_id)
                group = scheduling.take_group(tx.ready[lane], self.limit, self.limit_bytes, tx.runs)
                run = bind(tx, group, self.run_id, self.resolution)
                return tx.decided(begun_of(tx.session, run, resumed=False), "INBOX-13")

    def _inputs(self, tx: Transaction, step: scheduling.Next) -> tuple[str, ...]:
        """Return the inputs of what comes next; none if nothing can begin."""
        match step:
            case scheduling.Wait() | scheduling.EndHead() | scheduling.TimedOut():
                return ()
            case scheduling.Fold(run, lane):
                return (*[c.input_id for c in run.contributors], tx.ready[lane][0].input_id)
            case scheduling.Supersede():
                raise AssertionError("two open turns")
            case scheduling.TakeUp(run):
                return tuple([c.input_id for c in run.contributors])
            case scheduling.NewRun(lane):
                group = scheduling.take_group(tx.ready[lane], self.limit, self.limit_bytes, tx.runs)
                return tuple([queue_entry.input_id for queue_entry in group])

    def _exceeded(self, run: Run) -> int | None:
        """RUN-23: return how many others may run beside a run, if this owner may run more."""
        most = others_max(run.retry)
        return most if most is not None and self.others > most else None


def _held(refused: Refused, session: Session, now_ms: int) -> Refused:
    """DUE-7: ask for a Sweep in the refusal if the session is due under a live lease."""
    holder, due = refused.detail, session.due_at_ms
    if due is None or due > now_ms or not isinstance(holder, lease_.Holder):
        return refused
    swept = lease_.Holder(holder.owner_id, holder.expires_at_ms, sweep=True)
    return Refused(refused.reason, refused.clause, swept)
