"""The read-only SQLite reader: it answers from a file that it cannot change, and raises store errors."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tenure.questions.core import LoadTranscript
from tenure.release import RELEASE
from tenure_drivers.stores.base import Corrupt, SchemaTooNew, Unavailable
from tenure_drivers.stores.sqlite.reader import SqliteReader
from tenure_drivers.stores.sqlite.store import SqliteStore
from tenure_drivers.testing.conformance import SnapshotProbe, prompt


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.db"


def probe(reader: SqliteReader) -> int:
    """Return how many events the session s has."""
    session, _ = asyncio.run(reader.ask(SnapshotProbe("s")))
    return 0 if session is None else session.next_event


def test_a_reader_sees_what_is_committed_while_it_is_open(path: Path) -> None:
    store = SqliteStore(path)
    reader = SqliteReader(path)
    before = probe(reader)

    store.execute_now(prompt("s", 1))

    assert before == 0
    assert probe(reader) > 0
    reader.close()
    store.close()


def test_a_reader_creates_no_file(path: Path) -> None:
    with pytest.raises(Unavailable):
        SqliteReader(path)

    assert os.listdir(path.parent) == []


def test_a_reader_leaves_the_database_file_as_it_was(path: Path) -> None:
    store = SqliteStore(path)
    store.execute_now(prompt("s", 1))
    store.close()
    before = path.read_bytes()

    reader = SqliteReader(path)
    assert probe(reader) > 0
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection.execute("DELETE FROM session")
    reader.close()

    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_a_damaged_row_is_corrupt_with_its_key(path: Path) -> None:
    store = SqliteStore(path)
    store.execute_now(prompt("s", 1))
    store.close()
    with closing(sqlite3.connect(path)) as damaging, damaging:
        damaging.execute("UPDATE session SET phase = 'sideways'")
    damaging.close()

    reader = SqliteReader(path)
    with pytest.raises(Corrupt) as caught:
        asyncio.run(reader.ask(LoadTranscript("s")))
    reader.close()

    assert caught.value.key == ("s",)


def test_a_newer_schema_is_refused(path: Path) -> None:
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as newer, newer:
        newer.execute(f"PRAGMA user_version={RELEASE + 1}")
    newer.close()

    with pytest.raises(SchemaTooNew):
        SqliteReader(path)


def test_an_empty_file_holds_no_store_and_stays_empty(path: Path) -> None:
    path.touch()

    with pytest.raises(ValueError, match="holds no store: the file is empty"):
        SqliteReader(path)

    assert os.listdir(path.parent) == [path.name] and path.read_bytes() == b""
