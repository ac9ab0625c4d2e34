"""Versions of an agent: a run keeps the one that it began with.  Spec: specs/run.md, RUN-70 to RUN-73."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from carrying import Body
from virtual_time import VirtualLoop, run_virtually

from tenure.failure import GIVE_UP_AFTER_MS
from tenure_drivers import AgentVersions, Client, Runtime, Store, TurnFailed
from tenure_drivers.runtime.turn import Turn
from tenure_drivers.stores.memory import MemoryStore

Carry = Callable[[Body], None]


async def one(turn: Turn) -> str:
    return f"1 as {turn.resolution}"


async def two(turn: Turn) -> str:
    return f"2 as {turn.resolution}"


ONE, BOTH = AgentVersions({"helper@1": one}), AgentVersions({"helper@1": one, "helper@2": two})


def test_a_new_run_has_the_newest_version_unless_its_input_asks_for_another(carry: Carry) -> None:
    async def body(store: Store) -> None:  # RUN-70
        async with Runtime(store, agents=BOTH) as runtime:
            assert await runtime.run("s", "text") == "2 as helper@2"
            assert await runtime.run("s", "text", resolution="helper@1") == "1 as helper@1"

    carry(body)


def test_another_worker_goes_on_with_the_version_that_a_run_began_with(carry: Carry) -> None:
    async def body(store: Store) -> None:  # RUN-70
        failed = asyncio.Event()

        async def fails_once(turn: Turn) -> str:
            failed.set()
            raise TurnFailed("transient", "the first attempt")

        async with Runtime(store, agents=AgentVersions({"helper@1": fails_once})) as old:
            receipt = await old.submit("s", "text")
            await failed.wait()
        async with Runtime(store, agents=BOTH) as new:
            assert await new.receipt("s", receipt.input_id).result() == "1 as helper@1"

    carry(body)


def test_a_version_that_a_worker_lacks_waits_for_another_worker(carry: Carry) -> None:
    async def body(store: Store) -> None:  # RUN-73
        receipt = await Client(store).submit("s", "text", resolution="helper@2")
        async with Runtime(store, agents=ONE):
            while (status := await receipt.status()) is None or status.last_failure is None:
                await asyncio.sleep(0.01)
        assert "this worker has no helper@2" in str(status.last_failure)
        async with Runtime(store, agents=BOTH):
            assert await receipt.result() == "2 as helper@2"

    carry(body)


def test_a_version_that_nobody_has_is_given_up_after_an_hour() -> None:  # RUN-73
    async def body(loop: VirtualLoop) -> None:
        store = MemoryStore(clock=loop.clock_ms)
        async with Runtime(store, agents=ONE, clock=loop.clock_ms) as runtime:
            receipt = await runtime.submit("s", "text", resolution="helper@2")
            await asyncio.sleep(GIVE_UP_AFTER_MS / 1000 - 60)
            waiting = await receipt.status()
            await asyncio.sleep(180)
            ended = await receipt.status()

        assert waiting is not None and waiting.status == "bound"
        assert ended is not None and ended.status == "dead_lettered"
        assert "version_missing" in str(ended.by)

    run_virtually(body)


def test_a_malformed_id_is_given_up_at_once(carry: Carry) -> None:  # RUN-73
    async def body(store: Store) -> None:
        async with Runtime(store, agents=BOTH) as runtime:
            receipt = await runtime.submit("s", "text", resolution="helper")
            ended = await receipt.ended()

        assert ended.status == "dead_lettered"
        assert "not_reconstructed: resolution 'helper': expected NAME@VERSION" in str(ended.by)

    carry(body)


def test_while_release_1_is_active_runs_have_no_version() -> None:  # SCHEMA-12
    async def body() -> None:
        async with Runtime(MemoryStore(active=1), agents=BOTH) as runtime:
            assert await runtime.run("s", "text") == "2 as None"

    asyncio.run(body())


def test_a_registry_says_what_is_wrong_with_its_versions() -> None:
    with pytest.raises(ValueError, match="version 'helper': expected NAME@VERSION"):
        AgentVersions({"helper": one})
    with pytest.raises(ValueError, match="expected at least one"):
        AgentVersions({})
    with pytest.raises(ValueError, match="newest 'helper@9': expected one of helper@1, helper@2"):
        AgentVersions({"helper@1": one, "helper@2": two}, "helper@9")
    with pytest.raises(ValueError, match="agent and agents: expected one of them"):
        Runtime(MemoryStore(), one, agents=BOTH)
