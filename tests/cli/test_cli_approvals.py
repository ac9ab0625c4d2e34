"""Runs that wait, with processes of the operating system: all are killed or end, and others go on.

The agents are the script agent, and an OpenAI client with tools, whose model is a real server on loopback.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cli_process import Ran, kill, prompts, start, tenure, until, workers_of
from paths import SUPPORT

from tenure.questions.core import InputStatus, Status
from tenure_drivers import open_store

NUMBERS = itertools.count(1)
TOOLS = """
from pathlib import Path

from tenure_drivers import tool
from tenure_drivers.agents.ledger_file import LedgerFile
from tenure_drivers.agents.openai import openai_agent


@tool(once=True, approve=True)
def buy(text: str, key: str) -> str:
    LedgerFile(Path("ledger")).append(key, text)
    return f"bought {text}"


@tool
def look() -> str:
    with open("looked", "a") as file:
        file.write("x")
    return "here"


agent = openai_agent("openai:m-1", tools=[buy, look])
"""
WAITING = """
async def agent(turn):
    if turn.text == "pause":
        decision = await turn.ask("buy", "Buy it?", offers=("approve",), within_s=2.0)
        return f"{decision.action.value}"
    waited = await turn.wait(reason="background")
    return ", ".join([each.payload for each in waited.inputs])
"""
WORKER = """
import asyncio, sys
from tenure_drivers import Runtime, open_store
sys.path.insert(0, ".")
import mine

async def main():
    async with Runtime(open_store("sqlite:a.db"), mine.agent, ttl_ms=3_600_000):
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(params=("sqlite", pytest.param("postgres", marks=pytest.mark.postgres)))
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield "sqlite:a.db"
        return
    from pg_server import drop, shared
    from psycopg.conninfo import conninfo_to_dict

    known, schema = conninfo_to_dict(shared()), f"approve_{os.getpid()}_{next(NUMBERS)}"
    host = str(known["host"]).replace("/", "%2F")
    yield f"postgresql://{known['user']}@/{known['dbname']}?host={host}&tenure_schema={schema}"
    drop(shared(), schema)


class Place:
    """A folder, and the processes that work in it."""

    def __init__(self, folder: Path, url: str, agent: str) -> None:
        self.folder, self.store, self.agent = folder, ("--store", url), agent

    def work(self) -> subprocess.Popen[str]:
        return start("run", *self.store, "--agent", self.agent, "p", cwd=self.folder)

    def run(self, *names: str) -> Ran:
        return tenure("run", *self.store, "--agent", self.agent, *names, cwd=self.folder)

    def ask(self, command: str, *words: str) -> Ran:
        return tenure(command, *self.store, *words, cwd=self.folder)

    def tickets(self) -> list[dict[str, Any]]:
        asked = self.ask("tickets")
        return asked.lines if asked.code == 0 else []

    def ledger(self) -> list[str]:
        path = self.folder / "ledger"
        return [line.split(" ", 1)[1] for line in path.read_text().splitlines()]

    def until_asked_then_kill(self) -> dict[str, Any]:
        """Work until somebody is asked, kill every process, and return the ticket."""
        worker = self.work()
        until(lambda: len(self.tickets()) == 1)
        for pid in (*workers_of(worker), worker.pid):
            kill(pid)
        worker.wait()
        worker.communicate()
        (ticket,) = self.tickets()
        return ticket


def test_an_approval_of_the_script_agent(tmp_path: Path, url: str) -> None:
    place = Place(tmp_path, url, "script:ledger")
    prompts(
        tmp_path / "p", [{"session": "ann", "key": "k", "text": "add 2 3 & buy tea & append x"}]
    )

    ticket = place.until_asked_then_kill()
    before = place.ledger()
    decided = place.ask("decide", "ann", ticket["ticket"], "approve", "--by", "ada")
    decided_only = place.ledger()
    first, second = place.run("p"), place.run("p")

    assert (decided.code, first.code, second.code) == (0, 0, 0), first.err
    assert before == decided_only == ["x"]  # it needed nobody; a decision runs nothing
    assert first.lines[0]["text"] == "5; appended x; bought tea"
    assert second.lines == first.lines
    assert place.ledger() == ["x", "tea"]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[str]]]:
    """A server of a model, as a process; the first of the list is running."""
    pytest.importorskip("openai")
    running = [serve(0)]
    assert running[0].stdout is not None
    url = running[0].stdout.readline().strip()
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    yield running
    for process in running:
        process.kill()
        process.communicate()


