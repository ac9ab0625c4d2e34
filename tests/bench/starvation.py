"""How long a renewal waits beside a process that writes all the time: `python -m tests.bench.starvation`.

SQLite does not queue those who wait for its lock.  What is counted are the groups that the other process commits
between asking and the answer: that does not depend on the machine, milliseconds do.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from tenure.commands import Begun, Renew
from tenure.queries import Get
from tenure.records import Blob
from tenure_drivers.stores.sqlite.store import SqliteStore
from tenure_drivers.testing.agreement import Answers
from tenure_drivers.testing.fixtures import begin, prompt

from .children import SUPPORT

CHILD = SUPPORT / "sqlite_child.py"
SESSIONS = 64


@frozen
class Waits:
    """Of each renewal: the groups that the neighbour committed meanwhile, and milliseconds."""

    groups: tuple[int, ...]
    ms: tuple[float, ...]

    def __str__(self) -> str:
        cuts = statistics.quantiles(self.ms, n=100)
        return (
            f"{len(self.ms)} renewals beside a process that writes groups of {SESSIONS} without a pause: "
            f"{statistics.mean(self.groups):.1f} of its groups on average, {max(self.groups)} at most; "
            f"p50 {cuts[49]:.0f} ms, p99 {cuts[98]:.0f} ms"
        )


@contextmanager
def neighbour(path: Path) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, str(CHILD), "saturate", str(path), str(SESSIONS)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "open\n"
            yield
        finally:
            process.kill()


async def committed(store: SqliteStore) -> int:
    """The groups that the neighbour has committed."""
    (count,) = await store.ask(Answers((Get(Blob, ("n0", "d")),)))
    return 0 if count is None else int(count.body)


async def starvation(path: Path, renewals: int) -> Waits:
    """Renew a lease again and again beside a process that saturates the file."""
    store = SqliteStore(path)
    await store.execute(prompt("s", 1))
    begun = await store.execute(begin("s", 1))
    assert isinstance(begun, Begun)
    groups, ms = [], []
    with neighbour(path):
        while await committed(store) < 5:
            await asyncio.sleep(0.01)
        for _ in range(renewals):
            before, since = await committed(store), time.perf_counter()
            await store.execute(Renew("s", begun.fence))
            ms.append((time.perf_counter() - since) * 1000)
            groups.append(await committed(store) - before)
            await asyncio.sleep(0.01)
    await store.aclose()
    return Waits(tuple(groups), tuple(ms))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(asyncio.run(starvation(Path(folder, "s.db"), 200)))
