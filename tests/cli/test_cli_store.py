"""`tenure store`: check finds damage, export and import keep every row, fence-all fences once."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from cli_process import TENURE
from disks import disk
from pg_server import drop, shared
from psycopg.conninfo import conninfo_to_dict
from stored_forms import FIXTURES

from tenure.check.invariants import PROPERTIES, violations
from tenure.commands import Switch
from tenure.commands.restore import Restore
from tenure.machines.lease import Vacant
from tenure.queries import Get
from tenure.questions.core import LoadOverview
from tenure.records import Session
from tenure.release import RELEASE
from tenure.transcript import NewNode, Role
from tenure.world import World, world_of
from tenure_drivers import Runtime
from tenure_drivers.cli.store.command import store
from tenure_drivers.cli.store.copying import write_whole
from tenure_drivers.runtime.turn import Turn
from tenure_drivers.stores.base import Store
from tenure_drivers.stores.export import InvalidExport, exported, imported
from tenure_drivers.stores.registry import open_store
from tenure_drivers.testing.command_generator import CommandGenerator
from tenure_drivers.testing.fixtures import ManualClock, executed

Run = Callable[..., tuple[int, str, str]]
NUMBERS = itertools.count()


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            store.main(list(words), prog_name="tenure store")
        out, err = capfd.readouterr()
        return int(str(left.value.code or 0)), out, err

    return call


@pytest.fixture(params=("sqlite", "files", pytest.param("postgres", marks=pytest.mark.postgres)))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param != "postgres":
        yield f"{request.param}:{tmp_path / 'here.db'}"
        return
    known, schema = conninfo_to_dict(shared()), f"cli_{os.getpid()}_{next(NUMBERS)}"
    host = str(known["host"]).replace("/", "%2F")
    yield f"postgresql://{known['user']}@/{known['dbname']}?host={host}&tenure_schema={schema}"
    drop(shared(), schema)


async def work(store: Store, seed: int, groups: int = 60) -> World:
    dice, watch = random.Random(seed), ManualClock()
    client = CommandGenerator(dice.choice)
    client.world = world_of(await store.dump())
    for _ in range(groups):
        watch.now_ms += dice.choice((0, 1, 10, 30))
        group = client.send_some(watch.now_ms)
        answers = await asyncio.gather(*[executed(store, command) for command in group])
        for command, answer in zip(group, answers, strict=True):
            client.observe(command, answer)
    return world_of(await store.dump())


def worked(url: str, seed: int = 1) -> World:
    async def whole() -> World:
        made = open_store(url)
        try:
            return await work(made, seed)
        finally:
            await made.aclose()

    return asyncio.run(whole())


def held(url: str) -> World:
    async def whole() -> World:
        opened = open_store(url)
        try:
            return world_of(await opened.dump())
        finally:
            await opened.aclose()

    return asyncio.run(whole())


# -- check


def test_check_finds_no_violation_after_any_commands(url: str, run: Run) -> None:
    worked(url)

    code, out, err = run("check", "--store", url)

    assert (code, out) == (0, ""), out
    assert "3 sessions checked, 0 violations" in err


@pytest.mark.parametrize("name", ["sqlite:store.sqlite", "files:files"])
def test_a_store_of_release_1_is_checked_before_it_is_activated(
    name: str, tmp_path: Path, run: Run
) -> None:
    kind, _, file = name.partition(":")
    shutil.copytree(FIXTURES / "1", tmp_path / "1")

    code, out, err = run("check", "--store", f"{kind}:{tmp_path / '1' / file}")

    assert (code, out) == (0, "") and "18 sessions checked, 0 violations" in err


@pytest.mark.parametrize("seed", range(8))
def test_no_command_violates_a_property(seed: int) -> None:
    world = worked("memory:", seed)

    for session in world.all(Session):
        rows = [r for r in world if getattr(r, "session_id", "") == session.session_id]
        assert list(violations(rows)) == []


DAMAGES = {
    "due_at_ms agrees": "UPDATE session SET due_at_ms = 12345",
    "the counts on": "UPDATE session SET ready_user_count = ready_user_count + 1",
    "events are numbered": "UPDATE session SET next_event = next_event + 1",
    "ranks are unique": "UPDATE session SET next_rank = 0",
    "every input has a queue entry": "DELETE FROM input",
    "contributors": "UPDATE queue_entry SET rank = rank + 1000 WHERE state = 'bound'",
    "open_run names": "UPDATE session SET open_run = 'missing'",
    "lease_run names": "UPDATE session SET lease_run = 'missing'",
    "cancel flag": """UPDATE session SET cancel = '{"run_id":"x","by":"y","how":"abandoned"}'""",
    "the counts of intents": "UPDATE session SET intent_count = coalesce(intent_count, 0) + 1",
    "an intent has an unfinished run": "UPDATE attachment SET run_id = 'missing' WHERE state = 'intent' AND session_id IN (SELECT session_id FROM session WHERE NOT sweep)",
    "every blob is held": "UPDATE blob_holders SET holders = holders + 1",
    "exactly the current frame": "UPDATE frame SET status = 'active' WHERE status = 'superseded'",
    "the number of every node": "UPDATE session SET next_node = 1 WHERE next_node > 1",
    "the leaf of every frame": """UPDATE frame SET leaf = replace(leaf, '"node_id":"', '"node_id":"x') WHERE leaf IS NOT NULL""",
    "the number of every outbound": "UPDATE session SET next_outbound = 1 WHERE next_outbound > 1",
    "the first outbound command": "UPDATE outbound SET state = 'behind', due_at_ms = NULL",
    "stopped means": "UPDATE session SET phase = 'stopping', lease = 'vacant', open_run = NULL",
}


def damaged(folder: Path, damage: str) -> Path:
    """Return the first of several random stores that has a row which the damage changes."""
    for seed in range(2, 32):
        path = folder / f"{seed}.db"
        worked(f"sqlite:{path}", seed)
        with closing(sqlite3.connect(path)) as damaging, damaging:
            if damaging.execute(damage).rowcount > 0:
                return path
    raise AssertionError(f"no store has a row for: {damage}")


@pytest.mark.parametrize("name", DAMAGES)
def test_a_violated_property_is_named(name: str, tmp_path: Path, run: Run) -> None:
    path = damaged(tmp_path, DAMAGES[name])

    code, out, _ = run("check", "--store", f"sqlite:{path}")

    assert code == 1
    assert any(name in line for line in out.splitlines()), out


def test_every_property_is_tried() -> None:
    # those of waiting are tried in tests/cli/test_cli_tickets.py and by the explorer, as is that of publication
    # the bytes that are being deleted by the system `attach`
    assert len(PROPERTIES) == 35


def test_an_unreadable_row_is_named_and_other_sessions_are_checked(
    tmp_path: Path, run: Run
) -> None:
    path = tmp_path / "s.db"
    worked(f"sqlite:{path}")
    with closing(sqlite3.connect(path)) as damaging, damaging:
        damaging.execute("UPDATE queue_entry SET lane = 'sideways' WHERE session_id = 's2'")

    code, out, err = run("check", "--store", f"sqlite:{path}")

    assert code == 1 and "s2: " in out and "sideways" in out
    assert "3 sessions checked, 1 violation" in err


def test_one_session_can_be_checked(url: str, run: Run) -> None:
    worked(url)

    assert run("check", "--store", url, "s1")[0] == 0
    code, out, err = run("check", "--store", url, "nobody")
    assert (code, out) == (2, "") and "no session 'nobody'" in err and "0 sessions checked" in err


def test_sessions_that_cannot_be_read_keep_no_other_from_being_checked_or_fenced(
    tmp_path: Path, run: Run
) -> None:
    """A quarantine or a backup is when these commands are needed."""
    path = tmp_path / "a.db"
    url = f"sqlite:{path}"
    worked(url)
    with closing(sqlite3.connect(path)) as damaging:
        damaging.execute("UPDATE session SET phase = 'sideways' WHERE session_id = 's2'")
        damaging.commit()

    code, out, err = run("check", "--store", url)
    assert code == 1 and "s2: " in out and "sideways" in out and "3 sessions checked" in err

    code, _, err = run("fence-all", "--store", url)
    assert code == 4 and "2 sessions fenced" in err
    assert "not fenced: session s2" in err and "sideways" in err
    with closing(sqlite3.connect(path)) as looking:
        fenced = looking.execute("SELECT count(*) FROM session WHERE generation > 1000").fetchone()
    assert fenced == (2,)


def test_an_export_in_another_order_is_refused_before_anything_is_written(
    tmp_path: Path, run: Run
) -> None:
    worked(url := f"sqlite:{tmp_path / 'a.db'}")
    _, exported, _ = run("export", "--store", url)
    head, *rows, end = exported.splitlines()
    second = next(at for at, row in enumerate(rows) if '"s2"' in row)
    mixed = [rows[0], *rows[second:], *rows[1:second]]
    for lines, why in (
        (mixed, "must follow each other"),
        (rows[1:], "must be that of the session itself"),
        ([rows[0], rows[0], *rows[1:]], "was there before"),
    ):
        file = tmp_path / "rows.jsonl"
        file.write_text("\n".join([head, *lines, f'{{"rows": {len(lines)}}}']) + "\n")
        target = tmp_path / "new.db"

        code, _, err = run("import", "--store", f"sqlite:{target}", str(file))

        assert code == 2 and why in err, err
        assert not target.exists()


@pytest.mark.postgres
def test_no_message_has_the_password_of_a_store(run: Run) -> None:
    known = conninfo_to_dict(shared())
    host = str(known["host"]).replace("/", "%2F")
    url = f"postgresql://{known['user']}:Secret12@/{known['dbname']}?host={host}"

    for command in ("inspect", "show", "events"):
        ran = subprocess.run([*TENURE, command, "--store", url, "nobody"], capture_output=True)
        assert ran.returncode in (2, 4) and b"Secret12" not in ran.stderr, ran.stderr


def test_an_import_that_cannot_be_read_is_refused_in_one_line(run: Run, tmp_path: Path) -> None:
    deep = tmp_path / "deep.jsonl"
    deep.write_text('{"tenure": "export", "format": 1}\n{"a": ' + "[" * 200_000)
    target = f"sqlite:{tmp_path / 'a.db'}"

    for file in (str(deep), "/proc/self/mem"):
        code, out, err = run("import", "--store", target, file)
        assert (code, out) == (2, "") and len(err.splitlines()) == 1, err


def test_ctrl_c_ends_an_import_that_waits_for_its_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [*TENURE, "store", "import", "--store", f"sqlite:{tmp_path / 'a.db'}", str(pipe)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as importing:
        with pipe.open("w"):  # waits until the import reads
            importing.send_signal(signal.SIGINT)
            _, err = importing.communicate()

    assert (importing.returncode, err) == (130, "")


def test_a_release_that_is_activated_meanwhile_ends_a_command_with_a_message(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.db"
    worked(f"sqlite:{path}")
    following = subprocess.Popen(
        [*TENURE, "events", "--store", f"sqlite:{path}", "s1", "--follow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert following.stdout is not None
    following.stdout.readline()
    with closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version={RELEASE + 1}")

    _, err = following.communicate(timeout=60)

    assert following.returncode == 4 and "Traceback" not in err
    assert f"release {RELEASE + 1} is active" in err


@pytest.mark.parametrize("command", ("check", "fence-all", "export"))
def test_no_store_command_creates_a_store(command: str, url: str, run: Run) -> None:
    code, _, err = run(command, "--store", url)

    assert code == 2 and ("schema" if url.startswith("postgres") else "no such file") in err
    name = url.partition(":")[2]
    assert url.startswith("postgres") or not Path(name).exists()


# -- fence-all


def test_every_session_is_fenced_once(url: str, run: Run) -> None:
    before = worked(url, seed=3)

    code, _, err = run("fence-all", "--store", url, "--by", "1000")
    after = held(url)
    name = err.split()[1]
    again, _, _ = run("fence-all", "--store", url, "--by", "1000", "--id", name)

    assert (code, again) == (0, 0) and "3 sessions fenced" in err
    assert held(url) == after
    for session in before.all(Session):
        (now,) = [s for s in after.all(Session) if s.session_id == session.session_id]
        assert now.lease == Vacant(session.lease.generation + 1000)
    assert run("check", "--store", url)[0] == 0


# -- export and import


def test_an_imported_store_equals_the_exported_one(url: str, run: Run, tmp_path: Path) -> None:
    there, file = f"sqlite:{tmp_path / 'there.db'}", str(tmp_path / "rows.jsonl")
    before = worked(url, seed=4)

    assert run("export", "--store", url, file)[0] == 0
    assert run("import", "--store", there, file)[0] == 0
    assert held(there) == before
    code, _, err = run("import", "--store", there, file)
    assert code == 0 and "0 of" in err
    assert run("check", "--store", there)[0] == 0

    back = f"{url}2" if "postgres" not in url else f"{url}_2"
    assert run("import", "--store", back, file)[0] == 0
    assert held(back) == before
    if "postgres" in url:
        drop(shared(), back.rpartition("=")[2])


def test_a_session_with_newer_rows_is_not_overwritten(tmp_path: Path, run: Run) -> None:
    url, file = f"sqlite:{tmp_path / 's.db'}", str(tmp_path / "rows.jsonl")
    worked(url, seed=5)
    run("export", "--store", url, file)
    after = worked(url, seed=6)

    code, out, _ = run("import", "--store", url, file)

    assert code == 1 and "the store holds a different " in out
    assert max(map(len, out.splitlines())) < 100
    assert held(url) == after


def test_an_incomplete_file_changes_nothing(tmp_path: Path, run: Run) -> None:
    url, file = f"sqlite:{tmp_path / 's.db'}", tmp_path / "rows.jsonl"
    worked(url)
    run("export", "--store", url, str(file))
    lines = file.read_text().splitlines(keepends=True)
    for wrong in (lines[:-1], lines[1:], lines[:5] + lines[6:], ["{}\n"], ["[]\n"], []):
        file.write_text("".join(wrong))

        code, _, err = run("import", "--store", f"sqlite:{tmp_path / 'new.db'}", str(file))

        assert code == 2 and "rows.jsonl" in err, err
    assert not (tmp_path / "new.db").exists()


def test_an_export_may_begin_with_a_byte_order_mark(tmp_path: Path, run: Run) -> None:
    url, there, file = "sqlite:" + str(tmp_path / "s.db"), f"files:{tmp_path / 'f'}", tmp_path / "x"
    before = worked(url)
    run("export", "--store", url, str(file))
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())

    assert run("import", "--store", there, str(file))[0] == 0
    assert held(there) == before


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{}".encode("utf-16"), "is UTF-16 text: convert it to UTF-8"),
        (gzip.compress(b"{}", mtime=0), "is compressed by gzip: decompress it first"),
        (b"\xff{}", "'utf-8' codec can't decode byte 0xff in position 0"),
    ],
)
def test_a_file_that_is_no_text_is_not_imported(
    tmp_path: Path, run: Run, content: bytes, why: str
) -> None:
    (tmp_path / "x").write_bytes(content)

    code, out, err = run("import", "--store", f"sqlite:{tmp_path / 's.db'}", str(tmp_path / "x"))

    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert why in err
    assert not (tmp_path / "s.db").exists()


def test_a_store_is_not_exported_over_itself(tmp_path: Path, run: Run) -> None:
    url, path = f"sqlite:{tmp_path / 's.db'}", tmp_path / "s.db"
    before = worked(url)

    for name in ("s.db", "s.db-wal", "s.db-shm"):
        code, _, err = run("export", "--store", url, str(path.with_name(name)))
        assert code == 2 and f"{name} belongs to the store" in err, err

    assert held(url) == before


def test_a_failed_export_keeps_the_previous_file(tmp_path: Path, run: Run) -> None:
    url, file = f"sqlite:{tmp_path / 's.db'}", tmp_path / "rows.jsonl"
    worked(url)
    run("export", "--store", url, str(file))
    before = file.read_text()

    with disk(tmp_path / "disk", "16k") as folder:
        full, kept = folder / "rows.jsonl", "an export before"
        full.write_text(kept)
        code, _, err = run("export", "--store", url, str(full))
        assert code == 1 and "rows.jsonl: No space left on device" in err, err
        assert [(p.name, p.read_text()) for p in folder.iterdir()] == [("rows.jsonl", kept)]
    assert run("export", "--store", url, str(tmp_path / "no" / "x"))[0] == 2
    assert run("export", "--store", url, str(file))[0] == 0
    assert file.read_text() == before


@pytest.mark.postgres
def test_an_invalid_schema_name_is_reported(run: Run) -> None:
    known = conninfo_to_dict(shared())
    host = str(known["host"]).replace("/", "%2F")
    url = f"postgresql://{known['user']}@/{known['dbname']}?host={host}&tenure_schema=pg_mine"

    code, _, err = run("migrate", "--store", url)

    assert code == 2 and 'unacceptable schema name "pg_mine"' in err, err


def test_rows_are_written_as_they_are_read() -> None:
    world = worked("memory:", seed=7)
    lines = list(exported(world))

    assert world_of(imported(lines)) == world
    assert all(json.loads(line) for line in lines)
    broken = [lines[0], lines[1].replace('"phase": "', '"phase": "un'), *lines[2:]]
    with pytest.raises(InvalidExport, match="line 2"):
        list(imported(broken))


@pytest.mark.parametrize("value", ["[]", "{}", "1.5", "true", "null"])
def test_a_value_of_another_type_is_named(value: str) -> None:
    lines = list(exported(worked("memory:", seed=7)))
    at, line = next((i, text) for i, text in enumerate(lines) if text.startswith('{"input"'))
    wrong = re.sub(r'"input_id": "[^"]*"', f'"input_id": {value}', line)

    with pytest.raises(InvalidExport, match=f"line {at + 1}: input.input_id: expected str, found"):
        list(imported([*lines[:at], wrong, *lines[at + 1 :]]))


def test_two_exports_to_one_file_are_each_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"

    def second() -> Iterator[str]:
        yield "first"
        write_whole(path, ["other"] * 3)
        assert path.read_text() == "other\n" * 3
        yield "last"

    write_whole(path, second())

    assert path.read_text() == "first\nlast\n" and list(tmp_path.iterdir()) == [path]


def test_a_restored_row_is_seen_only_with_its_session() -> None:
    world = worked("memory:", seed=8)
    rows = [r for r in world if getattr(r, "session_id", "") == "s1"]

    async def whole() -> None:
        empty = open_store("memory:")
        rest = tuple(r for r in rows if not isinstance(r, Session))
        assert await empty.execute(Restore("s1", rest)) == len(rest)
        assert await empty.due(10) == ()
        assert await empty.execute(Restore("s1", rest)) == 0

    asyncio.run(whole())


# -- migrate


def test_migrate_prints_its_sql_and_runs_it_once(url: str, run: Run) -> None:
    shown, sql, _ = run("migrate", "--store", url, "--dry-run")
    done, again, _ = run("migrate", "--store", url)
    code, nothing, err = run("migrate", "--store", url)

    assert (shown, done, code) == (0, 0, 0)
    assert sql == again
    assert nothing == "" and "nothing to do" in err
    if not url.startswith("files:"):
        assert sql.count("CREATE TABLE") >= 12


def test_activate_needs_a_store_and_may_be_repeated(url: str, run: Run) -> None:
    """SCHEMA-7."""
    missing, _, why = run("activate", "--store", url)
    worked(url)
    code, out, err = run("activate", "--store", url)

    assert missing == 2 and "there is no store yet" in why
    assert (code, out) == (0, "") and f"release {RELEASE} is active" in err


def test_a_store_in_memory_has_nothing_to_activate(run: Run) -> None:
    code, _, err = run("activate", "--store", "memory:")

    assert code == 2 and "nothing to activate" in err


def test_migrate_names_the_extra_that_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.startswith("tenure_drivers.stores.postgres.store")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)

    code, _, err = run("migrate", "--store", "postgresql://h/d", "--dry-run")

    assert code == 2 and "pip install 'tenure[postgres]'" in err


@pytest.mark.postgres
def test_workers_need_no_right_to_create_tables() -> None:
    schema, role = f"owned_{os.getpid()}", f"worker_{os.getpid()}"
    known = conninfo_to_dict(shared())
    host = str(known["host"]).replace("/", "%2F")
    owner = f"postgresql://{known['user']}@/{known['dbname']}?host={host}&tenure_schema={schema}"
    worked(owner)
    with psycopg.connect(shared()) as granting:
        for line in (
            f"CREATE ROLE {role} LOGIN",
            f"GRANT USAGE ON SCHEMA {schema} TO {role}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
        ):
            granting.execute(line.encode())
    try:
        worked(owner.replace(f"{known['user']}@", f"{role}@"))
    finally:
        drop(shared(), schema)
        with psycopg.connect(shared()) as dropping:
            dropping.execute(f"DROP ROLE {role}".encode())


# -- read-only commands change nothing

READ_ONLY = ("check", "export")
TORN = b'{"crc":"00000000","len":99,"seq":9'


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("locked_before", (True, False))
@pytest.mark.parametrize("command", READ_ONLY)
def test_reading_a_files_store_changes_nothing(
    command: str, locked_before: bool, tmp_path: Path, run: Run
) -> None:
    folder = tmp_path / "f"
    worked(f"files:{folder}")
    (log,) = folder.glob("log-*.jsonl")
    log.write_bytes(log.read_bytes() + TORN)
    if not locked_before:
        (folder / "lock").unlink()
    before = bytes_of(folder)

    code, out, err = run(command, "--store", f"files:{folder}")

    assert code == 0 and bool(out) is (command == "export"), err
    assert bytes_of(folder) == before


@pytest.mark.parametrize("command", READ_ONLY)
def test_reading_an_empty_folder_creates_nothing(command: str, tmp_path: Path, run: Run) -> None:
    code, _, err = run(command, "--store", f"files:{tmp_path}")

    assert (code, len(err.splitlines())) == (2, 1) and "holds no store" in err, err
    assert list(tmp_path.iterdir()) == []


def foreign(path: Path, kind: str) -> None:
    with closing(sqlite3.connect(path)) as theirs:
        if kind == "wal":
            theirs.execute("PRAGMA journal_mode=WAL")
        if kind == "application_id":
            theirs.execute("PRAGMA application_id=7")
        else:
            theirs.execute("CREATE TABLE theirs (x)")
        theirs.commit()


WHOLE = (
    ("check",),
    ("export",),
    ("fence-all",),
    ("migrate",),
    ("migrate", "--dry-run"),
    ("activate",),
    ("import",),
)


@pytest.mark.parametrize("kind", ("tables", "wal", "application_id"))
@pytest.mark.parametrize("command", WHOLE)
def test_a_database_of_something_else_is_refused_and_not_changed(
    command: tuple[str, ...], kind: str, tmp_path: Path, run: Run
) -> None:
    path, rows = tmp_path / "d" / "theirs.db", tmp_path / "rows.jsonl"
    path.parent.mkdir()
    foreign(path, kind)
    rows.write_text("\n".join(exported(worked("memory:"))) + "\n")
    before = bytes_of(path.parent)

    file = [str(rows)] if command[0] == "import" else []
    code, _, err = run(*command, "--store", f"sqlite:{path}", *file)

    assert code == 4 and "not a tenure database" in err, err
    assert bytes_of(path.parent) == before


@pytest.mark.parametrize("command", (*READ_ONLY, "fence-all"))
def test_an_empty_file_stays_empty(command: str, tmp_path: Path, run: Run) -> None:
    path = tmp_path / "empty.db"
    path.touch()

    code, _, err = run(command, "--store", f"sqlite:{path}")

    assert (code, len(err.splitlines())) == (2, 1) and "holds no store" in err, err
    assert bytes_of(tmp_path) == {str(path): b""}


@pytest.mark.parametrize("command", READ_ONLY)
def test_reading_a_damaged_row_quarantines_nothing(command: str, tmp_path: Path, run: Run) -> None:
    path = tmp_path / "s.db"
    worked(f"sqlite:{path}")
    with closing(sqlite3.connect(path)) as damaging, damaging:
        damaging.execute("UPDATE queue_entry SET lane = 'sideways' WHERE session_id = 's2'")
    damaging.close()
    before = path.read_bytes()

    code, _, err = run(command, "--store", f"sqlite:{path}")

    assert code == (1 if command == "check" else 4), err
    assert path.read_bytes() == before and not path.with_name("s.db-peers").exists()


def changed(url: str, statement: str) -> None:
    """Change the rows of an SQLite or PostgreSQL store; `statement` has {} before a table."""
    if url.startswith("sqlite:"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:"))) as lite, lite:
            lite.execute(statement.format(""))
        return
    schema = url.partition("tenure_schema=")[2]
    with psycopg.connect(shared()) as server:
        server.execute(statement.format(f'"{schema}".').encode())


@pytest.mark.postgres
def test_reading_a_damaged_row_on_a_server_quarantines_nothing(url: str, run: Run) -> None:
    if not url.startswith("postgresql"):
        pytest.skip("test_reading_a_damaged_row_quarantines_nothing")
    worked(url)
    changed(url, "UPDATE {}session SET phase = 'sideways' WHERE session_id = 's2'")

    assert [run(command, "--store", url)[0] for command in READ_ONLY] == [1, 4]
    tenure = [*TENURE, "show", "--store", url, "s2"]
    assert subprocess.run(tenure, capture_output=True).returncode == 4

    async def quarantined() -> object:
        opened = open_store(url)
        try:
            return await opened.quarantined()
        finally:
            await opened.aclose()

    assert asyncio.run(quarantined()) == ()


def test_a_session_is_readmitted_when_its_rows_were_repaired(url: str, run: Run) -> None:
    row = worked(url).answer(Get(Session, ("s2",)))
    assert row is not None
    if url.startswith("files:"):
        code, _, err = run("readmit", "--store", url, "s2")
        assert code == 0 and "s2 is not in quarantine" in err
        return
    phase = "UPDATE {}session SET phase = '%s' WHERE session_id = 's2'"
    changed(url, "INSERT INTO {}quarantine VALUES ('s2', 'it was damaged', 5)")
    changed(url, phase % "sideways")

    code, _, err = run("readmit", "--store", url, "s2")
    assert code == 4 and "sideways" in err
    assert "s2: quarantined: " in run("check", "--store", url)[1]
    changed(url, phase % row.phase.value)
    changed(url, "UPDATE {}session SET next_event = next_event + 1 WHERE session_id = 's2'")
    code, out, _ = run("readmit", "--store", url, "s2")
    assert code == 1 and "s2: violated: events are numbered" in out
    changed(url, "UPDATE {}session SET next_event = next_event - 1 WHERE session_id = 's2'")

    assert run("readmit", "--store", url, "s2")[0] == 0
    assert "quarantined" not in run("check", "--store", url)[1]
    code, _, err = run("readmit", "--store", url, "s2")
    assert code == 0 and "s2 is not in quarantine" in err
    code, _, err = run("readmit", "--store", url, "nobody")
    assert code == 2 and "no session 'nobody'" in err


@pytest.mark.postgres
@pytest.mark.parametrize("command", ("migrate", "activate", "check", "fence-all"))
def test_a_schema_without_its_number_is_refused_in_one_line(
    url: str, run: Run, command: str
) -> None:
    if not url.startswith("postgresql"):
        pytest.skip("the number of a file is in its head")
    worked(url)
    changed(url, "DROP TABLE {}tenure_schema")

    code, out, err = run(command, "--store", url)

    assert (code, out) == (4, "") and "usage, but no table tenure_schema" in err
    assert "restore a backup" in err and len(err.splitlines()) == 1


def test_a_store_that_lacks_an_index_is_refused_with_what_to_do(url: str, run: Run) -> None:
    worked(url)
    if url.startswith("files:"):
        return  # it has no tables
    changed(url, "DROP INDEX {}session_due")

    code, _, err = run("check", "--store", url)

    assert code == 4 and "it lacks CREATE INDEX" in err and "run `tenure store migrate`" in err
    assert run("migrate", "--store", url)[0] == 0
    assert run("check", "--store", url)[0] == 0


def test_migrate_creates_a_store(url: str, run: Run) -> None:
    assert run("migrate", "--store", url)[0] == 0

    code, _, err = run("activate", "--store", url)
    assert code == 0 and f"release {RELEASE} is active" in err


def test_a_dry_run_refuses_a_newer_schema(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "s.db"
    worked(f"sqlite:{path}")
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version=99")

    code, _, err = run("migrate", "--store", f"sqlite:{path}", "--dry-run")

    assert code == 4 and "release 99 is active" in err, err


def test_a_dry_run_refuses_a_folder_of_something_else(tmp_path: Path, run: Run) -> None:
    (tmp_path / "photo.png").touch()

    code, _, err = run("migrate", "--store", f"files:{tmp_path}", "--dry-run")

    assert code == 4 and "not a files store" in err, err


# -- prune


def with_journals(url: str) -> None:
    """Let two sessions work, and destroy one of them."""

    async def answer(turn: Turn) -> str:
        await turn.commit(str(await turn.step("look up", lambda: turn.text)), frame=Switch("aside"))
        return ""

    async def whole() -> None:
        made = open_store(url)
        async with Runtime(made, answer) as runtime:
            for session in ("ann", "bob"):
                await (await runtime.submit(session, "hello")).ended()
            said = await runtime.amend("ann", [NewNode(Role.ASSISTANT, "a secret")])
            assert said.leaf is not None
            await runtime.amend("ann", hide=[said.leaf.node_id])
            await runtime.destroy("bob")
            while (await made.ask(LoadOverview("bob"))).session.sweep:  # type: ignore[union-attr]
                await asyncio.sleep(0.01)
        await made.aclose()

    asyncio.run(whole())


def test_a_dry_run_says_what_prune_does(url: str, run: Run) -> None:
    with_journals(url)
    kinds = ("--journals", "--destroyed", "--frames", "--hidden")
    options = ("--store", url, *[word for kind in kinds for word in (kind, "0s")])
    before = held(url)

    dry = run("prune", *options, "--dry-run")

    assert held(url) == before
    done = run("prune", *options)
    assert dry[:2] == done[:2]
    assert "ann: journals 2, frames 1, hidden 1" in dry[1]
    assert dry[0] == 0 and [line.split(":")[0] for line in dry[1].splitlines()] == ["ann", "bob"]
    assert held(url) != before
    assert run("prune", *options)[1:] == ("", "0 rows removed or changed\n")
    assert run("check", "--store", url)[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--keep", "30"), "'30': expected a number and s, m, h or d, such as 30d"),
        (("--keep", "1d"), "inputs.for_ms 86400000: expected 172800000"),
        (("--events", "9d"), "events without journals"),
        (("--last", "-1", "--journals", "9d"), "journals.last -1: expected 0"),
        (("--last-frames", "-1", "--frames", "0s"), "frames.last -1: expected 0"),
        (("nobody",), "no session 'nobody'"),
        (("nobody", "--dry-run"), "no session 'nobody'"),
    ],
)
def test_what_prune_refuses(
    options: tuple[str, ...], message: str, tmp_path: Path, run: Run
) -> None:
    url = f"sqlite:{tmp_path / 's.db'}"
    worked(url)

    code, out, err = run("prune", "--store", url, *options)

    assert (code, out) == (2, "") and message in err, err
