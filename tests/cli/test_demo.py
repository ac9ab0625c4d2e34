"""`tenure demo` as a user runs it: real processes, real signals, a real file."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from disks import disk

from tenure_drivers.demo import command
from tenure_drivers.demo.plan import Kind, draw

SMALL = ("--inputs", "24", "--sessions", "4", "--workers", "2")
TENURE = "from tenure_drivers.cli.main import main; main()"
PATIENCE_S = 60.0


@frozen
class Demo:
    """One process, with a temporary folder of its own."""

    process: subprocess.Popen[str]
    temp: Path

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out, err

    @property
    def workers(self) -> list[int]:
        """The living processes with this folder in their arguments."""
        return [pid for pid, arguments in _running() if f"{self.temp}/" in arguments]


def _running() -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                yield int(folder.name), (folder / "cmdline").read_text()
            except OSError:
                continue


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.01)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    started: list[Demo] = []

    def begin(*arguments: str) -> Demo:
        temp = tmp_path / f"temp-{len(started)}"
        temp.mkdir()
        process = subprocess.Popen(
            [sys.executable, "-c", TENURE, "demo", *arguments],
            env={**os.environ, "TMPDIR": str(temp), "COLUMNS": "80"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(Demo(process, temp))
        return started[-1]

    yield begin
    for demo in started:
        if demo.process.poll() is None:
            demo.process.kill()
            demo.process.communicate()
        for pid in demo.workers:
            os.kill(pid, signal.SIGKILL)


def reported(demo: Demo) -> dict[str, Any]:
    code, out, err = demo.end()
    assert err == "", err
    found: dict[str, Any] = json.loads(out)
    assert code == (0 if found["holds"] else 1)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_small_demo_loses_nothing_and_leaves_nothing_behind(
    seed: int, start: Callable[..., Demo], tmp_path: Path
) -> None:
    page = tmp_path / "demo.html"

    demo = start(*SMALL, "--seed", str(seed), "--json", "--html", str(page))
    report = reported(demo)

    assert report["holds"], report
    assert (report["inputs"], report["answered"], report["sessions"]) == (24, 24, 4)
    assert report["kills"] >= 2 and report["pauses"] == 1
    assert report["takeovers"] > 0
    assert report["stale_writes_refused"] == sum(report["refused"].values()) > 0
    assert page.read_text().startswith("<!doctype html>")
    assert list(demo.temp.iterdir()) == []
    assert demo.workers == []


@pytest.mark.slow
def test_a_demo_prints_its_result_in_words(start: Callable[..., Demo]) -> None:
    code, out, err = start(*SMALL, "--seed", "3").end()

    assert code == 0, out + err
    assert "24  answered" in out
    assert "Every prompt was answered once" in " ".join(out.split())
    assert "Repeat: tenure demo --seed 3 --inputs 24 --sessions 4 --workers 2\n" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.slow
def test_an_agent_without_a_once_step_turns_the_report_red(start: Callable[..., Demo]) -> None:
    report = reported(start(*SMALL, "--seed", "1", "--json", "--agent", "without-once"))

    assert report["repeated"] > 0
    assert report["lost"] == report["out_of_order"] == report["missing"] == 0
    assert not report["holds"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demo_that_is_interrupted_cleans_up(
    number: signal.Signals, code: int, start: Callable[..., Demo]
) -> None:
    demo = start("--seed", "1")
    until(lambda: len(demo.workers) == 3)

    demo.process.send_signal(number)

    assert demo.end() == (code, "", "")
    assert list(demo.temp.iterdir()) == []
    assert demo.workers == []


def test_workers_do_not_outlive_a_demo_that_is_killed(start: Callable[..., Demo]) -> None:
    demo = start("--seed", "1")
    until(lambda: len(demo.workers) == 3)
    stopped = demo.workers[0]
    os.kill(stopped, signal.SIGSTOP)
    until(lambda: " T " in Path(f"/proc/{stopped}/stat").read_text())

    demo.process.kill()

    demo.end()
    until(lambda: demo.workers == [])


@pytest.mark.parametrize(
    "arguments",
    [("--workers", "1"), ("--inputs", "0"), ("--agent", "x"), ("--html", "/nowhere/demo.html")],
)
def test_invalid_arguments_of_a_demo_are_refused(
    arguments: tuple[str, ...], start: Callable[..., Demo]
) -> None:
    code, out, err = start(*arguments).end()

    assert (code, out) == (2, "")
    assert arguments[1] in err


@pytest.mark.parametrize(
    ("server", "why"),
    [
        ("postgresql://me@127.0.0.1:1/agents", "Connection refused"),
        ("postgresql://me@127.0.0.1:1/agents?bogus=1", "bogus"),
    ],
)
def test_a_demo_on_a_server_that_is_not_there_names_why(
    server: str, why: str, start: Callable[..., Demo]
) -> None:
    code, out, err = start("--store", server).end()

    assert (code, out) == (2, "")
    assert why in err and "Traceback" not in err, err


@pytest.mark.parametrize("inputs", [1, 2])
def test_a_demo_of_one_or_two_prompts_ends(inputs: int, start: Callable[..., Demo]) -> None:
    report = reported(start("--inputs", str(inputs), "--workers", "2", "--seed", "1", "--json"))

    assert report["holds"], report
    assert report["answered"] == report["sessions"] == inputs


# -- the plan


@pytest.mark.parametrize(("inputs", "sessions"), [(1, 1), (2, 2), (24, 4), (200, 20), (999, 7)])
def test_every_plan_can_be_completed(inputs: int, sessions: int) -> None:
    for seed in range(30):
        plan = draw(seed, inputs, sessions, 3)

        assert len({p.input_id for p in plan.prompts}) == len(plan.prompts) == inputs
        assert len({p.session_id for p in plan.prompts}) == sessions
        for handed_over, prompt in enumerate(plan.prompts):
            assert prompt.after is None or prompt.after <= handed_over
        assert [f.after for f in plan.faults] == sorted(f.after for f in plan.faults)
        assert all(f.after < inputs for f in plan.faults)
        assert {f.kind for f in plan.faults} == set(Kind)


def test_one_seed_gives_one_plan() -> None:
    assert draw(7, 200, 20, 3) == draw(7, 200, 20, 3)
    assert draw(7, 200, 20, 3) != draw(8, 200, 20, 3)


@pytest.mark.parametrize(
    ("inputs", "sessions", "workers"), [(200, 20, 3), (40, 8, 3), (24, 4, 2), (5, 5, 4)]
)
def test_the_printed_command_repeats_the_plan(inputs: int, sessions: int, workers: int) -> None:
    plan = draw(7, inputs, sessions, workers)

    tenure, name, *words = shlex.split(
        command.repeat_command(plan, "script", "postgresql://me:pw@db/a?b=1")
    )

    given = command.demo.make_context(name, words).params
    again = draw(given["seed"], given["inputs"], given["sessions"], given["workers"])
    assert (tenure, name, again) == ("tenure", "demo", plan)
    assert (given["agent"], given["server"]) == ("script", "postgresql://me:***@db/a?b=1")


def test_a_default_is_not_part_of_the_printed_command() -> None:
    assert command.repeat_command(draw(1, 200, 20, 3), "ledger", None) == "tenure demo --seed 1"


def test_a_temporary_folder_that_is_full_is_named_in_one_line(tmp_path: Path) -> None:
    with disk(tmp_path / "tiny", "300k") as tiny:
        ran = subprocess.run(
            [sys.executable, "-c", TENURE, "demo", "--inputs", "60", "--sessions", "5"],
            env=os.environ | {"TMPDIR": str(tiny)},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    assert ran.returncode == 2 and "Traceback" not in ran.stderr, ran.stderr
    assert "full" in ran.stderr.splitlines()[-1] and "set TMPDIR" in ran.stderr.splitlines()[-1]


@pytest.mark.parametrize("size", ["900k", "1500k"])
def test_a_temporary_folder_that_fills_up_is_named_in_one_line(tmp_path: Path, size: str) -> None:
    with disk(tmp_path / "tiny", size) as tiny:
        ran = subprocess.run(
            [sys.executable, "-c", TENURE, "demo", "--inputs", "60", "--sessions", "10"],
            env=os.environ | {"TMPDIR": str(tiny)},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    assert ran.returncode == 2 and "Traceback" not in ran.stderr, ran.stderr
    assert "No space left" in ran.stderr.splitlines()[-1] or "full" in ran.stderr.splitlines()[-1]
    assert "set TMPDIR" in ran.stderr.splitlines()[-1]


def test_a_page_that_cannot_be_written_leaves_the_report() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", TENURE, "demo", *SMALL, "--json", "--html", "/dev/full"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )

    assert ran.returncode == 1 and "Traceback" not in ran.stderr, ran.stderr
    assert json.loads(ran.stdout)["inputs"] == 24
    assert "--html /dev/full: No space left" in ran.stderr
