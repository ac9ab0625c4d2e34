"""The part of the conformance suite about triggers."""

from __future__ import annotations

import random

from tenure.check.invariants import Rows, violations
from tenure.commands import Fire, SetTrigger, Subscribe
from tenure.kind import Kind
from tenure.limits import COMMANDS_FOR_MS_MIN
from tenure.questions import LoadTrigger, Occurrences, Triggers
from tenure.records import Session
from tenure.trigger_records import Schedule, StartsJob
from tenure.world import EMPTY, ask, world_of

from ..stores.base import Due
from .fixtures import START_MS, ManualClock, Opener, asynchronous, decided, executed
from .trigger_commands import TRIGGERS, TriggerCommandGenerator

__all__ = ["TriggerConformance"]


QUESTIONS = (
    *(Triggers(), Triggers(limit=1), Triggers(without=frozenset(TRIGGERS[:1]))),
    *(LoadTrigger(TRIGGERS[0]), Occurrences(TRIGGERS[0]), Occurrences(TRIGGERS[1], limit=2)),
)


class TriggerConformance:
    """A store executes the commands of triggers as the model does."""

    @asynchronous
    async def test_triggers_are_decided_as_the_model_decides_them(self, opened: Opener) -> None:
        clock, dice, world = ManualClock(), random.Random(5), EMPTY
        store, triggers = opened(clock), TriggerCommandGenerator(dice.choice)
        for at in range(300):
            clock.now_ms += dice.choice((0, 1, 400, 2_000, 70_000))
            clock.now_ms += COMMANDS_FOR_MS_MIN if at % 100 == 99 else 0
            command = triggers.send(clock.now_ms)
            expected, world = decided(world, command, clock.now_ms)
            answer = await executed(store, command)
            assert answer == expected, command
            triggers.observe(command, answer)
            if at % 40 == 0:
                for question in QUESTIONS:
                    assert await store.ask(question) == ask(question, world.answer)
        assert world_of(await store.dump()) == world
        for session in world.all(Session):
            assert list(violations(ask(Rows(session.session_id), world.answer))) == []

    @asynchronous
    async def test_a_trigger_is_due_at_its_next_time(self, opened: Opener) -> None:
        clock = ManualClock()
        store, first = opened(clock), START_MS + 1_000
        await store.execute(SetTrigger("t", "c", 0, Schedule("every", "1s"), first))
        await store.execute(Subscribe("t", "s", "a", StartsJob("make"), "{key}"))
        assert await store.due(10) == ()
        assert await store.horizon() == first
        clock.now_ms = first
        assert await store.due(10) == (Due("t", first, Kind.TRIGGER),)
        await store.execute(Fire("t", 1, (first,), first + 1_000))
        assert await store.due(10) == ()
        assert await store.horizon() == first + 1_000
