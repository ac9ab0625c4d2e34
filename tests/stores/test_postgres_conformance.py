"""PostgreSQL passes the suite that is shipped for stores."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from pg_server import Server, drop, needed, server, shared

from tenure.world import World, world_of
from tenure_drivers.stores.base import OutcomeUnknown, Unavailable
from tenure_drivers.stores.postgres.store import PostgresStore
from tenure_drivers.testing.conformance import (
    Crashes,
    Locked,
    ManualClock,
    Opener,
    RandomProgram,
    StoreConformance,
)

NUMBERS = itertools.count()


@pytest.mark.postgres
class TestPostgres(StoreConformance):
    capabilities = PostgresStore.capabilities

    @pytest.fixture
    def opener(self) -> Iterator[Opener]:
        database, self.schema = shared(), f"conformance_{os.getpid()}_{next(NUMBERS)}"
        yield lambda clock: PostgresStore(database, schema=self.schema, clock=clock)
        drop(database, self.schema)

    @pytest.fixture
    def locked(self) -> Locked:
        @contextlib.contextmanager
        def lock(session_id: str) -> Iterator[None]:
            text = f'SELECT 1 FROM "{self.schema}".session WHERE session_id = %s FOR UPDATE'
            with psycopg.connect(shared()) as other:
                other.execute(text.encode(), (session_id,))
                yield

        return lock

    @pytest.fixture
    def crashes(self) -> Crashes:
        return server_crashes


def server_crashes(program: RandomProgram) -> Iterator[tuple[int, World]]:
    """The server dies without a word while the next group is on its way."""
    needed()
    with server() as found:
        answered = run_until_it_dies(found, program, program.seed)
        found.start()
        store = PostgresStore(found.dsn)
        yield answered, world_of(asyncio.run(store.dump()))
        store.close()


def run_until_it_dies(found: Server, program: RandomProgram, last: int) -> int:
    clock, answered = ManualClock(), 0
    store = PostgresStore(found.dsn, clock=clock)
    killing = threading.Thread(target=kill_soon, args=(found,))

    def hear(groups: int) -> None:
        nonlocal answered
        answered = groups
        if groups == last:
            killing.start()

    with contextlib.suppress(Unavailable, OutcomeUnknown):  # the story may be over before that
        asyncio.run(program.run(store, clock, hear))
    killing.join()
    store.close()
    return answered


def kill_soon(found: Server) -> None:
    time.sleep(0.002)
    found.stop(signal.SIGQUIT)


@pytest.mark.postgres
class TestPostgresBehindAPooler(TestPostgres):
    """Without prepared statements, in groups of three."""

    @pytest.fixture
    def crashes(self) -> None:
        return None  # as above

    @pytest.fixture
    def opener(self) -> Iterator[Opener]:
        database, self.schema = shared(), f"pooled_{os.getpid()}_{next(NUMBERS)}"
        yield lambda clock: PostgresStore(
            database, schema=self.schema, clock=clock, prepare=False, group_max=3
        )
        drop(database, self.schema)
