"""Take inputs back that no run has worked on.  Spec: specs/inbox.md."""

from __future__ import annotations

from attrs import frozen

from .. import scheduling as inbox
from ..event import Happening
from ..indexes import AGED
from ..machines import input as input_
from ..machines import lease as lease_
from ..machines import run as run_
from ..outcome import Decided, Insert, Refusal, Refused, Update
from ..policy import Lane
from ..queries import Command, First, Get, Reads, read
from ..records import Executed, Place, Run, Session
from ..replace import replace
from .executed import misused
from .session_view import Desk, desk
from .settle import place_of
from .transaction import Draft

WITHDRAWN_MAX = 256
ROWS_MAX = 240  # an input with an open key is two of them; besides the session's own, and runs that lose one
BOUND_RUNS_MAX = 8


@frozen
class Withdrawn:
    input_id: str


@frozen
class Counted:
    """How many were withdrawn, and whether more may be behind: ask again with another command id."""

    count: int
    more: bool


@frozen
class Slip(Desk):
    place: Place | None


@frozen
class Withdraw(Command[Slip, Withdrawn]):
    """Take one input back.  Touches a handful of rows.  Refusals: UNKNOWN_INPUT, ENDED, BOUND."""

    session_id: str
    command_id: str
    input_id: str

    def reads(self) -> Reads[Slip]:
        s = self.session_id
        return read(Slip, *desk(s, ready=2, delayed=2), Get(Place, (s, self.input_id)))

    def decide(self, view: Slip, now_ms: int) -> Decided[Withdrawn] | Refused:
        session, place = view.session, view.place
        if session is None or place is None:
            return Refused(Refusal.UNKNOWN_INPUT, "INBOX-20", self.input_id)
        state, answer = place.state, Withdrawn(self.input_id)
        if isinstance(state, input_.Ended):
            if state.how is input_.How.WITHDRAWN and state.by == self.command_id:
                return Decided(answer, "INBOX-21", replayed=True)
            return Refused(Refusal.ENDED, "INBOX-22", state)
        runs = {run.run_id: run for run in view.runs}
        run = runs.get(getattr(state, "run_id", ""))
        if inbox.effective(session, place, run) == "superseded":
            return Refused(Refusal.ENDED, "INBOX-22", input_.Ended(input_.How.SUPERSEDED, "mark"))
        if refused := misused("withdraw", self.command_id, None):
            return refused
        draft = Draft.on(view, session, now_ms, self.command_id)
        if run is None:
            draft.end_place(place, input_.How.WITHDRAWN, self.command_id)
        elif not withdraw_bound(draft, run, self.input_id, self.command_id):
            return Refused(Refusal.BOUND, "INBOX-23", run.run_id)
        draft.say(Happening.INPUT_ENDED, None, (self.input_id,), "withdrawn")
        return draft.decided(answer, "INBOX-24")


def withdraw_bound(draft: Draft, run: Run, input_id: str, by: str) -> bool:
    """INBOX-23, INBOX-25: out of a run without progress that no live lease works on; the last one ends the run.

    The run's own lease, if it is over, ends in the same transaction; another run's is left alone.
    """
    session, lease = draft.session, draft.session.lease
    if run.progress:
        return False
    if isinstance(lease, lease_.Held) and session.lease_run == run.run_id:
        outcome = lease_.step(lease, lease_.End(draft.now_ms))
        if isinstance(outcome, Refused):
            return False
        if len(run.contributors) == 1:  # nothing is left that a loss or a cancel could end instead
            draft.say(Happening.LEASE_LOST, run.run_id, detail=str(lease.generation))
            draft.vacate(outcome)
            return _take_out(draft, run, input_id, by)
        draft.lose_lease(outcome)
        lost = draft.runs.get(run.run_id)
        if lost is None:  # that was one loss too many: its inputs have ended
            return _after_loss(draft, input_id, by)
        run = lost
    return _take_out(draft, run, input_id, by)


