"""Closed and full streams, hostile texts on a terminal, few open files, Ctrl-C at any time: no traceback, nothing lost."""

from __future__ import annotations

import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cli_process import HELLO, QUIET, RUN, TENURE, finish, prompts, start, tenure

STORE = ("--store", "sqlite:a.db")
HOSTILE = "red \x1b[31m \x1b]0;title\x07 \x9b31m back \u202e\u2028 \x7f end"
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
COMMANDS = {
    "version": ("--version",),
    "help": ("run", "--help"),
    "run": (*RUN, "echo", "p"),
    "inspect": ("inspect", *STORE),
    "inspect one": ("inspect", *STORE, "ann"),
    "inspect json": ("inspect", *STORE, "--json"),
    "show": ("show", *STORE, "ann"),
    "events": ("events", *STORE, "ann"),
    "explain": ("explain", "LEASE-5"),
    "export": ("store", "export", *STORE),
    "check": ("check", "--list"),
}


@pytest.fixture(scope="module")
def worked_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which one hostile prompt was answered and another is a dead letter."""
    folder = tmp_path_factory.mktemp("worked")
    (folder / "mine.py").write_text(
        "from tenure_drivers import TurnFailed\n"
        "async def agent(turn):\n"
        "    if turn.text.startswith('fail'):\n"
        "        raise TurnFailed('invalid_request', turn.text)\n"
        "    return turn.text\n"
    )
    lines = [{"session": "ann", "text": HOSTILE}, {"session": "ann", "text": f"fail {HOSTILE}"}]
    prompts(folder / "p", lines)
    assert tenure(*RUN, "mine:agent", "p", cwd=folder).code == 1
    return folder


@pytest.fixture
def worked(worked_once: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    return Path(shutil.copytree(worked_once, tmp_path / "worked"))


def at_terminal(*arguments: str, cwd: Path) -> str:
    """Run a command on a terminal; return all that it writes there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*TENURE, *arguments], cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs,
        env=os.environ | QUIET | {"NO_COLOR": "1"},
    )  # fmt: skip
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux reports the end of a terminal as an error
            part = b""
        if not part:
            break
        written += part
    os.close(ours)
    process.wait()
    return written.decode()


@pytest.mark.parametrize(
    "command", ["inspect", "inspect one", "inspect json", "show", "events", "export"]
)
def test_no_text_sends_commands_to_a_terminal(worked: Path, command: str) -> None:
    shown = at_terminal(*COMMANDS[command], cwd=worked)

    assert len(shown.splitlines()) >= 2 or "ann" in shown
    assert CONTROLS.findall(shown.replace("\r\n", "\n")) == []


def test_messages_of_a_run_send_no_commands_to_a_terminal(worked: Path) -> None:
    shown = at_terminal(*RUN, "mine:agent", "p", cwd=worked)

    assert "line 2: dead_lettered" in shown and "[31m" in shown
    # The progress bar may move the cursor; the text may not.
    assert not re.search("\x1b\\[31m|\x1b\\]0|\x07|\x9b|\u202e|\u2028", shown)


def test_escaped_json_has_the_same_value(worked: Path) -> None:
    ran = tenure("show", *STORE, "ann", "--json", cwd=worked)

    assert ran.lines[0]["conversation"][0]["text"] == HOSTILE
    assert CONTROLS.findall(ran.out.replace("\n", "")) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_standard_output_is_named(tmp_path: Path, command: str) -> None:
    prompts(tmp_path / "p", [HELLO])
    tenure(*RUN, "echo", "p", cwd=tmp_path)

    ran = finish(start(*COMMANDS[command], cwd=tmp_path, stdout=None, preexec_fn=closed(1)))

    assert ran.code == 1, ran.err
    assert ran.err.rstrip().endswith("standard output: closed")
    assert tenure("store", "check", *STORE, cwd=tmp_path).code == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_standard_error_loses_no_answer(tmp_path: Path, command: str) -> None:
    prompts(tmp_path / "p", [HELLO])
    tenure(*RUN, "echo", "p", cwd=tmp_path)
    whole = tenure(*COMMANDS[command], cwd=tmp_path)

    ran = finish(start(*COMMANDS[command], cwd=tmp_path, preexec_fn=closed(0, 2)))

    assert (ran.code, ran.err) == (0, "")
    assert len(ran.out.splitlines()) == len(whole.out.splitlines())
    assert tenure("store", "check", *STORE, cwd=tmp_path).code == 0


def test_a_closed_standard_input_is_named(tmp_path: Path) -> None:
    ran = finish(start(*RUN, "echo", cwd=tmp_path, stdin=None, preexec_fn=closed(0)))

    assert (ran.code, ran.out, ran.last) == (2, "", "tenure run: standard input: closed")


def test_nothing_but_a_message_reaches_a_full_disk(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        ran = finish(start("--help", cwd=tmp_path, stdout=full))

    assert (ran.code, ran.last) == (1, "tenure: standard output: No space left on device")


def closed(*numbers: int) -> object:
    def close() -> None:
        for number in numbers:
            os.close(number)

    return close


# -- few open files


def test_a_low_limit_of_open_files_is_raised(tmp_path: Path) -> None:
    prompts(tmp_path / "p", [HELLO])

    ran = finish(start(*RUN, "echo", "p", cwd=tmp_path, preexec_fn=files(20, 4096)))

    assert ran.code == 0, ran.err


@pytest.mark.parametrize("command", ["run", "inspect", "export"])
def test_a_limit_that_cannot_be_raised_is_named(tmp_path: Path, command: str) -> None:
    prompts(tmp_path / "p", [HELLO])
    tenure(*RUN, "echo", "p", cwd=tmp_path)

    ran = finish(start(*COMMANDS[command], cwd=tmp_path, preexec_fn=files(16, 16)))

    assert (ran.code, ran.out) == (4, "")
    assert "may open 16 files" in ran.last and "ulimit -n 64" in ran.last


def files(soft: int, hard: int) -> object:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("command", ["run", "inspect", "export"])
def test_a_process_that_may_start_no_thread_says_so(tmp_path: Path, command: str) -> None:
    prompts(tmp_path / "p", [HELLO])
    tenure(*RUN, "echo", "p", cwd=tmp_path)

    ran = finish(start(*COMMANDS[command], cwd=tmp_path, preexec_fn=no_room_for_stacks))

    assert (ran.code, ran.out) == (4, "")
    assert "may start 0 threads" in ran.last and "ulimit -u" in ran.last


def no_room_for_stacks() -> None:
    """Let a thread need more memory than the process may have: root has no limit of threads."""
    resource.setrlimit(
        resource.RLIMIT_STACK, (1 << 36, resource.getrlimit(resource.RLIMIT_STACK)[1])
    )
    resource.setrlimit(resource.RLIMIT_AS, (1 << 33, 1 << 33))


# -- Ctrl-C


@pytest.mark.parametrize("after_s", [0.1, 0.2, 0.35, 0.5, 0.8, 1.2])
def test_an_interrupt_at_any_time_prints_no_traceback(tmp_path: Path, after_s: float) -> None:
    prompts(tmp_path / "p", [{"session": f"s{n % 5}", "text": str(n)} for n in range(200)])
    process = start(*RUN, "echo", "p", cwd=tmp_path)
    time.sleep(after_s)

    process.send_signal(signal.SIGINT)
    ran = finish(process)
    rest = tenure(*RUN, "echo", "p", cwd=tmp_path)

    assert ran.code in (-signal.SIGINT, 130, 0)
    assert (rest.code, len(rest.lines)) == (0, 200)
