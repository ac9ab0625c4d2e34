"""What must be so of a command and what it changes: who may write, who is granted, what is taken first."""

from __future__ import annotations

from typing import Any

from walk_laws import Laws
from walk_order import BEGINNING, UNFINISHED_MAX, comes_next, live, mark, order, session_of

from tenure.commands import (
    Acquire,
    Amend,
    Begin,
    Begun,
    Checkpoint,
    Commit,
    Destroy,
    Fail,
    Interrupt,
    Interrupted,
    NothingDue,
    Reclaim,
    Release,
    ReleaseSession,
    Renew,
)
from tenure.machines.input import Ended, How
from tenure.machines.lease import Held
from tenure.machines.run import Done, Rescheduled, Running
from tenure.outcome import Decided, Drop, Key, Refusal, Refused, Write
from tenure.policy import KeyScope, Lane
from tenure.queries import Command, Get, Record
from tenure.records import Phase, QueueEntry, Run, Session
from tenure.world import World, key_of

FENCED = (Renew, Checkpoint, Commit, Fail, Release, ReleaseSession, Amend)


def row_of(write: Write) -> tuple[type[Record], Key]:
    if isinstance(write, Drop):
        return write.record, write.key
    kind = write.record.__class__
    return kind, key_of(kind)(write.record)


