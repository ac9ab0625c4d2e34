"""Hints to whoever listens in this process: any number of listeners, on any event loop.  Lossy by contract."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterable

from tenure.outcome import Hint

KEPT_MAX = 1024  # of a listener that does not come to listen


class HintSubscription(AsyncIterator[Hint]):
    """Ends when the store is closed."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.kept: deque[Hint] = deque(maxlen=KEPT_MAX)
        self.ended = False
        self.waiting: asyncio.Future[None] | None = None

    async def __anext__(self) -> Hint:
        while not self.kept:
            self.waiting = waiting = self.loop.create_future()
            if self.kept:  # it came before anybody could see us wait, as may the end
                break
            if self.ended:
                raise StopAsyncIteration
            await waiting
        return self.kept.popleft()

    def deliver(self, hints: Iterable[Hint]) -> None:
        """From any thread."""
        self.kept.extend(hints)
        if self.waiting is not None:
            try:
                self.loop.call_soon_threadsafe(self._wake)
            except RuntimeError:  # its loop is closed
                self.ended = True

    def end(self) -> None:
        self.ended = True
        self.deliver(())

    def _wake(self) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)
        self.waiting = None


class HintBus:
    def __init__(self) -> None:
        self._listeners: weakref.WeakSet[HintSubscription] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._ended = False

    def listen(self) -> HintSubscription:
        listener = HintSubscription()
        with self._lock:
            self._listeners.add(listener)
        if self._ended:
            listener.end()
        return listener

    def publish(self, hints: Iterable[Hint]) -> None:
        if not self._listeners:
            return
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener.deliver(hints)

    def end(self) -> None:
        self._ended = True
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener.end()
