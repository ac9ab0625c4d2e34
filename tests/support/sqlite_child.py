"""Child processes of the tests of SQLite: `python sqlite_child.py WHAT PATH ...`."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

from tenure.outcome import Decided
from tenure_drivers.stores.base import OutcomeUnknown, Unavailable
from tenure_drivers.stores.sqlite.store import SqliteStore
from tenure_drivers.testing.command_generator import CommandGenerator
from tenure_drivers.testing.conformance import ManualClock, Put, executed, prompt


def say(*words: object) -> None:
    print(*words, flush=True)


async def run_program(store: SqliteStore, clock: ManualClock, seed: int, steps: int) -> None:
    """Groups of commands, as `test_sqlite.worlds` expects them; says how many groups were answered."""
    dice = random.Random(seed)
    client = CommandGenerator(dice.choice)
    for step in range(steps):
        clock.now_ms += dice.choice((0, 1, 10, 30))
        group = client.send_some(clock.now_ms)
        answers = await asyncio.gather(*[executed(store, command) for command in group])
        for command, answer in zip(group, answers, strict=True):
            client.observe(command, answer)
        say(step + 1)


def killed(path: str, seed: int, statement: int) -> None:
    """Die by SIGKILL before the n-th statement on the writing connection."""
    clock = ManualClock()
    store = SqliteStore(path, clock=clock)
    die_before(store, statement)
    asyncio.run(run_program(store, clock, seed, 10_000))


def die_before(store: SqliteStore, statement: int) -> None:
    left = statement

    def count(sql: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    store._writer.connection.set_trace_callback(count)


def many(path: str, name: str, count: int) -> None:
    """Add to texts that other processes add to as well."""

    async def run() -> None:
        store = SqliteStore(path)
        for at in range(count):
            await asyncio.gather(
                store.execute(Append("shared", "d", f"{name}:{at} ")),
                store.execute(Append(name, "d", f"{at} ")),
            )
        await store.aclose()

    asyncio.run(run())
    say("done")


def killed_among_others(path: str, name: str, statement: int) -> None:
    """`many` without an end, killed before the n-th statement; says what was answered."""

    async def run() -> None:
        store = SqliteStore(path)
        die_before(store, statement)
        at = 0
        while True:
            await store.execute(Append("shared", "d", f"{name}:{at} "))
            say(at)
            at += 1

    asyncio.run(run())


class Append(Put):
    """Put behind what is there."""

    def decide(self, view: Any, now_ms: int) -> Any:
        before = "" if view.blob is None else view.blob.body
        decided = Put(self.session_id, self.digest, before + self.body).decide(view, now_ms)
        assert isinstance(decided, Decided)
        return decided


def lock(path: str) -> None:
    """Hold the lock until a line comes in."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    say("locked")
    sys.stdin.readline()
    connection.execute("COMMIT")
    connection.close()
    say("free")


def admit(path: str, session: str) -> None:
    async def run() -> None:
        store = SqliteStore(path)
        await store.execute(prompt(session, 1))
        await store.aclose()

    asyncio.run(run())


def saturate(path: str, at_once: int) -> None:
    """Write group after group, of which the next always waits, until killed; the text of `n0` counts them."""

    async def write(store: SqliteStore, session: str) -> None:
        while True:
            await store.execute(Put(session, "d", str(store.group.groups)))

    async def run() -> None:
        store = SqliteStore(path)
        say("open")
        await asyncio.gather(*[write(store, f"n{at % at_once}") for at in range(3 * at_once)])

    asyncio.run(run())


def attached(path: str) -> None:
    """Keep the store open until killed."""
    store = SqliteStore(path)
    say("open", store.path)
    sys.stdin.readline()


def read_only(path: str) -> None:
    """As a user who may read but not write."""
    os.setgid(65534)
    os.setuid(65534)
    expect(Unavailable, lambda: SqliteStore(path))


def short_of_space(path: str) -> None:
    """Writing fails in the middle of COMMIT, and works again later."""

    async def run() -> None:
        store = SqliteStore(path)
        await store.execute(Put("s", "d", "first"))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = os.stat(f"{path}-wal").st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 8192, limits[1]))
        try:
            await store.execute(Put("s", "d", "x" * 100_000))
            say("done")
        except (OutcomeUnknown, Unavailable) as error:
            say(type(error).__name__)
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        say(await store.execute(Put("s", "d", "last")))
        await store.aclose()

    asyncio.run(run())


def expect(error: type[Exception], call: Callable[[], object]) -> None:
    try:
        call()
    except error as found:
        say(type(found).__name__, found)
    else:
        say("nothing")


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    globals()[what](*[int(a) if a.isdigit() else a for a in arguments])
