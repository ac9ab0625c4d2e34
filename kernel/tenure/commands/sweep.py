"""Write out, in bounded steps, what marks and clocks have decided already.  Spec: specs/sweep.md."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from ..event import Happening
from ..indexes import AGED, RAISES
from ..machines import lease as lease_
from ..machines.input import Bound
from ..outcome import Decided, Drop, Refusal, Refused
from ..policy import LANES, Lane
from ..queries import Command, First, Reads, read
from ..records import Place, Raise, Run
from ..replace import replace
from ..scheduling import FULL, GROUP_MAX, outdated
from .session_view import Desk, desk
from .transaction import Draft

AGED_READ = GROUP_MAX + 32  # a lane; a run that goes on keeps at most a group of old rows in front
RAISES_READ = 32  # a lane
PROMOTED_MAX = 192
ROWS_MAX = 240  # what one sweep writes, but for the session's own


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
            *desk(s, delayed=ROWS_MAX + 1),
            First(AGED, (s, Lane.USER), AGED_READ),
            First(AGED, (s, Lane.SYSTEM), AGED_READ),
            First(RAISES, (s, Lane.USER), RAISES_READ),
            First(RAISES, (s, Lane.SYSTEM), RAISES_READ),
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
        room = min(PROMOTED_MAX, ROWS_MAX - len(draft.writes))
        promoted = draft.promote(room) if session.phase in FULL else 0
        more = left or promoted == room
        return draft.decided(Swept(ended, promoted, more), "SWEEP-2")


def sweep_lane(
    draft: Draft, lane: Lane, aged: tuple[Place, ...], raises: tuple[Raise, ...]
) -> tuple[int, bool]:
    """SWEEP-3, SWEEP-4, SWEEP-6: marks are raised one by one, so the raise behind a row's mark says how it ends.

    Answers how many ended, and whether something is left.
    """
    session, by_mark = draft.session, {r.mark: r for r in raises}
    ended, kept = 0, None
    for place in aged:
        mark = getattr(place.state, "mark", session.mark(lane))
        if mark >= session.mark(lane):
            break
        run = draft.runs.get(getattr(place.state, "run_id", ""))
        if isinstance(place.state, Bound) and run is None:
            continue  # its run was ended in this very sweep
        if run is not None and _kept(draft, run):
            kept = mark
            continue
        raised = by_mark.get(mark + 1)
        rows = 2 if run is None else 2 * len(run.contributors) + 1
        if raised is None or len(draft.writes) + rows > ROWS_MAX:
            _drop_raises(draft, lane, [r for r in raises if r.mark <= mark], kept)
            return ended, True
        ended += _end(draft, place, run, raised)
    else:
        if len(aged) == AGED_READ:
            return ended, True
    _drop_raises(draft, lane, raises, kept)
    return ended, len(raises) == RAISES_READ


def _end(draft: Draft, place: Place, run: Run | None, raised: Raise) -> int:
    if run is not None:
        draft.end_cancelled(run, raised.how, raised.by)
        return len(run.contributors)
    draft.end_place(place, raised.how, raised.by)
    draft.say(Happening.INPUT_ENDED, None, (place.input_id,), raised.how.value)
    return 1


def _kept(draft: Draft, run: Run) -> bool:
    """SWEEP-5: the run under the lease and the open turn end their inputs themselves."""
    return not outdated(draft.session, run) or draft.session.lease_run == run.run_id


def _drop_raises(draft: Draft, lane: Lane, raises: Sequence[Raise], kept_mark: int | None) -> None:
    """SWEEP-7: a raise is dropped when nothing is left that it ends; a run that goes on may still need its own."""
    for raised in raises:
        if kept_mark is None or raised.mark != kept_mark + 1:
            draft.writes.append(Drop(Raise, (draft.session.session_id, lane, raised.mark)))
