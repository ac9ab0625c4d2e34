"""Write out, in bounded steps, what marks and clocks have decided already.  Spec: specs/sweep.md."""

from __future__ import annotations

from attrs import frozen

from .. import lease as lease_
from ..event import Happening
from ..inbox import FULL, outdated
from ..indexes import AGED, RAISES
from ..input import Bound
from ..outcome import Decided, Drop, Refusal, Refused
from ..policy import LANES, Lane
from ..queries import Command, First, Reads, read
from ..records import Place, Raise, Run
from ..replace import replace
from .desk import Desk, desk
from .draft import Draft

AGED_MAX = 48  # a lane
RAISES_MAX = 32  # a lane
PROMOTED_MAX = 96


@frozen
class Swept:
    """How many inputs were ended and promoted; `more`: sweep again."""

    ended: int
    promoted: int
    more: bool


@frozen
class Attic(Desk):
    aged_users: tuple[Place, ...]
    aged_systems: tuple[Place, ...]
    raises_users: tuple[Raise, ...]
    raises_systems: tuple[Raise, ...]


@frozen
class Sweep(Command[Attic, Swept]):
    """End a lease that is over, what older marks superseded, and promote what is due; at most 256 rows.

    Executed again it is a new, monotone step.  Refusals: UNKNOWN_SESSION.
    """

    session_id: str

    def reads(self) -> Reads[Attic]:
        s = self.session_id
        return read(
            Attic,
            *desk(s, delayed=PROMOTED_MAX + AGED_MAX * 2 + 1),
            First(AGED, (s, Lane.USER), AGED_MAX),
            First(AGED, (s, Lane.SYSTEM), AGED_MAX),
            First(RAISES, (s, Lane.USER), RAISES_MAX),
            First(RAISES, (s, Lane.SYSTEM), RAISES_MAX),
        )

    def decide(self, view: Attic, now_ms: int) -> Decided[Swept] | Refused:
        session = view.session
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "SWEEP-1", self.session_id)
        draft = Draft.on(view, session, now_ms, "sweep")
        lease = session.lease
        if isinstance(lease, lease_.Held):
            outcome = lease_.step(lease, lease_.End(now_ms))
            if not isinstance(outcome, Refused):
                draft.lose_lease(outcome)
        ended, left = 0, False
        if session.sweep:
            aged = {Lane.USER: view.aged_users, Lane.SYSTEM: view.aged_systems}
            raises = {Lane.USER: view.raises_users, Lane.SYSTEM: view.raises_systems}
            for lane in LANES:
                count, more = sweep_lane(draft, lane, aged[lane], raises[lane])
                ended, left = ended + count, left or more
            draft.session = replace(draft.session, sweep=left)
        promoted = draft.promote(PROMOTED_MAX) if session.phase in FULL else 0
        more = left or promoted == PROMOTED_MAX
        return draft.decided(Swept(ended, promoted, more), "SWEEP-2")


def sweep_lane(
    draft: Draft, lane: Lane, aged: tuple[Place, ...], raises: tuple[Raise, ...]
) -> tuple[int, bool]:
    """SWEEP-3, SWEEP-4, SWEEP-6: the first raise above a row's mark says how it ends; one run as a whole at a time."""
    session = draft.session
    ended, kept_mark, run_swept = 0, None, False
    for place in aged:
        mark = getattr(place.state, "mark", None)
        if mark is None or mark >= session.mark(lane):
            break
        raised = next((r for r in raises if r.mark > mark), None)
        if raised is None:
            return ended, True
        if not isinstance(place.state, Bound):
            draft.end_place(place, raised.how, raised.by)
            draft.say(Happening.INPUT_ENDED, None, (place.input_id,), raised.how.value)
            ended += 1
            continue
        run = draft.runs.get(place.state.run_id)
        if run is None:
            continue  # ended in this very sweep
        if _kept(draft, run):
            kept_mark = mark if kept_mark is None else min(mark, kept_mark)
        elif run_swept:
            return ended, True
        else:
            run_swept = True
            draft.end_cancelled(run, raised.how, raised.by)
            ended += len(run.contributors)
    else:
        if len(aged) == AGED_MAX:
            return ended, True
    return ended, _drop_raises(draft, lane, raises, kept_mark)


def _kept(draft: Draft, run: Run) -> bool:
    """SWEEP-5: the run under the lease and the open turn end their inputs themselves."""
    return not outdated(draft.session, run) or draft.session.lease_run == run.run_id


def _drop_raises(
    draft: Draft, lane: Lane, raises: tuple[Raise, ...], kept_mark: int | None
) -> bool:
    """SWEEP-7: a raise is dropped when nothing older than it is left."""
    for raised in raises:
        if kept_mark is None or raised.mark <= kept_mark:
            draft.writes.append(Drop(Raise, (draft.session.session_id, lane, raised.mark)))
    return len(raises) == RAISES_MAX and kept_mark is None
