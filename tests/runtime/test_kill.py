"""Real processes over a real file: killed with SIGKILL anywhere, drained with SIGTERM."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cli_process import until
from paths import SUPPORT

from tenure.policy import Lane, OnRetry, Policy
from tenure.questions.core import InputStatus, Journal
from tenure.records import EntryKind
from tenure_drivers.runtime.client import Client
from tenure_drivers.runtime.process import local_process
from tenure_drivers.stores.registry import open_store

SCRIPT = SUPPORT / "killable.py"
WAIT_S = 60
ORDERED = Policy(
    Lane.USER, on_retry=OnRetry.HOLD
)  # what is behind a run that was lost waits for it

pytestmark = pytest.mark.skipif(local_process() is None, reason="needs /proc")


class Workspace:
    def __init__(self, folder: Path) -> None:
        self.url, self.ledger = f"sqlite:{folder / 'store.db'}", folder / "ledger"
        self.ledger.touch()

    @contextmanager
    def worker(self, mode: str, *more: str) -> Iterator[subprocess.Popen[str]]:
        """Ready to work; killed at the end, if it is not dead by then."""
        command = [sys.executable, str(SCRIPT), self.url, str(self.ledger), mode, *more]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        with process:
            try:
                assert said(process) == "ready"
                yield process
            finally:
                process.kill()

    def submit(self, *input_ids: str, sessions: int = 1) -> None:
        async def body() -> None:
            store = open_store(self.url)
            for i, input_id in enumerate(input_ids):
                session_id = f"s{i % sessions}"
                await Client(store).submit(
                    session_id, "x" * (i + 1), input_id=input_id, policy=ORDERED
                )
            await store.aclose()

        asyncio.run(body())

    def ended(
        self, *input_ids: str, sessions: int = 1, among: Sequence[str] = ()
    ) -> list[InputStatus]:
        """Wait until these inputs have ended, or only those in `among`."""

        async def body() -> list[InputStatus]:
            store = open_store(self.url)
            client = Client(store)
            receipts = [
                client.receipt(f"s{i % sessions}", id)
                for i, id in enumerate(input_ids)
                if id in (among or input_ids)
            ]
            try:
                return list(await asyncio.gather(*[r.ended(WAIT_S) for r in receipts]))
            finally:
                await store.aclose()

        return asyncio.run(body())

    def journal(self, session_id: str, run_id: str) -> list[EntryKind]:
        async def body() -> list[EntryKind]:
            store = open_store(self.url)
            entries = await store.ask(Journal(session_id, run_id))
            await store.aclose()
            return [e.kind for e in entries]

        return asyncio.run(body())

    def lines(self) -> list[str]:
        return self.ledger.read_text().split()


def watches(pid: int) -> bool:
    """Return whether a process watches another one."""
    opened = []
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            opened.append(os.readlink(file))
    return "anon_inode:[pidfd]" in opened


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("mode", ["hang before", "hang in once", "hang after"])
def test_a_process_killed_in_a_turn_is_followed_at_once_and_nothing_runs_twice(
    tmp_path: Path, mode: str
) -> None:
    workspace = Workspace(tmp_path)
    workspace.submit("i")
    with workspace.worker(mode) as process:
        assert said(process) == "hangs i"
        process.kill()
        process.wait()
        with workspace.worker("fine"):  # its lease lasts an hour: only evidence can end it
            (ended,) = workspace.ended("i")
    assert (ended.status, ended.answer) == ("consumed", "x 1")
    assert workspace.lines() == ["i"]
    assert ended.run_id is not None
    kinds = workspace.journal("s0", ended.run_id)
    assert kinds == [EntryKind.REPORT, EntryKind.START, EntryKind.REPORT]


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd")
@pytest.mark.parametrize("mode", ["hang before", "hang after"])
def test_a_neighbour_that_is_killed_is_noticed_without_a_poll(tmp_path: Path, mode: str) -> None:
    workspace = Workspace(tmp_path)
    workspace.submit("i")
    with workspace.worker(mode) as process:
        assert said(process) == "hangs i"
        with workspace.worker("fine", "no polls") as neighbour:
            until(lambda: watches(neighbour.pid))
            process.kill()
            (ended,) = workspace.ended("i")
    assert (ended.status, workspace.lines()) == ("consumed", ["i"])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_processes_killed_anywhere_lose_nothing_and_do_nothing_twice(
    tmp_path: Path, seed: int
) -> None:
    chance, workspace = random.Random(seed), Workspace(tmp_path)
    ids = [f"i{i}" for i in range(60)]
    workspace.submit(*ids, sessions=5)
    for _ in range(8):
        with workspace.worker("fine") as process:
            for _ in range(chance.randrange(8)):
                said(process)
            process.kill()
    with workspace.worker("fine"):
        ended = workspace.ended(*ids, sessions=5)
    assert [e.status for e in ended] == ["consumed"] * 60
    assert [e.answer for e in ended] == [f"{'x' * i} {i}" for i in range(1, 61)]
    assert sorted(workspace.lines()) == sorted(ids)
    for s in range(5):
        assert [i for i in workspace.lines() if int(i[1:]) % 5 == s] == ids[s::5]


def test_a_process_drains_on_sigterm_and_another_takes_up(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.submit("i")
    with workspace.worker("hang before") as process:
        assert said(process) == "hangs i"
        process.send_signal(signal.SIGTERM)
        assert said(process) == "drained"
        assert process.wait() == 0
    with workspace.worker("fine"):
        (ended,) = workspace.ended("i")
    assert (ended.status, ended.failures, workspace.lines()) == ("consumed", 0, ["i"])


def test_a_paused_process_wakes_up_fenced_and_writes_nothing(tmp_path: Path) -> None:
    """It is not dead, so nobody may take over: the other one waits, and the paused one ends its turn itself."""
    workspace = Workspace(tmp_path)
    workspace.submit("i", "j")
    with workspace.worker("fine") as process:
        process.send_signal(signal.SIGSTOP)
        with workspace.worker("fine"):
            process.send_signal(signal.SIGCONT)
            ended = workspace.ended("i", "j")
    assert [e.status for e in ended] == ["consumed"] * 2
    assert workspace.lines() == ["i", "j"]


@pytest.mark.slow
def test_inputs_beside_those_that_kill_their_process_are_answered(tmp_path: Path) -> None:
    workspace, ended = Workspace(tmp_path), threading.Event()
    ids = ["poison1", *[f"i{n}" for n in range(6)], "poison2"]
    workspace.submit(*ids, sessions=len(ids))

    def start_again() -> None:
        while not ended.is_set():
            with workspace.worker("poison") as process:
                while process.poll() is None and not ended.wait(0.05):
                    pass

    starting = threading.Thread(target=start_again)
    starting.start()
    try:
        found = workspace.ended(*ids, sessions=len(ids), among=ids[1:-1])
    finally:
        ended.set()
        starting.join()

    assert [(one.status, one.answer) for one in found] == [("consumed", "answered")] * 6
