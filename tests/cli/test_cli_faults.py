"""`tenure run` killed, interrupted, and over stores in trouble: real processes, real kill -9, real disks."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cli_process import (
    HELLO,
    RUN,
    column,
    finish,
    kill,
    prompts,
    some,
    start,
    tenure,
    until,
    workers_of,
)
from paths import ROOT

# -- killed, interrupted


def written(tmp_path: Path) -> list[str]:
    return [line.split(" ", 1)[0] for line in (tmp_path / "l").read_text().splitlines()]


def begun(
    folder: Path, agent: str, *command: object, lines: Sequence[Mapping[str, object]] = (HELLO,)
) -> subprocess.Popen[str]:
    """Start a command with `agent` as the module `mine`; return when its first turn has begun."""
    (folder / "mine.py").write_text(agent)
    prompts(folder / "p", lines)
    process = start(*command, "p", cwd=folder)
    until((folder / "begun").exists, process)
    return process


@pytest.mark.parametrize("seed", range(2))
def test_every_input_ends_once_in_order_whatever_is_killed(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    prompts(tmp_path / "p", some(300, 30))
    command = (*RUN, "ledger:l", "--workers", 2, "p")
    kills = 0
    while kills < 6:
        process = start(*command, cwd=tmp_path)
        progress = dice.randrange(1, 60)
        before = len(written(tmp_path)) if (tmp_path / "l").exists() else 0

        def far_enough(process: Any = process, enough: int = before + progress) -> bool:
            ledger = tmp_path / "l"
            return process.poll() is not None or (
                ledger.exists() and len(written(tmp_path)) >= enough
            )

        until(far_enough)
        if dice.random() < 0.5:
            process.kill()
        else:
            for pid in dice.sample(found := workers_of(process), min(1, len(found))):
                kill(pid)
                kills += 1
            until(far_enough)
            process.kill()
        kills += 1
        process.communicate()

    ran = tenure(*command, cwd=tmp_path)
    again = tenure(*command, cwd=tmp_path)

    line_of = {line["input_id"]: line for line in ran.lines}
    assert ran.code == 0, ran.err
    assert (again.code, again.out) == (0, ran.out)
    assert len(line_of) == 300 and {line["ended"] for line in ran.lines} == {"consumed"}
    assert sorted(written(tmp_path)) == sorted(line_of)
    for session in {line["session"] for line in ran.lines}:
        order = [line_of[i]["line"] for i in written(tmp_path) if line_of[i]["session"] == session]
        assert order == sorted(order)


def test_a_worker_that_is_killed_is_started_again(tmp_path: Path) -> None:
    process = begun(tmp_path, GATED, *RUN, "mine:agent")
    [worker] = workers_of(process)
    (tmp_path / "begun").unlink()
    arguments = Path(f"/proc/{worker}/cmdline").read_bytes()
    assert (
        b"a.db" not in arguments
    )  # a store's URL may hold a password, and these everybody can read

    kill(worker)
    until((tmp_path / "begun").exists, process)
    (tmp_path / "go").touch()
    ran = finish(process)

    assert (ran.code, column(ran.lines, "text")) == (0, ["hello"])
    assert f"worker {worker}: killed by SIGKILL; starting another" in ran.err


def test_a_worker_that_lives_goes_on_where_no_other_can_be_started(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ALONE)
    prompts(tmp_path / "p", [HELLO])
    process = start(*RUN, "mine:agent", "--workers", 2, "p", cwd=tmp_path)
    until(lambda: (tmp_path / "refused").exists() and written_in(tmp_path / "refused") > 5, process)
    (tmp_path / "go").touch()

    ran = finish(process)

    assert (ran.code, column(ran.lines, "text")) == (0, ["hello"])
    assert ran.err.count("starting another") <= 5
    assert "1 of 2 workers running; retrying the others" in ran.err


def written_in(path: Path) -> int:
    return len(path.read_text())


ALONE = """
import asyncio, os, pathlib, sys

if "tenure_drivers.cli.run.worker_process" in " ".join(sys.orig_argv):
    try:
        os.close(os.open("taken", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        with open("refused", "a") as refused:
            refused.write("x")
        os._exit(3)

async def agent(turn):
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)
    return turn.text
"""

GATED = """
import asyncio, os, pathlib

async def agent(turn):
    pathlib.Path("begun").touch()
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)
    return turn.text
