"""Tests of `StoreConformance` about several workers on one store, restarts and power cuts.

Two workers are the same store opened twice, where it may be (`Capability.PROCESSES`), and one store otherwise.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import pytest

from tenure.commands import Begin, Begun, Checkpoint, Commit, Fail, NewEntry, Release, Renew
from tenure.failure import ErrorKind, Failure
from tenure.machines.lease import Fence, Owner
from tenure.outcome import Decided, Refusal, Refused
from tenure.queries import Command
from tenure.records import EntryKind, QueueEntry, Session
from tenure.transcript import NewNode, Role
from tenure.world import EMPTY, World, world_of

from ..stores.base import Capability, Store
from .command_generator import CommandGenerator
from .fixtures import (
    START_MS,
    ManualClock,
    Opener,
    Put,
    RandomProgram,
    asynchronous,
    begin,
    decided,
    executed,
    prompt,
)
from .requirements import Requirements, requires

__all__ = ["Crashes", "Locked", "WorkersConformance"]


UntilWaiting: TypeAlias = Callable[[], Awaitable[None]]
Locked: TypeAlias = Callable[[str], AbstractContextManager[UntilWaiting | None]]
Crashes: TypeAlias = Callable[[RandomProgram], Iterator[tuple[int, World]]]


@requires(Capability.SKEW)
class SkewConformance:
    """Stores with different clocks agree on the same records."""

    @pytest.mark.parametrize("seed", range(3))
    def test_workers_with_different_clocks_agree(self, opened: Opener, seed: int) -> None:
        """Each command is decided at the clock of the store that executes it, on the writes of all stores."""

        @asynchronous
        async def run() -> None:
            clocks = [
                ManualClock(START_MS),
                ManualClock(START_MS + 70),
                ManualClock(START_MS - 3_600_000),
            ]
            stores = [opened(clock) for clock in clocks]
            dice, world = random.Random(seed), EMPTY
            client, most = CommandGenerator(dice.choice), 0
            for _ in range(100):
                at = dice.randrange(3)
                for clock in clocks:
                    clock.now_ms += dice.choice((0, 1, 10, 30))
                command = client.send(clocks[at].now_ms)
                expected, world = decided(world, command, clocks[at].now_ms)
                answer = await executed(stores[at], command)
                assert answer == expected, command
                client.observe(command, answer)
                generations = [s.lease.generation for s in world.all(Session)]
                assert sum(generations) >= most, "a generation was granted again"
                most = sum(generations)
            assert world_of(await stores[0].dump()) == world

        run()


class WorkersConformance(SkewConformance, Requirements):
    @pytest.fixture
    def opened(self) -> Opener:
        raise NotImplementedError

    @pytest.fixture
    def locked(self) -> Locked | None:
        """Return a function that locks a session as another process does within its transaction.

        It is used as `with locked(session_id) as until_waiting`.  `until_waiting` waits until a command waits for the
        lock; None if the store cannot show that.  None instead of the function: the test of it is skipped.
        """
        return None

    @pytest.fixture
    def crashes(self) -> Crashes | None:
        """Return a function that runs a program on a fresh store and cuts the power at its writes.

        It yields how many groups were answered at a cut, and the records that are found after it.  None: the test of it
        is skipped.
        """
        return None

    def two(self, opened: Opener, clock: ManualClock) -> tuple[Store, Store]:
        one = opened(clock)
        return one, opened(clock) if Capability.PROCESSES in self.capabilities else one

    # concurrent writers

    @pytest.mark.parametrize("made", (False, True), ids=("a new session", "an old session"))
    def test_two_writers_lose_nothing(self, opened: Opener, made: bool) -> None:
        """Each answer names the previous writer, so that all answers together are one chain."""

        async def write(store: Store, name: str) -> list[tuple[str, str]]:
            texts = [f"{name}{at}" for at in range(30)]
            return [(await store.execute(Put("s", "d", text)), text) for text in texts]  # type: ignore[misc]

        @asynchronous
        async def run() -> None:
            one, two = self.two(opened, ManualClock())
            if made:
                await one.execute(prompt("s", 1))

            links = sum(await asyncio.gather(*map(write, (one, two, one), "abc")), [])

            after = dict(links)
            chain, at = list[str](), ""
            while at in after:
                at = after.pop(at)
                chain.append(at)
            assert sorted(chain) == sorted(text for _, text in links)
            assert await one.execute(Put("s", "d", "last")) == chain[-1]

        run()

    @asynchronous
    async def test_groups_of_two_writers_in_opposite_orders_all_succeed(
        self, opened: Opener
    ) -> None:
        one, two = self.two(opened, ManualClock())
        names = [f"s{at}" for at in range(8)]
        await asyncio.gather(*[one.execute(prompt(name, 0)) for name in names])

        async def write(store: Store, order: list[str], at: int) -> None:
            for number in range(at, at + 15):
                await asyncio.gather(*[store.execute(prompt(name, number)) for name in order])

        await asyncio.gather(write(one, names, 1), write(two, names[::-1], 16))

        ranks = [(r.session_id, r.seq) for r in await one.dump() if isinstance(r, QueueEntry)]
        assert len(ranks) == len(set(ranks)) == 8 * 31

    @asynchronous
    async def test_one_of_several_concurrent_begins_is_granted(self, opened: Opener) -> None:
        one, two = self.two(opened, ManualClock())
        await one.execute(prompt("s", 1))

        answers = await asyncio.gather(
            *[
                store.execute(Begin("s", f"lease-{at}", f"run-{at}", Owner(f"w{at}", f"w{at}")))
                for at, store in enumerate((one, two) * 8)
            ]
        )

        assert sum(isinstance(answer, Begun) for answer in answers) == 1
        refused = [answer.reason for answer in answers if isinstance(answer, Refused)]
        assert refused == [Refusal.HELD] * 15, refused

    # stale fences

    @asynchronous
    async def test_a_stale_fence_writes_nothing(self, opened: Opener) -> None:
        clock = ManualClock()
        one, two = self.two(opened, clock)
        await one.execute(prompt("s", 1))
        old = await one.execute(begin("s", 1))
        assert isinstance(old, Begun)
        kept = Checkpoint("s", old.fence, old.run_id, old.turn, old.n, (a_report("kept"),))
        await one.execute(kept)
        clock.now_ms += old.ttl_ms + 1
        new = await two.execute(begin("s", 2))
        assert isinstance(new, Begun) and new.run_id == old.run_id
        before = world_of(await two.dump())

        answers = await asyncio.gather(*[one.execute(c) for c in written_by(old, new.n)])

        assert {a.reason for a in answers if isinstance(a, Refused)} == {Refusal.FENCED}
        assert len(answers) == len([a for a in answers if isinstance(a, Refused)])
        assert world_of(await two.dump()) == before
        (renewed,) = await asyncio.gather(two.execute(Renew("s", new.fence)))
        assert not isinstance(renewed, Refused)

    # lost answers, restarts

    @asynchronous
    async def test_a_command_sent_again_after_a_lost_answer_is_a_replay(
        self, opened: Opener
    ) -> None:
        """The first answer is lost; after the store was opened again, the same command gets the same answer."""
        store, world = opened(ManualClock()), EMPTY
        fence, run_id = Fence("s", 1, "lease-1"), "run-1"
        commands: tuple[Command[Any, Any], ...] = (
            prompt("s", 1),
            begin("s", 1),
            Checkpoint("s", fence, run_id, 1, 0, (a_report("r"),)),
            Commit("s", fence, run_id, 1, 1, 0, nodes=(SAID,)),
        )
        for command in commands:
            expected, world = decided(world, command, START_MS)
            lost = await executed(store, command)
            if Capability.REOPEN in self.capabilities:
                await store.aclose()
                store = opened(ManualClock())
            again = await executed(store, command)
            assert isinstance(lost, Decided) and lost == expected
            assert isinstance(again, Decided) and (again.replayed, again.writes) == (True, ())
            assert world_of(await store.dump()) == world

    # clocks and locks

    @asynchronous
    async def test_the_clock_is_read_after_the_lock(
        self, opened: Opener, locked: Locked | None
    ) -> None:  # STORE-10
        if locked is None:
            pytest.skip("requires the fixture `locked`")
        clock = ManualClock()
        store = opened(clock)
        for number in range(3):
            name = f"s{number}"
            await store.execute(prompt(name, 1))
            world = world_of(await store.dump())
            with locked(name) as until_waiting:
                waiting = asyncio.ensure_future(executed(store, begin(name, 1)))
                if until_waiting is not None:
                    await until_waiting()
                else:
                    await asyncio.sleep(0.1)  # mostly long enough for the command to reach the lock
                assert not waiting.done()
                clock.now_ms += 5_000
            expected, _ = decided(world, begin(name, 1), clock.now_ms)
            assert await waiting == expected

    # power cuts

    @pytest.mark.parametrize("seed", (3, 5))
    def test_a_crash_at_any_write_leaves_the_state_before_or_after(
        self, crashes: Crashes | None, seed: int
    ) -> None:  # STORE-3, STORE-11
        if crashes is None:
            pytest.skip("requires the fixture `crashes`")
        program = RandomProgram(seed, 14)
        possible = program.worlds()

        found = list(crashes(program))

        assert found
        for answered, world in found:
            assert world in possible[answered], f"after {answered} groups"


SAID = NewNode(Role.ASSISTANT, "hello")


def a_report(effect_id: str) -> NewEntry:
    return NewEntry(EntryKind.REPORT, effect_id, "{}")


def written_by(held: Begun, n: int) -> list[Command[Any, Any]]:
    """Return every command that a holder may send, from one that has lost its lease unnoticed."""
    fence, run_id, turn = held.fence, held.run_id, held.turn
    return [
        Renew("s", fence),
        Checkpoint("s", fence, run_id, turn, n, (a_report("stale"),)),
        Commit("s", fence, run_id, turn, n, held.revision, nodes=(SAID,)),
        Fail("s", fence, run_id, turn, Failure(ErrorKind.TRANSIENT, "no")),
        Release("s", fence, run_id),
    ]
