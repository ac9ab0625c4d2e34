"""Relays what sessions of one SQLite file send to those of another, in child processes that are killed.

    python relay_child.py FROM TO KILLS SEED

Prints after how many kills rows were left, so that the test knows that the kills came in the midst of the work.  The
last child is not killed; it ends when nothing is left.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path

from tenure_drivers.runtime.runtime import Runtime
from tenure_drivers.stores.sqlite.store import SqliteStore


async def relay(from_: Path, to: Path, ready: int) -> None:
    """Relay until nothing is left."""
    own, far = SqliteStore(from_), SqliteStore(to)
    async with Runtime(own, peers={"far": far}):
        os.write(ready, b"1")
        while left(from_):
            await asyncio.sleep(0.02)
    await own.aclose()
    await far.aclose()


def left(path: Path) -> int:
    """Return how many rows are to be sent."""
    reading = sqlite3.connect(path)
    try:
        (count,) = reading.execute("SELECT count(*) FROM outbound").fetchone()
    finally:
        reading.close()
    return int(count)


def forked(from_: Path, to: Path) -> tuple[int, int]:
    """Return the pid of a child that relays, and the pipe on which it says that it has begun."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        asyncio.run(relay(from_, to, writing))
        os._exit(0)
    os.close(writing)
    return pid, reading


def main() -> None:
    from_, to, kills, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    dice, amid = random.Random(seed), 0
    for _ in range(kills):
        pid, reading = forked(from_, to)
        os.read(reading, 1)
        time.sleep(dice.uniform(0.0, 0.03))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        amid += left(from_) > 0
    pid, reading = forked(from_, to)
    _, status = os.waitpid(pid, 0)
    os.close(reading)
    print(amid, status)


if __name__ == "__main__":
    main()