"""


def test_a_worker_that_is_killed_while_it_imports_its_agent_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import os, sys\n"
        "if 'worker_process' in ' '.join(sys.orig_argv): os.kill(os.getpid(), 9)\n"
        "async def agent(turn): return turn.text\n"
    )
    prompts(tmp_path / "p", [HELLO])

    ran = tenure(*RUN, "mine:agent", "p", cwd=tmp_path)

    assert ran.code == 4
    assert ran.last == "tenure run: no worker can be started: killed by SIGKILL"


def test_an_agent_that_raises_keyboard_interrupt_ends_only_its_own_turn(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "async def agent(turn):\n"
        "    if turn.text == 'hello' and not turn.failures: raise KeyboardInterrupt\n"
        "    return turn.text\n"
    )
    prompts(tmp_path / "p", [HELLO, {"session": "bob", "text": "hi"}])

    ran = tenure(*RUN, "mine:agent", "p", cwd=tmp_path)

    assert (ran.code, column(ran.lines, "text")) == (0, ["hello", "hi"])
    assert "starting another" not in ran.err and "KeyboardInterrupt" in ran.err


def test_an_agent_does_not_find_the_url_of_the_store_in_its_environment(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import os\nasync def agent(turn): return str('a.db' in str(dict(os.environ)))\n"
    )
    prompts(tmp_path / "p", [HELLO])

    ran = tenure(*RUN, "mine:agent", "p", cwd=tmp_path)

    assert (ran.code, column(ran.lines, "text")) == (0, ["False"])


def test_a_removed_current_folder_is_named(tmp_path: Path) -> None:
    prompts(tmp_path / "p", [HELLO])
    gone = tmp_path / "gone"
    gone.mkdir()
    command = (
        f'rmdir ../gone; exec "{sys.executable}" -P -c "from tenure_cli import main; main()" "$@"'
    )
    arguments = ("run", "--store", "memory:", "--agent", "mine:agent", str(tmp_path / "p"))

    ran = subprocess.run(
        ["sh", "-c", command, "sh", *arguments], cwd=gone, capture_output=True, text=True
    )

    assert ran.returncode == 2
    assert ran.stderr == "tenure run: the current folder was removed.  Change to another folder\n"


def test_a_ledger_that_is_no_file_is_refused(tmp_path: Path) -> None:
    prompts(tmp_path / "p", [HELLO])

    ran = tenure("run", "--store", "memory:", "--agent", "ledger:/dev/full", "p", cwd=tmp_path)

    assert (ran.code, "cannot write /dev/full: not a regular file" in ran.err) == (2, True), ran.err


def test_the_workers_die_with_the_process_that_started_them(tmp_path: Path) -> None:
    process = begun(tmp_path, GATED, *RUN, "mine:agent", "--workers", 2)
    workers = workers_of(process)

    process.kill()
    process.communicate()

    assert len(workers) == 2
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_what_is_under_way_finish(tmp_path: Path, number: int) -> None:
    process = begun(tmp_path, GATED, *RUN, "mine:agent", lines=[HELLO, HELLO])

    process.send_signal(number)
    assert process.stderr is not None
    said = process.stderr.readline()
    (tmp_path / "go").touch()
    ran = finish(process)
    rest = tenure(*RUN, "mine:agent", "p", cwd=tmp_path)

    assert "turns in progress have 30 s to finish" in said
    assert (ran.code, column(ran.lines, "text")) == (128 + number, ["hello"])
    assert (rest.code, rest.last) == (0, "0 admitted, 2 known already")


def test_a_turn_that_does_not_finish_in_the_grace_period_is_resumed_by_the_next_run(
    tmp_path: Path,
) -> None:
    process = begun(tmp_path, GATED, *RUN, "mine:agent", "--grace", 0.2)

    process.send_signal(signal.SIGTERM)
    ran = finish(process)
    (tmp_path / "go").touch()
    rest = tenure(*RUN, "mine:agent", "p", cwd=tmp_path)

    assert "turns in progress have 0.2 s to finish" in ran.err
    assert (ran.code, ran.out) == (143, "")
    assert (rest.code, column(rest.lines, "text")) == (0, ["hello"])


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    process = begun(tmp_path, GATED, *RUN, "mine:agent")

    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    ran = finish(process)

    assert (ran.code, ran.out) == (130, "")


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    prompts(tmp_path / "p", some(200, 5))
    process = start(*RUN, "echo", "p", cwd=tmp_path)
    assert process.stdout is not None and process.stderr is not None

    with process:
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
    code = process.returncode
    rest = tenure(*RUN, "echo", "p", cwd=tmp_path)

    assert (code in (0, 141), "Traceback" in err, "Broken" in err) == (True, False, False)
    assert (rest.code, len(rest.lines)) == (0, 200)


# -- stores in trouble

IMPATIENT = (*RUN[:3], "--patience", "0.2", "--agent")


def test_the_error_for_a_truncated_file_names_it(tmp_path: Path) -> None:
    prompts(tmp_path / "p", [HELLO])
    (tmp_path / "a.db").write_bytes(b"x" * 5000)

    ran = tenure(*IMPATIENT, "echo", "p", cwd=tmp_path)

    assert (ran.code, ran.out) == (4, "")
    assert ran.err == (
        f"tenure run: store sqlite:a.db: {tmp_path / 'a.db'} cannot be read: file is not a database\n"
    )


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    prompts(tmp_path / "p", [HELLO])
    tenure(*RUN, "echo", "p", cwd=tmp_path)
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("PRAGMA user_version=99")
    connection.close()

    ran = tenure(*IMPATIENT, "echo", "p", cwd=tmp_path)

    assert (ran.code, ran.out) == (4, "")
    assert "a.db: release 99 is active, this is release" in ran.err


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path: Path, disk: Path) -> None:
    lines = [{"session": "s", "text": "x" * 100_000, "key": f"{i}"} for i in range(40)]
    prompts(tmp_path / "p", lines)
    command = ("run", "--store", f"sqlite:{disk}/a.db", "--agent", "echo")

    full = tenure(*command, "--patience", 0.2, "p", cwd=tmp_path)
    remount(disk, "size=64m")
    rest = tenure(*command, "p", cwd=tmp_path)

    assert full.code == 4
    assert "database or disk is full" in full.err and "a.db" in full.err
    assert (rest.code, len(rest.lines)) == (0, 40)


@pytest.mark.parametrize("store", ("sqlite:disk/a.db", "files:disk/f"))
def test_a_disk_that_fills_up_ends_the_run_after_its_patience(
    tmp_path: Path, disk: Path, store: str
) -> None:
    (tmp_path / "large.py").write_text("async def agent(turn): return 'x' * 100_000\n")
    prompts(tmp_path / "p", some(40, 4))
    command = ("run", "--store", store, "--agent", "large:agent")

    full = tenure(*command, "--patience", 0.2, "p", cwd=tmp_path)
    remount(disk, "size=64m")
    rest = tenure(*command, "p", cwd=tmp_path)

    assert full.code == 4
    assert f"tenure run: store {store}: {tmp_path / 'disk'}/" in full.last and (
        "full" in full.last or "No space left" in full.last
    )
    assert "; trying again" in full.err
    assert (rest.code, len(rest.lines)) == (0, 40)


def test_a_trigger_that_refuses_a_write_ends_the_run(tmp_path: Path) -> None:
    prompts(tmp_path / "p", [HELLO])
    prompts(tmp_path / "q", [{**HELLO, "text": "new"}])
    tenure(*RUN, "echo", "p", cwd=tmp_path)
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute(
        "CREATE TRIGGER t BEFORE INSERT ON run BEGIN SELECT RAISE(ABORT, 'not here'); END"
    )
    connection.close()

    ran = tenure(*RUN, "echo", "q", cwd=tmp_path)

    assert ran.code == 4
    assert ran.last.endswith("a.db: a trigger refuses a write: not here"), ran.err


@pytest.mark.parametrize("command", ("run", "inspect", "events", "show", "export"))
def test_a_full_disk_behind_standard_output_is_named(tmp_path: Path, command: str) -> None:
    prompts(tmp_path / "p", [HELLO])
    tenure(*RUN, "echo", "p", cwd=tmp_path)
    there = ("--store", "sqlite:a.db")
    commands = {
        "run": (*RUN, "echo", "p"),
        "inspect": ("inspect", *there, "--json"),
        "events": ("events", *there, "ann"),
        "show": ("show", *there, "ann"),
        "export": ("store", "export", *there),
    }

    with open("/dev/full", "w") as full:
        process = start(*commands[command], cwd=tmp_path, stdout=full)
        ran = finish(process)

    assert ran.code == 1
    assert ran.last.endswith("standard output: No space left on device"), ran.err


def test_a_file_that_is_removed_ends_the_run_and_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import asyncio\nasync def agent(turn): await asyncio.sleep(0.5); return turn.text\n"
    )
    prompts(tmp_path / "p", some(200, 2))
    process = start(*RUN, "slow:agent", "--patience", 0.5, "p", cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.readline()  # one has ended: everybody is at work

    for name in ("a.db", "a.db-wal", "a.db-shm"):
        (tmp_path / name).unlink()
    ran = finish(process)

    assert ran.code == 4
    assert f"tenure run: store sqlite:a.db: {tmp_path / 'a.db'} was removed" in ran.last
    assert ran.err.count("cannot look for work") <= 1, ran.err


def test_a_read_only_file_is_named_and_can_be_inspected(tmp_path: Path, disk: Path) -> None:
    remount(disk, "size=64m")
    prompts(tmp_path / "p", [HELLO])
    prompts(tmp_path / "q", [{**HELLO, "text": "new"}])
    command = ("run", "--store", f"sqlite:{disk}/a.db", "--patience", 0.2, "--agent", "echo")
    tenure(*command, "p", cwd=tmp_path)
    remount(disk, "ro")

    ran = tenure(*command, "q", cwd=tmp_path)
    shown = tenure("inspect", "--store", f"sqlite:{disk}/a.db", "ann", cwd=tmp_path)

    assert (ran.code, ran.out) == (4, "")
    assert f"{disk}/a.db" in ran.err and "trying again" in ran.err
    assert (shown.code, "hello" in shown.out) == (0, True), shown.err


def test_a_locked_file_is_waited_for(tmp_path: Path) -> None:
    prompts(tmp_path / "p", [HELLO])
    tenure(*RUN, "echo", "p", cwd=tmp_path)
    prompts(tmp_path / "q", [{**HELLO, "text": "new"}])
    connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")

    process = start(*RUN, "echo", "q", cwd=tmp_path)
    until(lambda: bool(workers_of(process)), process)
    connection.execute("ROLLBACK")
    connection.close()
    ran = finish(process)

    assert (ran.code, column(ran.lines, "text")) == (0, ["new"])


def test_a_session_that_cannot_be_read_blocks_nobody(tmp_path: Path) -> None:
    bob = {"session": "bob", "text": "hi"}
    prompts(tmp_path / "p", [HELLO])
    tenure(*RUN, "echo", "p", cwd=tmp_path)
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("UPDATE session SET phase = 'damaged' WHERE session_id = 'ann'")
    connection.commit()
    connection.close()
    prompts(tmp_path / "q", [bob, HELLO, bob])

    ran = tenure(*RUN, "echo", "q", cwd=tmp_path)
    shown = tenure("inspect", "--store", "sqlite:a.db", "ann", cwd=tmp_path)
    everybody = tenure("inspect", "--store", "sqlite:a.db", "--json", cwd=tmp_path)

    assert (everybody.code, column(everybody.lines, "session")) == (1, ["bob"])
    assert "session ann: session ('ann',) cannot be read" in everybody.err
    assert (ran.code, column(ran.lines, "text")) == (3, ["hi"])
    assert "session ann quarantined: " in ran.err and "damaged" in ran.err
    assert shown.code == 4 and "damaged" in shown.err


def test_leases_that_cannot_be_read_keep_no_worker_from_other_sessions(tmp_path: Path) -> None:
    """STORE-49: workers look at all leases for dead holders."""
    shutil.copy(ROOT / "tests/fixtures/schema/1/store.sqlite", tmp_path / "a.db")
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        held = "SELECT session_id FROM session WHERE lease_from_ms IS NOT NULL LIMIT 2"
        damage = f"UPDATE session SET cancel = '5' WHERE session_id IN ({held})"
        assert connection.execute(damage).rowcount == 2
        connection.commit()
    prompts(tmp_path / "p", [HELLO])

    ran = tenure(*RUN, "echo", "p", cwd=tmp_path)

    assert (ran.code, column(ran.lines, "text")) == (0, ["hello"]), ran.err
    assert "cannot look" not in ran.err


MAX = 2**63 - 1
DAMAGES = {
    "invalid UTF-8": "UPDATE session SET frame = CAST(x'ff' AS TEXT) WHERE session_id = 'ann'",
    "no session": "DELETE FROM session WHERE session_id = 'ann'",
    "last generation": f"UPDATE session SET generation = {MAX} WHERE session_id = 'ann'",
    "last revision": f"UPDATE session SET revision = {MAX} WHERE session_id = 'ann'",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_session_whose_rows_do_not_fit_together_blocks_nobody(
    tmp_path: Path, damage: str
) -> None:
    bob = {"session": "bob", "text": "hi"}
    prompts(tmp_path / "p", [HELLO])
    tenure(*RUN, "echo", "p", cwd=tmp_path)
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute(DAMAGES[damage])
    connection.commit()
    connection.close()
    prompts(tmp_path / "q", [bob, {**HELLO, "text": "new"}, bob])

    ran = tenure(*RUN, "echo", "q", cwd=tmp_path)

    assert (ran.code, column(ran.lines, "text")) == (3, ["hi"])
    assert ran.err.count("session ann quarantined: ") == 1 and "Traceback" not in ran.err


@pytest.mark.parametrize(
    "command", (("store", "check"), ("store", "export"), ("inspect", "ann"), ("show", "ann"))
)
@pytest.mark.parametrize(
    "damage",
    (
        "UPDATE input SET payload = CAST(x'ff' AS TEXT) WHERE session_id = 'ann'",
        "DELETE FROM input WHERE session_id = 'ann'",
    ),
    ids=("invalid", "missing"),
)
def test_damaged_rows_are_reported_without_a_traceback(
    tmp_path: Path, command: tuple[str, str], damage: str
) -> None:
    prompts(tmp_path / "p", [HELLO])
    tenure(*RUN, "echo", "p", cwd=tmp_path)
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute(damage)
    connection.commit()
    connection.close()

    ran = tenure(*command, "--store", "sqlite:a.db", cwd=tmp_path)

    assert "Traceback" not in ran.err
    if command == ("store", "check"):
        assert ran.code == 1 and ran.out.count("ann: ") == 1
    elif command != ("store", "export") or "CAST" in damage:
        assert (ran.code, len(ran.err.splitlines())) == (4, 1) and "ann" in ran.err


# -- agents that do not stop

BLOCKING = """
import pathlib, time
async def agent(turn):
    pathlib.Path("begun").touch()
    while True:
        time.sleep(0.05)
