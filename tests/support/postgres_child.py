"""Child processes of the tests of PostgreSQL: `python postgres_child.py WHAT DSN SCHEMA ...`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence

from tenure.commands import Admit, NewInput
from tenure.outcome import Refused
from tenure_drivers.stores.postgres.pipeline import Rows, Statement
from tenure_drivers.stores.postgres.store import PostgresStore
from tenure_drivers.testing.fixtures import prompt


def say(*words: object) -> None:
    print(*words, flush=True)


def groups(dsn: str, schema: str, name: str, count: int, *sessions: str) -> None:
    """Admit to all the sessions in one group, in this order, again and again."""

    async def run() -> None:
        store = PostgresStore(dsn, schema=schema)
        for at in range(count):
            answers = await asyncio.gather(
                *[
                    store.execute(Admit(s, (NewInput(f"{s}-{name}-{at}", "prompt", name),)))
                    for s in sessions
                ]
            )
            assert not any(isinstance(answer, Refused) for answer in answers), answers
        await store.aclose()

    asyncio.run(run())
    say("done")


def stopped(dsn: str, schema: str, session: str) -> None:
    """Stop in the middle of a transaction, with the session's lock; when woken, say what came of it."""

    async def run() -> None:
        store = PostgresStore(dsn, schema=schema, idle_ms=1_000)
        link = store._writer.connection
        real, rounds = link.run, 0

        def run_and_stop(statements: Sequence[Statement]) -> list[Rows]:
            nonlocal rounds
            rows = real(statements)
            rounds += 1
            if rounds == 1:
                say("locked")
                os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(0.3)  # it reaches this thread in a moment
            return rows

        link.run = run_and_stop  # type: ignore[method-assign]
        say(await store.execute(prompt(session, 99)))
        await store.aclose()

    asyncio.run(run())


WHAT: dict[str, Callable[..., None]] = {"groups": groups, "stopped": stopped}

if __name__ == "__main__":
    what, *words = sys.argv[1:]
    WHAT[what](*[int(word) if word.isdigit() else word for word in words])
