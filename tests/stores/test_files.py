"""The files store with real files: power cuts, kills, full disks, failing fsyncs, flipped bits, two owners."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import files_power as power
import pytest
from disks import disk
from paths import SUPPORT

from tenure.records import Blob
from tenure.release import RELEASE
from tenure.world import world_of
from tenure_drivers.stores.base import Corrupt, OutcomeUnknown, SchemaTooNew, Unavailable, Unusable
from tenure_drivers.stores.files.disk import LOCK, Disk
from tenure_drivers.stores.files.format import LogPosition, heading, line_of
from tenure_drivers.stores.files.reader import FilesReader
from tenure_drivers.stores.files.store import FilesStore
from tenure_drivers.stores.layout import layout_of
from tenure_drivers.stores.registry import open_store
from tenure_drivers.stores.sqlite.store import SqliteStore
from tenure_drivers.testing.conformance import ManualClock, Put, SnapshotProbe, asynchronous, prompt

CHILD = SUPPORT / "files_child.py"
LOG = "log-000000000000.jsonl"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@contextmanager
def child(what: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(CHILD), what, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def bodies(folder: Path) -> dict[str, str]:
    store = FilesStore(folder)
    try:
        return {r.session_id: r.body for r in store.dump_now() if isinstance(r, Blob)}
    finally:
        store.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def put(store: FilesStore | SqliteStore, *texts: str) -> None:
    for text in texts:
        store.execute_now(Put("s", "d", text))


# -- crashes


@pytest.mark.parametrize("seed", (5, 11))
def test_a_power_cut_at_any_change_leaves_the_rows_before_or_after_it(
    tmp_path: Path, seed: int
) -> None:
    assert power.cuts(tmp_path, seed=seed, steps=40) == []


def test_an_incomplete_last_line_is_removed_and_reported(tmp_path: Path, folder: Path) -> None:
    store = FilesStore(folder)
    put(store, "one")
    size = (folder / LOG).stat().st_size
    put(store, "two")
    data = (folder / LOG).read_bytes()
    store.close()

    for cut in range(size, len(data) + 1):
        copy = tmp_path / f"{cut}"
        copy.mkdir()
        (copy / LOG).write_bytes(data[:cut])
        again = FilesStore(copy, disk=power.QuickDisk())
        torn = size < cut < len(data)
        assert again.execute_now(Put("s", "d", "x")) == ("two" if cut == len(data) else "one")
        assert (again.repaired is not None) is torn
        if again.repaired is not None:
            found = again.repaired
            assert (found.path, found.line, found.offset) == (copy / LOG, 3, size)
            assert found.cut == cut - size and str(copy / LOG) in str(found)
        again.close()
        assert bodies(copy) == {"s": "x"}


def test_a_last_line_with_missing_pages_is_removed(folder: Path) -> None:
    store = FilesStore(folder)
    put(store, "one")
    size = (folder / LOG).stat().st_size
    put(store, "x" * 20_000)
    data = (folder / LOG).read_bytes()
    store.close()
    page = (size // 4096 + 1) * 4096
    for first, last in ((size, page), (page, page + 4096), (len(data) // 512 * 512, len(data))):
        torn = data[:first] + bytes(last - first) + data[last:]
        (folder / LOG).write_bytes(torn)

        again = FilesStore(folder)

        assert again.repaired is not None and again.repaired.line == 3
        assert again.execute_now(Put("s", "d", "one")) == "one"
        again.close()


def test_a_changed_last_line_that_is_complete_is_refused_not_removed(folder: Path) -> None:
    store = FilesStore(folder)
    put(store, "one")
    size = (folder / LOG).stat().st_size
    put(store, "a b@c")
    data = (folder / LOG).read_bytes()
    store._log.abandon()  # as a crash leaves it: without a closing line
    store._ownership.release()
    for at in range(size, len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            (folder / LOG).write_bytes(damaged)
            with pytest.raises(Corrupt, match=f"line 3 at byte {size} cannot be read"):
                FilesReader(folder)
            assert (folder / LOG).read_bytes() == damaged


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    assert power.rots(tmp_path) == []


def test_the_error_for_a_flipped_bit_names_file_line_and_byte(folder: Path) -> None:
    store = FilesStore(folder)
    put(store, "one", "two")
    store.close()
    data = bytearray((folder / LOG).read_bytes())
    offset = data.index(b"\n") + 1
    data[offset + 70] ^= 1
    (folder / LOG).write_bytes(data)

    with pytest.raises(Corrupt, match=f"{LOG}, line 2 at byte {offset} cannot be read"):
        FilesStore(folder)

    assert (folder / LOG).read_bytes() == bytes(data)


@pytest.mark.parametrize(
    "damage",
    (
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        lambda lines: [*lines[:2], *lines[1:]],
    ),
    ids=("missing", "exchanged", "twice"),
)
def test_complete_lines_in_another_order_are_found(folder: Path, damage: object) -> None:
    assert callable(damage)
    store = FilesStore(folder)
    put(store, "one", "two", "three")
    store.close()
    lines = (folder / LOG).read_bytes().splitlines(keepends=True)
    (folder / LOG).write_bytes(b"".join(damage(lines)))

    with pytest.raises(Corrupt, match=f"{LOG}, line"):
        FilesStore(folder)


def test_a_missing_log_is_reported(tmp_path: Path, folder: Path) -> None:
    store = FilesStore(folder)
    put(store, "one")
    shutil.copytree(folder, tmp_path / "earlier")
    store.snapshot_now()
    put(store, "two")
    store.close()
    (folder / "log-000000000001.jsonl").unlink()

    with pytest.raises(Corrupt, match="log-000000000001.jsonl is missing"):
        FilesStore(folder)

    shutil.copy(folder / "snapshot-000000000001.jsonl", tmp_path / "earlier")
    with pytest.raises(Corrupt, match="log-000000000001.jsonl is missing"):
        FilesStore(tmp_path / "earlier")


def test_a_log_of_another_store_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        store = FilesStore(tmp_path / name)
        put(store, name)
        store.snapshot_now()
        put(store, name)
        store.close()
    shutil.copy(tmp_path / "one" / "log-000000000001.jsonl", tmp_path / "two")

    with pytest.raises(Corrupt, match="log-000000000001.jsonl, line 1 .*it starts after"):
        FilesStore(tmp_path / "two")


def test_a_killed_process_loses_no_answered_command(folder: Path) -> None:
    dice, answered = random.Random(3), 0
    for _ in range(12):
        with child("count", folder, 5, 6_000) as process:
            for _ in range(dice.randrange(1, 30)):
                answered = int(line(process))
            process.send_signal(signal.SIGKILL)
            assert process.stdout is not None
            said = process.stdout.read()
        answered = int(([str(answered), *said.split()])[-1])

        found = {int(body) for body in bodies(folder).values()}

        assert len(found) == 1 and found <= {answered, answered + 1}
        answered = found.pop()


# -- disks


@asynchronous
async def test_after_a_failed_fsync_the_store_is_unavailable_until_it_is_reopened(
    folder: Path,
) -> None:
    class Failing(Disk):
        failing = False

        def sync(self, file: int) -> None:
            if self.failing:
                self.failing = False
                raise OSError(errno.EIO, "Input/output error")
            super().sync(file)

    disk = Failing()
    store = FilesStore(folder, disk=disk)
    await store.execute(Put("a", "d", "first"))
    disk.failing = True

    answers = await asyncio.gather(
        *[store.execute(Put(name, "d", "lost?")) for name in "ab"], return_exceptions=True
    )

    assert [type(answer) for answer in answers] == [OutcomeUnknown] * 2
    again = "fsync failed: .*Input/output error; close the store and open it again"
    with pytest.raises(Unavailable, match=again):
        await store.execute(Put("c", "d", "never"))
    with pytest.raises(Unavailable, match=again):
        await store.ask(SnapshotProbe("a"))
    with pytest.raises(Unavailable, match=again):
        await store.due(1)
    with pytest.raises(Unavailable, match=again):
        await store.snapshot()
    await store.aclose()

    store = FilesStore(folder)
    found = {r.session_id: r.body for r in await store.dump() if isinstance(r, Blob)}
    assert found in ({"a": "first"}, {"a": "lost?", "b": "lost?"})
    assert await store.execute(Put("c", "d", "x")) == ""
    await store.aclose()


def test_a_failed_write_makes_the_store_unavailable(folder: Path) -> None:
    class Failing(Disk):
        failing = False

        def append(self, file: int, data: bytes) -> None:
            if self.failing:
                super().append(file, data[: len(data) // 2])
                raise OSError(errno.EIO, "Input/output error")
            super().append(file, data)

    disk = Failing()
    store = FilesStore(folder, disk=disk)
    put(store, "first")
    disk.failing = True

    for _ in range(2):
        with pytest.raises(Unavailable, match="Input/output error"):
            put(store, "second")
    disk.failing = False
    with pytest.raises(Unavailable, match="open it again"):
        put(store, "third")
    store.close()

    assert bodies(folder) == {"s": "first"}


def test_a_limit_on_file_size_changes_nothing(folder: Path) -> None:
    with child("short_of_space", folder) as process:
        said, _ = process.communicate()

    refused, again, before, last = said.splitlines()
    assert LOG in refused and "too large" in refused and "too large" in again
    assert (before, last) == ("first", "short")
    assert bodies(folder) == {"s": "last"}


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    with disk(tmp_path / "tiny", "256k") as folder:
        yield folder


def test_a_full_disk_changes_nothing_and_the_store_continues_when_there_is_space(
    tiny: Path,
) -> None:
    (tiny / "other").write_bytes(b"x" * 100_000)
    store = FilesStore(tiny / "store")
    put(store, "first")

    with pytest.raises(Unavailable, match="No space left on device"):
        put(store, "x" * 200_000)
    assert store.execute_now(Put("s", "d", "second")) == "first"
    with pytest.raises(Unavailable, match="No space left on device"):
        while True:
            put(store, "y" * 10_000)
    with pytest.raises(Unavailable, match="writing a snapshot failed: .*No space left"):
        store.snapshot_now()
    (tiny / "other").unlink()
    put(store, "third", "last")
    store.snapshot_now()
    store.close()

    assert bodies(tiny / "store") == {"s": "last"}


def test_a_store_on_a_full_disk_can_be_opened_and_read(tiny: Path) -> None:
    store = FilesStore(tiny / "store")
    put(store, "first")
    with pytest.raises(OSError, match="No space left"):
        (tiny / "other").write_bytes(b"x" * 300_000)
    store.close()

    assert bodies(tiny / "store") == {"s": "first"}


def test_a_removed_folder_makes_the_store_unavailable(folder: Path) -> None:
    store = FilesStore(folder)
    put(store, "first")
    shutil.rmtree(folder)

    with pytest.raises(Unavailable, match="the file was removed"):
        put(store, "second")
    store.close()


# -- snapshots


def test_a_snapshot_replaces_the_log(folder: Path) -> None:
    store = FilesStore(folder)
    for at in range(200):
        store.execute_now(Put(f"s{at % 3}", "d", f"{at}"))
    store.snapshot_now()
    whole = world_of(store.dump_now())
    assert names(folder) == [LOCK, "log-000000000200.jsonl", "snapshot-000000000200.jsonl"]

    store.snapshot_now()  # a second snapshot changes nothing
    store.execute_now(Put("s0", "d", "198"))
    store.close()

    again = FilesStore(folder)
    assert world_of(again.dump_now()) == whole
    assert again.repaired is None
    again.close()


def test_an_empty_store_needs_no_snapshot(folder: Path) -> None:
    store = FilesStore(folder)
    store.snapshot_now()
    store.close()

    assert names(folder) == [LOCK, LOG]


@asynchronous
async def test_commands_and_questions_continue_during_snapshots(folder: Path) -> None:
    store = FilesStore(folder)

    async def work(name: str) -> None:
        for at in range(60):
            assert await store.execute(Put(name, "d", f"{at}")) == (f"{at - 1}" if at else "")
            await store.due(1)

    working = [asyncio.ensure_future(work(f"s{n}")) for n in range(6)]
    while not all(task.done() for task in working):
        await store.snapshot()
        await asyncio.sleep(0)
    await asyncio.gather(*working)
    await store.snapshot()
    await store.aclose()

    assert bodies(folder) == {f"s{n}": "59" for n in range(6)}


def test_a_long_log_is_replaced_by_a_snapshot_automatically(folder: Path) -> None:
    store = FilesStore(folder)
    for at in range(50):
        put(store, f"{at}")
    store.close()
    assert LOG in names(folder)

    store = FilesStore(folder, log_bytes_max=3_000)
    store._snapshot_thread.submit(int).result()  # after the snapshot that was requested at opening
    assert LOG not in names(folder)
    for at in range(50, 150):
        put(store, f"{at}")
    store.close()

    assert "snapshot-000000000050.jsonl" not in names(folder)
    assert bodies(folder) == {"s": "149"}


# -- one owner


def test_a_second_owner_gets_the_pid_of_the_first(folder: Path) -> None:
    with child("held", folder) as process:
        assert line(process) == "open"

        with pytest.raises(Unavailable, match=f"{folder} is in use by process {process.pid} on"):
            FilesStore(folder)

        process.communicate("\n")
    FilesStore(folder).close()


def test_a_process_cannot_open_a_store_twice(folder: Path) -> None:
    store = FilesStore(folder)

    with pytest.raises(Unavailable, match=f"in use by process {os.getpid()}"):
        FilesStore(folder)

    store.close()
    FilesStore(folder).close()


def test_a_folder_stays_locked_without_its_lock_file(folder: Path) -> None:
    store = FilesStore(folder)
    (folder / "lock").unlink()

    with pytest.raises(Unavailable, match="is in use by another process"):
        FilesStore(folder)
    with pytest.raises(Unavailable, match="is in use by another process"):
        FilesReader(folder)

    store.close()
    FilesStore(folder).close()


def test_the_working_folder_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for store in (FilesStore("here"), SqliteStore("here.db")):
        put(store, "x")
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / "elsewhere")
        put(store, "y")
        if isinstance(store, FilesStore):
            store.snapshot_now()
        store.close()
        monkeypatch.chdir(tmp_path)


def test_the_lock_ends_with_its_process_even_if_children_live(folder: Path) -> None:
    with child("abandoned", folder) as process:
        orphan = int(line(process))
        process.wait()
        try:
            assert bodies(folder) == {"s": "x"}
        finally:
            os.kill(orphan, signal.SIGKILL)


def test_a_fork_may_not_use_its_parents_store(folder: Path) -> None:
    store = FilesStore(folder)
    put(store, "x")
    pid = os.fork()
    if pid == 0:
        try:
            put(store, "y")
        except RuntimeError:
            store.close()
            os._exit(7)
        os._exit(1)

    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 7
    assert store.execute_now(Put("s", "d", "z")) == "x"
    with pytest.raises(Unavailable):
        FilesStore(folder)
    store.close()


# -- folders that cannot be opened


def test_a_newer_schema_is_refused_with_both_numbers(folder: Path) -> None:
    folder.mkdir()
    fields = heading("log", LogPosition(), layout_of(RELEASE)).replace(
        b'"schema":%d' % RELEASE, b'"schema":99'
    )
    (folder / LOG).write_bytes(line_of(fields, 0)[0])

    with pytest.raises(
        SchemaTooNew, match=f"release 99 is active, this is release {RELEASE}: upgrade"
    ):
        FilesStore(folder)


def test_the_error_for_other_columns_names_them(folder: Path) -> None:
    folder.mkdir()
    fields = heading("log", LogPosition(), layout_of(RELEASE)).replace(
        b'"blob":["session_id"', b'"blob":["session"'
    )
    (folder / LOG).write_bytes(line_of(fields, 0)[0])

    with pytest.raises(Corrupt, match=f"release {RELEASE} with other columns of blob"):
        FilesStore(folder)


def test_the_error_for_an_unreadable_row_names_it(folder: Path) -> None:
    store = FilesStore(folder)
    store.execute_now(prompt("s", 1))
    store.close()
    head, written, _ = (folder / LOG).read_bytes().splitlines(keepends=True)
    says = json.loads(written)
    for write in says["writes"]:
        if write[1] == "session":
            write[3] = "nonsense"
    fields = b'"seq":1,"writes":%s' % json.dumps(says["writes"]).encode()
    crc = int(head[8:16], 16)
    (folder / LOG).write_bytes(head + line_of(fields, crc)[0])

    with pytest.raises(Corrupt, match=r"session \('s',\) cannot be read: KeyError\('nonsense'\)"):
        FilesStore(folder)
    with pytest.raises(Corrupt):  # and not "in use"
        FilesStore(folder)


FORGED: tuple[tuple[int, str, Any], ...] = (
    (0, "schema", None),
    (0, "schema", "2"),
    (0, "seq", []),
    (0, "after", 7),
    (0, "after", "x"),
    (0, "tables", []),
    (0, "tables", {"session": 5}),
    (0, "tenure", {}),
    (1, "seq", None),
    (1, "writes", 5),
    (1, "writes", [[]]),
    (1, "writes", [5]),
    (1, "writes", [["+", "session"]]),
    (1, "writes", [["+", [], "s"]]),
    (1, "writes", [["+", "blob", "s", "d", 5]]),
    (1, "writes", [["+", "blob", 5, "d", "text"]]),
    (1, "writes", [["+", "blob", "s", ["d"], "text"]]),
    (1, "writes", [["+", "blob", "s", None, "text"]]),
)


@pytest.mark.parametrize(("number", "name", "value"), FORGED)
def test_impossible_values_with_right_checksums_are_refused(
    folder: Path, number: int, name: str, value: object
) -> None:
    store = FilesStore(folder)
    put(store, "one")
    store.close()
    crc, forged = 0, b""
    for at, text in enumerate((folder / LOG).read_bytes().splitlines()):
        fields = json.loads(text)
        del fields["crc"], fields["len"]
        if at == number:
            assert name in fields
            fields[name] = value
        line, crc = line_of(json.dumps(fields, separators=(",", ":")).encode()[1:-1], crc)
        forged += line
    (folder / LOG).write_bytes(forged)

    for opening in (FilesReader, FilesStore, FilesStore):  # the last one: and not "in use"
        with pytest.raises(Corrupt) as raised:
            opening(folder)
        assert "\n" not in str(raised.value)


def test_a_folder_without_a_store_is_not_changed(folder: Path) -> None:
    folder.mkdir()
    (folder / "photo.png").touch()

    with pytest.raises(Corrupt, match="not a files store: it has no log, but photo.png"):
        FilesStore(folder)


@pytest.mark.parametrize("opening", (FilesStore, FilesReader))
def test_a_pipe_instead_of_a_log_is_refused(folder: Path, opening: Callable[[Path], Any]) -> None:
    FilesStore(folder).close()
    (folder / LOG).unlink()
    os.mkfifo(folder / LOG)

    with pytest.raises(Corrupt, match="not a file"):
        opening(folder)


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Unusable, match="file cannot be opened"):  # a retry cannot help
        FilesStore(tmp_path / "file")


def test_the_error_for_a_missing_parent_folder_names_it(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="nowhere/store cannot be opened"):
        FilesStore(tmp_path / "nowhere" / "store")


def test_a_url_opens_its_folder(tmp_path: Path) -> None:
    for url in (f"files:{tmp_path}/a", f"files://{tmp_path}/b"):
        store = open_store(url)
        assert isinstance(store, FilesStore) and store.folder.parent == tmp_path
        store.close()
    with pytest.raises(
        ValueError, match="invalid store URL 'files:': the path is missing, write files:FOLDER"
    ):
        open_store("files:")
    with pytest.raises(ValueError, match="expected memory:, files:FOLDER"):
        open_store("elsewhere:x")


# -- groups, and what people see


@asynchronous
async def test_waiting_commands_are_written_as_one_line(folder: Path) -> None:
    store = FilesStore(folder, clock=ManualClock())

    await asyncio.gather(*[store.execute(Put(f"s{n}", "d", "x")) for n in range(100)])

    assert (store.group.groups, store.group.executed) == (1, 100)
    lines = (folder / LOG).read_text().splitlines()
    assert len(lines) == 2
    assert json.loads(lines[1])["writes"][7] == ["+", "blob", "s7", "d", "x"]
    await store.aclose()


@asynchronous
async def test_a_reader_sees_only_durable_rows(folder: Path) -> None:
    reached, go_on = threading.Event(), threading.Event()

    class Slow(Disk):
        def sync(self, file: int) -> None:
            if threading.current_thread().name.startswith("tenure-write"):
                reached.set()
                go_on.wait()
            super().sync(file)

    store = FilesStore(folder, disk=Slow())
    await store.execute(prompt("s", 1))
    before = await store.ask(SnapshotProbe("s"))

    waiting = [asyncio.ensure_future(store.execute(prompt("s", n))) for n in (2, 3)]
    await asyncio.to_thread(reached.wait)
    meanwhile = await store.ask(SnapshotProbe("s"))
    go_on.set()
    await asyncio.gather(*waiting)

    assert meanwhile == before != await store.ask(SnapshotProbe("s"))
    await store.aclose()


@asynchronous
async def test_closing_executes_submitted_commands(folder: Path) -> None:
    store = FilesStore(folder)
    waiting = [asyncio.ensure_future(store.execute(Put(f"s{n}", "d", "x"))) for n in range(30)]
    await asyncio.sleep(0)

    await store.aclose()

    assert await asyncio.gather(*waiting) == [""] * 30
    assert len(bodies(folder)) == 30
