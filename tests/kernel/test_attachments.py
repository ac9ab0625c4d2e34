"""Attachments: what no scenario shows."""

from __future__ import annotations

from typing import Any

from tenure.commands import (
    Admit,
    Begin,
    Begun,
    Checkpoint,
    ClaimScraps,
    Commit,
    Forget,
    Intend,
    NewAttachment,
    NewEntry,
    NewInput,
    Release,
    Renew,
    Sweep,
    Swept,
)
from tenure.limits import INTENT_AGE_MS, INTENTS_MAX
from tenure.machines.lease import Owner
from tenure.outcome import Decided, Refusal, Refused
from tenure.queries import Command, Each, First, Get
from tenure.records import Attachment, EntryKind, Scrap, Session
from tenure.world import EMPTY, World, evolve


def executed(world: World, command: Command[Any, Any], now_ms: int = 1_000) -> tuple[World, Any]:
    answer = command.decide(world.load(command.reads()), now_ms)
    assert isinstance(answer, Decided), answer
    return evolve(world, answer.writes), answer


def new(number: int) -> NewAttachment:
    return NewAttachment(f"a{number}", f"{number:064x}", 1, "text/plain")


def with_run() -> tuple[World, Begun]:
    world, _ = executed(EMPTY, Admit("s", (NewInput("i1", "prompt", "hello"),)))
    world, answer = executed(world, Begin("s", "L1", "r1", Owner("w", "w1")))
    return world, answer.outcome


def full() -> tuple[World, Begun]:
    """A session with as many intents of its run as it may have."""
    world, begun = with_run()
    for first in range(0, INTENTS_MAX, 64):
        some = tuple([new(first + i) for i in range(64)])
        world, _ = executed(world, Intend("s", some, begun.fence, "r1"))
    return world, begun


def test_a_session_has_a_limited_number_of_intents() -> None:  # ATTACH-4
    world, begun = full()
    one_more = Intend("s", (new(999),), begun.fence, "r1")

    answer = one_more.decide(world.load(one_more.reads()), 1_000)

    assert isinstance(answer, Refused)
    assert (answer.reason, answer.clause) == (Refusal.FULL, "ATTACH-4")


def test_sweep_drops_aged_intents_in_steps() -> None:  # ATTACH-30
    world, begun = full()
    world, _ = executed(world, Commit("s", begun.fence, "r1", 1, 0, 0))
    steps = []

    while True:
        world, answer = executed(world, Sweep("s"))
        assert len(answer.writes) <= 66
        steps.append(sum(isinstance(row.state, Scrap) for row in world.all(Attachment)))
        if not answer.outcome.more:
            break

    assert isinstance(answer.outcome, Swept)
    assert steps == [64, 128, 192, 256]
    (session,) = world.all(Session)
    assert (session.due_at_ms, session.intent_count, session.scrap_count) == (None, None, 256)


def test_forgetting_and_claiming_as_many_as_allowed_writes_a_row_for_each() -> None:
    world, _ = full()
    named = tuple([f"a{i}" for i in range(64)])
    world, forgotten = executed(world, Forget("s", named))
    pairs = tuple([(f"a{i}", f"{i:064x}") for i in range(64)])
    _, claimed = executed(world, ClaimScraps("s", "d1", pairs))

    assert (len(forgotten.writes), len(claimed.writes)) == (65, 64)


def test_a_session_whose_last_intent_a_checkpoint_has_attached_is_swept_once() -> None:
    world, begun = with_run()
    world, _ = executed(world, Intend("s", (new(1),)))
    entry = NewEntry(EntryKind.REPORT, "look")
    world, _ = executed(world, Checkpoint("s", begun.fence, "r1", 1, 0, (entry,), attach=("a1",)))
    world, _ = executed(world, Release("s", begun.fence, "r1"))
    (session,) = world.all(Session)
    assert (session.intent_count, session.intents_at_ms) == (None, None)  # Release has settled it

    world, begun = with_run()
    world, _ = executed(world, Intend("s", (new(1),)))
    world, _ = executed(world, Checkpoint("s", begun.fence, "r1", 1, 0, (entry,), attach=("a1",)))
    world, _ = executed(world, Renew("s", begun.fence), INTENT_AGE_MS + 1_000)
    world, _ = executed(world, Sweep("s"), INTENT_AGE_MS + 1_000)

    (session,) = world.all(Session)
    assert (session.intents_at_ms, session.due_at_ms) == (None, INTENT_AGE_MS + 31_001)


def test_without_attachments_a_commit_reads_nothing_for_them() -> None:
    _, begun = with_run()
    reads = Commit("s", begun.fence, "r1", 1, 0, 0).reads()
    asked = [
        query for query in reads.queries if not (isinstance(query, Each) and not query.queries)
    ]

    records = [q.record for q in asked if isinstance(q, Get)]
    records += [q.index.record for q in asked if isinstance(q, First)]
    assert Attachment not in records


def test_a_sweep_of_a_session_without_intents_need_not_look_for_them() -> None:
    queries = [q for q in Sweep("s").reads().queries if isinstance(q, First)]

    (intents,) = [q for q in queries if q.index.record is Attachment]
    assert intents.counted == "intent_count"
