"""Pruning by a runtime and by a client, and erasing a session.  Spec: specs/retention.md."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from carrying import Body

from tenure.commands import Admit, NewInput, Prune, Switch, Withdraw
from tenure.commands.validation import texts_of
from tenure.failure import ErrorKind
from tenure.limits import COMMANDS_FOR_MS_MIN
from tenure.outcome import Refusal, Refused
from tenure.queries import Command
from tenure.questions import ChangeCursor, EventsPage, LoadChanges, LoadEvents
from tenure.questions.retention import AllRows, PrunePass
from tenure.records import EventBatch, Input, JournalEntry, Session
from tenure.replace import replace
from tenure.retention import Keep, PruneKind, Retention
from tenure.world import World, world_of
from tenure_drivers import Client, EventsPruned, Runtime, Store, SyncRuntime, open_store
from tenure_drivers.runtime.pruning import prune_session
from tenure_drivers.runtime.turn import Turn
from tenure_drivers.stores.memory import MemoryStore
from tenure_drivers.testing.command_generator import CommandGenerator
from tenure_drivers.testing.fixtures import ManualClock, executed

Carry = Callable[[Body], None]
SECRET = "my-very-secret-words"


async def answer(turn: Turn) -> str:
    found = await turn.step("look up", lambda: f"found {SECRET}")
    if SECRET not in turn.text:
        raise ValueError(f"{SECRET} is not allowed")
    await turn.commit(f"{found}: {turn.text}", state=f"state {SECRET}")
    return ""


async def worked(store: Store, session_id: str = "ann") -> None:
    """Let a session answer one input and give up another one."""
    async with Runtime(store, answer) as runtime:
        told = await runtime.submit(session_id, SECRET, key=f"mail-{SECRET}", origin=SECRET)
        await told.ended()
        more = [NewInput("late", "prompt", SECRET, available_at_ms=2**52)]
        await runtime.submit_many(session_id, more)


async def rows_of(store: Store, kind: type) -> list[object]:
    return [row for row in await store.dump() if isinstance(row, kind)]


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not await holds():  # type: ignore[misc]
            await asyncio.sleep(0.005)


# -- a runtime


def test_a_runtime_prunes_the_sessions_of_a_store(carry: Carry) -> None:  # RETENTION-12, 13
    async def body(store: Store) -> None:
        await worked(store)
        await worked(store, "bob")
        assert await rows_of(store, JournalEntry)

        async def done() -> bool:
            times = [s.prune_at_ms for s in await store.dump() if isinstance(s, Session)]
            return None not in times

        keep = Keep(10 * COMMANDS_FOR_MS_MIN)
        retention = Retention(Keep(0), keep, keep.for_ms, keep)
        async with Runtime(store, answer, retention=retention):
            await until(done)

        assert await rows_of(store, JournalEntry) == []
        assert await rows_of(store, EventBatch)

    carry(body)


def test_a_runtime_goes_on_with_an_erasure_that_was_not_finished(carry: Carry) -> None:
    async def body(store: Store) -> None:
        await worked(store)
        await Client(store).destroy("ann", erase_payloads=True)

        async def erased() -> bool:
            return any(isinstance(s, Session) and s.erased for s in await store.dump())

        async with Runtime(store, answer, retention=Retention()):
            await until(erased)

        assert all(SECRET not in text for row in await store.dump() for text in texts_of(row))

    carry(body)


def test_a_wrong_retention_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="retention: commands_for_ms 5: expected"):
        Runtime(MemoryStore(), answer, retention=Retention(commands_for_ms=5))


# -- a pass


def test_a_pass_that_is_interrupted_or_overtaken_ends_like_any_other() -> None:
    async def body() -> None:
        worlds: list[World] = []
        for seed in range(6):
            for how in ("alone", "twice at once", "interrupted"):
                clock = ManualClock()
                store = await filled(seed, clock)
                clock.now_ms += 3 * COMMANDS_FOR_MS_MIN
                each = Keep(COMMANDS_FOR_MS_MIN)
                retention = Retention(
                    Keep(0), each, COMMANDS_FOR_MS_MIN, each, 0, COMMANDS_FOR_MS_MIN
                )
                if how == "interrupted":
                    await some_steps(store, retention, clock, 7)
                count = 2 if how == "twice at once" else 1
                passes = [prune_session(store, "s", retention, clock) for _ in range(count)]
                await asyncio.gather(*passes)
                worlds.append(world_of(await store.dump()))
            assert worlds[-1] == worlds[-2] == worlds[-3], seed

    asyncio.run(body())


async def filled(seed: int, clock: ManualClock) -> Store:
    """Return a store with the same random history of a session for the same seed, and nothing left to sweep."""
    dice, store = random.Random(seed), MemoryStore(clock=clock)
    generator = CommandGenerator(dice.choice, ("s",), calm=4, prunes=False)
    for _ in range(150):
        clock.now_ms += dice.choice((0, 5, 61, 400))
        command = generator.send(clock.now_ms)
        generator.observe(command, await executed(store, command))
    return store


async def some_steps(store: Store, retention: Retention, clock: ManualClock, count: int) -> None:
    found = PrunePass("s", retention)
    for _ in range(count):
        step = await store.ask(found.question(clock()))
        if step is None:
            return
        command: Command[Any, Any] = step
        outcome = await store.execute(command)
        assert not isinstance(outcome, Refused)
        found = found.after(outcome)


def test_a_client_prunes_and_counts(carry: Carry) -> None:
    async def body(store: Store) -> None:
        await worked(store)

        done = await Client(store).prune("ann", Retention(Keep(0)))

        assert done.rows[PruneKind.JOURNALS] > 0
        assert done.told() == f"journals {done.count}"
        assert (await Client(store).prune("ann", Retention(Keep(0)))).told() == "nothing"
        assert (await Client(store).prune("nobody", Retention(Keep(0)))).without == ()

    carry(body)


def test_readers_are_told_which_events_were_removed() -> None:  # EVENT-83, READ-23
    async def body() -> None:
        clock = ManualClock()
        store = MemoryStore(clock=clock)
        client, keep = Client(store), Keep(COMMANDS_FOR_MS_MIN)
        removed = Retention(keep, keep, keep.for_ms, replace(keep, last=1))
        await executed(store, Admit("ann", (NewInput("p", "prompt", "hello"),)))
        await executed(store, Withdraw("ann", "c", "p"))
        (session,) = [row for row in await store.dump() if isinstance(row, Session)]
        last = session.next_event - 1
        clock.now_ms += 2 * COMMANDS_FOR_MS_MIN

        assert await store.ask(LoadEvents("ann", last)) == EventsPage(())
        await prune_session(store, "ann", removed, clock)
        with pytest.raises(EventsPruned, match="events 1 to 2 .* read the session") as raised:
            await anext(client.events("ann"))
        assert raised.value.pruned_to == 2
        page = await store.ask(LoadEvents("ann", 2))
        assert (await anext(client.events("ann", 2)),) == page.batches

        await prune_session(store, "ann", replace(removed, events=keep), clock)
        assert await store.ask(LoadEvents("ann")) == EventsPage((), last)
        assert await store.ask(LoadEvents("nobody", 5)) == EventsPage(())
        changes = await store.ask(LoadChanges("ann"))
        assert changes is not None
        assert (changes.changes, changes.more, changes.complete) == ((), False, False)
        assert changes.after == ChangeCursor(session.revision, last)
        again = await store.ask(LoadChanges("ann", changes.after))
        assert again is not None and again.complete

    asyncio.run(body())


def test_a_turn_that_goes_back_to_a_pruned_frame_fails_at_once(carry: Carry) -> None:  # FRAME-12
    async def body(store: Store) -> None:
        async def aside(turn: Turn) -> str:
            await turn.commit("done", frame=Switch(turn.text))
            return ""

        async with Runtime(store, aside) as runtime:
            for text in ("plan", "buy"):
                assert (await (await runtime.submit("ann", text)).ended()).status == "consumed"
            done = await runtime.prune("ann", Retention(frames=Keep(0)))
            failed = await (await runtime.submit("ann", "plan")).ended()
            ended = await (await runtime.submit("ann", "new")).ended()

        assert done.told() == "frames 2"
        assert failed.status == "dead_lettered" and failed.last_failure is not None
        assert failed.last_failure.kind is ErrorKind.INVALID_REQUEST
        assert "FRAME-12" in failed.last_failure.message
        assert ended.status == "consumed"

    carry(body)


def test_a_step_without_a_session_is_refused(carry: Carry) -> None:
    async def body(store: Store) -> None:
        refused = await store.execute(Prune("nobody", Retention(), PruneKind.DONE))

        assert isinstance(refused, Refused) and refused.reason is Refusal.UNKNOWN_SESSION

    carry(body)


# -- erasing


@pytest.mark.parametrize("kind", ["memory:", "sqlite:{}/s.db", "files:{}/f"])
def test_an_erased_session_has_no_text_in_any_table(kind: str, tmp_path: Path) -> None:
    async def body() -> None:
        store = open_store(kind.format(tmp_path))
        await worked(store)
        await worked(store, "bob")
        client = Client(store)

        await client.erase("ann")
        await client.erase("ann")  # once more: nothing is left to do

        rows = await store.ask(AllRows("ann"))
        assert {row.__class__ for row in rows} >= {Input, JournalEntry, EventBatch}
        assert [text for row in rows for text in texts_of(row) if SECRET in text] == []
        events = [e.kind.value for r in rows if isinstance(r, EventBatch) for e in r.events]
        assert events.count("erased") == 1
        kept = [text for row in await store.ask(AllRows("bob")) for text in texts_of(row)]
        assert any(SECRET in text for text in kept)
        await store.aclose()

    asyncio.run(body())


def test_after_a_vacuum_the_sqlite_file_has_no_text_either(tmp_path: Path) -> None:
    async def body() -> None:
        store = open_store(f"sqlite:{tmp_path / 's.db'}")
        await worked(store)
        await Client(store).erase("ann")
        await store.aclose()

    asyncio.run(body())
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    found = [path.name for path in tmp_path.iterdir() if path.is_file()]
    assert "s.db" in found
    for name in found:
        assert SECRET.encode() not in (tmp_path / name).read_bytes(), name


def test_synchronous_code_erases_too() -> None:
    with SyncRuntime(Runtime(MemoryStore(), answer)) as runtime:
        runtime.submit("ann", SECRET).ended()

        runtime.destroy("ann")
        runtime.erase("ann")

        done = runtime.prune("ann", Retention(destroyed_for_ms=0))
        assert done.rows[PruneKind.SESSION] > 0
        assert len(runtime.ask(AllRows("ann"))) <= 4
