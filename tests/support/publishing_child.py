"""A process that publishes, for tests: `publishing_child.py STORE FILE COUNT`.

Its sink appends the ids of events to the file, a line for each.  After COUNT calls it ends the process: the sink has the
events, and they are not noted as published.  0: it says "all" when everything is published, and ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from tenure.questions.history import AllSessions
from tenure_drivers import PublishedEvent, Runtime, open_store


class Sink:
    """Appends to a file, as another system would store what it is given."""

    def __init__(self, path: Path, count: int) -> None:
        self.path, self.count = path, count

    async def __call__(self, events: Sequence[PublishedEvent]) -> None:
        with self.path.open("a") as file:
            file.writelines(f"{event.id}\n" for event in events)
            file.flush()
            os.fsync(file.fileno())
        self.count -= 1
        if self.count == 0:
            os.kill(os.getpid(), signal.SIGKILL)


async def main() -> None:
    url, path, count = sys.argv[1:]
    sink = Sink(Path(path), int(count))
    async with aclosing(open_store(url)) as store, Runtime(store, sink=sink):
        while True:
            sessions = await store.ask(AllSessions())
            if all(s.published == s.next_event - 1 for s in sessions):
                break
            await asyncio.sleep(0.02)
    print("all", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
