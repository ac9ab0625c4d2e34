"""An event loop in virtual time: where it would wait for a timer, its clock jumps to the time of the timer.

Nothing that really takes time may be awaited in it: no threads, files or sockets.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["VirtualLoop", "run_virtually"]


A = TypeVar("A")
TICK_S = 1e-6  # smaller steps could be lost in a float of this size


class VirtualSelector(selectors.DefaultSelector):
    """Never waits for a time."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now.  If nothing is, let the time pass."""
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everything waits for something that is no timer")
        if not ready and timeout is not None:
            self.loop.now_s += max(timeout, TICK_S)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, which begins now.

    So it is never behind the wall clock, with which a worker compares the times of its store.
    """

    def __init__(self) -> None:
        self.now_s = time.time()
        selector = VirtualSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self.now_s

    def clock_ms(self) -> int:
        """Return the virtual time in milliseconds."""
        return round(self.now_s * 1000)


def run_virtually(body: Callable[[VirtualLoop], Coroutine[Any, Any, A]]) -> A:
    """Run a coroutine in virtual time."""
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(body(loop))
