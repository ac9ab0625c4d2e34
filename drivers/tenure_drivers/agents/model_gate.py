"""Holds back the calls of a model that are over a limit.  It decides nothing: see tenure.worker.limits.  Spec: specs/chat.md."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable

from tenure.worker.limits import Usage, admit

from ..runtime.clock import boot_clock_ms
from ..runtime.limits import Limit, keys_of

__all__ = ["ModelGate"]


class ModelGate:
    """Lets calls of a model begin, within a limit and in the order of their arrival (CHAT-45)."""

    def __init__(self, limit: Limit | None, clock: Callable[[], int] = boot_clock_ms) -> None:
        self._limits = () if limit is None else (limit,)
        self._clock = clock
        self._usage = Usage(tuple([each.rule for each in self._limits]))
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._ids = itertools.count(1)

    @contextlib.asynccontextmanager
    async def call(self, session_id: str, frame: str) -> AsyncIterator[bool]:
        """Wait until a call of this session may begin; the body is the call.  Yields whether it had to wait."""
        if not self._limits:
            yield False
            return
        call, loop = str(next(self._ids)), asyncio.get_running_loop()
        may_begin = self._waiting[call] = loop.create_future()
        self._usage = self._usage.learn([(call, keys_of(self._limits, session_id, frame))])
        self._admit()
        waits = not may_begin.done()
        try:
            await may_begin
        except BaseException:  # the call is aborted; it may have been let in a moment ago
            if self._waiting.pop(call, None) is None:
                self._usage = self._usage.release(call, self._clock(), in_vain=True)
            self._admit()
            raise
        try:
            yield waits
        finally:
            self._usage = self._usage.release(call, self._clock())
            self._admit()

    def _admit(self) -> None:
        """Let in the calls that may begin now, and look at the others again in time."""
        now_ms = self._clock()
        self._usage = self._usage.forget(self._waiting)
        self._usage, taken, wake_ms = admit(
            self._usage, tuple(self._waiting), len(self._waiting), now_ms
        )
        for call in taken:
            may_begin = self._waiting.pop(call)
            if not may_begin.done():
                may_begin.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wake_ms is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later((wake_ms - now_ms) / 1000, self._admit)
