"""One stretch of the wall clock, shared by all who work in it.  The standard library alone: peers import this too.

A process that measures says that it is ready, is told when the stretch begins and ends, works from then on, and counts
what ended within it.  What each of several processes took by its own clock is never added up: one that starts late
because another holds a lock would count as if both had worked at once.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

MARK = "@ "  # libraries print what they like; our own lines begin with this


def text(length: int, seed: int) -> str:
    """Letters without repetition: a server that compresses long values gains nothing."""
    return "".join(random.Random(seed).choices("etaoinshrdlucmf ", k=length))


PAYLOAD = "i" * 200
BODY = text(2_000, 7)


class Window:
    def __init__(self, begin: float, end: float) -> None:
        self.begin, self.end = begin, end
        self.ended: list[tuple[float, float]] = []  # when, after how long: appended by any thread

    def open(self) -> bool:
        return time.monotonic() < self.end

    def count(self, begun: float) -> None:
        now = time.monotonic()
        self.ended.append((now, now - begun))

    def report(self, **more: Any) -> None:
        """Say what was counted, and wait until it was looked at what the process has written."""
        taken = [round(s * 1_000, 3) for when, s in self.ended if self.begin <= when <= self.end]
        say(items=len(taken), all_items=len(self.ended), taken_ms=taken, **more)
        sys.stdin.readline()


def say(**words: Any) -> None:
    print(MARK + json.dumps(words), flush=True)


def gate() -> Window:
    """Blocks until the stretch is known; whatever has to be made was made before."""
    say(ready=True)
    begin, end = map(float, sys.stdin.readline().split())
    return Window(begin, end)


def in_threads(window: Window, sessions: int, item: Callable[[int], object]) -> None:
    """Every session in a thread of its own, one item after the other."""
    failed: list[BaseException] = []

    def one(session: int) -> None:
        try:
            while window.open() and not failed:
                begun = time.monotonic()
                item(session)
                window.count(begun)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(s,), daemon=True) for s in range(sessions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


async def in_tasks(window: Window, sessions: int, item: Callable[[int], Awaitable[object]]) -> None:
    """Every session in a task of its own, one item after the other."""

    async def one(session: int) -> None:
        while window.open():
            begun = time.monotonic()
            await item(session)
            window.count(begun)

    await asyncio.gather(*[one(session) for session in range(sessions)])
