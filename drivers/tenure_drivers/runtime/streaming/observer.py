"""Observers: iterate over the deltas and ended runs of one session."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any, Protocol, Self

from attrs import frozen

from tenure.event import EventKind
from tenure.messages.types import Delta
from tenure.queries import Get, Question
from tenure.questions.core import PAGE, EventsAfter, LoadTranscript
from tenure.questions.open_turn import load_open_turn
from tenure.records import Session

from ...stores.base import Store, Unavailable
from ..changes import SessionChanges
from .log import DeltaLog, Gap, Item, Settled

__all__ = ["Observer"]


@frozen
class SettledState(Question[Gap]):
    """Ask for the settled state of a session, from one snapshot."""

    session_id: str
    limit: int

    def steps(self) -> Any:
        session = yield Get(Session, (self.session_id,))
        if session is None:
            return Gap()
        lines = yield from LoadTranscript(self.session_id, self.limit).steps()
        open_turn = (yield from load_open_turn(session, self.limit)) if self.limit else None
        return Gap(lines, session.revision, session.next_event - 1, open_turn)


class DeltaSource(Protocol):
    """The part of a Broadcast that an observer needs."""

    store: Store | None
    changes: SessionChanges | None
    epoch: str
    ended: bool
    tail: int
    poll_s: float
    lock: threading.Lock

    def record_settled(self, session_id: str, settled: Settled) -> None: ...


class Observer(AsyncIterator[Delta | Settled | Gap]):
    """Yields deltas, ended runs and gaps.  `cursor` and `run_id` belong to the last item.  Use it in one task.

    If reading a gap's state from the store fails, the error is raised here; the next item tries again.
    """

    def __init__(self, source: DeltaSource, feed: DeltaLog, start: int) -> None:
        self.run_id: str | None = None
        self._source, self._feed, self._next = source, feed, start
        self._lost = start < feed.first
        self._ended = False
        self._subscribed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: asyncio.Future[None] | None = None

    @property
    def cursor(self) -> str:
        """The position after the last item returned; pass it to `observe` to go on from there."""
        return f"{self._source.epoch}:{max(self._next - 1, 0)}"

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the observation; a pending `anext` stops."""
        with self._source.lock:
            self._feed.observers.discard(self)
        self._ended = True
        if self._source.changes is not None and self._subscribed:
            self._source.changes.unsubscribe(self._feed.session_id, self)
        self.wake()

    async def __anext__(self) -> Delta | Settled | Gap:
        await self._begin()
        while not self._ended:
            if self._lost:
                return await self._fill()
            await self._look_up()
            with self._source.lock:
                item = self._look()
                if item is None and not self._lost:
                    self._waiting = asyncio.get_running_loop().create_future()
            if item is not None:
                return item
            if not self._lost:
                if self._source.ended:
                    break
                await self._wait()
        raise StopAsyncIteration

    def wake(self) -> None:
        """Make `__anext__` look again.  May be called from any thread."""
        loop = self._loop
        if self._waiting is not None and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._woken)

    def changed(self, session_id: str) -> None:
        """Called by SessionChanges."""
        self._feed.hinted = True
        self.wake()

    def _woken(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def _wait(self) -> None:
        assert self._waiting is not None
        try:
            await asyncio.wait({self._waiting}, timeout=self._source.poll_s)
            if not self._waiting.done():  # hints may be lost
                self._feed.hinted = True
        finally:
            self._waiting.cancel()
            self._waiting = None

    async def _look_up(self) -> None:
        """Read events from the store if a change was reported."""
        store = self._source.store
        if store is not None and self._feed.hinted:
            try:
                await self._catch_up(store)
            except Unavailable:
                pass  # it is read again after the next hint or poll

    def _look(self) -> Item | None:
        """Return the next item, or None.  The caller holds the lock."""
        feed = self._feed
        if self._next < feed.first:
            self._lost = True
        elif self._next <= feed.last:
            entry = feed.entries[self._next - feed.first]
            self._next += 1
            self._lost = entry.item is None
            self.run_id = entry.run_id
            return entry.item
        return None

    async def _begin(self) -> None:
        """Subscribe, and read which events are older than this observer."""
        self._loop = asyncio.get_running_loop()
        if self._source.changes is not None and not (self._subscribed or self._ended):
            self._subscribed = True
            self._source.changes.subscribe(self._feed.session_id, self)
        store, feed = self._source.store, self._feed
        if store is None or feed.seen is not None:
            return
        standing = await store.ask(SettledState(feed.session_id, 0))
        with self._source.lock:
            if feed.seen is None:
                feed.past = standing.event
                feed.seen = max(standing.event - PAGE, 0) if feed.entries else standing.event

    async def _fill(self) -> Gap:
        """Read the settled state, and skip the items that it contains."""
        store, feed, gap = self._source.store, self._feed, Gap()
        if store is not None:
            gap = await store.ask(SettledState(feed.session_id, self._source.tail))
            await self._catch_up(store)
        with self._source.lock:
            self._next = max(self._next, feed.first, feed.first_after(gap.event))
            self._lost, self.run_id = False, None
        return gap

    async def _catch_up(self, store: Store) -> None:
        """Read which runs have ended since the last read."""
        feed = self._feed
        feed.hinted = False
        while True:
            seen = feed.seen or 0
            rows = await store.ask(EventsAfter(feed.session_id, seen))
            for row in rows:
                for event, happened in enumerate(row.events, row.seq):
                    if happened.kind is EventKind.RUN_FINISHED:
                        run_id = happened.run_id or ""
                        settled = Settled(run_id, happened.detail, event)
                        self._source.record_settled(feed.session_id, settled)
            last = max((row.seq + len(row.events) - 1 for row in rows), default=seen)
            with self._source.lock:
                feed.seen = max(feed.seen or 0, last)
            if len(rows) < PAGE:
                return
