"""Readers of a session on a random walk: pages join, a mirror follows the changes, and no change is ever altered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from check.test_walk import Walk, session_of

from tenure.commands import Acquired, ReleaseSession
from tenure.event import EventKind
from tenure.machines.input import Ended
from tenure.machines.lease import Vacant
from tenure.machines.run import Done
from tenure.outcome import Decided
from tenure.queries import Get
from tenure.questions import changes, path
from tenure.questions.changes import ChangeCursor, InputEnded, LeafMoved, LoadChanges, NodesHidden
from tenure.questions.conversation import EndedInput, LoadConversation, Said
from tenure.questions.core import LoadTranscript
from tenure.questions.graph import FROM_THE_FIRST, Graph
from tenure.questions.path import LoadPage
from tenure.records import Input, Node, QueueEntry, Run
from tenure.replace import replace
from tenure.world import World, ask

SEEDS = range(10)
STEPS = 150


def edit(walk: Walk) -> None:
    """Amend the transcript a few times, if nobody is at work."""
    row = session_of(walk.world)
    if row is None or row.open_run is not None or not isinstance(row.lease, Vacant):
        return
    acquired = walk.execute(walk.generator._acquire("s"))
    if isinstance(acquired, Decided) and isinstance(acquired.outcome, Acquired):
        for _ in range(3):
            row = session_of(walk.world)
            assert row is not None
            walk.execute(walk.generator._amend(row, acquired.outcome.fence, None))
        walk.execute(ReleaseSession("s", acquired.outcome.fence))


def parents(world: World, last: str | None, until: str | None = None) -> list[str]:
    """Return the ids of a path, without those up to `until`."""
    found: list[str] = []
    while last is not None and last != until:
        found.append(last)
        node = world.answer(Get(Node, ("s", last)))
        assert node is not None
        last = node.parent
    assert last == until, f"{until} is not on the path"
    return found[::-1]


class Mirror:
    """A reader that knows only changes and the nodes that they name."""

    def __init__(self) -> None:
        self.cursor = ChangeCursor()
        self.told: list[Any] = []
        self.path: list[str] = []

    def follow(self, world: World, limit: int) -> None:
        more = True
        while more:
            page = ask(LoadChanges("s", self.cursor, limit), world.answer)
            assert page is not None and page.complete
            for change in page.changes:
                self.told.append(change)
                if isinstance(change, LeafMoved):
                    keep = change.keep if change.keep in self.path else None  # another branch
                    kept = 0 if keep is None else self.path.index(keep) + 1
                    self.path[kept:] = parents(world, change.leaf, keep)
            self.cursor, more = page.after, page.more


def mirrored(walk: Walk, mirror: Mirror) -> None:
    """The mirror has the path of the leaf, and was told of every end and of nothing else."""
    world, row = walk.world, session_of(walk.world)
    assert row is not None
    mirror.follow(world, walk.dice.choice((1, 3, 64)))
    assert mirror.path == parents(world, None if row.leaf is None else row.leaf.node_id)
    assert mirror.cursor.event == row.next_event - 1
    ended = {e.input_id: e.state for e in world.all(QueueEntry) if isinstance(e.state, Ended)}
    told = [change for change in mirror.told if isinstance(change, InputEnded)]
    for one in told:
        assert ended[one.input_id].how is one.how, one
    hidden = {i for c in mirror.told if isinstance(c, NodesHidden) for i in c.node_ids}
    assert hidden >= {n.node_id for n in world.all(Node) if n.hidden_at_ms is not None}


def altered(walk: Walk, mirror: Mirror) -> None:
    """Who reads all changes again is told the same."""
    again = Mirror()
    again.follow(walk.world, 64)
    assert again.told == mirror.told


def visible_ids(world: World) -> list[str]:
    return [line.node.node_id for line in ask(LoadTranscript("s"), world.answer)]


def pages(world: World, limit: int) -> None:
    """Pages of the path join to the path, in both directions."""
    expected, found = visible_ids(world), list[str]()
    page = ask(LoadPage("s", limit=limit), world.answer)
    while page is not None:
        found[:0] = [line.node.node_id for line in page.lines]
        page = (
            None
            if page.before is None
            else ask(LoadPage("s", page.before, limit=limit), world.answer)
        )
    assert found == expected
    if not expected:
        return
    found = expected[:1]
    page = ask(LoadPage("s", after=expected[0], limit=limit), world.answer)
    while page is not None:
        found += [line.node.node_id for line in page.lines]
        page = (
            None
            if page.after is None
            else ask(LoadPage("s", after=page.after, limit=limit), world.answer)
        )
    assert found == expected


def graph(world: World, limit: int) -> None:
    """The graph has every node once, in the order of writing."""
    found: list[Node] = []
    position: tuple[int, str] | None = FROM_THE_FIRST
    while position is not None:
        page = ask(Graph("s", position, limit, hidden=True), world.answer)
        found += page.nodes
        position = page.after
    assert sorted(found, key=lambda node: node.node_id) == list(world.all(Node))
    numbers = [node.seq or 0 for node in found]
    assert numbers == sorted(numbers)


def conversation(world: World, limit: int) -> None:
    """Pages of the conversation have the path and every input that ended without an answer, each once."""
    found: list[Any] = []
    page = ask(LoadConversation("s", limit=limit), world.answer)
    while page is not None:
        found[:0] = page.items
        page = (
            None
            if page.before is None
            else ask(LoadConversation("s", page.before, limit), world.answer)
        )
    said = [item.node.node_id for item in found if isinstance(item, Said) and not item.provisional]
    shown = [line.node for line in ask(LoadTranscript("s"), world.answer)]
    assert said == [node.node_id for node in shown if node.form != "inputs"]
    assert not [item for item in found if isinstance(item, Said) and item.node.hidden]
    named = [item.input.input_id for item in found if isinstance(item, EndedInput)]
    assert len(set(named)) == len(named)
    assert set(named) >= unanswered(world)


def unanswered(world: World) -> set[str]:
    """Return the inputs that ended and were put into no transcript, as their rows say."""
    runs = {run.run_id: run for run in world.all(Run)}
    found = set()
    for entry in world.all(QueueEntry):
        state = entry.state
        if isinstance(state, Ended) and world.answer(Get(Input, ("s", entry.input_id))):
            run = runs.get(state.run_id or "")
            written = run is not None and isinstance(run.state, Done) and run.tip is not None
            if state.how != "consumed" or not written:
                found.add(entry.input_id)
    return found


def walked(seed: int) -> None:
    walk, mirror = Walk(seed), Mirror()
    for at in range(STEPS):
        walk.wait()
        walk.execute(walk.generator.send(walk.now_ms))
        if walk.dice.random() < 0.1:
            edit(walk)
        if at % 3 == 0 and session_of(walk.world) is not None:
            mirrored(walk, mirror)
    if session_of(walk.world) is None:
        return
    mirrored(walk, mirror)
    altered(walk, mirror)
    for limit in (1, 3, 256):
        pages(walk.world, limit)
        graph(walk.world, limit)
        conversation(walk.world, limit)


def test_readers_see_what_was_committed() -> None:
    for seed in SEEDS:
        walked(seed)


def amends_are_not_told(patch: pytest.MonkeyPatch) -> None:
    moved = changes.LoadChanges._moved

    def _moved(self: LoadChanges, session: Any, batch: Any, number: int, told: Any) -> Any:
        if told.kind is EventKind.AMENDED:
            return None
        return (yield from moved(self, session, batch, number, told))

    patch.setattr(changes.LoadChanges, "_moved", _moved)


def told_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    """A run moves the leaf for readers when it begins to wait, and is told again when it ends."""
    moved = changes.LoadChanges._moved

    def _moved(self: LoadChanges, session: Any, batch: Any, number: int, told: Any) -> Any:
        if told.kind is EventKind.RUN_WAITING:
            told = replace(told, kind=EventKind.RUN_FINISHED)
        return (yield from moved(self, session, batch, number, told))

    patch.setattr(changes.LoadChanges, "_moved", _moved)


def hidden_is_shown(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(path, "on_path", lambda node: node)


@pytest.mark.parametrize("patch", [amends_are_not_told, told_before_the_commit, hidden_is_shown])
def test_the_walk_finds_the_bug(
    patch: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(monkeypatch)

    with pytest.raises((AssertionError, ValueError)):
        for seed in range(40):
            walked(seed)
