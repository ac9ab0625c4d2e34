"""Receipts: what became of an input, awaited from any process that has opened the store."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterable
from typing import Protocol

from tenure.questions.core import InputStatus, Status, Statuses

from ..stores.base import Store, Unavailable

log = logging.getLogger("tenure")

POLL_S, POLL_S_MAX = 0.02, 0.5
PAGE = 64  # looked at together
OLDEST = 16


class ReceiptSource(Protocol):
    """The part of a runtime that a receipt needs."""

    store: Store

    def watch(self, session_id: str, input_id: str, /) -> asyncio.Future[InputStatus]: ...


class Receipt:
    """One input that is in a store."""

    def __init__(
        self, link: ReceiptSource, session_id: str, input_id: str, how: str = "known"
    ) -> None:
        self._link = link
        self.session_id, self.input_id, self.how = session_id, input_id, how

    def __repr__(self) -> str:
        return f"Receipt({self.session_id!r}, {self.input_id!r}, {self.how!r})"

    async def status(self) -> InputStatus | None:
        """Where it is now; None: there is no such input (any more)."""
        return await self._link.store.ask(Status(self.session_id, self.input_id))

    async def ended(self, timeout: float | None = None) -> InputStatus:
        """Wait until its run is over, or it has ended without one.  Raises TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            return await self._link.watch(self.session_id, self.input_id)


class InputWaiter:
    """Looks after everything of one session that somebody here waits for."""

    def __init__(self, store: Store, session_id: str) -> None:
        self.store, self.session_id = store, session_id
        self.waiting: dict[str, list[asyncio.Future[InputStatus]]] = {}
        self.fresh: dict[str, None] = {}  # to be looked at next
        self.woken = asyncio.Event()
        self.after = 0

    def add(self, input_id: str) -> asyncio.Future[InputStatus]:
        future: asyncio.Future[InputStatus] = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(input_id, []).append(future)
        self.nudge((input_id,))
        return future

    def nudge(self, input_ids: Iterable[str]) -> None:
        self.fresh.update(dict.fromkeys([i for i in input_ids if i in self.waiting]))
        if self.fresh:
            self.woken.set()

    async def run(self) -> None:
        """Until nobody waits any more.  Who works here says what to look at; the polls are for what is done elsewhere."""
        pause = POLL_S
        while self.waiting:
            self.woken.clear()
            told, ids = bool(self.fresh), self._next()
            try:
                found = await self._look(ids)
            except Unavailable:
                found = 0
            except Exception as error:
                self._fail(error)
                return
            if self.fresh or (not told and found == len(ids)):
                continue
            pause = POLL_S if found and not told else min(pause * 1.5, POLL_S_MAX)
            try:
                async with asyncio.timeout(pause):
                    await self.woken.wait()
            except TimeoutError:
                pass

    def _next(self) -> list[str]:
        """Those that we were told of, else the oldest, which are likely to end first, and some others in turn."""
        if self.fresh:
            ids = list(itertools.islice(self.fresh, PAGE))
            for input_id in ids:
                del self.fresh[input_id]
            return [i for i in ids if i in self.waiting]
        everybody = list(self.waiting)
        start = self.after if self.after < len(everybody) else 0
        self.after = start + OLDEST
        return list(dict.fromkeys(everybody[:OLDEST] + everybody[start : self.after]))

    async def _look(self, ids: list[str]) -> int:
        if not ids:
            return 0
        found = 0
        statuses = await self.store.ask(Statuses(self.session_id, tuple(ids)))
        for input_id, status in zip(ids, statuses, strict=True):
            if status is None:
                self._settle(input_id, LookupError(f"no input {input_id} in {self.session_id}"))
            elif status.ended:
                self._settle(input_id, status)
            elif all([f.done() for f in self.waiting.get(input_id, ())]):
                self.waiting.pop(input_id, None)  # nobody waits for it any more
            else:
                continue
            found += 1
        return found

    def _settle(self, input_id: str, answer: InputStatus | Exception) -> None:
        for future in self.waiting.pop(input_id, ()):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _fail(self, error: Exception) -> None:
        log.error("cannot look after session %s: %s", self.session_id, error)
        for input_id in list(self.waiting):
            self._settle(input_id, error)


class InputWaiters:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.watches: dict[str, InputWaiter] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def watch(self, session_id: str, input_id: str) -> asyncio.Future[InputStatus]:
        watch = self.watches.get(session_id)
        if watch is None:
            watch = self.watches[session_id] = InputWaiter(self.store, session_id)
        future = watch.add(input_id)
        if session_id not in self.tasks:
            self.tasks[session_id] = asyncio.create_task(self._run(session_id, watch))
        return future

    async def _run(self, session_id: str, watch: InputWaiter) -> None:
        try:
            await watch.run()
        finally:
            self.tasks.pop(session_id, None)
            self.watches.pop(session_id, None)

    def nudge(self, session_id: str, input_ids: Iterable[str]) -> None:
        if session_id in self.watches:
            self.watches[session_id].nudge(input_ids)

    async def stop(self) -> None:
        tasks = list(self.tasks.values())
        for watch in self.watches.values():
            for input_id in list(watch.waiting):
                for future in watch.waiting.pop(input_id):
                    future.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
