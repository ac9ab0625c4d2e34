"""The SQLite store with real files: several processes, kills, full disks, damaged rows."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from files_open import a_thousand_files
from paths import SUPPORT

from tenure.commands import Renew
from tenure.indexes import INDEXES
from tenure.machines.lease import Fence
from tenure.outcome import Decided, Hint, Refusal, Refused
from tenure.records import Blob, Session
from tenure.release import RELEASE
from tenure.world import EMPTY, World, world_of
from tenure_drivers.stores.base import Corrupt, SchemaTooNew, Unavailable
from tenure_drivers.stores.group_commit import GroupCommit, Pending, next_group
from tenure_drivers.stores.memory import MemoryStore
from tenure_drivers.stores.registry import open_store
from tenure_drivers.stores.row_codec import codec_of
from tenure_drivers.stores.sqlite.notify import FileProcesses, socket_folder
from tenure_drivers.stores.sqlite.sql import select_first
from tenure_drivers.stores.sqlite.store import SqliteStore, execute_in
from tenure_drivers.testing.command_generator import CommandGenerator
from tenure_drivers.testing.conformance import (
    ManualClock,
    Put,
    SnapshotProbe,
    asynchronous,
    begin,
    decided,
    prompt,
)

CHILD = SUPPORT / "sqlite_child.py"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


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


def run_child(what: str, *arguments: object) -> list[str]:
    with child(what, *arguments) as process:
        said, _ = process.communicate()
    return said.splitlines()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def held(path: Path) -> World:
    store = SqliteStore(path)
    try:
        return world_of(store.dump_now())
    finally:
        store.close()


def worlds(seed: int, steps: int) -> list[list[World]]:
    """Return, for each number of answered groups, the worlds that a crash in the next group may leave."""
    clock, dice, world = ManualClock(), random.Random(seed), EMPTY
    client = CommandGenerator(dice.choice)
    found = []
    for _ in range(steps):
        clock.now_ms += dice.choice((0, 1, 10, 30))
        group, before = client.send_some(clock.now_ms), world
        answers = []
        for command in group:
            answer, world = decided(world, command, clock.now_ms)
            answers.append(answer)
        found.append([before, world])
        for command, answer in zip(group, answers, strict=True):
            client.observe(command, answer)
    return found


# -- crashes


@pytest.mark.parametrize("statement", (1, 2, 3, 7, 18, 40, 64, 95, 130, 171, 200, 251, 302, 404))
def test_a_killed_process_leaves_the_rows_before_or_after_its_group(
    path: Path, statement: int
) -> None:
    said = run_child("killed", path, 5, statement)

    answered = int(said[-1]) if said else 0

    assert held(path) in worlds(5, answered + 1)[answered]


def test_a_truncated_log_is_read_up_to_the_last_complete_group(tmp_path: Path, path: Path) -> None:
    said = run_child("killed", path, 7, 300)
    possible = [world for pair in worlds(7, int(said[-1]) + 1) for world in pair]
    log = Path(f"{path}-wal").read_bytes()

    for size in range(0, len(log), len(log) // 23):
        copy = tmp_path / f"{size}" / "store.db"
        copy.parent.mkdir()
        shutil.copy(path, copy)
        Path(f"{copy}-wal").write_bytes(log[:size])
        try:
            found = held(copy)
        except Corrupt:  # the log with the creation of the file is lost
            assert size < len(log) // 2
            continue
        assert found in possible


def test_a_write_that_fails_in_the_commit_can_be_executed_again(path: Path) -> None:
    said = run_child("short_of_space", path)

    assert said[0] in ("OutcomeUnknown", "Unavailable")
    assert said[1:] == ["first"]


@asynchronous
async def test_a_full_disk_changes_nothing(path: Path) -> None:
    store = SqliteStore(path)
    await store.execute(Put("a", "d", "first"))
    await store.execute(Put("b", "d", "first"))
    pages = store._writer.connection.execute("PRAGMA page_count").fetchone()[0]
    store._writer.connection.execute(f"PRAGMA max_page_count={pages + 4}")

    answers = await asyncio.gather(
        store.execute(Put("a", "d", "x" * 100_000)),
        store.execute(Put("b", "d", "small")),
        return_exceptions=True,
    )

    assert isinstance(answers[0], Unavailable) and "full" in str(answers[0])
    assert answers[1] == "first"
    store._writer.connection.execute("PRAGMA max_page_count=1000000")
    assert await store.execute(Put("a", "d", "last")) == "first"
    await store.aclose()


# -- other processes


def test_processes_take_turns_and_lose_nothing(path: Path) -> None:
    names, count = ("p", "q", "r"), 60
    with child("many", path, names[0], count) as first, child("many", path, names[1], count) as two:
        assert run_child("many", path, names[2], count) == ["done"]
        assert (line(first), line(two)) == ("done", "done")

    bodies = {r.session_id: r.body for r in held(path) if isinstance(r, Blob)}

    assert sorted(bodies["shared"].split()) == sorted(
        f"{n}:{i}" for n in names for i in range(count)
    )
    for name in names:
        assert bodies[name].split() == [str(i) for i in range(count)]
    assert not socket_folder(path).exists()


def test_processes_may_create_the_file_at_the_same_time(path: Path) -> None:
    with ExitStack() as stack:
        started = [stack.enter_context(child("admit", path, f"s{n}")) for n in range(6)]
        assert [process.wait() for process in started] == [0] * 6

    assert len([r for r in held(path) if isinstance(r, Session)]) == 6


def test_a_locked_file_is_reported_with_the_pid_of_the_lock(path: Path) -> None:
    async def run() -> None:
        store = SqliteStore(path, busy_timeout_ms=300)
        ticks = 0
        with child("lock", path) as process:
            assert line(process) == "locked"
            waiting = asyncio.ensure_future(store.execute(prompt("s", 1)))
            while not waiting.done():
                ticks += 1
                await asyncio.sleep(0.001)

            with pytest.raises(Unavailable, match=f"by process {process.pid} for 300 ms"):
                await waiting

            assert ticks > 1  # the event loop continued
            process.communicate("\n")
        assert await store.execute(Put("s", "d", "x")) == ""
        await store.aclose()

    asyncio.run(run())


@asynchronous
async def test_a_command_waits_for_a_lock(path: Path) -> None:
    store = SqliteStore(path)
    with child("lock", path) as process:
        assert line(process) == "locked"
        waiting = asyncio.ensure_future(store.execute(Put("s", "d", "x")))
        await asyncio.sleep(0.01)

        assert not waiting.done()
        assert await store.due(5) == ()  # reading needs no lock
        process.communicate("\n")

        assert await waiting == ""
    await store.aclose()


@asynchronous
async def test_hints_arrive_from_other_processes(path: Path) -> None:
    store = SqliteStore(path)
    hints = store.hints()

    await asyncio.to_thread(run_child, "admit", path, "afar")

    assert await asyncio.wait_for(anext(hints), 30) == Hint("afar", 0)
    await store.aclose()


@asynchronous
async def test_hints_arrive_in_a_process_with_a_thousand_open_files(path: Path) -> None:
    with a_thousand_files():
        store = SqliteStore(path)
        hints = store.hints()

        await asyncio.to_thread(run_child, "admit", path, "afar")

        assert await asyncio.wait_for(anext(hints), 30) == Hint("afar", 0)
        await store.aclose()


@asynchronous
async def test_without_sockets_a_poll_finds_the_writes_of_other_processes(path: Path) -> None:
    store = SqliteStore(path)
    store._processes.close()
    hints = store.hints()
    await store.execute(Put("s", "d", "ours"))
    assert (await anext(hints)).session_id == "s"

    await asyncio.to_thread(run_child, "admit", path, "afar")

    assert await asyncio.wait_for(anext(hints), 30) == Hint("", None)
    await store.aclose()


def test_the_sockets_of_dead_processes_are_removed(path: Path) -> None:
    store = SqliteStore(path)
    with child("attached", path) as process:
        assert line(process).startswith("open")
        assert store._processes.pids() == (process.pid,)
        process.send_signal(signal.SIGKILL)
        process.wait()

    store._processes.prune()

    assert store._processes.pids() == ()
    store.close()
    assert not socket_folder(path).exists()


def test_processes_meet_beside_a_file_with_a_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 90)
    folder.mkdir()
    file = folder / "store.db"
    file.touch()

    one, two = FileProcesses(file), FileProcesses(file)

    assert one.socket is not None and two.socket is not None
    assert [p.name for p in one.others()] == [two.name]
    assert one.folder == file.with_name("store.db-peers")
    one.socket.recv(100)  # empty: whether it is alive
    two.notify([Hint("s", 1)])
    assert msgspec.json.decode(one.socket.recv(100), type=tuple[Hint, ...]) == (Hint("s", 1),)
    one.close()
    two.close()
    assert not one.folder.exists()


def make_link(folder: Path) -> None:
    folder.with_name("elsewhere").mkdir()
    folder.symlink_to("elsewhere")


def make_file(folder: Path) -> None:
    folder.write_text("not a folder")


def make_folder_of_another_user(folder: Path) -> None:
    folder.mkdir()
    if os.geteuid():
        pytest.skip("needs root, to make a folder of another user")
    os.chown(folder, 65534, 65534)


@pytest.mark.parametrize("make", (make_link, make_file, make_folder_of_another_user))
@asynchronous
async def test_a_folder_of_sockets_that_is_not_ours_is_not_used(  # STORE-24
    path: Path, make: Callable[[Path], None]
) -> None:
    folder = socket_folder(path)
    make(folder)
    store = SqliteStore(path)
    hints = store.hints()

    assert store._processes.socket is None and not store._processes.alone
    await store.execute(Put("s", "d", "ours"))
    assert (await anext(hints)).session_id == "s"
    await asyncio.to_thread(run_child, "admit", path, "afar")
    assert await asyncio.wait_for(anext(hints), 30) == Hint("", None)
    await store.aclose()

    assert os.path.lexists(folder)
    assert list(path.parent.glob("elsewhere/*")) == []


def test_the_folder_of_sockets_is_for_its_user_alone(path: Path) -> None:
    socket_folder(path).mkdir(mode=0o755)

    store = SqliteStore(path)

    assert socket_folder(path).stat().st_mode & 0o777 == 0o700
    store.close()


@asynchronous
async def test_what_else_is_in_the_folder_of_sockets_fails_no_command_and_stays(path: Path) -> None:
    store = SqliteStore(path)
    folder = socket_folder(path)
    (folder / "lost+found").mkdir()
    (folder / "1-0123abcd").mkdir()
    (folder / "2-0123abcd").write_text("a text")

    for at in range(3):
        assert await store.execute(Put("s", "d", str(at))) == ("" if not at else str(at - 1))

    names = {p.name for p in folder.iterdir()} - {store._processes.name}
    assert names == {"lost+found", "1-0123abcd", "2-0123abcd"}
    await store.aclose()


def test_a_fork_may_not_use_its_parents_store(path: Path) -> None:
    store = SqliteStore(path)
    store.execute_now(Put("s", "d", "x"))
    pid = os.fork()
    if pid == 0:
        try:
            store.execute_now(Put("s", "d", "y"))
        except RuntimeError:
            os._exit(7)
        os._exit(1)

    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 7
    assert store.execute_now(Put("s", "d", "z")) == "x"
    store.close()


# -- files that cannot be opened


def test_the_error_for_a_file_that_is_not_a_database_names_it(path: Path) -> None:
    path.write_bytes(b"This is not a database, and long enough to be sure of it. " * 40)

    with pytest.raises(Corrupt, match="store.db cannot be read: file is not a database"):
        SqliteStore(path)


def test_another_applications_database_is_not_changed(path: Path) -> None:
    with closing(sqlite3.connect(path)) as theirs, theirs:
        theirs.execute("CREATE TABLE theirs (x)")
    theirs.close()
    before = path.read_bytes()

    with pytest.raises(Corrupt, match="not a tenure database"):
        SqliteStore(path)

    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_an_open_database_of_another_application_is_not_changed(path: Path) -> None:
    with closing(sqlite3.connect(path)) as theirs:
        theirs.execute("PRAGMA journal_mode=WAL")
        theirs.execute("CREATE TABLE theirs (x)")
        theirs.commit()  # in the log only
        before = {p.name: p.read_bytes() for p in path.parent.iterdir() if p.suffix != ".db-shm"}

        with pytest.raises(Corrupt, match="not a tenure database"):
            SqliteStore(path)

        after = {p.name: p.read_bytes() for p in path.parent.iterdir() if p.suffix != ".db-shm"}
        assert after == before


def test_the_error_for_a_truncated_file_names_it(path: Path) -> None:
    store = SqliteStore(path)
    for at in range(50):
        store.execute_now(prompt(f"s{at}", at))
    store.close()
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)
        file.seek(4096)
        file.write(b"\xff" * 8192)

    with pytest.raises(Corrupt, match="store.db"):
        store = SqliteStore(path)
        try:
            for at in range(50):
                store.execute_now(begin(f"s{at}", at))
        finally:
            store.close()


def test_a_newer_schema_is_refused_with_both_numbers(path: Path) -> None:
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as later, later:
        later.execute("PRAGMA user_version=99")
    later.close()

    with pytest.raises(
        SchemaTooNew, match=f"release 99 is active, this is release {RELEASE}: upgrade"
    ):
        SqliteStore(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="has to become another user")
def test_the_error_for_a_read_only_file_names_it() -> None:
    folder = Path("/var/tmp") / f"tenure-read-only-{os.getpid()}"
    folder.mkdir()
    try:
        path = folder / "store.db"
        store = SqliteStore(path)
        store.execute_now(prompt("s", 1))
        store.close()
        path.chmod(0o444)
        folder.chmod(0o555)

        said = run_child("read_only", path)

        assert said[0].startswith("Unusable"), said
        assert str(path) in said[0]
    finally:
        shutil.rmtree(folder)


def test_the_error_for_a_missing_folder_names_it(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="nowhere/store.db"):
        SqliteStore(tmp_path / "nowhere" / "store.db")


@pytest.mark.parametrize("url", ("mysql://x/y", "files:", "store", "sqlite:", "memory:x"))
def test_an_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=url):
        open_store(url)


def test_a_url_opens_its_store(tmp_path: Path) -> None:
    assert isinstance(open_store("memory:"), MemoryStore)
    for url in (f"{tmp_path}/a.db", f"sqlite:{tmp_path}/b", f"sqlite://{tmp_path}/c.db"):
        store = open_store(url)
        assert isinstance(store, SqliteStore)
        assert store.path.parent == tmp_path
        store.close()


# -- damaged rows


def damage(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(sql).rowcount == 1
    connection.close()


@asynchronous
async def test_a_damaged_row_puts_only_its_session_into_quarantine(path: Path) -> None:
    store = SqliteStore(path)
    await asyncio.gather(*[store.execute(prompt(f"s{n}", n)) for n in range(4)])
    damage(path, "UPDATE queue_entry SET state = 'nonsense' WHERE session_id = 's2'")

    answers = await asyncio.gather(
        *[store.execute(begin(f"s{n}", n)) for n in range(3)], return_exceptions=True
    )

    assert [isinstance(a, Corrupt) for a in answers] == [False, False, True]
    assert str(answers[2]).startswith("queue_entry ('s2', 's2-2') cannot be read")
    assert [q.session_id for q in await store.quarantined()] == ["s2"]
    assert [due.session_id for due in await store.due(10)] == ["s3"]

    damage(path, "UPDATE queue_entry SET state = 'ready' WHERE session_id = 's2'")
    await store.readmit("s2")

    assert await store.quarantined() == ()
    assert {due.session_id for due in await store.due(10)} == {"s2", "s3"}
    assert not isinstance(await store.execute(begin("s2", 2)), Exception)
    await store.aclose()


@asynchronous
async def test_a_damaged_row_read_by_a_question_puts_its_session_into_quarantine(
    path: Path,
) -> None:
    store = SqliteStore(path)
    await store.execute(prompt("s", 1))
    damage(path, "UPDATE event_batch SET events = '[{' WHERE session_id = 's'")

    with pytest.raises(Corrupt, match="event_batch"):
        await store.ask(SnapshotProbe("s"))

    assert [q.session_id for q in await store.quarantined()] == ["s"]
    assert await store.due(10) == ()
    await store.aclose()


# -- groups and threads


@asynchronous
async def test_waiting_commands_are_executed_in_one_transaction(path: Path) -> None:
    store = SqliteStore(path)

    await asyncio.gather(*[store.execute(prompt(f"s{n}", n)) for n in range(100)])

    assert (store.group.groups, store.group.executed) == (1, 100)
    await store.aclose()


@asynchronous
async def test_a_single_command_needs_no_thread(path: Path) -> None:
    before = set(threading.enumerate())  # other tests leave stores open, as a crash does
    store = SqliteStore(path)
    await store.execute(prompt("s", 1))
    started = [t.name for t in set(threading.enumerate()) - before]
    await store.aclose()

    assert [name for name in started if name.startswith("tenure-write")] == []


def test_urgent_commands_come_first_but_keep_the_order_of_their_session() -> None:
    fence = Fence("b", 1, "l")
    commands = [prompt("a", 1), prompt("b", 1), prompt("c", 1), Renew("b", fence), prompt("b", 2)]
    waiting: list[Any] = [Pending(command, None, None) for command in commands]  # type: ignore[arg-type]

    group, rest = next_group(waiting, 3)

    assert [work.command for work in group] == [commands[1], commands[3], commands[0]]
    assert [work.command for work in rest] == [commands[2], commands[4]]


@asynchronous
async def test_an_error_after_a_group_keeps_no_later_command_waiting() -> None:
    def fail() -> None:
        raise OSError("no room")

    group = GroupCommit(
        lambda commands, wait: [Refused(Refusal.ILLEGAL, "STORE-19")] * len(commands),
        name="failing",
        after_group=fail,
        has_no_peers=lambda: False,
    )
    for at in range(3):
        answer = await asyncio.wait_for(group.submit(prompt("s", at)), 60)
        assert isinstance(answer, Refused)
    group.close()


def test_a_group_is_limited_by_size_and_a_large_command_is_alone() -> None:  # STORE-44
    sizes = (3, 3, 5, 30, 1, 1)
    waiting: Any = [Pending(prompt(f"s{at}", 1), None, None, size) for at, size in enumerate(sizes)]  # type: ignore[arg-type]
    groups = []

    while waiting:
        group, waiting = next_group(waiting, 100, 10)
        groups.append([work.size for work in group])

    assert groups == [[3, 3], [5], [30], [1, 1]]


def test_event_loops_in_several_threads_share_a_store(path: Path) -> None:
    store = SqliteStore(path)

    async def work(name: str) -> None:
        for at in range(40):
            group = [store.execute(Put(name, f"{k}", str(at))) for k in range(3)]
            assert await asyncio.gather(*group) == ["" if not at else str(at - 1)] * 3

    failed: list[BaseException] = []

    def run(name: str) -> None:
        try:
            asyncio.run(work(name))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    store.close()
    assert len([r for r in held(path) if isinstance(r, Blob)]) == 12


@asynchronous
async def test_closing_executes_submitted_commands(path: Path) -> None:
    store = SqliteStore(path)
    waiting = [asyncio.ensure_future(store.execute(Put(f"s{n}", "d", "x"))) for n in range(30)]
    await asyncio.sleep(0)

    await store.aclose()

    assert await asyncio.gather(*waiting) == [""] * 30
    assert len(list(held(path))) == 30


@asynchronous
async def test_the_size_of_the_log_is_limited(path: Path) -> None:
    store = SqliteStore(path, checkpoint_pages=0, wal_bytes_max=200_000)
    for _ in range(300):
        await asyncio.gather(*[store.execute(Put(f"s{n}", "d", "x" * 9_000)) for n in range(2)])

    assert Path(f"{path}-wal").stat().st_size < 5_000_000
    await store.aclose()


@asynchronous
async def test_a_command_can_be_part_of_a_callers_own_transaction(path: Path) -> None:
    store = SqliteStore(path)
    theirs = sqlite3.connect(path, isolation_level=None)
    theirs.execute("BEGIN IMMEDIATE")
    assert isinstance(execute_in(theirs, prompt("gone", 1), 1), Decided)
    theirs.execute("ROLLBACK")
    theirs.execute("BEGIN IMMEDIATE")
    assert isinstance(execute_in(theirs, prompt("kept", 1), 1), Decided)
    theirs.execute("COMMIT")
    theirs.close()

    assert [due.session_id for due in await store.due(10)] == ["kept"]
    await store.aclose()


# -- plans


def test_every_query_uses_its_index(path: Path) -> None:
    store = SqliteStore(path)
    plans: list[Any] = []
    for index in INDEXES:
        for width in range(len(index.columns) + 1):
            for backwards in (False, True):
                sql = select_first(index, codec_of(index.record), width, 0, backwards)
                rows = store._reader.execute(f"EXPLAIN QUERY PLAN {sql}", (0,) * (width + 1))
                plans += [(index.name, width, row[3]) for row in rows]

    assert [p for p in plans if "TEMP B-TREE" in p[2]] == []
    assert [p for p in plans if "SCAN" in p[2] and p[1]] == []
    assert "queue_entry" in str(plans)
    store.close()


def test_a_schema_that_is_not_utf_8_is_corrupt(path: Path) -> None:
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = CAST(replace(sql, 'queue_entry_dead', CAST(x'ff' AS TEXT)) AS TEXT)"
            " WHERE name = 'queue_entry_dead'"
        )

    with pytest.raises(Corrupt, match="its schema is damaged|malformed"):
        SqliteStore(path)
