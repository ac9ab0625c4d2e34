"""Take a session, and what comes next in it; or only the session.  Spec: specs/lease.md, specs/inbox.md."""

from __future__ import annotations

from typing import TypeAlias

from attrs import frozen

from .. import inbox
from .. import input as input_
from .. import lease as lease_
from .. import run as run_
from ..event import Happening
from ..outcome import Decided, Insert, Refusal, Refused, Update
from ..queries import Command, Get, Reads, read
from ..records import Cancel, Contributor, Executed, Phase, Place, Run, Session
from ..replace import replace
from ..transcript import Tip
from .draft import Desk, Draft, desk
from .legal import illegal_id

LIMIT_DEFAULT = 8
PROMOTED_MAX = 8
TTL_MS_DEFAULT = 30_000
TTL_MS_MAX = 86_400_000


@frozen
class Begun:
    """The fence, for `ttl_ms` from the moment the command was first sent, and the run to carry out."""

    fence: lease_.Fence
    ttl_ms: int
    run_id: str
    turn: int
    n: int  # the checkpoint expected next
    revision: int
    leaf: Tip | None
    inputs: tuple[str, ...]
    resumed: bool  # the journal may hold something
    cancel: Cancel | None = None  # resumed only to be closed
    held: bool = True


@frozen
class NothingDue:
    """Nothing to begin.  `sweep`: there is something for Sweep to write out, do that and ask again."""

    due_at_ms: int | None
    sweep: bool = False


@frozen
class BegunBefore:
    """A replay: this Begin was carried out, and its lease has ended since."""

    run_id: str | None
    termination: str | None  # None: the run is not done
    held: bool = False


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
            *desk(s, ready=min(self.limit, inbox.GROUP_MAX) + 1, delayed=PROMOTED_MAX + 1),
            Get(Run, (s, self.run_id)),
            Get(Executed, (s, self.lease_id)),
        )

    def decide(self, view: Bench, now_ms: int) -> Decided[BeginOutcome] | Refused:
        session = view.session
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "LEASE-20", self.session_id)
        replay = self._replay(view, session)
        if replay is not None:
            return replay
        if problem := illegal_grant(self.lease_id, self.ttl_ms):
            return Refused(Refusal.ILLEGAL, "LEASE-21", problem)
        if problem := illegal_id("run_id", self.run_id):
            return Refused(Refusal.ILLEGAL, "LEASE-21", problem)
        if session.phase in (Phase.STOPPED, Phase.DESTROYED):
            return Refused(Refusal.PHASE, "PHASE-3", session.phase.value)
        draft = Draft.on(view, session, now_ms, self.lease_id)
        refused = end_lapsed(draft, self._acquire(now_ms))
        if refused is not None:
            return refused
        if session.phase in inbox.FULL:
            draft.promote(PROMOTED_MAX)
        return self._next(draft)

    def _acquire(self, now_ms: int) -> lease_.Acquire:
        return lease_.Acquire(self.lease_id, self.owner, self.ttl_ms, now_ms)

    def _replay(self, view: Bench, session: Session) -> Decided[BeginOutcome] | None:
        lease = session.lease
        if isinstance(lease, lease_.Held) and lease.lease_id == self.lease_id:
            run = next((r for r in view.runs if r.run_id == session.lease_run), None)
            if run is not None:
                begun = begun_of(session, run, resumed=run.progress or run.n > 0)
                return Decided(begun, "LEASE-22", replayed=True)
            return Decided(BegunBefore(None, None, held=True), "LEASE-22", replayed=True)
        if view.known is not None:
            state = view.known.state
            termination = state.termination.value if isinstance(state, run_.Done) else None
            return Decided(BegunBefore(self.run_id, termination), "LEASE-23", replayed=True)
        if view.executed is not None:
            return Decided(BegunBefore(view.executed.run_id, None), "LEASE-23", replayed=True)
        return None

    def _next(self, draft: Draft) -> Decided[BeginOutcome] | Refused:
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
                grant(draft, self._acquire(draft.now_ms), run.run_id)
                run = take_up(draft, run)
                return draft.decided(begun_of(draft.session, run, resumed=True), "INBOX-12")
            case inbox.Form(lane):
                grant(draft, self._acquire(draft.now_ms), self.run_id)
                group = inbox.form(draft.ready[lane], self.limit, self.limit_bytes)
                run = bind(draft, group, self.run_id)
                return draft.decided(begun_of(draft.session, run, resumed=False), "INBOX-13")


# -- shared with Commit(NEXT) and Acquire


def illegal_grant(lease_id: str, ttl_ms: int) -> str | None:
    if not 0 <= ttl_ms <= TTL_MS_MAX:
        return f"ttl_ms {ttl_ms}: 0 to {TTL_MS_MAX}"
    return illegal_id("lease_id", lease_id)


def end_lapsed(draft: Draft, acquire: lease_.Acquire) -> Refused | None:
    """LEASE-3, RUN-7: whoever needs a lease to be over ends it, in its own transaction; a live one refuses."""
    lease = draft.session.lease
    if isinstance(lease, lease_.Vacant):
        return None
    outcome = lease_.step(lease, acquire)
    if isinstance(outcome, Refused):
        return outcome
    draft.via.append(outcome.clause)
    draft.lose_lease(lease_.step(lease, lease_.End(draft.now_ms)))
    return None


