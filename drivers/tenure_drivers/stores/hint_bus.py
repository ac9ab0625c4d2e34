"""Hints to the subscribers of one process, on any event loop.  A hint may be lost (STORE-15)."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterable

from tenure.outcome import Hint
from tenure.replace import replace

__all__ = ["HintBus"]


BUFFER_MAX = 1024  # hints kept for a slow subscriber; older ones are dropped


class HintSubscription(AsyncIterator[Hint]):
    """An iterator over hints; it ends when the store is closed."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.buffer: deque[Hint] = deque(maxlen=BUFFER_MAX)
        self.ended = False
        self.waiting: asyncio.Future[None] | None = None

    async def __anext__(self) -> Hint:
        while not self.buffer:
            self.waiting = waiting = self.loop.create_future()
            if self.buffer:  # a hint arrived before `waiting` was visible to `deliver`
                break
            if self.ended:
                raise StopAsyncIteration
            await waiting
        return self.buffer.popleft()

    def deliver(self, hints: Iterable[Hint]) -> None:
        """Add hints and wake the subscriber; from any thread."""
        self.buffer.extend(hints)
        if self.waiting is not None:
            try:
                self.loop.call_soon_threadsafe(self._wake)
            except RuntimeError:  # its loop is closed
                self.ended = True

    def end(self) -> None:
        """End the iterator after the hints that it still holds."""
        self.ended = True
        self.deliver(())

    def _wake(self) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)
        self.waiting = None


class HintBus:
    """Gives each published hint to every subscription."""

    def __init__(self) -> None:
        self._listeners: weakref.WeakSet[HintSubscription] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._ended = False

    def listen(self) -> HintSubscription:
        """Subscribe to hints from now on.  Call it on the event loop that will read them."""
        listener = HintSubscription()
        with self._lock:
            self._listeners.add(listener)
        if self._ended:
            listener.end()
        return listener

    def publish(self, hints: Iterable[Hint]) -> None:
        """Give hints to all subscriptions; from any thread."""
        if not self._listeners:
            return
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener.deliver(hints)

    def for_others(self, hints: Iterable[Hint]) -> list[Hint]:
        """RELAY-23: return the hints for other processes.  If somebody here listens, this process sends by itself."""
        if not self._listeners:
            return list(hints)
        return [
            replace(hint, outbound=False) if hint.outbound else hint
            for hint in hints
            if not hint.outbound or hint.due_at_ms is not None or hint.cancel_run or hint.steer_run
        ]

    def end(self) -> None:
        """End all subscriptions, also those that come later."""
        self._ended = True
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener.end()