def _take_out(draft: Draft, run: Run, input_id: str, by: str) -> bool:
    rest = tuple([c for c in run.contributors if c.input_id != input_id])
    position = next(i for i, c in enumerate(run.contributors) if c.input_id == input_id)
    gone = run.contributors[position]
    bound = input_.Bound(run.mark, run.run_id, position, gone.rank, gone.open_key)
    state = draft.took(input_.step(bound, input_.End(input_.How.WITHDRAWN, by)))
    draft.writes.append(Update(place_of(run, gone, state)))
    draft.free(gone.open_key, run.lane, run.mark)
    if rest:
        draft.write_run(replace(run, contributors=rest))
        return True
    done = draft.took(run_.step(run.state, run_.Finish(run_.Termination.CANCELLED, "withdrawn")))
    draft.write_run(replace(run, contributors=(), state=done))
    draft.forget(run)
    draft.say(Happening.RUN_FINISHED, run.run_id, (input_id,), "cancelled: withdrawn")
    return True


def _after_loss(draft: Draft, input_id: str, by: str) -> bool:
    """The lease that had to end took the run with it: split gives the input back ready, anything else ended it."""
    for places in draft.ready.values():
        for place in places:
            if place.input_id == input_id:
                draft.writes = [w for w in draft.writes if w.record != place]
                draft.end_place(place, input_.How.WITHDRAWN, by)
                return True
    return False


# -- from an input on


@frozen
class Suffix(Desk):
    place: Place | None
    executed: Executed | None
    latest: tuple[Place, ...]


@frozen
class WithdrawFrom(Command[Suffix, Counted]):
    """Take back an input and all that its lane admitted after it, backwards, at most 240 rows a command.

    What a run works on or has made progress with stays.  Refusals: UNKNOWN_INPUT.
    """

    session_id: str
    command_id: str
    input_id: str
    lane: Lane = Lane.USER

    def reads(self) -> Reads[Suffix]:
        s = self.session_id
        return read(
            Suffix,
            *desk(s, ready=WITHDRAWN_MAX + 1, delayed=WITHDRAWN_MAX + 1),
            Get(Place, (s, self.input_id)),
            Get(Executed, (s, self.command_id)),
            First(AGED, (s, self.lane), WITHDRAWN_MAX, backwards=True),
        )

    def decide(self, view: Suffix, now_ms: int) -> Decided[Counted] | Refused:
        session, place, executed = view.session, view.place, view.executed
        if refused := misused("withdraw_from", self.command_id, executed):
            return refused
        if executed is not None:
            answer = Counted(executed.counts[0], executed.flag)
            return Decided(answer, "INBOX-26", replayed=True)
        if session is None or place is None or place.lane is not self.lane:
            return Refused(Refusal.UNKNOWN_INPUT, "INBOX-20", self.input_id)
        draft = Draft.on(view, session, now_ms, self.command_id)
        taken, more = self._take(draft, session, place.seq, view.latest)
        if taken:
            draft.say(Happening.INPUT_ENDED, None, tuple(taken), "withdrawn")
        draft.writes.append(
            Insert(
                Executed(
                    self.session_id, self.command_id, "withdraw_from", now_ms,
                    counts=(len(taken),), flag=more,
                )
            )
        )  # fmt: skip
        return draft.decided(Counted(len(taken), more), "INBOX-27")

    def _take(
        self, draft: Draft, session: Session, seq: int, latest: tuple[Place, ...]
    ) -> tuple[list[str], bool]:
        taken: list[str] = []
        rewritten: set[str] = set()
        for place in latest:
            if place.seq < seq:
                return taken, False
            if len(draft.writes) + 2 > ROWS_MAX:
                return taken, True
            run = draft.runs.get(getattr(place.state, "run_id", ""))
            if inbox.effective(session, place, run) == "superseded":
                continue
            if isinstance(place.state, input_.Bound):
                if run is None:
                    continue
                rewritten.add(run.run_id)
                if len(rewritten) > BOUND_RUNS_MAX:
                    return taken, True
                if draft.session.lease_run == run.run_id:
                    continue  # its holder, or the next Begin, is to say what became of it
                if not withdraw_bound(draft, run, place.input_id, self.command_id):
                    continue
            else:
                draft.end_place(place, input_.How.WITHDRAWN, self.command_id)
            taken.append(place.input_id)
        return taken, len(latest) == WITHDRAWN_MAX and bool(taken)
