"""The part of the conformance suite about finding changed and unpublished sessions."""

from __future__ import annotations

import asyncio
import random

from tenure.commands import Publish
from tenure.publisher.protocol import Found, Look, UnpublishedEvents
from tenure.questions.feed import FROM_THE_BEGINNING, FeedPosition
from tenure.records import Session

from ..stores.base import Store
from .command_generator import CommandGenerator
from .fixtures import ManualClock, Opener, asynchronous, executed, prompt

__all__ = ["FeedConformance"]


class Reader:
    """Reads the feed in small pages, and keeps the last row that it has read of each session."""

    def __init__(self, store: Store, clock: ManualClock, limit: int = 2) -> None:
        self.store, self.clock, self.limit = store, clock, limit
        self.position: FeedPosition = FROM_THE_BEGINNING
        self.read: dict[str, Session] = {}

    async def read_page(self) -> bool:
        """Read one page.  Return True if the pass has ended."""
        now_ms = self.clock.now_ms
        self.position = self.position.next_pass(now_ms)
        page = await self.store.ask(self.position.question(now_ms, self.limit))
        self.read |= {session.session_id: session for session in page}
        self.position = self.position.read(page, self.limit)
        return self.position.after is None

    async def read_to_the_end(self) -> None:
        """Read up to the end, and then one whole pass."""
        for _ in range(2):
            while not await self.read_page():
                pass


class FeedConformance:
    """A store finds sessions by the time of their last change, and those with unpublished events."""

    @asynchronous
    async def test_the_feed_misses_no_change(self, opened: Opener) -> None:  # FEED-1, FEED-2
        clock, dice = ManualClock(), random.Random(7)
        store = opened(clock)
        names = [f"s{n}" for n in range(9)]
        client, reader = CommandGenerator(dice.choice, names), Reader(store, clock)
        for _ in range(60):
            clock.now_ms += dice.choice((0, 1, 40, 900))
            commands = [client.send(clock.now_ms) for _ in range(4)]
            asked = [asyncio.ensure_future(executed(store, command)) for command in commands]
            await reader.read_page()
            for command, answer in zip(commands, await asyncio.gather(*asked), strict=True):
                client.observe(command, answer)

        await reader.read_to_the_end()

        changes = {i: (s.changed_at_ms, s.next_event) for i, s in reader.read.items()}
        stored = [row for row in await store.dump() if isinstance(row, Session)]
        assert changes == {s.session_id: (s.changed_at_ms, s.next_event) for s in stored}

    @asynchronous
    async def test_a_clock_that_is_set_back_hides_no_change(self, opened: Opener) -> None:
        clock = ManualClock()
        store = opened(clock)
        reader = Reader(store, clock)
        for n in range(5):
            await store.execute(prompt(f"before-{n}", 1))
        await reader.read_to_the_end()

        clock.now_ms -= 50_000_000  # FEED-4
        await store.execute(prompt("after", 1))
        await reader.read_to_the_end()

        assert "after" in reader.read

    @asynchronous
    async def test_sessions_with_unpublished_events_are_found(self, opened: Opener) -> None:
        clock = ManualClock()  # EVENT-66
        store = opened(clock)
        for n in range(6):
            await store.execute(prompt(f"s{n}", 1))
        assert (await self._look(store)).unpublished == ()

        clock.now_ms += 10
        for n in (4, 1, 3):
            await store.execute(Publish(f"s{n}", 0))
            clock.now_ms += 10
        await store.execute(Publish("s0", 2))
        await store.execute(prompt("s4", 2))

        assert (await self._look(store)).unpublished == ("s4", "s1", "s3")
        first = await self._look(store, limit=2)
        assert first.unpublished == ("s4", "s1")
        assert (await self._look(store, first, limit=2)).unpublished == ("s3",)
        assert [event.seq for event in (await store.ask(UnpublishedEvents("s4"))).events] == [
            1,
            2,
            3,
        ]
        await store.execute(Publish("s4", 3))
        await store.execute(prompt("s0", 2))
        assert (await self._look(store)).unpublished == ("s1", "s3", "s0")

    async def _look(self, store: Store, last: Found | None = None, limit: int = 9) -> Found:
        after = None if last is None else last.after
        return await store.ask(Look(1, after, FROM_THE_BEGINNING, 0, limit))
