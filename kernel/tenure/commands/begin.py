"""Take a session, and what comes next in it; or only the session.  Spec: specs/lease.md, specs/inbox.md."""

from __future__ import annotations

from typing import TypeAlias

from attrs import frozen

from .. import scheduling as inbox
from ..machines import lease as lease_
from ..machines import run as run_
from ..outcome import Decided, Insert, Refusal, Refused, Update
from ..queries import Command, Get, Reads, read
from ..records import Executed, Phase, Run, Session
from .executed import misused
from .grant import (
    TTL_MS_DEFAULT,
    Begun,
    BegunBefore,
    begun_of,
    bind,
    end_lapsed,
    grant,
    illegal_grant,
    take_up,
)
from .session_view import Desk, desk
from .transaction import Draft
from .validation import illegal_id, illegal_limits

LIMIT_DEFAULT = 8
PROMOTED_MAX = 8


@frozen
class NothingDue:
    """Nothing to begin.  `sweep`: there is something for Sweep to write out, do that and ask again."""

    due_at_ms: int | None
    sweep: bool = False


BeginOutcome: TypeAlias = Begun | NothingDue | BegunBefore


@frozen
class Bench(Desk):
    known: Run | None
    executed: Executed | None


@frozen
class Begin(Command[Bench, BeginOutcome]):
    """Acquire the session and bind what comes next to a run, or take up a run that exists.

    `run_id` is for the case that it makes a run.  At most `limit` inputs and `limit_bytes` are grouped.
    Touches at most 64 places, 8 promotions and a handful of rows.  Refusals: UNKNOWN_SESSION, HELD, RUN_ACTIVE,
    PHASE, ILLEGAL.
    """

    session_id: str
    lease_id: str
    run_id: str
    owner: lease_.Owner
    ttl_ms: int = TTL_MS_DEFAULT
    limit: int = LIMIT_DEFAULT
    limit_bytes: int = inbox.GROUP_BYTES

    def reads(self) -> Reads[Bench]:
        s = self.session_id
        return read(
            Bench,
            *desk(s, ready=min(max(self.limit, 1), inbox.GROUP_MAX) + 1, delayed=PROMOTED_MAX + 1),
            Get(Run, (s, self.run_id)),
            Get(Executed, (s, self.lease_id)),
        )

    def decide(self, view: Bench, now_ms: int) -> Decided[BeginOutcome] | Refused:
        session = view.session
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "LEASE-20", self.session_id)
        if refused := misused("begin", self.lease_id, view.executed):
            return refused
        replay = self._replay(view, session)
        if replay is not None:
            return replay
        if problem := illegal_grant(self.lease_id, self.owner, self.ttl_ms):
            return Refused(Refusal.ILLEGAL, "LEASE-21", problem)
        problem = illegal_id("run_id", self.run_id) or illegal_limits(self.limit, self.limit_bytes)
        if problem is not None:
            return Refused(Refusal.ILLEGAL, "LEASE-21", problem)
        if session.phase in (Phase.STOPPED, Phase.DESTROYED):
            if session.sweep:
                return Decided(NothingDue(session.due_at_ms, True), "PHASE-14")
            return Refused(Refusal.PHASE, "PHASE-3", session.phase.value)
        draft = Draft.on(view, session, now_ms, self.lease_id)
        acquire = lease_.Acquire(self.lease_id, self.owner, self.ttl_ms, now_ms)
        refused = end_lapsed(draft, acquire)
        if refused is not None:
            return _held(refused, session, now_ms)
        if session.phase in inbox.FULL:
            draft.promote(PROMOTED_MAX)
        return self._next(draft, acquire)

    def _replay(self, view: Bench, session: Session) -> Decided[BeginOutcome] | None:
        lease = session.lease
        if isinstance(lease, lease_.Held) and lease.lease_id == self.lease_id:
            run = next((r for r in view.runs if r.run_id == session.lease_run), None)
            if run is not None:
                resumed = view.executed is not None or run.n > 0  # it took up a run, as it said
                begun = begun_of(session, run, resumed=resumed)
                return Decided(begun, "LEASE-22", replayed=True)
            return Decided(BegunBefore(None, None, held=True), "LEASE-22", replayed=True)
        if view.known is not None:
            state = view.known.state
            termination = state.termination.value if isinstance(state, run_.Done) else None
            return Decided(BegunBefore(self.run_id, termination), "LEASE-23", replayed=True)
        if view.executed is not None:
            return Decided(BegunBefore(view.executed.run_id, None), "LEASE-23", replayed=True)
        return None

    def _next(self, draft: Draft, acquire: lease_.Acquire) -> Decided[BeginOutcome] | Refused:
        step = inbox.walk(draft.session, draft.runs, draft.ready, draft.now_ms)
        match step:
            case inbox.Wait():
                decided = draft.decided(NothingDue(None), "INBOX-14")
                after = _session_after(decided, draft.session)
                nothing = NothingDue(after.due_at_ms, after.sweep)
                return replace_outcome(decided, nothing)
            case inbox.TakeUp(run):
                draft.writes.append(
                    Insert(
                        Executed(self.session_id, self.lease_id, "begin", draft.now_ms, run.run_id)
                    )
                )
                grant(draft, acquire, run.run_id)
                run = take_up(draft, run)
                return draft.decided(begun_of(draft.session, run, resumed=True), "INBOX-12")
            case inbox.Form(lane):
                grant(draft, acquire, self.run_id)
                group = inbox.form(draft.ready[lane], self.limit, self.limit_bytes)
                run = bind(draft, group, self.run_id)
                return draft.decided(begun_of(draft.session, run, resumed=False), "INBOX-13")


def _held(refused: Refused, session: Session, now_ms: int) -> Refused:
    """DUE-7: a session can be due under a live lease, for what needs none; whoever looked is told to sweep."""
    holder, due = refused.detail, session.due_at_ms
    if due is None or due > now_ms or not isinstance(holder, lease_.Holder):
        return refused
    swept = lease_.Holder(holder.owner_id, holder.expires_at_ms, sweep=True)
    return Refused(refused.reason, refused.clause, swept)


def _session_after(decided: Decided[BeginOutcome], before: Session) -> Session:
    if not decided.writes:
        return before
    write = decided.writes[0]
    assert isinstance(write, Insert | Update) and isinstance(write.record, Session)
    return write.record


def replace_outcome(decided: Decided[BeginOutcome], outcome: BeginOutcome) -> Decided[BeginOutcome]:
    return Decided(outcome, decided.clause, decided.writes, decided.hints, False, decided.via)
