"""Conformance: what questions about a transcript answer (specs/reading.md)."""

from __future__ import annotations

from typing import Any

from tenure.commands import (
    Acquire,
    Acquired,
    Amend,
    Amended,
    Begun,
    Checkpoint,
    Commit,
    Open,
)
from tenure.machines.lease import Owner
from tenure.queries import Question
from tenure.questions import (
    ChangeCursor,
    Graph,
    LoadChanges,
    LoadConversation,
    LoadPage,
    LoadSession,
    LoadTranscript,
    NodeOf,
)
from tenure.transcript import Form, NewNode, Role
from tenure.world import ask, world_of

from ..stores.base import Store
from .fixtures import ManualClock, Opener, asynchronous, begin, prompt

__all__ = ["ReadingConformance"]


class ReadingConformance:
    """What a store answers to questions about paths, nodes, conversations and changes."""

    @asynchronous
    async def test_a_transcript_is_read_as_its_rows_say(self, opened: Opener) -> None:
        store = opened(ManualClock())
        first = await edited(store)

        world = world_of(await store.dump())
        questions: tuple[Question[Any], ...] = (
            *(LoadTranscript("s"), LoadTranscript("s", 2), LoadTranscript("s", compacted=True)),
            *(LoadTranscript("s", leaf=first), LoadPage("s", limit=2), LoadPage("s", "c1/0")),
            *(LoadPage("s", after=first), Graph("s"), Graph("s", hidden=True, limit=3)),
            *(Graph("s", (1, ""), 1), Graph("s", (0, "c"), 1), NodeOf("s", first, hidden=True)),
            *(LoadSession("s"), LoadConversation("s"), LoadConversation("s", (9, first), 1)),
            *(LoadChanges("s"), LoadChanges("s", ChangeCursor(1, 6), 1)),
        )
        for question in questions:
            assert await store.ask(question) == ask(question, world.answer), question
        shown = await store.ask(LoadTranscript("s"))
        assert [line.node.body for line in shown] == ["two", "three"]

    @asynchronous
    async def test_a_question_about_an_unknown_node_answers_nothing(self, opened: Opener) -> None:
        store = opened(ManualClock())
        await store.execute(Open("s"))

        for nobody in ("nobody", "\0", "s\0", "\ud800"):
            assert await store.ask(LoadTranscript("s", leaf=nobody)) == ()
            assert await store.ask(NodeOf("s", nobody)) is None
            assert await store.ask(LoadPage("s", nobody)) is None
            assert await store.ask(LoadPage("s", after=nobody)) is None
            assert (await store.ask(Graph("s", (0, nobody)))).nodes == ()
            assert await store.ask(LoadConversation(nobody)) is None


async def edited(store: Store) -> str:
    """Write a turn of two nodes, add a text and a compaction, and hide one of each; return the id of the first node."""
    await store.execute(prompt("s", 1))
    begun = await store.execute(begin("s", 1))
    assert isinstance(begun, Begun)
    work = (begun.fence, begun.run_id, begun.turn)
    one, two = NewNode(Role.ASSISTANT, "one"), NewNode(Role.ASSISTANT, "two")
    await store.execute(Checkpoint("s", *work, begun.n, nodes=(one,)))
    await store.execute(prompt("s", 2))
    await store.execute(Commit("s", *work, begun.n + 1, begun.revision, nodes=(two,)))
    acquired = await store.execute(Acquire("s", "l9", Owner("tester", "second")))
    assert isinstance(acquired, Acquired)
    first = f"{begun.run_id}:1:0:0"
    nodes = (NewNode(Role.USER, "three"), NewNode(Role.SYSTEM, "four", form=Form.COMPACTION))
    added = await store.execute(Amend("s", "c1", acquired.fence, 1, nodes))
    hidden = await store.execute(Amend("s", "c2", acquired.fence, 2, hide=(first, "c1/1")))
    assert isinstance(added, Amended) and isinstance(hidden, Amended)
    return first