def grant(draft: Draft, acquire: lease_.Acquire, run_id: str | None) -> None:
    lease = draft.took(lease_.step(draft.session.lease, acquire))
    draft.session = replace(draft.session, lease=lease, lease_run=run_id)


def take_up(draft: Draft, run: Run) -> Run:
    """INBOX-12: same run, same turn, same contributors, its journal."""
    generation = draft.session.lease.generation
    state = draft.took(run_.step(run.state, run_.TakeUp(generation)))
    taken = replace(run, state=state)
    draft.write_run(taken)
    draft.say(Happening.RUN_RESUMED, run.run_id, detail=str(generation))
    return taken


def bind(draft: Draft, group: tuple[Place, ...], run_id: str) -> Run:
    """INBOX-13: an input is bound to a run once; runs are retried, inputs never go back."""
    first = group[0]
    mark = draft.session.mark(first.lane)
    contributors, hold = [], False
    for position, place in enumerate(group):
        state = place.state
        assert isinstance(state, input_.Ready)
        hold = hold or state.hold
        contributors.append(
            Contributor(
                place.input_id, place.seq, place.priority,
                state.ready_rank, state.size, state.open_key,
            )
        )  # fmt: skip
        bound = draft.took(input_.step(state, input_.Bind(run_id, position, mark)))
        draft.writes.append(
            Update(
                Place(
                    place.session_id, place.input_id, place.seq, place.lane, place.priority, bound
                )
            )
        )
    generation = draft.session.lease.generation
    run = Run(
        draft.session.session_id, run_id, first.lane, mark, hold,
        tuple(contributors), run_.Running(generation),
    )  # fmt: skip
    draft.ready[first.lane] = draft.ready[first.lane][len(group) :]
    draft.write_run(run, new=True)
    draft.say(
        Happening.RUN_STARTED, run_id, tuple([c.input_id for c in contributors]), str(generation)
    )
    return run


def begun_of(session: Session, run: Run, *, resumed: bool) -> Begun:
    lease = session.lease
    assert isinstance(lease, lease_.Held)
    cancel = session.cancel
    return Begun(
        lease_.Fence(session.session_id, lease.generation, lease.lease_id),
        lease.ttl_ms,
        run.run_id,
        run.turn,
        run.n,
        session.revision,
        run.tip or session.leaf,
        tuple([c.input_id for c in run.contributors]),
        resumed,
        cancel if cancel is not None and cancel.run_id == run.run_id else None,
    )


def _session_after(decided: Decided[BeginOutcome], before: Session) -> Session:
    if not decided.writes:
        return before
    write = decided.writes[0]
    assert isinstance(write, Insert | Update) and isinstance(write.record, Session)
    return write.record


def replace_outcome(decided: Decided[BeginOutcome], outcome: BeginOutcome) -> Decided[BeginOutcome]:
    return Decided(outcome, decided.clause, decided.writes, decided.hints, False, decided.via)


# -- only the session


@frozen
class Acquired:
    fence: lease_.Fence
    ttl_ms: int
    revision: int
    leaf: Tip | None
    held: bool = True


@frozen
class Counter(Desk):
    executed: Executed | None


@frozen
class Acquire(Command[Counter, Acquired | BegunBefore]):
    """Take the session without a run, for Amend.  Refusals: UNKNOWN_SESSION, HELD, RUN_ACTIVE, OPEN_TURN, PHASE, ILLEGAL."""

    session_id: str
    lease_id: str
    owner: lease_.Owner
    ttl_ms: int = TTL_MS_DEFAULT

    def reads(self) -> Reads[Counter]:
        return read(
            Counter, *desk(self.session_id), Get(Executed, (self.session_id, self.lease_id))
        )

    def decide(self, view: Counter, now_ms: int) -> Decided[Acquired | BegunBefore] | Refused:
        session = view.session
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "LEASE-20", self.session_id)
        lease = session.lease
        if isinstance(lease, lease_.Held) and lease.lease_id == self.lease_id:
            return Decided(_acquired(session), "LEASE-22", replayed=True)
        if view.executed is not None:
            return Decided(BegunBefore(None, None), "LEASE-23", replayed=True)
        if problem := illegal_grant(self.lease_id, self.ttl_ms):
            return Refused(Refusal.ILLEGAL, "LEASE-21", problem)
        if session.phase in (Phase.STOPPED, Phase.DESTROYED):
            return Refused(Refusal.PHASE, "PHASE-3", session.phase.value)
        draft = Draft.on(view, session, now_ms, self.lease_id)
        acquire = lease_.Acquire(self.lease_id, self.owner, self.ttl_ms, now_ms)
        refused = end_lapsed(draft, acquire)
        if refused is not None:
            return refused
        if draft.session.open_run is not None:
            return Refused(Refusal.OPEN_TURN, "COMMIT-21", draft.session.open_run)
        grant(draft, acquire, None)
        draft.writes.append(Insert(Executed(self.session_id, self.lease_id, "acquire", now_ms)))
        return draft.decided(_acquired(draft.session), "LEASE-24")


def _acquired(session: Session) -> Acquired:
    lease = session.lease
    assert isinstance(lease, lease_.Held)
    fence = lease_.Fence(session.session_id, lease.generation, lease.lease_id)
    return Acquired(fence, lease.ttl_ms, session.revision, session.leaf)
