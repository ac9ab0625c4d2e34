"""The read-only reader of a files store: it answers from a folder and changes, creates, cuts and locks nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tenure.world import world_of
from tenure_drivers.stores.base import Corrupt, Unavailable
from tenure_drivers.stores.files.disk import LOCK
from tenure_drivers.stores.files.reader import FilesReader
from tenure_drivers.stores.files.store import FilesStore
from tenure_drivers.testing.conformance import SnapshotProbe, prompt

LOG = "log-000000000000.jsonl"
TORN = b'{"crc":"00000000","len":99,"seq":9'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def files_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}


def probe(reader: FilesReader) -> int:
    """Return how many events the session s has."""
    session, _ = asyncio.run(reader.ask(SnapshotProbe("s")))
    return 0 if session is None else session.next_event


@pytest.mark.parametrize("locked_before", (True, False))
@pytest.mark.parametrize("end", (b"", TORN))
def test_a_reader_changes_and_creates_nothing(
    folder: Path, end: bytes, locked_before: bool
) -> None:
    store = FilesStore(folder)
    store.execute_now(prompt("s", 1))
    rows = world_of(store.dump_now())
    store.close()
    with (folder / LOG).open("ab") as log:
        log.write(end)
    (folder / "log-000000000007.jsonl.tmp").write_bytes(b"left by a crash")
    if not locked_before:
        (folder / LOCK).unlink()
    before = files_of(folder)

    reader = FilesReader(folder)
    assert probe(reader) > 0
    assert world_of(asyncio.run(reader.dump())) == rows
    reader.close()

    assert files_of(folder) == before


def test_a_reader_reads_the_snapshot_too(folder: Path) -> None:
    store = FilesStore(folder)
    store.execute_now(prompt("s", 1))
    store.snapshot_now()
    store.execute_now(prompt("s2", 2))
    rows = world_of(store.dump_now())
    store.close()

    assert world_of(asyncio.run(FilesReader(folder).dump())) == rows


def test_a_reader_creates_no_folder(folder: Path) -> None:
    with pytest.raises(Unavailable, match="store cannot be opened"):
        FilesReader(folder)

    assert not folder.exists()


def test_an_empty_folder_holds_no_store_and_stays_empty(folder: Path) -> None:
    folder.mkdir()

    with pytest.raises(ValueError, match="store holds no store: the folder is empty"):
        FilesReader(folder)

    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("opens", (FilesReader, FilesStore))
def test_a_folder_of_something_else_is_not_changed(
    folder: Path, opens: type[FilesReader] | type[FilesStore]
) -> None:
    folder.mkdir()
    (folder / "photo.png").touch()

    with pytest.raises(Corrupt, match=r"it has no log, but photo.png"):
        opens(folder)

    assert [p.name for p in folder.iterdir()] == ["photo.png"]


def test_a_folder_in_use_is_reported_with_its_owner(folder: Path) -> None:
    store = FilesStore(folder)

    with pytest.raises(Unavailable, match=r"in use by process \d+ on"):
        FilesReader(folder)
    store.close()


def test_a_reader_stops_no_owner_and_sees_what_it_wrote_after_it_closed(folder: Path) -> None:
    FilesStore(folder).close()
    reader = FilesReader(folder)
    assert probe(reader) == 0

    store = FilesStore(folder)
    store.execute_now(prompt("s", 1))
    with pytest.raises(Unavailable, match="in use"):
        probe(reader)
    store.close()

    assert probe(reader) > 0
