"""Every store passes the suite that is shipped for stores."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import files_power
import pytest

from tenure.world import World, world_of
from tenure_drivers.stores.files.store import FilesStore
from tenure_drivers.stores.memory import MemoryStore
from tenure_drivers.stores.sqlite.store import SqliteStore
from tenure_drivers.testing.conformance import (
    Crashes,
    Locked,
    ManualClock,
    Opener,
    RandomProgram,
    StoreConformance,
)


class TestMemory(StoreConformance):
    capabilities = MemoryStore.capabilities

    @pytest.fixture
    def opener(self) -> Opener:
        return lambda clock: MemoryStore(clock=clock)


class TestSqlite(StoreConformance):
    capabilities = SqliteStore.capabilities

    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda clock: SqliteStore(tmp_path / "store.db", clock=clock)

    @pytest.fixture
    def locked(self, tmp_path: Path) -> Locked:
        @contextmanager
        def lock(session_id: str) -> Iterator[None]:
            other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("COMMIT")
            other.close()

        return lock

    @pytest.fixture
    def crashes(self, tmp_path: Path) -> Crashes:
        return lambda program: sqlite_crashes(tmp_path, program)


def sqlite_crashes(folder: Path, program: RandomProgram) -> Iterator[tuple[int, World]]:
    """Before every statement of the writer: the files as they are, and with the log as it was when last answered."""
    path, clock, answered, synced = folder / "story.db", ManualClock(), 0, 0
    numbers, left = itertools.count(), list[tuple[int, Path]]()
    store = SqliteStore(path, clock=clock)

    def keep(statement: str) -> None:
        log = Path(f"{path}-wal").read_bytes()
        for size in {len(log), synced, (len(log) + synced) // 2}:
            copy = folder / f"crash-{next(numbers)}.db"
            shutil.copy(path, copy)
            Path(f"{copy}-wal").write_bytes(log[:size])
            left.append((answered, copy))

    def hear(groups: int) -> None:
        nonlocal answered, synced
        answered, synced = groups, Path(f"{path}-wal").stat().st_size

    synced = Path(f"{path}-wal").stat().st_size
    store._writer.connection.set_trace_callback(keep)
    asyncio.run(program.run(store, clock, hear))
    store._writer.connection.set_trace_callback(None)
    store.close()
    for groups, copy in left[::3]:
        found = SqliteStore(copy)
        yield groups, world_of(found.dump_now())
        found.close()


class TestSqliteInGroupsOfTwo(StoreConformance):
    """What waits is more than a group takes, so that groups are formed from a backlog."""

    capabilities = SqliteStore.capabilities

    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda clock: SqliteStore(tmp_path / "store.db", clock=clock, group_max=2)


class TestFiles(StoreConformance):
    capabilities = FilesStore.capabilities

    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda clock: FilesStore(tmp_path / "store", clock=clock)

    @pytest.fixture
    def crashes(self, tmp_path: Path) -> Crashes:
        return lambda program: files_power.crashes(tmp_path, program)


class TestFilesInGroupsOfTwoAndManySnapshots(StoreConformance):
    capabilities = FilesStore.capabilities

    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda clock: FilesStore(
            tmp_path / "store", clock=clock, group_max=2, log_bytes_max=5_000
        )
