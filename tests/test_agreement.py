"""Every store answers the same and holds the same, whatever it is asked."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tenure_drivers.agreement import Agreement
from tenure_drivers.files import FilesStore
from tenure_drivers.memory import MemoryStore
from tenure_drivers.sqlite import SqliteStore


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
