"""RUN-24: a run that is rolled back gives back the inputs of lane SYSTEM that it has, and supersedes the others."""

from __future__ import annotations

from typing import Any

import pytest

from tenure.commands import (
    Admit,
    Begin,
    Begun,
    Checkpoint,
    Commit,
    Interrupt,
    NewEntry,
    NewInput,
    Reset,
    Sweep,
)
from tenure.machines.input import Bound, Ended, How, Ready
from tenure.machines.lease import Owner
from tenure.machines.run import Done, Termination
from tenure.outcome import Decided, Update
from tenure.policy import Delivery, Lane
from tenure.queries import Command
from tenure.records import Contributor, EntryKind, QueueEntry, Run, Session
from tenure.replace import replace
from tenure.world import EMPTY, World, evolve

NOW_MS = 1_000


def execute(world: World, command: Command[Any, Any], now_ms: int = NOW_MS) -> tuple[World, Any]:
    answer = command.decide(world.load(command.reads()), now_ms)
    assert isinstance(answer, Decided), answer
    return evolve(world, answer.writes), answer.outcome


def entry_of(world: World, input_id: str) -> QueueEntry:
    return next(e for e in world.all(QueueEntry) if e.input_id == input_id)


def taken_into(world: World, input_id: str) -> World:
    """Bind a ready input of lane SYSTEM to the run of a prompt, as a checkpoint does."""
    entry, (run,), (session,) = entry_of(world, input_id), world.all(Run), world.all(Session)
    state = entry.state
    assert isinstance(state, Ready)
    position = len(run.contributors)
    bound = Bound(state.mark, run.run_id, position, state.ready_rank, state.open_key)
    contributor = Contributor(
        input_id, entry.seq, entry.priority, state.ready_rank, state.size, state.open_key,
        state.delivery, state.barrier, entry.lane, state.mark, state.hold,
    )  # fmt: skip
    more = replace(run, contributors=(*run.contributors, contributor))
    count = replace(session, ready_system_count=session.ready_system_count - 1)
    return evolve(world, [Update(replace(entry, state=bound)), Update(more), Update(count)])


@pytest.fixture
def begun() -> tuple[World, Begun]:
    """A prompt at work, into which two inputs of lane SYSTEM were taken: a wake, and a directive with an open key."""
    world, _ = execute(EMPTY, Admit("s", (NewInput("p", "prompt", "go"),)))
    world, begun = execute(world, Begin("s", "L1", "r", Owner("w", "w.1")))
    wake = NewInput("w", "wake", "done", priority=7)
    directive = NewInput("d", "directive", "refresh", key="tools")
    world, _ = execute(world, Admit("s", (wake, directive)))
    recorded = (NewEntry(EntryKind.REPORT, "look", "42"),)
    world, _ = execute(world, Checkpoint("s", begun.fence, "r", 1, 0, recorded))
    return taken_into(taken_into(world, "w"), "d"), begun


def closed(world: World, begun: Begun) -> World:
    close = Commit("s", begun.fence, "r", 1, 1, 0, Termination.CANCELLED)
    return execute(world, close)[0]


def test_inputs_of_lane_system_are_ready_again_at_their_place(begun: tuple[World, Begun]) -> None:
    world, answer = execute(begun[0], Interrupt("s", "c1", rollback=True))

    world = closed(world, begun[1])

    assert answer.rolled_back
    assert entry_of(world, "p").state == Ended(How.SUPERSEDED, "c1", "r")
    wake, directive = entry_of(world, "w"), entry_of(world, "d")
    assert (wake.lane, wake.priority) == (Lane.SYSTEM, 7)
    assert wake.state == Ready(0, 2, None, False, 4, delivery=Delivery.EARLIEST)
    assert directive.state == Ready(0, 3, None, True, 7, "tools")
    (session,) = world.all(Session)
    assert (session.ready_user_count, session.ready_system_count) == (0, 2)
    (run,) = world.all(Run)
    assert run.state == Done(Termination.ROLLED_BACK, "c1")
    assert session.leaf is None


def test_what_came_back_is_begun_next(begun: tuple[World, Begun]) -> None:
    world, _ = execute(begun[0], Interrupt("s", "c1", rollback=True))
    world = closed(world, begun[1])

    _, again = execute(world, Begin("s", "L2", "r2", Owner("w", "w.1"), exactly=("w",)))

    assert again.inputs == ("w",)


def test_what_a_reset_has_taken_back_meanwhile_does_not_begin(begun: tuple[World, Begun]) -> None:
    world, _ = execute(begun[0], Interrupt("s", "c1", rollback=True))

    world, _ = execute(world, Reset("s", "c2"), NOW_MS + 60_000)  # the lease has lapsed
    world, swept = execute(world, Sweep("s"), NOW_MS + 60_000)

    assert swept.ended == 2
    assert entry_of(world, "p").state == Ended(How.SUPERSEDED, "c1", "r")
    for name in ("w", "d"):
        assert entry_of(world, name).state == Ended(How.ABANDONED, "reset")
