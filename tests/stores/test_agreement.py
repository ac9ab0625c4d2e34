"""All stores give the same answers and hold the same records."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from pg_server import empty, shared

from tenure_drivers.stores.base import Clock, Store
from tenure_drivers.stores.files.store import FilesStore
from tenure_drivers.stores.memory import MemoryStore
from tenure_drivers.stores.sqlite.store import SqliteStore
from tenure_drivers.testing.agreement import Agreement


class AllStores(Agreement):
    openers = {
        "memory": lambda folder, clock: MemoryStore(clock=clock),
        "sqlite": lambda folder, clock: SqliteStore(folder / "s.db", clock=clock),
        "sqlite in small groups": lambda folder, clock: SqliteStore(
            folder / "s.db", clock=clock, group_max=3
        ),
        "files": lambda folder, clock: FilesStore(folder / "s", clock=clock),
        "files in small groups and many snapshots": lambda folder, clock: FilesStore(
            folder / "s", clock=clock, group_max=3, log_bytes_max=4_000
        ),
    }


AllStores.TestCase.settings = settings(
    deadline=None,
    max_examples=40,
    stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
)


TestAllStores = pytest.mark.slow(AllStores.TestCase)


# -- and a server

SCHEMAS: dict[Path, str] = {}


def postgres(folder: Path, clock: Clock, group_max: int = 256) -> Store:
    """A schema a group size, emptied when its folder is another; a name is never opened twice at once."""
    from tenure_drivers.stores.postgres.store import PostgresStore

    schema = f"agreement_{os.getpid()}_{group_max}"
    store = PostgresStore(shared(), schema=schema, clock=clock, group_max=group_max)
    if SCHEMAS.get(folder) != schema:
        empty(shared(), schema)
        SCHEMAS[folder] = schema
    return store


class WithPostgres(Agreement):
    openers = {
        "memory": lambda folder, clock: MemoryStore(clock=clock),
        "postgres": postgres,
        "postgres in small groups": lambda folder, clock: postgres(folder, clock, 3),
    }


WithPostgres.TestCase.settings = settings(
    deadline=None,
    max_examples=20,
    stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
)


TestWithPostgres = pytest.mark.postgres(pytest.mark.slow(WithPostgres.TestCase))
