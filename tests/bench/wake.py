"""From a submission in one process to its beginning in another, which waits for work.

The clock is the machine's monotonic one, which all its processes share.  As a module it is the two processes.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from tenure_drivers import Runtime, open_store
from tenure_drivers.runtime.client import Client

from .children import children
from .measure import Failed, Figure, quantile
from .stores import Bench, Section, spaced
from .window import say

SESSIONS = 8
PATIENCE_S = 30.0


def worker(words: dict[str, Any]) -> None:
    """Say when each turn began."""

    async def run() -> None:
        store = open_store(words["url"])
        began: dict[str, float] = {}

        async def agent(turn: Any) -> None:
            now = time.monotonic()
            for name in turn.text.split():
                began.setdefault(name, now)
            await turn.commit(text="done")

        async with Runtime(store, agent):
            say(ready=True)
            await asyncio.to_thread(sys.stdin.readline)
            deadline = time.monotonic() + PATIENCE_S
            while len(began) < words["count"] and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
            say(began=list(began.items()))
            await asyncio.to_thread(sys.stdin.readline)
        await store.aclose()

    asyncio.run(run())


def client(words: dict[str, Any]) -> None:
    async def run() -> None:
        store = open_store(words["url"])
        asking = Client(store)
        say(ready=True)
        sys.stdin.readline()
        asked = []
        for number, pause in enumerate(words["pauses"]):
            await asyncio.sleep(pause)
            asked.append((str(number), time.monotonic()))
            await asking.submit(f"session-{number % SESSIONS}", str(number))
        say(asked=asked)
        sys.stdin.readline()
        await store.aclose()

    asyncio.run(run())


# -- the section


def latencies(
    python: str, module: str, words: Mapping[str, Any], pauses: list[float]
) -> list[float]:
    """Milliseconds, of each submission; the first ones warm up."""
    more = {**words, "pauses": pauses, "count": len(pauses)}
    patience = sum(pauses) + 60
    with children(python, module, [{**more, "how": "wake worker"}]) as (working,):
        working.hear()
        with children(python, module, [{**more, "how": "wake client"}]) as (asking,):
            asking.hear()
            asking.tell("go")
            asked = asking.hear(patience)["asked"]
            working.tell("go")
            began = dict(working.hear(patience)["began"])
            asking.tell("bye")
        working.tell("bye")
    missing = [name for name, _ in asked if name not in began]
    assert not missing, f"{len(missing)} of {len(asked)} never began"
    return [(began[name] - when) * 1_000 for name, when in asked[3:]]


def pauses(count: int, most_s: float) -> list[float]:
    dice = random.Random(11)
    return [dice.uniform(0.02, most_s) for _ in range(count + 3)]


def section(bench: Bench, count: int = 100) -> Section:
    """Peers that poll once a second are asked less often, at moments that have nothing to do with their polls."""
    found, failed = [], []
    for name, run in _cases(bench, count).items():
        bench.say(f"waking: {name}")
        try:
            taken = run()
        except Exception as error:
            failed.append(Failed(name, str(error) or type(error).__name__))
            continue
        p50, p99 = quantile(taken, 0.5), quantile(taken, 0.99)
        found.append(Figure(name, p50, "ms", min(taken), max(taken), p50_ms=p50, p99_ms=p99))
    return found, failed


def _cases(bench: Bench, count: int) -> dict[str, Callable[[], list[float]]]:
    often, seldom = pauses(count, 0.08), pauses(max(4, count // 5), 1.2)
    me = sys.executable

    def on_sqlite() -> list[float]:
        return spaced(
            bench, lambda f: latencies(me, "bench.wake", {"url": f"sqlite:{f / 'w.db'}"}, often)
        )

    cases: dict[str, Callable[[], list[float]]] = {"tenure, sqlite": on_sqlite}
    databases = bench.databases
    if databases is not None:

        def on_postgres() -> list[float]:
            with databases.database() as url:
                return latencies(me, "bench.wake", {"url": url}, often)

        cases["tenure, postgres"] = on_postgres
    if bench.environment is not None:
        environment = bench.environment

        def dbos(url: str) -> list[float]:
            python = environment.need(("dbos", "psycopg[binary]"), bench.say)
            words = {"url": url, "poll": 1.0}
            return latencies(python, "bench.peers.with_dbos", words, seldom)

        def dbos_sqlite() -> list[float]:
            return spaced(bench, lambda f: dbos(f"sqlite:///{f / 'dbos.db'}"))

        cases["DBOS queue as it comes (polls every second), sqlite"] = dbos_sqlite
        if databases is not None:

            def dbos_postgres() -> list[float]:
                with databases.database() as url:
                    return dbos(url)

            cases["DBOS queue as it comes (polls every second), postgres"] = dbos_postgres
    return cases


if __name__ == "__main__":
    said = json.loads(sys.argv[1])
    {"wake worker": worker, "wake client": client}[said["how"]](said)
