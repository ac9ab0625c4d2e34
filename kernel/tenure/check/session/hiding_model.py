"""A small system: a transcript at rest, of which any nodes are hidden and shown, and whose leaf goes anywhere.

The explored worlds of sessions drop nodes, so hiding has a system of its own.  It keeps them and drops everything else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import combinations
from typing import Any, Final

from attrs import frozen

from ... import commands as c
from ...machines.lease import Fence, Owner
from ...outcome import Decided, Refused
from ...queries import Command, Get
from ...records import EventBatch, ExecutedCommand, Node, Session
from ...release import RELEASE, decide_at
from ...replace import replace
from ...transcript import Form, NewNode, Role
from ...world import EMPTY, World, evolve, world_of
from ..explorer import Model
from ..trace import Line
from .snapshot import NOW, S, rows_of, snapshot_of
from .step import Step
from .transcript_properties import TRANSCRIPT_PROPERTIES

__all__ = ["HidingModel", "HidingState"]


FENCE: Final = Fence(S, 1, "l1")
NODES: Final = (
    NewNode(Role.ASSISTANT, "calls", ("c1", "c2")),
    NewNode(Role.TOOL, "one", ("c1",)),
    NewNode(Role.TOOL, "two", ("c2",)),
    NewNode(Role.SYSTEM, "in short", form=Form.COMPACTION),
    NewNode(Role.ASSISTANT, "a note", hidden=True),
    NewNode(Role.ASSISTANT, "an answer"),
)
EXCHANGE: Final = frozenset(("t/0", "t/1", "t/2"))
COMPACTION: Final = "t/3"
IDS: Final = tuple([f"t/{i}" for i in range(len(NODES))])
WHOLE_OR_NOTHING: Final = (
    "a call is hidden and shown with its results, and everything else is accepted"
)
ALL_HIDDEN: Final = "all nodes are hidden"
BROUGHT_BACK: Final = "a hidden compaction is on the path, and what it stood for is shown"


@frozen
class HidingState:
    """The rows, and the properties that the last command has violated."""

    world: World
    broken: tuple[str, ...] = ()


class HidingModel(Model[HidingState]):
    """Every subset of the nodes is hidden, and every subset is shown."""

    name = "hiding"
    description = "nodes of a transcript are hidden and shown"
    always = (WHOLE_OR_NOTHING, *TRANSCRIPT_PROPERTIES)
    sometimes = (ALL_HIDDEN, BROUGHT_BACK)

    def initial(self) -> Iterable[HidingState]:
        world = EMPTY
        acquire = c.Acquire(S, "l1", Owner("w", "w.1"), 1_000_000)
        commands: tuple[Command[Any, Any], ...] = (
            *(c.Open(S), acquire),
            c.Amend(S, "t", FENCE, 0, NODES),
        )
        for command in commands:
            decided = decide_at(RELEASE, command, world.load(command.reads()), NOW)
            assert isinstance(decided, Decided), decided
            world = evolve(world, decided.writes)
        yield HidingState(world)

    def actions(self, state: HidingState) -> Iterator[tuple[Any, HidingState]]:
        revision = rows_of(state.world, Session)[(S,)].revision
        for size in range(len(IDS) + 1):
            for ids in combinations(IDS, size):
                yield self._after(state, c.Amend(S, "a", FENCE, revision, hide=ids))
                yield self._after(state, c.Amend(S, "a", FENCE, revision, show=ids))
        for node_id in (None, *IDS):
            back = c.Rewind(node_id)
            yield self._after(state, c.Amend(S, "a", FENCE, revision, rewind=back))

    def _after(self, state: HidingState, command: c.Amend) -> tuple[Any, HidingState]:
        decided: Any = decide_at(RELEASE, command, state.world.load(command.reads()), NOW)
        named = EXCHANGE & {*command.hide, *command.show}
        whole = command.rewind is not None or named in (frozenset(), EXCHANGE)
        if isinstance(decided, Refused):
            refused = command.rewind is not None or not whole
            return command, replace(state, broken=() if refused else (WHOLE_OR_NOTHING,))
        world = evolve(state.world, decided.writes)
        step = Step(snapshot_of(0, state.world), snapshot_of(0, world), command, decided)
        broken = [name for name, holds in TRANSCRIPT_PROPERTIES.items() if not holds(step)]
        return command, HidingState(world, (*broken, *(() if whole else (WHOLE_OR_NOTHING,))))

    def describe(self, label: Any) -> Line:
        words = [f"hide {', '.join(label.hide)}"] if label.hide else []
        words += [f"show {', '.join(label.show)}"] if label.show else []
        return Line("editor", " ".join(words) or f"rewind to {label.rewind}")

    def broken(self, state: HidingState) -> Collection[str]:
        return state.broken

    def seen(self, state: HidingState) -> Collection[str]:
        nodes = rows_of(state.world, Node)
        leaf = rows_of(state.world, Session)[(S,)].leaf
        found = [ALL_HIDDEN] if all(node.hidden for node in nodes.values()) else []
        end = leaf is not None and leaf.node_id == IDS[-1]
        if end and nodes[S, COMPACTION].hidden and not nodes[S, IDS[0]].hidden:
            found.append(BROUGHT_BACK)
        return found

    def finished(self, state: HidingState) -> bool:
        """Return True if everything is shown, and the leaf is the last node."""
        node = state.world.answer(Get(Session, (S,)))
        last = node is not None and node.leaf is not None and node.leaf.node_id == IDS[-1]
        return last and not any(node.hidden for node in rows_of(state.world, Node).values())

    def canonical(self, state: HidingState) -> HidingState:
        """Drop what counts the commands."""
        session = replace(rows_of(state.world, Session)[(S,)], revision=1, next_event=1)
        kept = [
            row
            for kind, rows in state.world.tables.items()
            if kind not in (Session, EventBatch, ExecutedCommand)
            for row in rows.by_key.values()
        ]
        return HidingState(world_of([session, *kept]), state.broken)