def serve(port: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(SUPPORT / "model_server.py"), "--port", str(port)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_an_approval_of_a_chat_with_a_server(
    tmp_path: Path, url: str, model: list[subprocess.Popen[str]]
) -> None:
    (tmp_path / "mine.py").write_text(TOOLS)
    (tmp_path / "ledger").touch()
    place = Place(tmp_path, url, "mine:agent")
    text = 'call buy {"text":"tea"}\nand look {}'
    prompts(tmp_path / "p", [{"session": "ann", "key": "k", "text": text}])

    ticket = place.until_asked_then_kill()
    model[0].kill()
    model[0].wait()
    port = int(os.environ["OPENAI_BASE_URL"].rsplit(":", 1)[1].split("/")[0])
    model.append(serve(port))
    assert model[1].stdout is not None and model[1].stdout.readline()
    decided = place.ask("decide", "ann", ticket["ticket"], "approve")
    ended, again = place.run("p"), place.run("p")

    assert ticket["prompt"] == 'Call buy with {"text":"tea"}?'
    assert (decided.code, ended.code, again.code) == (0, 0, 0), ended.err
    assert ended.lines == again.lines and ended.lines[0]["text"].endswith(text)
    assert place.ledger() == ["tea"]
    assert (tmp_path / "looked").read_text() == "x"  # it needed nobody, and did not run again


def test_a_prompt_instead_of_an_answer(tmp_path: Path) -> None:
    place = Place(tmp_path, "sqlite:a.db", "script:ledger")
    prompts(tmp_path / "p", [{"session": "ann", "key": "k", "text": "buy tea & add 1 1"}])
    prompts(tmp_path / "q", [{"session": "ann", "key": "l", "text": "never mind"}])

    ticket = place.until_asked_then_kill()
    answered = place.run("q")
    late = place.ask("decide", "ann", ticket["ticket"], "approve")
    first = place.run("p")
    shown = place.ask("show", "ann")

    assert (answered.code, answered.lines[0]["text"]) == (0, "never mind")
    assert late.code == 1 and "TICKET-13" in late.err
    assert (first.code, first.lines[0]["termination"]) == (1, "cancelled")
    assert "not carried out: nobody decided" in shown.out
    assert place.tickets() == [] and place.ledger() == []


def test_a_wake_ends_a_wait_for_background_work(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WAITING)
    place = Place(tmp_path, "sqlite:a.db", "mine:agent")
    prompts(tmp_path / "p", [{"session": "ann", "key": "k", "text": "hello"}])

    waiting = place.run("p")
    woken = place.ask("submit", "--kind", "wake", "ann", "the job is done")
    ended = place.run("p")

    assert waiting.code == 3 and "is waiting for background" in waiting.err
    assert (woken.code, ended.code) == (0, 0), ended.err
    assert ended.lines[0]["text"] == "the job is done"


@contextmanager
def worker(folder: Path) -> Iterator[None]:
    """A worker that lives on, and is killed at the end."""
    command = [sys.executable, "-c", WORKER]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


def status_of(folder: Path, input_id: str) -> InputStatus:
    async def body() -> InputStatus:
        async with aclosing(open_store(f"sqlite:{folder / 'a.db'}")) as store:
            found = await store.ask(Status("ann", input_id))
            assert found is not None
            return found

    return asyncio.run(body())


def test_a_deadline_passes_while_nobody_submits(tmp_path: Path) -> None:
    """One worker parks the run and is killed; another one has nothing to do but to wait for the time."""
    (tmp_path / "mine.py").write_text(WAITING)
    place = Place(tmp_path, "sqlite:a.db", "mine:agent")
    (submitted,) = place.ask("submit", "ann", "pause").lines
    input_id = submitted["input_id"]

    with worker(tmp_path):
        until(lambda: (s := status_of(tmp_path, input_id)).wait is not None or s.ended)
    with worker(tmp_path):
        until(lambda: status_of(tmp_path, input_id).ended)

    assert status_of(tmp_path, input_id).answer == "timeout"
    assert place.tickets() == []


def test_a_stop_of_a_waiting_session_with_no_worker(tmp_path: Path) -> None:
    place = Place(tmp_path, "sqlite:a.db", "script:ledger")
    prompts(tmp_path / "p", [{"session": "ann", "key": "k", "text": "buy tea"}])

    ticket = place.until_asked_then_kill()
    stopped = place.ask("stop", "ann")
    late = place.ask("decide", "ann", ticket["ticket"], "approve")
    open_tickets = place.tickets()
    ended = place.run("p")
    checked = tenure("store", "check", *place.store, cwd=tmp_path)

    assert stopped.code == 0, stopped.err
    assert late.code == 1 and "settled already" in late.err
    assert open_tickets == []
    assert (ended.code, ended.lines[0]["termination"]) == (1, "cancelled")
    assert checked.code == 0, checked
    assert place.ledger() == []
