"""Observers receive deltas.  An observer that has missed some gets a gap with the settled transcript."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from attrs import define, field

from tenure.commands import Admit, Begin, Begun, Checkpoint, Commit, NewInput
from tenure.machines.lease import Owner
from tenure.messages.types import Delta
from tenure.outcome import Refused
from tenure.transcript import NewNode, Role
from tenure_drivers.runtime.streaming.broadcast import (
    Broadcast,
    Channel,
    Gap,
    Observer,
    Settled,
    StreamMessage,
)
from tenure_drivers.stores.base import Unavailable
from tenure_drivers.stores.memory import MemoryStore

S = "session-1"
POLL_S = 600.0  # no test waits for a poll


def piece(i: int) -> Delta:
    return Delta("text", f"{i} ")


def published(broadcast: Broadcast, *numbers: int, run_id: str = "run-1", **more: Any) -> None:
    for i in numbers:
        broadcast.publish(S, run_id, 1, piece(i), **more)


async def seen(observer: Observer, count: int) -> list[Delta | Settled | Gap]:
    return [await anext(observer) for _ in range(count)]


@define
class Worker:
    """Admits and answers one prompt after another."""

    store: MemoryStore = field(factory=lambda: MemoryStore(clock=lambda: 1_000))
    runs: int = 0

    async def run(self, show: Callable[[str], None] = lambda run_id: None) -> str:
        """Execute a run.  `show` is called before its commit."""
        self.runs += 1
        i = self.runs
        new = NewInput(f"input-{i}", "prompt", f"question {i}")
        assert not isinstance(await self.store.execute(Admit(S, (new,))), Refused)
        owner = Owner("w", f"w-{i}")
        begun = await self.store.execute(Begin(S, f"lease-{i}", f"run-{i}", owner, 10_000))
        assert isinstance(begun, Begun)
        show(begun.run_id)
        answer = NewNode(Role.ASSISTANT, f"answer {i}")
        end = Commit(
            S, begun.fence, begun.run_id, begun.turn, begun.n, begun.revision, nodes=(answer,)
        )
        assert not isinstance(await self.store.execute(end), Refused)
        return begun.run_id


def settled(item: object) -> str:
    assert isinstance(item, Settled)
    return item.run_id


def answers(item: object) -> list[str]:
    assert isinstance(item, Gap)
    return [line.node.body for line in item.lines]


# -- in one process


def test_all_observers_see_all_deltas_in_order() -> None:
    async def run() -> None:
        broadcast = Broadcast(poll_s=POLL_S)
        observers = [broadcast.observe(S), broadcast.observe(S)]
        other = broadcast.observe("session-2")
        tasks = [asyncio.create_task(seen(o, 3)) for o in observers]
        await asyncio.sleep(0)  # both observers wait

        published(broadcast, 1, 2)
        broadcast.publish(S, "run-1", 2, Delta("call", "add "))
        broadcast.publish("session-2", "run-9", 1, piece(9))

        expected = [piece(1), piece(2), Delta("call", "add ", 2)]
        assert [await task for task in tasks] == [expected, expected]
        assert await anext(other) == piece(9)
        assert observers[0].run_id == "run-1"

    asyncio.run(run())


def test_a_late_observer_sees_the_current_run_from_its_beginning() -> None:
    async def run() -> None:
        broadcast = Broadcast(poll_s=POLL_S)
        published(broadcast, 1)
        broadcast.settle(S, "run-1", "finished: consumed", 3)
        published(broadcast, 2, 3, run_id="run-2")

        assert await seen(broadcast.observe(S), 2) == [piece(2), piece(3)]

    asyncio.run(run())


def test_a_thread_may_publish() -> None:
    async def run() -> None:
        broadcast = Broadcast(poll_s=POLL_S)
        observer = broadcast.observe(S)
        task = asyncio.create_task(seen(observer, 100))
        await asyncio.sleep(0)

        thread = threading.Thread(target=published, args=(broadcast, *range(100)))
        thread.start()

        assert await task == [piece(i) for i in range(100)]
        thread.join()

    asyncio.run(run())


def test_a_slow_observer_delays_no_other_and_gets_a_gap() -> None:
    async def run() -> None:
        worker = Worker()
        await worker.run()
        broadcast = Broadcast(worker.store, kept_max=4, poll_s=POLL_S)
        async with broadcast.observe(S) as slow, broadcast.observe(S) as quick:
            for i in range(10):
                published(broadcast, i, run_id="run-2")
                assert await anext(quick) == piece(i)

            gap, *more = await seen(slow, 5)

            assert answers(gap) == ["answer 1"]
            assert more == [piece(i) for i in range(6, 10)]
            assert len(broadcast.observe(S)._feed.entries) == 4

    asyncio.run(run())


def test_the_number_of_kept_characters_is_limited() -> None:
    async def run() -> None:
        broadcast = Broadcast(chars_max=100, poll_s=POLL_S)
        observer = broadcast.observe(S)
        big = Delta("text", "x" * 60)
        for _ in range(5):
            broadcast.publish(S, "run-1", 1, big)

        assert await seen(observer, 2) == [Gap(), big]

    asyncio.run(run())


def test_deltas_of_an_earlier_generation_are_ignored() -> None:
    async def run() -> None:
        broadcast = Broadcast(poll_s=POLL_S)
        observer = broadcast.observe(S)
        published(broadcast, 1, generation=1)
        published(broadcast, 2, generation=2)
        published(broadcast, 3, generation=1)
        published(broadcast, 4, generation=2)

        assert await seen(observer, 3) == [piece(1), piece(2), piece(4)]

    asyncio.run(run())


def test_an_observer_ends_when_it_or_the_broadcast_is_closed() -> None:
    async def run() -> None:
        broadcast = Broadcast(poll_s=POLL_S)
        one, other = broadcast.observe(S), broadcast.observe(S)
        tasks = [asyncio.create_task(seen(o, 2)) for o in (one, other)]
        published(broadcast, 1)
        await asyncio.sleep(0)

        one.close()
        broadcast.close()

        for task in tasks:
            with pytest.raises(StopAsyncIteration):
                await _result(task)
        assert [item async for item in broadcast.observe(S)] == [piece(1)]

    async def _result(task: asyncio.Task[list[Any]]) -> None:
        try:
            await task
        except RuntimeError as error:  # as a coroutine raises StopAsyncIteration
            assert error.__cause__ is not None
            raise error.__cause__ from None

    asyncio.run(run())


# -- settled runs


def test_a_settled_run_is_reported_after_its_deltas() -> None:
    async def run() -> None:
        worker = Worker()
        await worker.run()
        broadcast = Broadcast(worker.store, poll_s=POLL_S)
        async with broadcast.observe(S) as observer:
            await worker.run(lambda run_id: published(broadcast, 1, 2, run_id=run_id))
            broadcast.hint(S)

            *shown, last = await seen(observer, 3)

            assert shown == [piece(1), piece(2)]
            assert isinstance(last, Settled)
            assert (last.run_id, last.how) == ("run-2", "finished: consumed")

    asyncio.run(run())


def test_a_run_that_settled_before_the_first_read_is_reported() -> None:
    async def run() -> None:
        worker = Worker()
        await worker.run()
        broadcast = Broadcast(worker.store, poll_s=POLL_S)
        observer = broadcast.observe(S)
        await worker.run(lambda run_id: published(broadcast, 1, run_id=run_id))

        shown, last = await seen(observer, 2)

        assert (shown, settled(last)) == (piece(1), "run-2")

    asyncio.run(run())


def test_after_a_lost_hint_a_poll_finds_the_settled_run() -> None:
    async def run() -> None:
        worker = Worker()
        await worker.run()
        broadcast = Broadcast(worker.store, poll_s=0.001)
        async with broadcast.observe(S) as observer:
            task = asyncio.create_task(seen(observer, 1))
            await worker.run()

            assert settled((await task)[0]) == "run-2"

    asyncio.run(run())


def test_deltas_of_a_settled_run_are_not_shown() -> None:
    async def run() -> None:
        worker = Worker()
        await worker.run()
        broadcast = Broadcast(worker.store, poll_s=POLL_S)
        async with broadcast.observe(S) as observer:
            await worker.run()
            broadcast.hint(S)
            assert settled(await anext(observer)) == "run-2"

            published(broadcast, 1, run_id="run-2")
            published(broadcast, 2, run_id="run-3")

            assert await anext(observer) == piece(2)

    asyncio.run(run())


def test_an_unavailable_store_delays_the_report_of_a_settled_run() -> None:
    class Interrupted(MemoryStore):
        unavailable = False

        async def ask(self, question: Any) -> Any:
            if self.unavailable:
                raise Unavailable("interrupted")
            return await super().ask(question)

    async def run() -> None:
        store = Interrupted(clock=lambda: 1_000)
        worker = Worker(store)
        await worker.run()
        broadcast = Broadcast(store, poll_s=POLL_S, kept_max=2)
        async with broadcast.observe(S) as observer:
            await worker.run(lambda run_id: published(broadcast, 1, run_id=run_id))
            store.unavailable = True
            broadcast.hint(S)
            assert await anext(observer) == piece(1)
            store.unavailable = False
            broadcast.settle(S, "run-2", "finished", 0)
            assert settled(await anext(observer)) == "run-2"

            store.unavailable = True
            published(broadcast, *range(9), run_id="run-3")
            with pytest.raises(Unavailable):
                await anext(observer)
            store.unavailable = False
            assert answers(await anext(observer)) == ["answer 1", "answer 2"]

    asyncio.run(run())


# -- cursors


def test_a_reader_that_reconnects_continues_at_its_cursor() -> None:
    async def run() -> None:
        worker = Worker()
        broadcast = Broadcast(worker.store, poll_s=POLL_S)
        async with broadcast.observe(S) as observer:
            published(broadcast, 1, 2)
            await seen(observer, 1)
        published(broadcast, 3)
        await worker.run()

        async with broadcast.observe(S, observer.cursor) as again:
            *shown, last = await seen(again, 3)

        assert (shown, settled(last)) == ([piece(2), piece(3)], "run-1")

    asyncio.run(run())


@pytest.mark.parametrize(
    "cursor", ["", "x", "x:1", ":", "0:0", "{}:999", "{}:-1", "{}:" + "9" * 5000]
)
def test_an_invalid_cursor_gets_the_settled_transcript(cursor: str) -> None:
    async def run() -> None:
        worker = Worker()
        await worker.run()
        broadcast = Broadcast(worker.store, poll_s=POLL_S)
        await worker.run(lambda run_id: published(broadcast, 1, run_id=run_id))
        published(broadcast, 2, run_id="run-3")

        async with broadcast.observe(S, cursor.format(broadcast.epoch)) as observer:
            gap, shown = await seen(observer, 2)

        assert answers(gap) == ["answer 1", "answer 2"]
        assert shown == piece(2)  # what the gap covers is not shown again

    asyncio.run(run())


def test_a_gap_has_the_prompts_and_the_uncommitted_messages_of_the_turn_in_progress() -> None:
    async def run() -> None:
        worker = Worker()
        await worker.run()
        new = NewInput("input-2", "prompt", "question 2")
        await worker.store.execute(Admit(S, (new,)))
        begun = await worker.store.execute(Begin(S, "lease-2", "run-2", Owner("w", "w-2"), 10_000))
        assert isinstance(begun, Begun)
        broadcast = Broadcast(worker.store, poll_s=POLL_S)

        before = await anext(broadcast.observe(S, "x"))
        part = NewNode(Role.ASSISTANT, "half an answer")
        written = Checkpoint(S, begun.fence, begun.run_id, begun.turn, begun.n, nodes=(part,))
        assert not isinstance(await worker.store.execute(written), Refused)
        after = await anext(broadcast.observe(S, "x"))
        short = Broadcast(worker.store, poll_s=POLL_S, tail=2)
        for n in range(1, 4):
            part = NewNode(Role.ASSISTANT, f"part {n}")
            written = Checkpoint(S, begun.fence, begun.run_id, begun.turn, n, nodes=(part,))
            assert not isinstance(await worker.store.execute(written), Refused)
        last = await anext(short.observe(S, "x"))

        assert provisional(last) == (["question 2"], ["part 2", "part 3"])
        assert provisional(before) == (["question 2"], [])
        assert provisional(after) == (["question 2"], ["half an answer"])
        assert answers(after) == ["answer 1"]

    asyncio.run(run())


def provisional(item: object) -> tuple[list[str], list[str]]:
    assert isinstance(item, Gap) and item.open is not None
    return [i.payload for i in item.open.inputs], [n.body for n in item.open.nodes]


def test_a_cursor_of_another_process_gets_the_settled_transcript() -> None:
    async def run() -> None:
        worker = Worker()
        await worker.run()
        here, there = (Broadcast(worker.store, poll_s=POLL_S) for _ in range(2))
        async with here.observe(S) as observer:
            published(here, 1, run_id="run-2")
            await anext(observer)

        async with there.observe(S, observer.cursor) as again:
            gap = await anext(again)
            assert isinstance(gap, Gap)
            assert (answers(gap), gap.revision) == (["answer 1"], 1)
            cursor = again.cursor
        async with there.observe(S, cursor) as once_more:
            published(there, 2, run_id="run-2")
            assert await anext(once_more) == piece(2)

    asyncio.run(run())


def test_a_session_without_observers_is_dropped_and_its_cursor_gets_a_gap() -> None:
    async def run() -> None:
        broadcast = Broadcast(feeds_max=3, poll_s=POLL_S)
        left = broadcast.observe(S)
        published(broadcast, 1)
        await anext(left)
        left.close()
        watched = broadcast.observe("watched")
        for i in range(20):
            broadcast.publish(f"other-{i}", "run-1", 1, piece(i))
        broadcast.publish("watched", "run-1", 1, piece(7))

        assert len(broadcast._feeds) <= 4
        assert await anext(watched) == piece(7)
        assert await anext(broadcast.observe(S, left.cursor)) == Gap()

    asyncio.run(run())


# -- in other processes


class QueueChannel(Channel):
    """A channel whose messages go through a queue as JSON.  `lose` returns True for messages to drop."""

    def __init__(self, lose: Callable[[int], bool] = lambda i: False) -> None:
        self.sent: list[bytes] = []
        self.queues: list[asyncio.Queue[bytes]] = []
        self.lose = lose

    def send(self, parcel: StreamMessage, /) -> None:
        self.sent.append(msgspec.json.encode(parcel))
        if not self.lose(len(self.sent)):
            for queue in self.queues:
                queue.put_nowait(self.sent[-1])

    async def parcels(self) -> AsyncIterator[StreamMessage]:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.queues.append(queue)
        while True:
            yield msgspec.json.decode(await queue.get(), type=StreamMessage)


async def shown_in_other_process(
    channel: QueueChannel, count: int, *runs: Callable[[Broadcast], None]
) -> list[Any]:
    """Return the first items that an observer of a second broadcast gets from the first one."""
    worker = Worker()
    await worker.run()
    here, there = (Broadcast(worker.store, channel, poll_s=POLL_S) for _ in range(2))
    tasks = [asyncio.create_task(b.carry()) for b in (here, there)]
    while len(channel.queues) < 2:
        await asyncio.sleep(0)
    async with there.observe(S) as observer:
        for run in runs:
            run(here)
        items = await seen(observer, count)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return items


def test_another_process_sees_all_deltas_over_a_channel() -> None:
    def show(here: Broadcast) -> None:
        published(here, *range(5), run_id="run-2")

    assert asyncio.run(shown_in_other_process(QueueChannel(), 5, show)) == [
        piece(i) for i in range(5)
    ]


def test_messages_lost_by_a_channel_cause_a_gap() -> None:
    def show(here: Broadcast) -> None:
        published(here, *range(5), run_id="run-2")

    items = asyncio.run(shown_in_other_process(QueueChannel(lambda i: i in (2, 3)), 4, show))

    assert answers(items[1]) == ["answer 1"]
    assert [items[0], *items[2:]] == [piece(0), piece(3), piece(4)]


def test_repeated_and_reordered_messages_are_shown_once() -> None:
    def show(here: Broadcast) -> None:
        published(here, *range(3), run_id="run-2")
        for queue in channel.queues:
            for i in (0, 2, 1):
                queue.put_nowait(channel.sent[i])
        published(here, 3, run_id="run-2")

    channel = QueueChannel()

    assert asyncio.run(shown_in_other_process(channel, 4, show)) == [piece(i) for i in range(4)]