"""
SWALLOWING = """
import asyncio, pathlib
async def agent(turn):
    pathlib.Path("begun").touch()
    while True:
        try:
            await asyncio.sleep(60)
        except BaseException:
            pass
"""


@pytest.mark.parametrize("store", ["sqlite:a.db", "memory:"])
@pytest.mark.parametrize("agent", [BLOCKING, SWALLOWING], ids=["blocking", "swallowing"])
def test_an_agent_that_does_not_stop_is_killed_after_the_grace_period(
    tmp_path: Path, store: str, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ("run", "--store", store, "--agent", "mine:agent", "--grace", 0.1)
    process = begun(tmp_path, agent, *run)

    process.send_signal(signal.SIGTERM)
    ran = finish(process)

    assert (ran.code, ran.out) == (143, "")


@pytest.mark.parametrize("store", ["sqlite:a.db", "memory:"])
def test_a_second_signal_stops_an_agent_that_blocks(tmp_path: Path, store: str) -> None:
    process = begun(tmp_path, BLOCKING, "run", "--store", store, "--agent", "mine:agent")

    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    ran = finish(process)

    assert (ran.code, ran.out) == (143, "")


def test_workers_that_ignore_signals_do_not_keep_a_run_from_ending(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "async def agent(turn):\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    return turn.text\n"
    )
    prompts(tmp_path / "p", [HELLO])

    ran = tenure(*RUN, "mine:agent", "p", cwd=tmp_path)

    assert (ran.code, column(ran.lines, "text")) == (0, ["hello"])
    assert ran.err == "1 admitted, 0 known already\n"  # they are asked on a socket, and end at once


@pytest.mark.parametrize("store", ["sqlite:a.db", "memory:"])
def test_threads_of_an_agent_do_not_keep_a_run_from_ending(tmp_path: Path, store: str) -> None:
    (tmp_path / "mine.py").write_text(
        "import threading\n"
        "async def agent(turn):\n"
        "    threading.Thread(target=threading.Event().wait, name='poller').start()\n"
        "    return turn.text\n"
    )
    prompts(tmp_path / "p", [HELLO])

    ran = tenure("run", "--store", store, "--agent", "mine:agent", "p", cwd=tmp_path)

    assert (ran.code, column(ran.lines, "text")) == (0, ["hello"])
    assert "code of the agent left threads running, which end with the process: poller" in ran.err


EXITS = """
import os


