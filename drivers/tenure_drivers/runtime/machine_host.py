"""What the hosts of runners share: the calls of the store, one after the other, and the replies to requests."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from tenure.outcome import Stepped
from tenure.runner.protocol import (
    Answered,
    Ask,
    Execute,
    OutcomeUnknown,
    StoreBroken,
    StoreUnavailable,
    TimerFired,
)

from ..stores import base
from .effect_loop import EffectLoop

__all__ = ["MachineHost"]


log = logging.getLogger("tenure")

S = TypeVar("S")
E = TypeVar("E")
F = TypeVar("F")


class MachineHost(ABC, Generic[S, E, F]):
    """One runner.  The task of `run_from` executes its calls one after the other; renewals run in tasks of their own.

    The code that is run waits for replies, not for calls.  So cancelling the code never cancels a command.  `name` is
    that of the session or job in the log.
    """

    def __init__(
        self,
        store: base.Store,
        name: str,
        step: Callable[[S, E], Stepped[S, F]],
        *,
        clock: Callable[[], int],
    ) -> None:
        self.store, self.name, self.clock = store, name, clock
        self.stopped: Any = None  # the Stop of the machine
        self.on_sent: Callable[[], None] = lambda: None  # a command has sent something
        self.unanswered: dict[str, str] = {}  # what the store said, by the kind of the failed call
        self._loop = asyncio.get_running_loop()
        self._machine: EffectLoop[S, Any, F] = EffectLoop(
            step, self._perform, TimerFired, clock=clock, on_error=self._stop_broken
        )
        self._calls: deque[Execute | Ask] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._request_id = 0
        self._closed: asyncio.Future[None] = self._loop.create_future()

    @abstractmethod
    def _perform(self, effect: F) -> None:
        """Perform an effect of the machine."""

    @abstractmethod
    def _stop_broken(self, error: Exception) -> None:
        """Stop after a bug in the kernel; other sessions and jobs continue."""

    async def run_from(self, first: Stepped[S, F]) -> Any:
        """Run until the machine has stopped and no call is in progress.  Return its Stop."""
        try:
            self._machine.start(first)
            while self.stopped is None:
                if self._calls:
                    await self._call(self._calls.popleft())
                    continue
                self._wake = self._loop.create_future()
                await self._wake
            if self._machine.tasks:
                await asyncio.wait(self._machine.tasks)
            return self.stopped
        finally:
            self._close()

    @property
    def closed(self) -> bool:
        """True if the runner has stopped, so that no event changes anything."""
        return self._closed.done()

    def feed(self, event: Any) -> None:
        """Report an event to the machine."""
        self._machine.check_timers(event.now_ms)
        self._machine.feed(event)

    def send(self, effect: Execute | Ask) -> None:
        """Execute a call: after the earlier ones, or at once if it is urgent."""
        if isinstance(effect, Execute) and getattr(effect.command, "urgent", False):
            self._machine.spawn(self._call(effect))
            return
        self._calls.append(effect)
        self._resume()

    def reply(self, id: int, answer: Any) -> None:
        """Answer a request."""
        reply = self._replies.pop(id, None)
        if reply is not None and not reply.done():
            reply.set_result(answer)

    def stop(self, effect: Any) -> None:
        """End the task of `run_from`."""
        self.stopped = effect
        self._resume()

    async def await_reply(self, event_of: Callable[[int], Any]) -> Any:
        """Feed the event of a request, which gets a new id, and wait for the reply."""
        self._request_id += 1
        id = self._request_id
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._replies[id] = reply
        self.feed(event_of(id))
        if reply.done():
            return reply.result()
        try:
            return await reply
        finally:
            self._replies.pop(id, None)

    def _resume(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _close(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        self._machine.close()
        for reply in self._replies.values():
            reply.cancel()

    async def _call(self, effect: Execute | Ask) -> None:
        event: Any
        what = effect.command if isinstance(effect, Execute) else effect.question
        try:
            if isinstance(effect, Execute):
                answer: Any = await self.store.execute(effect.command)
            else:
                answer = await self.store.ask(effect.question)
        except base.Unavailable as error:
            self._log_unanswered(what, error)
            event = StoreUnavailable(self.clock(), effect.id)
        except base.OutcomeUnknown as error:
            self._log_unanswered(what, error)
            event = OutcomeUnknown(self.clock(), effect.id)
        except Exception as error:
            log.error("%s: %s", self.name, error)
            event = StoreBroken(self.clock(), effect.id, f"{type(error).__name__}: {error}")
        else:
            self.unanswered.pop(type(what).__name__, None)
            event = Answered(self.clock(), effect.id, answer)
            if getattr(what, "outbound", ()):
                self.on_sent()
        self.feed(event)

    def _log_unanswered(self, what: object, error: Exception) -> None:
        """Log what the store said, once for each kind of call until one of this kind is answered."""
        kind = type(what).__name__
        if kind not in self.unanswered:
            log.warning("%s: %s: %s; trying again", self.name, kind, error)
        self.unanswered[kind] = str(error)
