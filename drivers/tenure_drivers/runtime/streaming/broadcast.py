"""Broadcast deltas of replies to observers in this process, and over a channel to other processes.

Deltas are never stored, and publishing never waits: each session has a bounded log.  An observer that is too slow for
it, reconnects too late, or connects to another process gets a `Gap` with the settled state.  The end of a run is read
from the store's events, so every process notices it, however the deltas were sent.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from attrs import evolve

from tenure.messages.types import Delta

from ...stores.base import Store
from ..changes import SessionChanges
from ..clock import new_id
from .log import Channel, DeltaLog, Gap, Settled, StreamMessage
from .observer import Observer

__all__ = ["Broadcast", "Channel", "Gap", "Observer", "StreamMessage", "Settled"]

EVICTED_AT_ONCE: Final = 16


class Broadcast:
    """The logs of all sessions of a process.  `publish`, `settle` and `hint` may be called from any thread."""

    def __init__(
        self,
        store: Store | None = None,
        channel: Channel | None = None,
        *,
        changes: SessionChanges | None = None,
        kept_max: int = 4096,
        chars_max: int = 262_144,
        feeds_max: int = 256,
        tail: int = 32,
        poll_s: float = 5.0,
    ) -> None:
        self.store, self.channel, self.changes = store, channel, changes
        self.kept_max, self.chars_max, self.feeds_max = kept_max, chars_max, feeds_max
        self.tail, self.poll_s = tail, poll_s
        self.epoch = new_id()  # tells cursors of this object from those of other processes
        self.ended = False
        self._high = 0  # the highest number used in any log
        self._feeds: OrderedDict[str, DeltaLog] = OrderedDict()
        self.lock = threading.Lock()

    # -- publishing

    def publish(
        self, session_id: str, run_id: str, attempt: int, delta: Delta, *, generation: int = 0
    ) -> None:
        """Show a delta.  It is ignored if its lease `generation` is older than that of the last publisher."""
        delta = evolve(delta, attempt=attempt)
        parcel = None
        with self._changing(session_id) as feed:
            if feed.take(run_id, generation, delta) and self.channel is not None:
                before, feed.sent = feed.sent, feed.last
                parcel = StreamMessage(
                    self.epoch, feed.last, before, session_id, run_id, generation, delta
                )
        if parcel is not None and self.channel is not None:
            self.channel.send(parcel)

    def receive(self, parcel: StreamMessage) -> None:
        """Take a message that another process published."""
        if parcel.origin == self.epoch:
            return
        with self._changing(parcel.session_id) as feed:
            missed = feed.missed(parcel)
            if missed is None or parcel.run_id in feed.over:
                return
            if missed:
                feed.append(parcel.run_id, None)
            feed.take(parcel.run_id, parcel.generation, parcel.delta)

    async def carry(self) -> None:
        """Receive messages of the channel until it ends."""
        if self.channel is not None:
            async for parcel in self.channel.parcels():
                self.receive(parcel)

    def settle(self, session_id: str, run_id: str, how: str, event: int) -> None:
        """Report that a run has ended.  With a store this is only a hint to read its events."""
        if self.store is not None:
            self.hint(session_id)
        else:
            self.record_settled(session_id, Settled(run_id, how, event))

    def record_settled(self, session_id: str, settled: Settled) -> None:
        """Record the end of a run that was read from the store."""
        with self._changing(session_id) as feed:
            feed.settle(settled)

    def hint(self, session_id: str) -> None:
        """Make observers of a session read its events; with an empty id, those of all sessions."""
        with self.lock:
            found = self._feeds.get(session_id)
            feeds = [found] if found else [] if session_id else list(self._feeds.values())
            for feed in feeds:
                feed.hinted = True
        for feed in feeds:
            self._wake(feed)

    # -- observing

    def observe(self, session_id: str, after: str | None = None) -> Observer:
        """Observe a session after a cursor; without one, from the first delta of runs that have not ended.

        With `async with` it misses nothing from then on; otherwise it begins with its first item.
        """
        with self.lock:
            feed = self._feed(session_id)
            start = feed.fresh if after is None else self._after(feed, after)
            feed.hinted = True  # the events may not have been read for a while
            observer = Observer(self, feed, start)
            feed.observers.add(observer)
        return observer

    def close(self) -> None:
        """End all observers after the items that exist now."""
        self.ended = True
        with self.lock:
            feeds = list(self._feeds.values())
        for feed in feeds:
            self._wake(feed)

    # -- logs

    def _after(self, feed: DeltaLog, cursor: str) -> int:
        """Return the number after a cursor; 0, which yields a gap, if the cursor is of another log."""
        epoch, _, number = cursor.partition(":")
        known = epoch == self.epoch and number.isascii() and number.isdigit() and len(number) < 20
        if not known or int(number) > feed.last:
            return 0
        return int(number) + 1

    @contextmanager
    def _changing(self, session_id: str) -> Iterator[DeltaLog]:
        with self.lock:
            feed = self._feed(session_id)
            yield feed
            self._high = max(self._high, feed.last)
        self._wake(feed)

    def _feed(self, session_id: str) -> DeltaLog:
        feed = self._feeds.get(session_id)
        if feed is None:
            self._evict()
            self._high += 1  # so an old cursor of this session yields a gap
            feed = DeltaLog(session_id, self._high + 1, self.kept_max, self.chars_max)
            self._feeds[session_id] = feed
        self._feeds.move_to_end(session_id)
        return feed

    def _evict(self) -> None:
        for _ in range(EVICTED_AT_ONCE):
            if len(self._feeds) < self.feeds_max:
                return
            session_id, feed = self._feeds.popitem(last=False)
            if feed.observers:
                self._feeds[session_id] = feed

    def _wake(self, feed: DeltaLog) -> None:
        with self.lock:
            observers = list(feed.observers)
        for observer in observers:
            observer.wake()
