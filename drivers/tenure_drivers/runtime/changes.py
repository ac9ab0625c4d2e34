"""Notify listeners of the sessions that change, whichever process changes them.

Two sources: the store's hints, and its index of sessions by the time of their last change.  Hints are immediate, but
a store gives none for a session that has no more work, and may lose some.  So the index is polled as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections.abc import AsyncIterator, Generator
from typing import Any, Final, Protocol, TypeVar

from attrs import frozen

from tenure.indexes import CHANGED
from tenure.outcome import Hint
from tenure.queries import First, Query, Question
from tenure.questions.feed import FEED_PAGE, ChangedSessions

from ..stores.base import Unavailable

__all__ = ["ReadableStore", "SessionChanges", "SessionListener"]


A = TypeVar("A")

POLL_S: Final = 0.02  # after a change or a new subscription; half as long again after each poll without a change
POLL_S_MAX: Final = 0.2
RECONNECT_S: Final = 0.5
OVERLAP_MS: Final = 200  # commits may become visible in another order than that of their times

log = logging.getLogger("tenure")


@frozen
class LastChange(Question[int]):
    """When a session changed last, in milliseconds of the store's clock; 0 for an empty store."""

    def steps(self) -> Generator[Query[Any], Any, int]:
        """Read the end of the index."""
        found = yield First(CHANGED, (), 1, backwards=True)
        return found[0].changed_at_ms if found else 0


class ReadableStore(Protocol):
    """The part of a store that is needed to follow its sessions."""

    async def ask(self, question: Question[A], /) -> A:
        """As in Store."""
        ...

    def hints(self) -> AsyncIterator[Hint]:
        """As in Store."""
        ...


class ChangeListener(Protocol):
    """Is notified of changes; subscriptions do not keep it alive."""

    def changed(self, session_id: str, /) -> None:
        """Called in the event loop.  The session may have changed: false alarms are allowed."""
        ...


class SessionListener:
    """Wakes one task when a session changes."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()

    def changed(self, session_id: str) -> None:
        """Called by SessionChanges."""
        self.woken.set()

    async def wait(self, timeout_s: float) -> None:
        """Wait for a change, or for the time to pass."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.woken.wait()


class SessionChanges:
    """Notifies subscribers when their sessions change.  Works in one event loop, and only while it has subscribers.

    A change is reported at once if the store gives a hint, else after `poll_s` to `poll_s_max` seconds.  A change that
    is dated before the last ones, because a clock was set back, may be missed: subscribers poll rarely as well.
    """

    def __init__(
        self, store: ReadableStore, *, poll_s: float = POLL_S, poll_s_max: float = POLL_S_MAX
    ) -> None:
        self._store = store
        self._poll_s, self._poll_s_max = poll_s, poll_s_max
        self._listeners: dict[str, weakref.WeakSet[ChangeListener]] = {}
        self._next_event: dict[str, int] = {}  # of subscribed sessions, when they were polled last
        self._since_ms: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._poll_soon = asyncio.Event()
        self._poll_now = False

    def subscribe(self, session_id: str, listener: ChangeListener) -> None:
        """Notify this listener of changes of a session from now on.  A first, false alarm may follow soon."""
        self._listeners.setdefault(session_id, weakref.WeakSet()).add(listener)
        self._poll_soon.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def unsubscribe(self, session_id: str, listener: ChangeListener) -> None:
        """End a subscription; it is no error if there is none."""
        if (found := self._listeners.get(session_id)) is not None:
            found.discard(listener)
            if not found:
                self._forget(session_id)
        if not self._listeners:
            self._poll_soon.set()

    async def stop(self) -> None:
        """End all subscriptions."""
        self._listeners.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _forget(self, session_id: str) -> None:
        del self._listeners[session_id]
        self._next_event.pop(session_id, None)

    def _notify(self, session_id: str) -> None:
        for listener in list(self._listeners.get(session_id, ())):
            listener.changed(session_id)

    def _notify_all(self) -> None:
        for session_id in list(self._listeners):
            self._notify(session_id)

    async def _run(self) -> None:
        listening = asyncio.create_task(self._listen())
        loop = asyncio.get_running_loop()
        pause_s = self._poll_s
        at_s = loop.time() + pause_s
        try:
            while self._listeners:
                if await self._sleep_until(at_s):
                    at_s = 0.0 if self._poll_now else min(at_s, loop.time() + self._poll_s)
                    pause_s = self._poll_s
                    continue
                self._poll_now = False
                changed = await self._poll()
                pause_s = self._poll_s if changed else min(1.5 * pause_s, self._poll_s_max)
                at_s = loop.time() + pause_s
        finally:
            self._task, self._since_ms = None, None
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _sleep_until(self, at_s: float) -> bool:
        """Return True if a subscription or a hint has ended the sleep."""
        try:
            async with asyncio.timeout_at(at_s):
                await self._poll_soon.wait()
        except TimeoutError:
            return False
        self._poll_soon.clear()
        return True

    async def _listen(self) -> None:
        while True:
            try:
                async for hint in self._store.hints():
                    if hint.session_id:
                        self._notify(hint.session_id)
                    else:  # something changed, in a session that is not named
                        self._poll_now = True
                        self._poll_soon.set()
            except Exception as error:
                log.debug("hints are not available: %s", error)
            await asyncio.sleep(RECONNECT_S)

    async def _poll(self) -> bool:
        """Notify of sessions that have changed since the last poll; return whether there were any."""
        for session_id in [s for s, listeners in self._listeners.items() if not listeners]:
            self._forget(session_id)
        try:
            if self._since_ms is None:
                self._since_ms = await self._store.ask(LastChange())
                self._notify_all()  # a change before this poll would not be noticed
                return False
            return await self._read_changes(self._since_ms)
        except Unavailable:
            pass  # a later poll goes on from the same time
        except Exception as error:  # a row cannot be read: so the listeners read their own
            log.debug("changed sessions cannot be read: %s", error)
        self._notify_all()
        return False

    async def _read_changes(self, since_ms: int) -> bool:
        moment_ms, session_id, changed = max(since_ms - OVERLAP_MS, 0), "", False
        while True:
            page = await self._store.ask(ChangedSessions((moment_ms, session_id)))
            for session in page:
                if session.session_id not in self._listeners:
                    continue
                if self._next_event.get(session.session_id) != session.next_event:
                    self._next_event[session.session_id] = session.next_event
                    self._notify(session.session_id)
                    changed = True
            if page:
                moment_ms, session_id = page[-1].changed_at_ms, page[-1].session_id
                self._since_ms = max(since_ms, moment_ms)
            if len(page) < FEED_PAGE:
                return changed
