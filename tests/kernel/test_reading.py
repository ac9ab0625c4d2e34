"""Reading a session whose turn was begun by release 1 and ended by this one.  Spec: specs/reading.md."""

from __future__ import annotations

from typing import Any

from tenure.commands import Admit, Begin, Checkpoint, Commit, NewInput
from tenure.machines.lease import Fence, Owner
from tenure.outcome import Decided
from tenure.queries import Command
from tenure.questions import Graph, LeafMoved, LoadChanges
from tenure.release import OLDEST, RELEASE, decide_at
from tenure.transcript import NewNode, Role
from tenure.world import EMPTY, World, ask, evolve

FENCE = Fence("s", 1, "l1")
SAID = (NewNode(Role.ASSISTANT, "said"),)


def after(world: World, active: int, *commands: Command[Any, Any]) -> World:
    for command in commands:
        decided: Any = decide_at(active, command, world.load(command.reads()), 1_000)
        assert isinstance(decided, Decided), decided
        world = evolve(world, decided.writes)
    return world


def test_a_turn_goes_on_with_numbers_after_the_activation() -> None:
    begun = after(
        EMPTY,
        OLDEST,
        Admit("s", (NewInput("i", "prompt", "hello"),)),
        Begin("s", "l1", "r", Owner("w", "1")),
        Checkpoint("s", FENCE, "r", 1, 0, nodes=SAID * 2),
    )
    checkpoint = Checkpoint("s", FENCE, "r", 1, 1, nodes=SAID)
    done = after(begun, RELEASE, checkpoint, Commit("s", FENCE, "r", 1, 2, 0, nodes=SAID))

    page = ask(Graph("s"), done.answer)
    assert [node.seq for node in page.nodes] == [None, None, 2, 3]
    changes = ask(LoadChanges("s"), done.answer)
    assert changes is not None
    moved = next(change for change in changes.changes if isinstance(change, LeafMoved))
    assert (moved.keep, moved.leaf) == (None, page.nodes[-1].node_id)


def test_nothing_is_numbered_while_release_1_is_active() -> None:
    world = after(
        EMPTY,
        OLDEST,
        Admit("s", (NewInput("i", "prompt", "hello"),)),
        Begin("s", "l1", "r", Owner("w", "1")),
        Commit("s", FENCE, "r", 1, 0, 0, nodes=SAID),
    )

    (node,) = ask(Graph("s"), world.answer).nodes
    assert node.seq is None
