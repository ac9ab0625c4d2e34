"""Tests of named states and frames that every store must pass.  Specs: specs/state.md, specs/frame.md."""

from __future__ import annotations

from typing import Any

import pytest

from tenure.check.invariants import Rows, violations
from tenure.commands import (
    Acquire,
    Acquired,
    Amend,
    Amended,
    Begun,
    Checkpoint,
    Commit,
    NewEntry,
    NewState,
    ReleaseSession,
    Switch,
    Switched,
)
from tenure.outcome import Decided, Refusal, Refused
from tenure.questions import LoadFrames, LoadStates
from tenure.questions.retention import PrunePass
from tenure.records import Blob, BlobHolders, EntryKind
from tenure.retention import Keep, PruneKind, Retention
from tenure.transcript import NewNode, Role

from ..stores.base import Store
from .fixtures import ManualClock, Opener, asynchronous, begin, executed, prompt

__all__ = ["StatesConformance"]


A = (NewState("state", "a"), NewState("plan", "a"))
B = (NewState("state", "b"),)
BACK = Switch("", own_path=True)


class StatesConformance:
    """A store keeps every blob that something points to, and drops it with the last pointer (STATE-4, STATE-5)."""

    @pytest.fixture
    def opened(self) -> Opener:
        raise NotImplementedError("see StoreConformance")

    @asynchronous
    async def test_the_holders_of_a_blob_are_its_pointers(self, opened: Opener) -> None:
        store = opened(ManualClock())
        await self._turn(store)
        steps: tuple[dict[str, Any], ...] = (
            {"states": A},
            {"switch": Switch("f")},  # both frames hold the text a
            {"states": B},
            {"switch": Switch("g", inherit=False)},
            {"states": A, "switch": Switch("f")},
            {"switch": Switch("h", own_path=True)},
            {"states": (NewState("plan", None), NewState("state", "e"))},
            {"switch": BACK},
            {"switch": BACK},
            {"states": (NewState("plan", None), NewState("state", None))},
        )
        done = [await self._amend(store, n, **step) for n, step in enumerate(steps)]

        opened_ = [n for n, amended in enumerate(done) if amended.switched is Switched.OPENED]
        assert opened_ == [1, 3, 5]
        assert [done[n].switched for n in (4, 7, 8)] == [
            *(Switched.BACK, Switched.BACK, Switched.CURRENT)
        ]
        assert await store.ask(LoadStates("s")) == ()
        texts = [(s.name, s.text) for s in await store.ask(LoadStates("s", "h"))]
        assert texts == [("state", "e")]
        frames = {f.frame_id: len(f.states) for f in await store.ask(LoadFrames("s"))}
        assert frames == {"": 0, "f": 2, "g": 2, "h": 1}
        rows = await store.dump()
        bodies = {row.digest: row.body for row in rows if isinstance(row, Blob)}
        held = {bodies[row.digest]: row.holders for row in rows if isinstance(row, BlobHolders)}
        assert sorted(bodies.values()) == ["a", "b", "e"]
        assert held == {"a": 3, "b": 1, "e": 1}

    @asynchronous
    async def test_a_pruned_frame_lets_go_of_its_blobs(self, opened: Opener) -> None:
        clock = ManualClock()
        store = opened(clock)
        await self._turn(store)
        steps: tuple[dict[str, Any], ...] = (
            {"states": A, "switch": Switch("f")},
            {"states": B, "switch": Switch("g", inherit=False)},
            {"states": (NewState("plan", "a"),)},
        )
        for n, step in enumerate(steps):
            await self._amend(store, n, **step)
        found = PrunePass("s", Retention(frames=Keep(0)))
        while (step_ := await store.ask(found.question(clock.now_ms))) is not None:
            answer = await executed(store, step_)
            assert isinstance(answer, Decided)
            found = found.after(answer.outcome)

        # two frames, the counts of a and b, and b; the session's row has a
        assert found.rows[PruneKind.FRAMES] == 5
        assert list(violations(await store.ask(Rows("s")))) == []
        rows = await store.dump()
        assert sorted([row.body for row in rows if isinstance(row, Blob)]) == ["a", "e"]
        acquired = await store.execute(Acquire("s", "l", begin("s", 1).owner))
        assert isinstance(acquired, Acquired)
        again = Amend("s", "c", acquired.fence, acquired.revision, switch=Switch("f"))
        refused = await store.execute(again)
        assert isinstance(refused, Refused)
        assert (refused.reason, refused.clause) == (Refusal.PRUNED, "FRAME-12")

    async def _turn(self, store: Store) -> None:
        """Run a turn that leaves an environment, the same text as a state of later commands."""
        await store.execute(prompt("s", 1))
        begun = await store.execute(begin("s", 1))
        assert isinstance(begun, Begun)
        note = (NewEntry(EntryKind.NOTE, "x"),)
        await store.execute(Checkpoint("s", begun.fence, begun.run_id, 1, 0, note, environment="e"))
        said = (NewNode(Role.ASSISTANT, "done"),)
        await store.execute(Commit("s", begun.fence, begun.run_id, 1, 1, 0, nodes=said))

    async def _amend(self, store: Store, n: int, **change: Any) -> Amended:
        """Change the session under a lease of its own, and check all rows."""
        acquired = await store.execute(Acquire("s", f"a{n}", begin("s", 1).owner))
        assert isinstance(acquired, Acquired)
        amended = await store.execute(
            Amend("s", f"c{n}", acquired.fence, acquired.revision, **change)
        )
        assert isinstance(amended, Amended), amended
        await store.execute(ReleaseSession("s", acquired.fence))
        assert list(violations(await store.ask(Rows("s")))) == []
        return amended
