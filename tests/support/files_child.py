"""Child processes of the tests of the files store: `python files_child.py WHAT FOLDER ...`."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from pathlib import Path

from tenure_drivers.stores.base import Unavailable
from tenure_drivers.stores.files.store import FilesStore
from tenure_drivers.testing.conformance import Put


def say(*words: object) -> None:
    print(*words, flush=True)


def count(folder: str, names: int, log_bytes_max: int) -> None:
    """Count on in every session together, saying each round that was answered, until killed."""

    async def run() -> None:
        store = FilesStore(folder, log_bytes_max=log_bytes_max)
        last = await store.execute(Put("s0", "d", "0"))
        at = int(last) if isinstance(last, str) and last else 0
        while True:
            group = [store.execute(Put(f"s{n}", "d", f"{at + 1}")) for n in range(names)]
            await asyncio.gather(*group)
            at += 1
            say(at)

    asyncio.run(run())


def held(folder: str) -> None:
    """Keep the store open until a line comes in."""
    store = FilesStore(folder)
    say("open")
    sys.stdin.readline()
    store.close()
    say("closed")


def abandoned(folder: str) -> None:
    """Die with the store open, while an own child process lives on."""
    store = FilesStore(folder)
    store.execute_now(Put("s", "d", "x"))
    if os.fork() == 0:
        say(os.getpid())
        signal.pause()
    os.kill(os.getpid(), signal.SIGKILL)


def short_of_space(folder: str) -> None:
    """Files may not grow for a while."""
    store = FilesStore(folder)
    store.execute_now(Put("s", "d", "first"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = max(path.stat().st_size for path in Path(folder).iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 200, limits[1]))
    for body in ("x" * 100_000, "y" * 1_000):
        try:
            store.execute_now(Put("s", "d", body))
            say("done")
        except Unavailable as error:
            say(error)
    say(store.execute_now(Put("s", "d", "short")))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    say(store.execute_now(Put("s", "d", "last")))
    os._exit(0)


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    globals()[what](*[int(a) if a.isdigit() else a for a in arguments])
