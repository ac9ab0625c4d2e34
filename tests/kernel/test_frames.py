"""Frames and named states: the limit, what a command reads and writes, and rows of the release before."""

from __future__ import annotations

from typing import Any

import pytest

from tenure.check.invariants import PROPERTIES
from tenure.check.session.snapshot import snapshot_of
from tenure.commands import (
    Acquire,
    Acquired,
    Admit,
    Amend,
    Amended,
    Begin,
    Begun,
    Commit,
    NewInput,
    NewState,
    ReleaseSession,
    Switch,
    Switched,
)
from tenure.frame import FrameStatus
from tenure.limits import FRAMES_MAX, PRUNE_ROWS_MAX, STATES_MAX
from tenure.machines.lease import Owner
from tenure.outcome import Decided, Insert, Refused
from tenure.queries import Command, Each, Get, Named
from tenure.questions import LoadFrames
from tenure.questions.retention import PrunePass
from tenure.records import Blob, Frame, Session
from tenure.release import decide_at
from tenure.retention import Keep, Retention
from tenure.transcript import NewNode, Role, hash_text
from tenure.world import EMPTY, World, ask, evolve

OWNER = Owner("w", "w.1")
EIGHT = tuple([NewState(f"n{n}", str(n)) for n in range(STATES_MAX)])


class Played:
    """A session in the reference model of a store, with how many queries each command asks."""

    def __init__(self) -> None:
        self.world: World = EMPTY
        self.asked = 0
        self.writes = 0
        self.changes = 0

    def answer(self, command: Command[Any, Any]) -> Decided[Any] | Refused:
        self.asked = 0
        reads = command.reads()
        view = reads.view(*[self._ask(query) for query in reads.queries])
        answer = command.decide(view, 1_000)
        self.writes = 0
        if isinstance(answer, Decided):
            self.writes = len(answer.writes)
            self.world = evolve(self.world, answer.writes)
        return answer

    def _ask(self, query: Any) -> Any:
        if isinstance(query, Each):
            return tuple([self._ask(each) for each in query.queries])
        if isinstance(query, Named):
            found = [self._ask(get) for get in query.gets(self._ask(query.get))]
            return tuple([record for record in found if record is not None])
        self.asked += 1
        return self.world.answer(query)

    def do(self, command: Command[Any, Any]) -> Any:
        answer = self.answer(command)
        assert isinstance(answer, Decided), answer
        return answer.outcome

    def amend(self, **change: Any) -> Decided[Any] | Refused:
        self.changes += 1
        name = f"c{self.changes}"
        acquired = self.do(Acquire("s", f"L{name}", OWNER))
        assert isinstance(acquired, Acquired)
        answer = self.answer(Amend("s", name, acquired.fence, acquired.revision, **change))
        cost = self.asked, self.writes
        self.do(ReleaseSession("s", acquired.fence))
        self.asked, self.writes = cost
        return answer

    def turn(self, **change: Any) -> Commit:
        self.changes += 1
        name = f"i{self.changes}"
        self.do(Admit("s", (NewInput(name, "prompt", "hello"),)))
        begun = self.do(Begin("s", f"L{name}", f"r{name}", OWNER))
        assert isinstance(begun, Begun)
        said = (NewNode(Role.ASSISTANT, "hi"),)
        commit = Commit("s", begun.fence, begun.run_id, 1, 0, begun.revision, nodes=said, **change)
        self.do(commit)
        return commit

    def session(self) -> Session:
        found = self.world.answer(Get(Session, ("s",)))
        assert found is not None
        return found

    def broken(self) -> list[str]:
        rows = snapshot_of(0, self.world, 1_000)
        return [name for name, holds in PROPERTIES.items() if not holds(rows)]


def outcome(answer: Decided[Any] | Refused) -> Amended:
    assert isinstance(answer, Decided), answer
    assert isinstance(answer.outcome, Amended)
    return answer.outcome


def test_the_257th_frame_is_refused() -> None:  # FRAME-6
    played = Played()
    played.do(Admit("s", (NewInput("i", "prompt", "hello"),)))
    for n in range(1, FRAMES_MAX):
        assert outcome(played.amend(switch=Switch(f"f{n}"))).switched is Switched.OPENED

    refused = played.amend(switch=Switch("f256"))
    back = played.amend(switch=Switch("f1"))

    assert isinstance(refused, Refused)
    assert (refused.reason.value, refused.clause, refused.detail) == ("full", "FRAME-6", FRAMES_MAX)
    assert outcome(back).switched is Switched.BACK
    assert len(ask(LoadFrames("s"), played.world.answer)) == FRAMES_MAX