class Ledger:
    """Checks each step against the rows before it."""

    def __init__(self) -> None:
        self.laws = Laws()
        self.taken_back: set[str] = set()

    def step(
        self, command: Command[Any, Any], decided: Decided[Any], old: World, new: World, now: int
    ) -> None:
        before, after = session_of(old), session_of(new)
        if decided.replayed:
            assert not decided.writes, "a replay writes"
        if not decided.writes:
            return
        assert after is not None, "rows without a session"
        assert len(decided.writes) <= 1_100, f"{len(decided.writes)} writes"
        rows = [row_of(write) for write in decided.writes]
        assert len(set(rows)) == len(rows), "a row is written twice"
        if isinstance(command, Interrupt) and isinstance(decided.outcome, Interrupted):
            self.replaced(command, decided.outcome, after, new)
        if before is None:
            return
        self.marked(before, after, new, now)
        self.written(command, before, after, now)
        self.counted(command, before, old, new)
        if isinstance(command, Begin):
            self.begun(command, decided.outcome, old, new, now)
        if before.phase is Phase.DESTROYED:
            assert after.phase is Phase.DESTROYED, "back from the dead"
        if before.phase not in BEGINNING and after.open_run is None:
            started = {r.run_id for r in new.all(Run)} - {r.run_id for r in old.all(Run)}
            assert not started, f"begun in {before.phase}"

    def refused(self, refused: Refused, world: World, now: int) -> None:
        row = session_of(world)
        if refused.reason in (Refusal.HELD, Refusal.RUN_ACTIVE):
            assert row is not None and live(row.lease, now), f"refused for nobody's sake: {refused}"

    def written(
        self, command: Command[Any, Any], before: Session, after: Session, now: int
    ) -> None:
        """Who may write, and what never falls."""
        was, lease = before.lease, after.lease
        assert after.revision - before.revision in (0, 1), "the revision jumps"
        assert lease.generation - was.generation in (0, 1), "the generation jumps"
        for name in ("user_mark", "system_mark", "next_rank", "next_event", "changed_at_ms"):
            assert getattr(after, name) >= getattr(before, name), f"{name} falls"
        if isinstance(command, FENCED):
            fence = command.fence
            assert isinstance(was, Held), "a write under no lease"
            assert (fence.generation, fence.lease_id) == (was.generation, was.lease_id), "stale"
            assert fence.session_id == before.session_id, "another session's fence"
        if lease.generation > was.generation:
            assert not live(was, now), "two holders"
            assert isinstance(command, Begin | Acquire), "a grant by another command"
        elif isinstance(lease, Held):
            assert isinstance(was, Held) and lease.lease_id == was.lease_id, "granted, but not new"
        elif live(was, now):
            allowed = (*FENCED, Reclaim, Destroy)
            assert isinstance(command, allowed), "a live lease is ended by somebody else"

    def counted(self, command: Command[Any, Any], before: Session, old: World, new: World) -> None:
        """What is tried again has been through one thing more, unless something was recorded or it is to be closed."""
        after = {run.run_id: run for run in new.all(Run)}
        for run in old.all(Run):
            now = after.get(run.run_id)
            closing = before.cancel is not None and before.cancel.run_id == run.run_id
            taken_back = run.mark != mark(before, run.lane)  # and left to Sweep
            if now is None or closing or taken_back or not isinstance(run.state, Running):
                continue
            if not isinstance(now.state, Rescheduled) or isinstance(command, Release | Destroy):
                continue
            if isinstance(command, Fail):
                assert now.retry != run.retry, f"not counted: {now}"
            elif not run.state.recorded:
                assert now.retry.losses == run.retry.losses + 1, f"not counted: {now}"

    def marked(self, before: Session, after: Session, world: World, now: int) -> None:
        """What a mark takes back while nobody works on it is never consumed."""
        progress = {r.run_id for r in world.all(Run) if r.progress}
        working = after.lease_run if live(after.lease, now) else None
        for place in world.all(QueueEntry):
            state = place.state
            if isinstance(state, Ended):
                if place.input_id in self.taken_back:
                    assert state.how is not How.CONSUMED, f"taken back, and consumed: {place}"
            elif getattr(state, "mark", 0) < mark(after, place.lane) > mark(before, place.lane):
                run_id = getattr(state, "run_id", None)
                if run_id is None or (run_id not in progress and run_id != working):
                    self.taken_back.add(place.input_id)

    def replaced(
        self, command: Interrupt, outcome: Interrupted, row: Session, world: World
    ) -> None:
        """What stands for the replacement is not what the interrupt takes back, unless its key is retained."""
        policy = None if command.replacement is None else command.replacement.rules()
        if command.replacement is None or policy is None or policy.key_scope is KeyScope.RETAINED:
            return
        assert outcome.replacement is not None, "no receipt"
        found = outcome.replacement
        place = world.answer(Get(QueueEntry, (row.session_id, found.input_id)))
        assert place is not None, "a receipt for nothing"
        if found.input_id != command.replacement.input_id and place.lane is Lane.USER:
            state = place.state
            assert isinstance(state, Ended) or state.mark == row.user_mark, f"lost: {place}"

    def begun(self, command: Begin, outcome: object, old: World, new: World, now: int) -> None:
        """Of what is there once lapsed leases have ended and what is due is ready, the first is taken."""
        row = session_of(new)
        assert row is not None
        runs = {r.run_id: r for r in old.all(Run)}
        after = {r.run_id: r for r in new.all(Run)}
        places = {p.input_id: p for p in new.all(QueueEntry)}
        if not isinstance(outcome, Begun):
            assert isinstance(outcome, NothingDue), outcome
            left = [r for r in after.values() if not isinstance(r.state, Done)]
            step = comes_next(row, left, list(places.values()), now)
            assert step is None or isinstance(step, int), f"nothing due, but {step}"
            assert outcome.due_at_ms == row.due_at_ms, "another due time than the row's"
            return
        taken = after[outcome.run_id]
        if row.open_run is not None:
            assert row.open_run == taken.run_id, "an open turn is overtaken"
            return
        others = [
            r for r in after.values() if not isinstance(r.state, Done) and r.run_id != taken.run_id
        ]
        place = (taken.contributors[0].priority, taken.contributors[0].rank)
        for priority, rank, each in order(row, others, places.values()):
            if (priority, rank) >= place:
                break
            assert isinstance(each, Run) or len(others) >= UNFINISHED_MAX, f"overtook {each}"
            if isinstance(each, Run):
                state = each.state
                assert isinstance(state, Rescheduled) and state.due_at_ms is not None, each
                assert state.due_at_ms > now and not each.hold and not state.hold_all, each
        if taken.run_id in runs:
            return
        assert outcome.inputs == tuple([c.input_id for c in taken.contributors])
        assert len(taken.contributors) <= min(command.limit, 64), "too many are grouped"
        standing = [(c.priority, c.rank) for c in taken.contributors]
        assert standing == sorted(standing), "a group out of order"