async def agent(turn):
    if turn.text == "ends" and turn.generation == 1:
        os._exit(0)
    return turn.text
"""


@pytest.mark.parametrize("store", ["sqlite:a.db", "files:a"])
def test_an_agent_that_ends_its_process_with_0_has_not_ended_well(
    tmp_path: Path, store: str
) -> None:
    (tmp_path / "mine.py").write_text(EXITS)
    prompts(tmp_path / "p", [{**HELLO, "text": "ends"}])
    command = ("run", "--store", store, "--agent", "mine:agent", "p")

    ran = tenure(*command, cwd=tmp_path)

    assert "code of the agent called os._exit(0)" in ran.err
    if store.startswith("files:"):  # the agent runs in the process of the command
        assert (ran.code, ran.out) == (1, "")
        assert "the next run resumes what is unfinished" in ran.err
        ran = tenure(*command, cwd=tmp_path)
    assert (ran.code, column(ran.lines, "text")) == (0, ["ends"])
    assert column(ran.lines, "failures") == [1]  # a loss


def test_a_provider_that_asks_to_wait_long_is_told_about(tmp_path: Path) -> None:
    agent = (
        "from pathlib import Path\n"
        "from tenure_drivers import TurnFailed\n"
        "async def agent(turn):\n"
        "    Path('begun').touch()\n"
        "    raise TurnFailed('rate_limited', 'slow down', retry_after_ms=1_800_000)\n"
    )
    process = begun(tmp_path, agent, *RUN, "mine:agent")
    assert process.stderr is not None
    told = ""
    while "next attempt" not in told and process.poll() is None:
        told = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    ran = finish(process)

    assert ran.code == 130
    assert told.startswith(f"session {HELLO['session']}: next attempt at 20")
    assert "in 30 min: rate_limited: slow down (attempt 1)" in told


@pytest.mark.parametrize("store", ["sqlite:a.db", "memory:"])
def test_what_an_agent_prints_is_not_among_the_answers(tmp_path: Path, store: str) -> None:
    (tmp_path / "mine.py").write_text(
        "print('imported')\nasync def agent(turn):\n    print('running')\n    return turn.text\n"
    )
    prompts(tmp_path / "p", [HELLO])

    ran = tenure("run", "--store", store, "--agent", "mine:agent", "p", cwd=tmp_path)

    assert (ran.code, column(ran.lines, "text")) == (0, ["hello"])
    assert "imported" in ran.err and "running" in ran.err


FORKS = """
import os
import sys