def test_a_full_session_is_pruned_in_bounded_steps() -> None:  # RETENTION-3, RETENTION-14
    played = Played()
    played.do(Admit("s", (NewInput("i", "prompt", "hello"),)))
    for n in range(1, FRAMES_MAX):
        own = tuple([NewState(f"n{i}", f"{n} {i}") for i in range(STATES_MAX)])
        played.amend(switch=Switch(f"f{n}", inherit=False), states=own)
    found = PrunePass("s", Retention(frames=Keep(0, 2)))
    rows: list[int] = []
    while (step := ask(found.question(1_000), played.world.answer)) is not None:
        done = played.do(step)
        rows += [done.rows]
        assert played.writes <= PRUNE_ROWS_MAX + 1
        found = found.after(done)

    frames = ask(LoadFrames("s"), played.world.answer)
    kept = {frame.frame_id for frame in frames if frame.status is not FrameStatus.PRUNED}
    assert played.broken() == []
    assert kept == {"f98", "f99", "f255"}  # left at the same time, the ids say which is last
    assert max(rows) <= PRUNE_ROWS_MAX and len(rows) < 25
    refused = played.amend(switch=Switch("f1"))
    assert isinstance(refused, Refused)
    assert (refused.reason.value, refused.clause, refused.detail) == ("pruned", "FRAME-12", "f1")


def test_a_session_in_its_first_frame_is_not_asked_for_frames() -> None:
    played = Played()
    played.turn(state="notes")
    asked: list[int] = []
    for frames in (None, Keep(0)):
        steps = PrunePass("s", Retention(frames=frames)).question(1_000).steps()
        answer, count = None, 0
        try:
            while True:
                answer, count = played.world.answer(steps.send(answer)), count + 1
        except StopIteration:
            asked.append(count)
    assert asked[0] == asked[1]


def test_a_switch_costs_the_same_whatever_a_session_holds() -> None:
    played = Played()
    played.do(Admit("s", (NewInput("i", "prompt", "hello"),)))
    played.amend(states=EIGHT)
    costs = []
    for n in range(1, 100):
        played.amend(switch=Switch(f"f{n}"), states=tuple([NewState(f"n{n % 8}", f"x{n}")]))
        played.amend(switch=Switch(f"f{n // 2 or ''}"))
        costs.append((played.asked, played.writes))
        played.amend(switch=Switch(f"f{n}"))

    assert played.broken() == []
    assert max(costs) == costs[20]
    assert played.writes <= 2 + 2 * STATES_MAX + 3  # frames, holders, session, event, command


@pytest.mark.parametrize("state", [None, "notes"])
def test_an_ordinary_commit_asks_and_writes_as_before(state: str | None) -> None:
    asked, writes = [], []
    for more in (False, True):
        played = Played()
        played.turn(state="before")
        if more:
            played.amend(states=EIGHT[:7])
            played.amend(switch=Switch("f"))
        played.turn(state=state)
        asked.append(played.asked)
        writes.append(played.writes)

    # session, runs, two lanes, delayed, run; the blob of the state
    assert asked == [6 + (state is not None)] * 2
    # session, run, entry, events, node; the new blob and, if no frame holds it, the former one
    assert writes == [5 + 2 * (state is not None), 5 + (state is not None)]


def test_a_blob_that_nothing_names_is_found_and_stays() -> None:
    """A row that no release has written: it must not be taken for the state of a frame."""
    played = Played()
    played.turn(state="a")
    stray = Blob("s", hash_text("b"), "b")
    played.world = evolve(played.world, [Insert(stray)])

    played.turn(state="b")

    assert played.session().current_frame is None
    assert played.broken() == []


def test_frames_wait_for_their_release() -> None:  # SCHEMA-3
    played = Played()
    played.do(Admit("s", (NewInput("i", "prompt", "hello"),)))
    acquired = played.do(Acquire("s", "L", OWNER))
    changes: tuple[dict[str, Any], ...] = (
        {"switch": Switch("f")},
        {"states": EIGHT[:1]},
        {"usage": ()},
    )
    answers = []
    for change in changes:
        command = Amend("s", "c", acquired.fence, 0, **change)
        answers.append(decide_at(1, command, played.world.load(command.reads()), 1_000))

    assert [isinstance(answer, Refused) for answer in answers] == [True, True, False]
    assert {a.reason.value for a in answers if isinstance(a, Refused)} == {"not_active"}


def test_a_bare_name_and_a_switch_to_the_same_name_are_two_commits() -> None:
    played = Played()
    commit = played.turn(frame="planner")
    switched = Commit(
        *("s", commit.fence, commit.run_id, 1, 0, commit.expected_revision),
        nodes=commit.nodes,
        switch=Switch("planner"),
    )

    answer = played.answer(switched)

    assert isinstance(answer, Refused) and answer.clause == "COMMIT-4"
    assert played.session().agent == "planner"
    assert played.world.all(Frame) == ()
