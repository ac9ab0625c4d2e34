"""The part of the conformance suite about pruning: passes over sessions, and the sessions that are found for them."""

from __future__ import annotations

import random

from tenure.limits import COMMANDS_FOR_MS_MIN
from tenure.outcome import Decided, Refusal, Refused
from tenure.questions.retention import AllRows, LookToPrune, PrunePass
from tenure.records import RECORDS
from tenure.retention import Keep, Retention
from tenure.world import EMPTY, World, ask, key_of, world_of

from .command_generator import CommandGenerator
from .fixtures import ManualClock, Opener, asynchronous, decided, executed

__all__ = ["PruningConformance"]


EACH = Keep(COMMANDS_FOR_MS_MIN)
RETENTION = Retention(Keep(0), EACH, COMMANDS_FOR_MS_MIN, EACH, 0, COMMANDS_FOR_MS_MIN, Keep(0, 1))


class PruningConformance:
    """A store prunes as the model does."""

    @asynchronous
    async def test_a_pass_removes_what_the_model_removes(self, opened: Opener) -> None:
        clock, dice, world = ManualClock(), random.Random(5), EMPTY
        store, names = opened(clock), ("s1", "s2")
        client = CommandGenerator(dice.choice, names, calm=5)
        for _ in range(400):
            clock.now_ms += dice.choice((0, 1, 40))
            command = client.send(clock.now_ms)
            _, world = decided(world, command, clock.now_ms)
            client.observe(command, await executed(store, command))
        clock.now_ms += 2 * COMMANDS_FOR_MS_MIN
        removed = 0
        for name in names:
            found = PrunePass(name, RETENTION)
            while (step := await store.ask(found.question(clock.now_ms))) is not None:
                assert step == ask(found.question(clock.now_ms), world.answer)
                expected, world = decided(world, step, clock.now_ms)
                answer = await executed(store, step)
                assert answer == expected, step
                assert isinstance(answer, Decided)
                found = found.after(answer.outcome)
            removed += found.count
            assert sorted_rows(await store.ask(AllRows(name))) == sorted_rows(
                tuple([row for row in world if getattr(row, "session_id", "") == name])
            )
        assert removed > 20, removed
        assert world_of(await store.dump()) == world
        await self._is_refused(client, world, clock)

    async def _is_refused(self, client: CommandGenerator, world: World, clock: ManualClock) -> None:
        """Some of the commands are refused now, and none of them was carried out again."""
        refused = 0
        for command in client.sent:
            answer, _ = decided(world, command, clock.now_ms)
            refused += isinstance(answer, Refused) and answer.reason is Refusal.PRUNED
        assert refused

    @asynchronous
    async def test_sessions_are_found_for_pruning(self, opened: Opener) -> None:  # RETENTION-12
        clock, dice = ManualClock(), random.Random(4)
        store, names = opened(clock), ("s1", "s2", "s3")
        client = CommandGenerator(dice.choice, names, prunes=False)
        for _ in range(60):
            clock.now_ms += dice.choice((0, 1, 40))
            command = client.send(clock.now_ms)
            client.observe(command, await executed(store, command))

        found = await store.ask(LookToPrune(clock.now_ms, limit=8))
        assert sorted(found.session_ids) == list(names) and not found.more
        for name in names:
            work = PrunePass(name, RETENTION)
            while (step := await store.ask(work.question(clock.now_ms))) is not None:
                answer = await executed(store, step)
                assert isinstance(answer, Decided)
                work = work.after(answer.outcome)

        assert (await store.ask(LookToPrune(clock.now_ms, limit=8))).session_ids == ()
        clock.now_ms += 2 * COMMANDS_FOR_MS_MIN
        assert set((await store.ask(LookToPrune(clock.now_ms, limit=8))).session_ids) <= set(names)


def sorted_rows(rows: tuple[object, ...]) -> list[object]:
    """Return rows in the order of their tables and keys."""
    return sorted(rows, key=lambda row: (RECORDS.index(type(row)), key_of(type(row))(row)))  # type: ignore[arg-type]
