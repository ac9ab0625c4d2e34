"""Triggers are exported, imported, checked, erased and removed as sessions are."""

from __future__ import annotations

import asyncio
import random

from tenure.check.invariants import Rows, violations
from tenure.commands import DeleteTrigger, Sent
from tenure.commands.restore import restoring
from tenure.limits import COMMANDS_FOR_MS_MIN
from tenure.outcome import Decided
from tenure.questions.retention import AllRows, PrunePass
from tenure.records import (
    EventBatch,
    ExecutedCommand,
    Occurrence,
    Outbound,
    Phase,
    PruneProgress,
    Session,
    Subscription,
    Trigger,
)
from tenure.replace import replace
from tenure.retention import Retention
from tenure.world import EMPTY, World, ask, world_of
from tenure_drivers.stores.export import exported, imported
from tenure_drivers.stores.memory import MemoryStore
from tenure_drivers.testing.fixtures import START_MS, decided
from tenure_drivers.testing.trigger_commands import TriggerCommandGenerator


def played(seed: int = 3, steps: int = 300) -> World:
    """Return the rows after many commands on triggers."""
    dice, world, now_ms = random.Random(seed), EMPTY, START_MS
    triggers = TriggerCommandGenerator(dice.choice)
    for _ in range(steps):
        now_ms += dice.choice((0, 1, 400, 2_000))
        command = triggers.send(now_ms)
        answer, world = decided(world, command, now_ms)
        triggers.observe(command, answer)
    return world


def test_an_import_of_an_export_has_the_same_triggers() -> None:
    world = played()
    assert any(True for _ in world.all(Occurrence))
    assert any(True for _ in world.all(Outbound))

    assert world_of(tuple(imported(exported(world)))) == world
    asyncio.run(restore(world))


async def restore(world: World) -> None:
    store = MemoryStore()
    for session in world.all(Session):
        for command in restoring(ask(AllRows(session.session_id), world.answer)):
            await store.execute(command)
    assert world_of(await store.dump()) == world


def test_the_rows_of_triggers_are_checked() -> None:
    world = played()
    for session in world.all(Session):
        rows = ask(Rows(session.session_id), world.answer)
        assert list(violations(rows)) == []
        if session.phase is Phase.DESTROYED:
            continue
        for broken in (
            [row for row in rows if not isinstance(row, Trigger)],
            [replace(r, subscription_count=9) if isinstance(r, Trigger) else r for r in rows],
            [replace(r, next_at_ms=7) if isinstance(r, Trigger) else r for r in rows],
        ):
            assert list(violations(broken)) == [
                "violated: a trigger is due at its next time, and counts its subscriptions"
            ]


def test_a_deleted_trigger_is_erased_and_removed_but_for_its_id() -> None:
    world, now_ms = played(), START_MS + 10_000_000
    for name in [row.session_id for row in world.all(Trigger)]:
        _, world = decided(world, DeleteTrigger(name, "gone", True), now_ms)
        world = pruned(world, name, now_ms + COMMANDS_FOR_MS_MIN // 2)
        for row in ask(AllRows(name), world.answer):
            if isinstance(row, Occurrence):
                assert row.body == ""
            if isinstance(row, Subscription):
                assert row.text is None
        for sent in sorted(world.all(Outbound), key=lambda row: row.number):
            if sent.session_id == name and sent.waiting_route is not None:
                answer, world = decided(world, Sent(name, sent.number, sent.to), now_ms)
                assert isinstance(answer, Decided), answer
        world = pruned(world, name, now_ms + 4 * COMMANDS_FOR_MS_MIN)
        kept = {type(row) for row in ask(AllRows(name), world.answer)}
        # events that were not published stay, and what is removed after them
        assert kept <= {Session, PruneProgress, ExecutedCommand, EventBatch, Outbound}
        assert list(violations(ask(Rows(name), world.answer))) == []


def pruned(world: World, trigger_id: str, now_ms: int) -> World:
    found = PrunePass(trigger_id, Retention.for_ms(COMMANDS_FOR_MS_MIN))
    while (step := ask(found.question(now_ms), world.answer)) is not None:
        answer, world = decided(world, step, now_ms)
        assert isinstance(answer, Decided), answer
        found = found.after(answer.outcome)
    return world