async def agent(turn):
    return f"child ended with {forked()}" if turn.text == "async" else await turn.step("s", forked)


def plain(turn):
    return f"child ended with {forked()}"


def forked():
    child = os.fork()
    if child == 0:
        if FAILS:
            sys.exit(3)
        return "the child goes on"
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


FAILS = False
"""


@pytest.mark.parametrize("fails", [False, True])
def test_a_fork_of_an_agent_that_returns_is_ended(tmp_path: Path, fails: bool) -> None:
    text = FORKS.replace("FAILS = False", f"FAILS = {fails}")
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    prompts(tmp_path / "p", [{**HELLO, "text": "async"}, {**HELLO, "text": "in a step"}])

    ran = tenure(*RUN, "mine:agent", "p", cwd=tmp_path)
    plain = tenure("run", "--store", "memory:", "--agent", "mine:plain", "p", cwd=tmp_path)

    assert ran.code == plain.code == 0, ran.err + plain.err
    assert [line["text"] for line in ran.lines] == ["child ended with 70", "70"]
    assert [line["text"] for line in plain.lines] == ["child ended with 70"] * 2
    assert "returned from its function: ended" in ran.err and "Traceback" not in ran.err


def test_the_exit_code_of_an_agent_is_not_that_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import os\n"
        "async def agent(turn):\n"
        "    if turn.generation == 1 and turn.text == 'ends':\n"
        "        os._exit(4)\n"
        "    return turn.text\n",
        encoding="utf-8",
    )
    prompts(tmp_path / "p", [{**HELLO, "text": "ends"}, {"session": "bob", "text": "hello"}])

    ran = tenure(*RUN, "mine:agent", "p", cwd=tmp_path)

    assert ran.code == 0 and column(ran.lines, "text") == ["ends", "hello"], ran.err
    assert "code of the agent called os._exit(4); starting another" in ran.err
