"""Every store passes the suite that is shipped for stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenure_drivers.conformance import Opener, StoreConformance
from tenure_drivers.files import FilesStore
from tenure_drivers.memory import MemoryStore
from tenure_drivers.sqlite import SqliteStore


class TestMemory(StoreConformance):
    @pytest.fixture
    def opener(self) -> Opener:
        return lambda clock: MemoryStore(clock=clock)


class TestSqlite(StoreConformance):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda clock: SqliteStore(tmp_path / "store.db", clock=clock)


class TestSqliteInGroupsOfTwo(StoreConformance):
    """What waits is more than a group takes, so that groups are formed from a backlog."""

    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda clock: SqliteStore(tmp_path / "store.db", clock=clock, group_max=2)


class TestFiles(StoreConformance):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda clock: FilesStore(tmp_path / "store", clock=clock)


class TestFilesInGroupsOfTwoAndManySnapshots(StoreConformance):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda clock: FilesStore(
            tmp_path / "store", clock=clock, group_max=2, log_bytes_max=5_000
        )
