"""The loop of a host: feed events to a machine one at a time, perform its effects, and run its timers.

It decides nothing.  RunnerHost and WorkerHost are built on it.  The host of a chat turn is not: it applies no event while a
commit is in progress, so it takes its events from a queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from tenure.outcome import Stepped

__all__ = ["EffectLoop"]


S = TypeVar("S")
E = TypeVar("E")
F = TypeVar("F")


class EffectLoop(Generic[S, E, F]):
    """The state of one machine, and what its host has in progress.

    `perform` carries out one effect.  It may feed events: they are applied after the effects of the current event.
    `fired` makes the event of a timer.  `on_error` receives an error of `step`; without it `feed` raises.
    """

    def __init__(
        self,
        step: Callable[[S, E], Stepped[S, F]],
        perform: Callable[[F], None],
        fired: Callable[[int, int], E],
        *,
        clock: Callable[[], int],
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        self.state: S | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.closed = False
        self._step, self._perform, self._fired = step, perform, fired
        self._clock, self._on_error = clock, on_error
        self._loop = asyncio.get_running_loop()
        self._events: deque[E] = deque()
        self._applying = False
        self._timers: dict[int, int] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_ms = 0
        self._late_ms: int | None = None
        self._on_late: Callable[[int], None] = lambda late_ms: None
        self._reported_ms: int | None = None  # the timer that was reported as late

    def start(self, first: Stepped[S, F]) -> None:
        """Take the first state, and perform the first effects.  Events before that are dropped."""
        self._take(first)

    def feed(self, event: E) -> None:
        """Apply an event now, or after the one that is being applied."""
        if self.state is None:
            return
        self._events.append(event)
        if self._applying:
            return
        self._applying = True
        try:
            while self._events:
                self._apply(self._events.popleft())
        finally:
            self._applying = False

    def _apply(self, event: E) -> None:
        assert self.state is not None
        try:
            outcome = self._step(self.state, event)
        except Exception as error:
            if self._on_error is None:
                raise
            self._on_error(error)
        else:
            self._take(outcome)

    def _take(self, outcome: Stepped[S, F]) -> None:
        self.state = outcome.state
        for effect in outcome.effects:
            self._perform(effect)

    # -- timers

    def set_timer(self, id: int, at_ms: int) -> None:
        """Feed the event of this timer at this time.  It replaces an earlier timer with the same id."""
        self._timers[id] = at_ms
        self._set_alarm()

    def set_only_timer(self, id: int, at_ms: int) -> None:
        """Set this timer, and drop all others."""
        self._timers.clear()
        self.set_timer(id, at_ms)

    def _set_alarm(self) -> None:
        # One alarm for all timers: it reads the host's clock, which runs on while the machine sleeps.  The event loop's
        # own clock stands still meanwhile.
        if not self._timers or self.closed:
            return
        at_ms = min(self._timers.values())
        if self._alarm is not None:
            if self._alarm_ms <= at_ms:
                return
            self._alarm.cancel()
        self._alarm_ms = at_ms
        delay = max(0, at_ms - self._clock()) / 1000
        self._alarm = self._loop.call_later(delay, self._ring)

    def watch_timers(self, late_ms: int, on_late: Callable[[int], None]) -> None:
        """Call `on_late` once for each timer that could not fire for longer than this: the event loop was blocked."""
        self._late_ms, self._on_late = late_ms, on_late

    def check_timers(self, now_ms: int) -> None:
        """Report the first timer if it is late."""
        if self._late_ms is None or not self._timers:
            return
        at_ms = min(self._timers.values())
        if now_ms - at_ms > self._late_ms and at_ms != self._reported_ms:
            self._reported_ms = at_ms
            self._on_late(now_ms - at_ms)

    def _ring(self) -> None:
        self._alarm = None
        now_ms = self._clock()
        self.check_timers(now_ms)
        for id in [id for id, at_ms in self._timers.items() if at_ms <= now_ms]:
            if self._timers.pop(id, None) is not None:
                self.feed(self._fired(now_ms, id))
        self._set_alarm()

    # -- tasks

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run this in a task that the loop cancels when it is closed."""
        task = self._loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def close(self) -> None:
        """Cancel the timers and the tasks."""
        self.closed = True
        self._timers.clear()
        if self._alarm is not None:
            self._alarm.cancel()
        for task in self.tasks:
            task.cancel()
