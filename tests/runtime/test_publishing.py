"""Events that are given to a sink, and the feed of changed sessions.  Specs: specs/publisher.md, specs/feed.md."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from carrying import Body
from paths import SUPPORT
from virtual_time import VirtualLoop, run_virtually

from tenure.commands import NewInput
from tenure.questions.history import AllSessions
from tenure_drivers import (
    Change,
    Client,
    Parent,
    PublishedEvent,
    Runtime,
    Store,
    SyncRuntime,
    open_store,
)
from tenure_drivers.runtime.feed import follow_changes
from tenure_drivers.runtime.turn import Turn
from tenure_drivers.stores.memory import MemoryStore

Carry = Callable[[Body], None]


async def answer(turn: Turn) -> str:
    return f"to {turn.text}"


class Collector:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.calls: list[Sequence[PublishedEvent]] = []

    async def __call__(self, events: Sequence[PublishedEvent]) -> None:
        self.calls.append(events)

    @property
    def ids(self) -> list[str]:
        return [event.id for events in self.calls for event in events]


async def expected(store: Store) -> dict[str, list[int]]:
    """Return the numbers of all events of each session."""
    return {s.session_id: list(range(1, s.next_event)) for s in await store.ask(AllSessions())}


def in_order(ids: Sequence[str]) -> dict[str, list[int]]:
    """Return the first occurrences of the events of each session, which must be in order."""
    seen: dict[str, list[int]] = defaultdict(list)
    for id in ids:
        session_id, _, seq = id.rpartition(":")
        if int(seq) not in seen[session_id]:
            seen[session_id].append(int(seq))
    return dict(seen)


async def all_published(store: Store) -> None:
    while not all(s.published == s.next_event - 1 for s in await store.ask(AllSessions())):
        await asyncio.sleep(0.01)


def test_a_sink_gets_every_event_once_if_nothing_fails(carry: Carry) -> None:
    async def body(store: Store) -> None:
        sink = Collector()
        async with Runtime(store, answer, sink=sink) as runtime:
            receipts = [await runtime.submit(f"s{n % 3}", f"text {n}") for n in range(12)]
            for receipt in receipts:
                await receipt.ended()
            await all_published(store)

        assert in_order(sink.ids) == await expected(store)
        assert len(sink.ids) == len(set(sink.ids))

    carry(body)


def test_a_sink_that_is_added_later_gets_what_is_there(carry: Carry) -> None:  # PUBLISHER-7
    async def body(store: Store) -> None:
        client = Client(store)
        for n in range(300):  # more than a page
            await client.submit(f"s{n}", "text")
        sessions = await store.ask(AllSessions())
        assert {s.published for s in sessions} == {None}
        sink = Collector()
        async with Runtime(store, sink=sink):
            await all_published(store)

        assert in_order(sink.ids) == await expected(store)

    carry(body)


def test_without_a_sink_no_session_has_a_cursor(carry: Carry) -> None:
    async def body(store: Store) -> None:
        async with Runtime(store, answer) as runtime:
            await runtime.run("s", "text")
        (session,) = await store.ask(AllSessions())

        assert (session.published, session.unpublished_since_ms) == (None, None)

    carry(body)


def test_a_plain_function_is_a_sink_too() -> None:
    ids: list[str] = []
    store = open_store("memory:")

    def sink(events: Sequence[PublishedEvent]) -> None:
        ids.extend(event.id for event in events)

    with SyncRuntime(Runtime(store, answer, sink=sink)) as runtime:
        runtime.submit("s", "text").result()
        while len(ids) < 4:
            runtime.submit("s", "text").result()
    assert ids[:4] == ["s:1", "s:2", "s:3", "s:4"]


def test_while_release_1_is_active_nothing_is_published() -> None:  # SCHEMA-3
    async def body() -> None:
        store, sink = MemoryStore(active=1), Collector()
        async with Runtime(store, answer, sink=sink) as runtime:
            assert await runtime.run("s", "text") == "to text"
        (session,) = await store.ask(AllSessions())

        assert (sink.calls, session.published) == ([], None)

    asyncio.run(body())


def test_an_agent_and_a_sink_are_shown_where_an_input_comes_from(carry: Carry) -> None:  # INBOX-60
    async def body(store: Store) -> None:
        sink, seen = Collector(), list[tuple[str | None, Parent | None]]()
        origin, parent = '{"mode": "background"}', Parent("boss", "run-7")

        async def agent(turn: Turn) -> str:
            seen.extend((new.origin, new.parent) for new in turn.inputs)
            return "done"

        async with Runtime(store, agent, sink=sink) as runtime:
            await runtime.run("s", "text", origin=origin, parent=parent)
            await runtime.run("s", "text")
            await all_published(store)

        assert seen == [(origin, parent), (None, None)]
        events = [e for events in sink.calls for e in events]
        admitted = [e.origin for e in events if e.event.kind == "input_admitted"]
        assert [o and (o.origin, o.parent) for o in admitted] == [(origin, parent), None]

    carry(body)


# -- a sink that fails


class Broken(Collector):
    """A sink that fails until a time, and then works."""

    def __init__(self, loop: VirtualLoop, until_s: float) -> None:
        super().__init__()
        self.loop, self.until_s, self.failed_at = loop, until_s, list[float]()

    async def __call__(self, events: Sequence[PublishedEvent]) -> None:
        await asyncio.sleep(0.05)
        if self.loop.time() < self.until_s:
            self.failed_at.append(self.loop.time())
            raise ConnectionError("the broker does not answer")
        await super().__call__(events)


def test_a_sink_that_fails_for_a_minute_changes_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:  # PUBLISHER-11
    async def body(loop: VirtualLoop) -> None:
        store = MemoryStore(clock=loop.clock_ms)
        since_s = loop.time()
        sink = Broken(loop, since_s + 60)
        async with Runtime(store, answer, sink=sink, clock=loop.clock_ms) as runtime:
            while loop.time() < sink.until_s:
                for n in range(5):
                    text = f"at {loop.time()}"
                    assert await runtime.run(f"s{n}", text) == f"to {text}"  # not held up
                await asyncio.sleep(1)
            assert not sink.calls
            await all_published(store)

        assert in_order(sink.ids) == await expected(store)
        assert 8 <= len(sink.failed_at) <= 16
        assert loop.time() < sink.until_s + 35, "the longest pause is 30 seconds"
        waits = [b - a for a, b in zip(sink.failed_at[4:], sink.failed_at[5:], strict=False)]
        assert waits == sorted(waits)

    run_virtually(body)
    (said,) = [r.getMessage() for r in caplog.records if "the sink failed" in r.getMessage()]
    assert "the broker does not answer" in said


def test_a_session_that_the_sink_never_takes_keeps_no_other_from_it() -> None:  # PUBLISHER-12
    async def body(loop: VirtualLoop) -> None:
        store, ids = MemoryStore(clock=loop.clock_ms), list[str]()

        async def sink(events: Sequence[PublishedEvent]) -> None:
            if events[0].session_id == "poison":
                raise ValueError("no topic for this")
            ids.extend(event.id for event in events)

        async with Runtime(store, answer, sink=sink, clock=loop.clock_ms) as runtime:
            await runtime.run("poison", "text")
            for n in range(50):
                await runtime.run(f"s{n}", "text")
            await asyncio.sleep(30)

        want = await expected(store)
        assert in_order(ids) == {s: numbers for s, numbers in want.items() if s != "poison"}

    run_virtually(body)


# -- processes


def test_a_process_that_is_killed_between_giving_and_publish_gives_again(
    tmp_path: Path,
) -> None:  # PUBLISHER-9
    url, taken = f"sqlite:{tmp_path / 'store.db'}", tmp_path / "taken"

    async def fill() -> dict[str, list[int]]:
        store = open_store(url)
        async with Runtime(store, answer) as runtime:
            for n in range(12):
                await runtime.run(f"s{n % 4}", f"text {n}")
        want = await expected(store)
        await store.aclose()
        return want

    want = asyncio.run(fill())
    script = str(SUPPORT / "publishing_child.py")
    for count in ("1", "2", "3"):
        killed = subprocess.run([sys.executable, script, url, str(taken), count], timeout=60)
        assert killed.returncode == -signal.SIGKILL
    before = taken.read_text().split()

    ended = subprocess.run(
        [sys.executable, script, url, str(taken), "0"], timeout=60, capture_output=True, text=True
    )

    assert ended.stdout == "all\n", ended.stderr
    ids = taken.read_text().split()
    assert in_order(ids) == want
    assert len(ids) > len(set(ids)), "what a killed process gave is given again"
    assert ids[: len(before)] == before


# -- the feed


async def changed(client: Client, cursor: str | None, count: int) -> list[Change]:
    found: list[Change] = []
    async for change in client.changes(cursor):
        found.append(change)
        if len(found) == count:
            break
    return found


def test_the_feed_names_all_sessions_and_goes_on_from_a_cursor(carry: Carry) -> None:  # FEED-5
    async def body(store: Store) -> None:
        client = Client(store)
        for n in range(300):
            await client.submit(f"s{n}", "text")

        found = await changed(client, None, 300)

        assert {change.session_id for change in found} == {f"s{n}" for n in range(300)}
        await client.submit("new", "text")
        again = client.changes(found[-1].cursor)
        async for change in again:
            if change.session_id == "new":
                break
        with pytest.raises(ValueError, match="expected the cursor of a Change"):
            await changed(client, "yesterday", 1)

    carry(body)


def test_a_reader_is_told_every_change_and_few_of_them_again() -> None:  # FEED-1, FEED-2, FEED-3
    async def body(loop: VirtualLoop) -> None:
        store = MemoryStore(clock=loop.clock_ms)
        client, told = Client(store), defaultdict[str, list[float]](list)

        async def read() -> None:
            feed = follow_changes(store, None, clock=loop.clock_ms, wall_clock=loop.clock_ms)
            async for change in feed:
                told[change.session_id].append(loop.time())

        reading = asyncio.create_task(read())
        wrote: dict[str, float] = {}
        for n in range(40):
            wrote[f"s{n}"] = loop.time()
            await client.submit_many(f"s{n}", [NewInput("i", "prompt", "text")])
            await asyncio.sleep(45)
        await asyncio.sleep(7_200)
        reading.cancel()

        for session_id, at_s in wrote.items():
            assert told[session_id][0] <= at_s + 1.1
            assert len(told[session_id]) <= 3, "idle sessions are not named for ever"

    run_virtually(body)
