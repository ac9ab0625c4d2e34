"""An SQLite file and its disk: full disk, read-only disk, removed file, backups."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from disks import disk, mount, read_only, unmount

from tenure.check.invariants import Rows, violations
from tenure.commands import Begun, Commit, FencedOff, FenceOff
from tenure.outcome import Refusal, Refused
from tenure.questions.sessions import SessionRows
from tenure.records import Blob, Input, Session
from tenure_drivers import Runtime
from tenure_drivers.stores.base import Unavailable, Unusable
from tenure_drivers.stores.sqlite.notify import socket_folder
from tenure_drivers.stores.sqlite.reader import SqliteReader
from tenure_drivers.stores.sqlite.store import SqliteStore
from tenure_drivers.testing.conformance import Put, asynchronous, begin, prompt


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def body(store: SqliteStore, session: str) -> str:
    return next(r.body for r in store.dump_now() if isinstance(r, Blob) and r.session_id == session)


def test_every_sync_goes_through_to_the_medium(path: Path) -> None:
    store = SqliteStore(path)

    for connection in (store._writer.connection, store._reader, store._due_reader):
        for pragma in ("fullfsync", "checkpoint_fullfsync"):  # macOS; no other system asks
            assert connection.execute(f"PRAGMA {pragma}").fetchone() == (1,)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    store.close()


# -- STORE-21: a file that goes


def rename(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("restored.db"))
    path.with_name("restored.db").rename(path)


def remove_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def remove_log(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def remove_shared_memory(path: Path) -> None:
    Path(f"{path}-shm").unlink()


@pytest.mark.parametrize("goes", (remove_log, remove_shared_memory))
def test_a_removed_file_of_a_store_that_was_opened_through_a_link_is_reported(  # STORE-21
    tmp_path: Path, goes: Callable[[Path], None]
) -> None:
    path, link = tmp_path / "store.db", tmp_path / "links" / "link.db"
    SqliteStore(path).close()
    link.parent.mkdir()
    link.symlink_to(path)
    store = SqliteStore(link)
    store.execute_now(Put("s", "d", "first"))
    goes(path)

    with pytest.raises(Unavailable, match="was removed or replaced; open the store again"):
        store.execute_now(Put("s", "d", "second"))
    store.close()


def test_a_file_with_another_name_is_refused(path: Path) -> None:  # STORE-25
    store = SqliteStore(path)
    store.execute_now(Put("s", "d", "first"))
    os.link(path, path.with_name("other.db"))

    for name in (path, path.with_name("other.db")):
        with pytest.raises(Unusable, match="has 2 hard links, and commits through different names"):
            SqliteStore(name)
        with pytest.raises(Unusable, match="has 2 hard links"):
            SqliteReader(name)
    assert store.execute_now(Put("s", "d", "second")) == "first"
    store.close()
    path.with_name("other.db").unlink()

    again = SqliteStore(path)
    assert again.execute_now(Put("s", "d", "third")) == "second"
    again.close()


def bound_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path)


@pytest.mark.parametrize("make", (os.mkfifo, bound_socket))
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: Callable[[str], None]) -> None:
    path = tmp_path / "odd"
    make(str(path))

    for kind in (SqliteStore, SqliteReader):
        with pytest.raises(Unusable, match="is a pipe, a socket or a device: name a regular file"):
            kind(path)


@pytest.mark.parametrize("goes", (rename, replace, remove_folder, remove_log, remove_shared_memory))
def test_a_removed_file_is_reported_before_anything_is_answered(
    tmp_path: Path, goes: Callable[[Path], None]
) -> None:
    path = tmp_path / "in" / "store.db"
    path.parent.mkdir()
    store = SqliteStore(path)
    store.execute_now(Put("s", "d", "first"))
    goes(path)

    with pytest.raises(Unusable, match="was removed or replaced; open the store again"):
        store.execute_now(Put("s", "d", "second"))
    with pytest.raises(Unusable, match="was removed or replaced"):
        asyncio.run(store.due(5))
    with pytest.raises(Unusable, match="was removed or replaced"):
        store.ask_now(SessionRows())
    with pytest.raises(Unusable, match="was removed or replaced"):  # a retry cannot help
        asyncio.run(Runtime(store).start())
    store.close()


def test_a_file_that_comes_back_is_written_again(path: Path) -> None:
    store = SqliteStore(path)
    store.execute_now(Put("s", "d", "first"))
    moved = path.with_name("moved.db")
    path.rename(moved)
    with pytest.raises(Unavailable):
        store.execute_now(Put("s", "d", "second"))
    moved.rename(path)

    assert store.execute_now(Put("s", "d", "third")) == "first"
    store.close()


def test_a_disk_that_vanishes_is_missed(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "4m") as folder:
        store = SqliteStore(folder / "store.db")
        store.execute_now(Put("s", "d", "first"))
        assert mount("-t", "tmpfs", "tmpfs", folder)  # another one in its place

        with pytest.raises(Unavailable, match="was removed or replaced"):
            store.execute_now(Put("s", "d", "second"))
        store.close()
        assert list(folder.iterdir()) == []
        unmount(folder)


# -- full, read-only


def test_a_full_disk_changes_nothing_and_the_store_continues_when_there_is_space(
    tmp_path: Path,
) -> None:
    with disk(tmp_path / "disk", "1m") as folder:
        store = SqliteStore(folder / "store.db")
        store.execute_now(Put("s", "d", "first"))
        room = os.statvfs(folder)
        (folder / "other").write_bytes(b"x" * (room.f_bavail * room.f_bsize - 100_000))

        with pytest.raises(Unavailable, match="full"):
            store.execute_now(Put("s", "d", "x" * 200_000))
        assert body(store, "s") == "first"
        (folder / "other").unlink()

        assert store.execute_now(Put("s", "d", "last")) == "first"
        store.close()
        store = SqliteStore(folder / "store.db")
        assert body(store, "s") == "last"
        store.close()


def test_a_read_only_file_system_is_named(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "4m") as folder:
        SqliteStore(folder / "store.db").close()
        with (
            read_only(folder),
            pytest.raises(Unavailable, match=f"file system of {folder} is mounted read-only"),
        ):
            SqliteStore(folder / "store.db")


# -- STORE-23: backups


def by_the_backup_interface(path: Path, copy: Path) -> None:
    with sqlite3.connect(path) as here, sqlite3.connect(copy) as there:
        here.backup(there)
    here.close()
    there.close()


def by_vacuum(path: Path, copy: Path) -> None:
    here = sqlite3.connect(path)
    here.execute("VACUUM INTO ?", (str(copy),))
    here.close()


class Working(threading.Thread):
    """Admits until it is told to stop; `answered` is what may never be missing."""

    def __init__(self, store: SqliteStore) -> None:
        super().__init__()
        self.store = store
        self.answered: list[str] = []
        self.over = False

    def run(self) -> None:
        at = 0
        while not self.over:
            at += 1
            self.store.execute_now(prompt(f"s{at % 7}", at))
            self.answered.append(f"s{at % 7}-{at}")


@pytest.mark.parametrize("copied", (by_the_backup_interface, by_vacuum))
def test_a_backup_taken_during_writes_holds_all_earlier_answers(
    path: Path, copied: Callable[[Path, Path], None]
) -> None:
    store = SqliteStore(path)
    working = Working(store)
    working.start()
    copies: list[tuple[Path, list[str]]] = []
    while len(copies) < 3:
        if len(working.answered) < 40 * (len(copies) + 1):
            continue
        before = list(working.answered)
        copy = path.with_name(f"copy-{len(copies)}.db")
        copied(path, copy)
        copies.append((copy, before))
    working.over = True
    working.join()
    store.close()

    for copy, before in copies:
        restored = SqliteStore(copy)
        assert asyncio.run(restored.due(10)) != ()
        there = [r.input_id for r in restored.dump_now() if isinstance(r, Input)]
        assert set(before) <= set(there)
        assert sorted(there) == sorted(working.answered[: len(there)])  # and nothing else
        for session in [r for r in restored.dump_now() if isinstance(r, Session)]:
            assert list(violations(restored.ask_now(Rows(session.session_id)))) == []
        restored.close()


@asynchronous
async def test_a_restored_backup_is_fenced_off_from_the_history_that_was_lost(path: Path) -> None:
    """A holder of the lost history would otherwise have the same fence as one of the new."""
    store = SqliteStore(path)
    await store.execute(prompt("s", 1))
    copy = path.with_name("copy.db")
    by_vacuum(path, copy)
    lost = await store.execute(begin("s", 1))
    assert isinstance(lost, Begun)
    await store.aclose()

    restored = SqliteStore(copy)
    assert isinstance(await restored.execute(FenceOff("s", "after", 1_000)), FencedOff)
    stale = Commit("s", lost.fence, lost.run_id, lost.turn, lost.n, lost.revision)
    refused = await restored.execute(stale)
    again = await restored.execute(begin("s", 2))

    assert isinstance(refused, Refused) and refused.reason in (
        Refusal.FENCED,
        Refusal.UNKNOWN_RUN,
    )
    assert isinstance(again, Begun) and again.fence.generation > lost.fence.generation
    await restored.aclose()


def test_the_next_store_removes_the_files_of_killed_processes(path: Path) -> None:
    SqliteStore(path).close()
    folder = socket_folder(path)
    pid = os.fork()
    if pid == 0:
        SqliteStore(path)
        os._exit(0)  # as if killed: nothing is closed
    os.waitpid(pid, 0)
    assert folder.exists()

    SqliteStore(path).close()

    assert not folder.exists()
