"""Triggers in a runtime: fired by several workers over a clock change, delivered, and refused when they are made."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ParamSpec
from zoneinfo import ZoneInfo

import pytest
from carrying import WAIT_S
from cronsim import CronSim

from tenure.commands import SetTrigger
from tenure.machines.subscription import Live
from tenure.outcome import Refusal
from tenure.questions import DeadLetters
from tenure.trigger_records import Missed, Schedule, StartsJob
from tenure_drivers.agents.echo import echo
from tenure_drivers.runtime.client import Client
from tenure_drivers.runtime.errors import CommandRefused
from tenure_drivers.runtime.runtime import Runtime
from tenure_drivers.runtime.triggers.host import TriggerHost
from tenure_drivers.stores.base import Store, wall_clock_ms
from tenure_drivers.stores.memory import MemoryStore
from tenure_drivers.stores.sqlite.store import SqliteStore

BERLIN = ZoneInfo("Europe/Berlin")
CHANGES = (datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC))
HOUR_MS = 3_600_000


P = ParamSpec("P")


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(WAIT_S):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run


def ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)


class VirtualClock:
    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


async def fired(store: Store, clock: VirtualClock, until_ms: int, away: range) -> list[int]:
    """Let three workers fire a trigger whenever it is due; nobody is there while `away`.  Return what has occurred."""
    client = Client(store)
    while True:
        due_ms = await store.horizon()
        if due_ms is None or due_ms > until_ms:
            break
        clock.now_ms = away.stop if due_ms in away else due_ms
        # their clocks differ a little
        skewed = [lambda add=add: clock() + add for add in (-40, 0, 40)]
        hosts = [TriggerHost(store, "t", {}, wall_clock=each) for each in skewed]
        await asyncio.gather(*[host.run() for host in hosts])
        while await store.due(1):
            await hosts[1].run()
    found = await client.trigger("t").occurrences(limit=10_000)
    assert {len(each.reservations) for each in found} == {1}
    numbers = [each.reservations[0].number for each in reversed(found)]
    assert sorted(numbers) == list(range(1, len(found) + 1))
    return sorted(each.at_ms for each in found)


@pytest.mark.parametrize("change", CHANGES, ids=("forward", "back"))
@pytest.mark.parametrize("expression", ["30 2 * * *", "*/30 * * * *", "0 1-3 * * *"])
@pytest.mark.parametrize("missed", Missed)
@in_loop
async def test_three_workers_fire_a_schedule_over_a_clock_change_as_cronsim_says(
    tmp_path: Path, expression: str, change: datetime, missed: Missed
) -> None:
    since, until = change - timedelta(hours=30), change + timedelta(hours=30)
    clock = VirtualClock(ms(since))
    store: Store = MemoryStore(clock=clock)
    if missed is Missed.ONE:  # three workers on one file, once
        store = SqliteStore(tmp_path / "s.db", clock=clock)
    names = CronSim(expression, since.astimezone(BERLIN))
    wanted = []
    while (at := next(names)) <= until:
        wanted.append(ms(at))
    schedule = Schedule("cron", expression, "Europe/Berlin")
    client = Client(store)
    await store.execute(SetTrigger("t", "c", 0, schedule, wanted[0], missed))
    await client.trigger("t").start_job("s", "make", "{key}")
    gone = range(ms(change) - 2 * HOUR_MS, ms(change) + 5 * HOUR_MS // 4 + 90_000)

    found = await fired(store, clock, ms(until), gone)

    come = [at_ms for at_ms in wanted if at_ms in gone]
    kept = {Missed.ALL: come[-32:], Missed.ONE: come[-1:], Missed.NONE: []}[missed]
    assert found == [at_ms for at_ms in wanted if at_ms not in gone or at_ms in kept]
    await store.aclose()


@in_loop
async def test_a_runtime_fires_what_is_due_and_delivers_it() -> None:
    store = MemoryStore()
    client = Client(store)
    past = wall_clock_ms() - 5_000
    await store.execute(SetTrigger("nightly", "c", 0, Schedule("every", "1h"), past))
    await client.trigger("nightly").submit("report", "s", "The report of {key}.")
    async with Runtime(store, echo, triggers=True):
        while not (found := await client.trigger("nightly").occurrences()):
            await asyncio.sleep(0.01)
        (made,) = found[0].reservations
        while await client.receipt("s", made.started_id).status() is None:
            await asyncio.sleep(0.01)
        answer = await client.receipt("s", made.started_id).result(20)

    assert answer is not None and f"The report of {past}." in answer
    item = await client.trigger("nightly").load()
    assert item is not None and item.trigger.next_at_ms == past + HOUR_MS


@in_loop
async def test_a_runtime_without_an_agent_fires_only_if_it_is_told_to() -> None:
    store = MemoryStore()
    past = wall_clock_ms() - 5_000
    await store.execute(SetTrigger("t", "c", 0, Schedule("every", "1h"), past))
    assert Runtime(store)._serves() == frozenset()
    assert Runtime(store, echo, triggers=False)._serves() == {"session", "job"}
    async with Runtime(store, triggers=True):
        while not await Client(store).trigger("t").occurrences():
            await asyncio.sleep(0.01)


@in_loop
async def test_what_occurs_starts_a_session_of_its_own_each_time() -> None:
    store = MemoryStore()
    async with Runtime(store, echo) as runtime:
        hook = runtime.trigger("hook")
        await hook.set()
        await hook.submit("each", None, "Look at {body}.")
        first = await hook.occur("push-1", "main")
        again = await hook.occur("push-1", "main")
        other = await hook.occur("push-2", "other")
        (made,), (new,) = first.reservations, other.reservations
        for each in (made, new):
            while await runtime.receipt(each.to, each.started_id).status() is None:
                await asyncio.sleep(0.01)
        answer = await runtime.receipt(made.to, made.started_id).result(20)

    assert again == first and made.to != new.to
    assert answer is not None and "Look at main." in answer
    assert not await Client(store).ask(DeadLetters(made.to))


@in_loop
async def test_a_schedule_that_cannot_be_computed_is_logged_once_and_left(
    caplog: pytest.LogCaptureFixture,
) -> None:  # TRIGGER-53
    store, failures = MemoryStore(), dict[str, str]()
    await store.execute(SetTrigger("t", "c", 0, Schedule("moon", "full"), 5))
    with caplog.at_level(logging.ERROR, "tenure"):
        for _ in range(3):
            await TriggerHost(store, "t", failures).run()

    assert [record.getMessage() for record in caplog.records] == [
        "trigger t cannot be fired: kind 'moon' of a schedule: expected one of cron, every, at"
    ]
    with pytest.raises(ValueError, match="expected five fields"):
        await Client(store).trigger("u").set(cron="every day")
    with pytest.raises(ValueError, match="it has no time to come"):
        await Client(store).trigger("u").set(at="2001-01-01")
    assert await Client(store).trigger("u").load() is None


@in_loop
async def test_a_client_changes_a_trigger_by_its_revision_or_whatever_it_is() -> None:
    client = Client(MemoryStore())
    hook = client.trigger("hook")
    await hook.set(expected=0)
    await hook.set(every="90s")
    with pytest.raises(CommandRefused) as stale:
        await hook.set(every="5m", expected=1)
    await hook.start_job("build", "make")
    await hook.disable("build")
    await hook.update("build", 2, StartsJob("test"), "{body}")
    with pytest.raises(CommandRefused) as revision:
        await hook.enable("build", 2)
    await hook.enable("build")
    await hook.unsubscribe("build")
    await hook.revive("build")

    item = await hook.load()
    assert item is not None and item.trigger.revision == 2
    assert item.subscriptions[0].state == Live(2, 6)
    assert (stale.value.refused.reason, revision.value.refused.reason) == (
        Refusal.REVISION,
        Refusal.REVISION,
    )
    await hook.delete()
    with pytest.raises(CommandRefused):
        await hook.occur("k")
    page = await client.triggers()
    assert [each.deleted for each in page.items] == [True]
