"""What must be so of the rows of a session, counted by hand."""

from __future__ import annotations

from collections import Counter

from walk_order import UNFINISHED_MAX, due, mark, session_of

from tenure.machines.input import Bound, Delayed, Ended, Ready
from tenure.machines.lease import Held
from tenure.machines.run import Done, Running
from tenure.policy import Lane
from tenure.records import (
    EventBatch,
    Input,
    JournalEntry,
    MarkRaise,
    Node,
    OpenKey,
    Phase,
    QueueEntry,
    Run,
    Session,
)
from tenure.world import World


class Laws:
    """What must be so of any rows; what has ended, got a rank or happened stays so in all that come after."""

    def __init__(self) -> None:
        self.ends: dict[str, Ended] = {}
        self.ranks: dict[str, int] = {}
        self.events: dict[int, EventBatch] = {}

    def check(self, world: World) -> None:
        row = session_of(world)
        if row is None:
            assert not list(world), "rows without a session"
            return
        runs = [r for r in world.all(Run) if not isinstance(r.state, Done)]
        places = list(world.all(QueueEntry))
        self.counts(row, runs, places)
        self.inputs(world, row, runs, places)
        self.lease(row, runs)
        self.history(world, row)
        assert row.due_at_ms == due(row, runs, places), f"due {row.due_at_ms}"

    def counts(self, row: Session, runs: list[Run], places: list[QueueEntry]) -> None:
        ready = Counter(p.lane for p in places if isinstance(p.state, Ready))
        assert row.unfinished_run_count == len(runs) <= UNFINISHED_MAX, "unfinished_run_count"
        assert row.ready_user_count == ready[Lane.USER], "ready_user_count"
        assert row.ready_system_count == ready[Lane.SYSTEM], "ready_system_count"
        assert row.delayed_count == sum(isinstance(p.state, Delayed) for p in places), (
            "delayed_count"
        )

    def inputs(self, world: World, row: Session, runs: list[Run], places: list[QueueEntry]) -> None:
        assert {i.input_id for i in world.all(Input)} == {p.input_id for p in places}, (
            "input, place"
        )
        bound: dict[str, set[str]] = {r.run_id: set() for r in runs}
        ranks: dict[int, str] = {}
        for place in places:
            state = place.state
            if isinstance(state, Ended):
                known = self.ends.setdefault(place.input_id, state)
                assert known == state, f"ended twice: {known}, {state}"
                continue
            assert place.input_id not in self.ends, f"{place.input_id} came back"
            if isinstance(state, Bound):
                assert state.run_id in bound, f"bound to what is over: {place}"
                bound[state.run_id].add(place.input_id)
            if isinstance(state, Delayed):
                continue
            rank = state.rank if isinstance(state, Bound) else state.ready_rank
            assert self.ranks.setdefault(place.input_id, rank) == rank, "another rank"
            assert ranks.setdefault(rank, place.input_id) == place.input_id, "two of a rank"
            assert rank < row.next_rank, "a rank not given yet"
        missing = self.ends.keys() - {p.input_id for p in places}
        assert not missing, f"lost: {missing}"
        for run in runs:
            assert {c.input_id for c in run.contributors} == bound[run.run_id], (
                f"contributors {run}"
            )
        self.keys(world, places)
        self.aged(world, row, places)

    def keys(self, world: World, places: list[QueueEntry]) -> None:
        held = {
            (p.state.open_key, p.lane, p.state.mark, p.input_id)
            for p in places
            if not isinstance(p.state, Ended) and p.state.open_key is not None
        }
        keys = {(k.key_value, k.lane, k.mark, k.input_id) for k in world.all(OpenKey)}
        assert keys == held, f"open keys {keys ^ held}"

    def aged(self, world: World, row: Session, places: list[QueueEntry]) -> None:
        """What a mark has taken back is written out by Sweep, which knows how it ends; or its run goes on."""
        raises = {(r.lane, r.mark) for r in world.all(MarkRaise)}
        kept = {row.open_run, row.lease_run} - {None}
        for place in places:
            state = place.state
            if isinstance(state, Ended) or state.mark == mark(row, place.lane):
                continue
            assert (place.lane, state.mark + 1) in raises, f"nobody says how {place} ends"
            goes_on = isinstance(state, Bound) and state.run_id in kept
            assert row.sweep or goes_on, f"left over: {place}"

    def lease(self, row: Session, runs: list[Run]) -> None:
        running = [r for r in runs if isinstance(r.state, Running)]
        if row.lease_run is not None:
            assert isinstance(row.lease, Held), "a run under no lease"
            assert [r.run_id for r in running] == [row.lease_run], f"running {running}"
            assert isinstance(running[0].state, Running)
            assert running[0].state.generation == row.lease.generation
        else:
            assert not running, f"running without a lease: {running}"
        progress = [r.run_id for r in runs if r.progress]
        assert progress == ([] if row.open_run is None else [row.open_run]), "open turns"
        if row.cancel is not None:
            known = {r.run_id for r in runs}
            assert row.cancel.run_id in known, "a flag for a run that is over"
            if row.phase is not Phase.DESTROYED:
                assert row.cancel.run_id in (row.lease_run, row.open_run), "a flag for nobody"
        if row.phase in (Phase.STOPPED, Phase.DESTROYED):
            assert not isinstance(row.lease, Held) and row.open_run is None, "not at rest"

    def history(self, world: World, row: Session) -> None:
        seq = 1
        for event in world.all(EventBatch):
            assert event.seq == seq, f"a gap before event {event.seq}"
            assert self.events.setdefault(seq, event) == event, "an event was rewritten"
            seq += len(event.events)
        assert row.next_event == seq, "next_event"
        nodes = {n.node_id: n for n in world.all(Node)}
        if row.leaf is not None:
            leaf = nodes[row.leaf.node_id]
            assert not leaf.open_calls and leaf.path_digest == row.leaf.path_digest, leaf
        for node in nodes.values():
            assert node.parent is None or node.parent in nodes, f"no parent: {node}"
        numbers: dict[tuple[str, int], set[int]] = {}
        for entry in world.all(JournalEntry):
            numbers.setdefault((entry.run_id, entry.turn), set()).add(entry.n)
        for (run_id, _), ns in numbers.items():
            assert ns == set(range(len(ns))), f"a gap in the journal of {run_id}"
