"""`tenure inspect` and `tenure events` show what is stored and change nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import time
from contextlib import aclosing
from pathlib import Path

import pytest
from cli_process import finish, kill, prompts, start, tenure, until, workers_of

from tenure.release import RELEASE
from tenure_drivers import Runtime, Turn, TurnFailed, open_store

RUN = ("run", "--store", "sqlite:a.db", "--agent")
INSPECT = ("inspect", "--store", "sqlite:a.db")
EVENTS = ("events", "--store", "sqlite:a.db")
TICKETS = ("tickets", "--store", "sqlite:a.db")
DECIDE = ("decide", "--store", "sqlite:a.db", "a", "t", "approve")
AGENT = """
import asyncio, os, pathlib

def look():
    return 1

async def agent(turn):
    if turn.text == "bad":
        return 7
    await turn.step("look", look)
    if turn.text == "slow":
        pathlib.Path("begun").touch()
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
    return turn.text
"""


@pytest.fixture
def worked(tmp_path: Path) -> Path:
    """A store with a killed turn, two inputs that wait for it, a dead letter, and an answer."""
    (tmp_path / "mine.py").write_text(AGENT)
    later = int(time.time() * 1000) + 86_400_000
    lines: list[dict[str, object]] = [
        {"session": "a", "text": "quick", "key": "k1"},
        {"session": "a", "text": "slow"},
        {"session": "a", "text": "behind\nthe slow one"},
        {"session": "a", "text": "urgent", "priority": 1},
        {"session": "a", "text": "tomorrow", "available_at_ms": later},
        {"session": "b", "text": "bad"},
    ]
    prompts(tmp_path / "p", lines)
    process = start(*RUN, "mine:agent", "p", cwd=tmp_path)
    until((tmp_path / "begun").exists, process)
    until(lambda: dead(tmp_path) == 1, process)
    process.kill()
    process.communicate()
    return tmp_path


def dead(path: Path) -> int:
    connection = sqlite3.connect(path / "a.db")
    try:
        found: int = connection.execute(
            "SELECT count(*) FROM queue_entry WHERE dead_seq IS NOT NULL"
        ).fetchone()[0]
        return found
    finally:
        connection.close()


def test_all_sessions_are_listed(worked: Path) -> None:
    table = tenure(*INSPECT, cwd=worked)
    rows = {row["session"]: row for row in tenure(*INSPECT, "--json", cwd=worked).lines}

    assert (table.code, table.out.splitlines()[0]) == (0, "sessions: 2")
    assert set(rows) == {"a", "b"}
    assert rows["a"]["unended"] == 3  # the urgent one overtook
    assert rows["a"]["lease"]["remaining_ms"] > 0 and rows["a"]["lease"]["pid"] > 0
    assert rows["a"]["open_run"] == rows["a"]["lease"]["run_id"]
    assert (rows["b"]["lease"], rows["b"]["due_at_ms"], rows["b"]["unended"]) == (None, None, 0)


def test_a_session_is_shown_in_full(worked: Path) -> None:
    [a] = tenure(*INSPECT, "a", "--json", cwd=worked).lines
    [b] = tenure(*INSPECT, "b", "--json", cwd=worked).lines

    said = [(one["text"], one["status"]) for one in a["inbox"]]
    assert said[-1] == ("tomorrow", "delayed")
    assert ("slow", "bound") in said and ("behind\nthe slow one", "ready") in said
    [run] = a["runs"]
    assert (run["state"], run["progress"], run["failures"]) == ("running", True, 0)
    assert [(e["kind"], e["effect_id"]) for e in run["journal"]] == [("report", "look#1")]
    assert ("quick", "k1") in [
        (i["text"], "k1") for node in a["transcript"] for i in node["inputs"]
    ]
    assert [(d["text"], d["termination"]) for d in b["dead_letters"]] == [("bad", "error")]
    assert b["transcript"] == []


def test_tables_show_what_json_shows(worked: Path) -> None:
    a = tenure(*INSPECT, "a", cwd=worked).out
    b = tenure(*INSPECT, "b", cwd=worked).out

    for word in ("phase     open", "inbox: ", "behind the slow one", "look#1", "quick", "left"):
        assert word in a
    assert "dead letters: 1" in b and "bad" in b


def test_the_tail_of_a_transcript_is_as_long_as_wanted(worked: Path) -> None:
    [none] = tenure(*INSPECT, "a", "--json", "--tail", 0, cwd=worked).lines

    assert none["transcript"] == []


def test_looking_changes_nothing(worked: Path) -> None:
    before = (worked / "a.db").read_bytes(), sorted(path.name for path in worked.iterdir())

    for arguments in ((*INSPECT,), (*INSPECT, "a"), (*EVENTS, "a")):
        assert tenure(*arguments, cwd=worked).code == 0

    assert before == ((worked / "a.db").read_bytes(), sorted(p.name for p in worked.iterdir()))


def test_events_are_numbered_without_gaps(worked: Path) -> None:
    all_ = tenure(*EVENTS, "a", "--json", cwd=worked).lines
    rest = tenure(*EVENTS, "a", "--after", 3, "--json", cwd=worked).lines
    text = tenure(*EVENTS, "a", cwd=worked).out

    assert [event["seq"] for event in all_] == list(range(1, len(all_) + 1))
    assert rest == all_[3:]
    assert all_[0]["kind"] == "session_opened"
    assert len(text.splitlines()) == len(all_) and "run_started" in text


def test_events_are_followed_while_others_work(worked: Path) -> None:
    known = len(tenure(*EVENTS, "a", "--json", cwd=worked).lines)
    (worked / "go").touch()
    process = start(*EVENTS, "a", "--follow", "--json", cwd=worked)
    assert process.stdout is not None
    seen = [json.loads(process.stdout.readline()) for _ in range(known)]

    tenure(*RUN, "mine:agent", "p", cwd=worked)
    while seen[-1]["kind"] != "run_finished" or "resumed" not in {e["kind"][4:] for e in seen}:
        seen.append(json.loads(process.stdout.readline()))
    process.send_signal(signal.SIGINT)
    ran = finish(process)

    assert ran.code == 130
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))


def test_a_store_can_be_looked_at_while_it_is_worked(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(AGENT)
    prompts(tmp_path / "p", [{"session": "a", "text": "slow"}])
    process = start(*RUN, "mine:agent", "p", cwd=tmp_path)
    until((tmp_path / "begun").exists, process)
    [worker] = workers_of(process)

    [row] = tenure(*INSPECT, "--json", cwd=tmp_path).lines
    (tmp_path / "go").touch()
    ran = finish(process)

    assert row["lease"]["pid"] == worker
    assert ran.code == 0
    kill(worker)


@pytest.mark.parametrize("command", [INSPECT, (*EVENTS, "a"), TICKETS, DECIDE])
def test_a_pipe_is_no_store(tmp_path: Path, command: tuple[str, ...]) -> None:
    os.mkfifo(tmp_path / "a.db")

    ran = tenure(*command, cwd=tmp_path)

    assert (ran.code, ran.out) == (4, "")
    assert "a.db is a pipe, a socket or a device: name a regular file" in ran.err
    assert "trying again" not in ran.err


@pytest.mark.parametrize("command", [INSPECT, (*EVENTS, "a"), TICKETS, DECIDE])
def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, command: tuple[str, ...]) -> None:
    ran = tenure(*command, cwd=tmp_path)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"tenure {command[0]}: --store sqlite:a.db: no such file: a.db\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [(*INSPECT, "nobody"), (*EVENTS, "nobody")])
def test_a_session_that_is_not_there_is_named(worked: Path, command: tuple[str, ...]) -> None:
    ran = tenure(*command, cwd=worked)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"tenure {command[0]}: no session 'nobody' in sqlite:a.db\n"


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    (tmp_path / "b.db").write_bytes(b"torn" * 1000)

    other = tenure(*INSPECT, cwd=tmp_path)
    torn = tenure("inspect", "--store", "b.db", cwd=tmp_path)

    assert other.code == 4 and "not a tenure database" in other.err
    assert torn.code == 4 and "b.db" in torn.err and "not a database" in torn.err


@pytest.mark.parametrize("command", ["", "run", "inspect", "events", "check"])
def test_help_has_examples_and_exit_codes(tmp_path: Path, command: str) -> None:
    ran = tenure(*command.split(), "--help", cwd=tmp_path)

    assert ran.code == 0
    assert "tenure " in ran.out
    assert command == "" or ("Example:" in ran.out and "Exit codes:" in ran.out)


def test_the_version_is_printed(tmp_path: Path) -> None:
    said = tenure("--version", cwd=tmp_path).out
    assert said.startswith("tenure, version ") and f"or {RELEASE} is active" in said


def test_the_last_failure_of_a_run_that_is_retried_is_shown(tmp_path: Path) -> None:
    """FAIL-16"""

    async def agent(turn: Turn) -> str:
        if turn.text == "with a step":
            await turn.step("look", lambda: 1)
        raise TurnFailed("rate_limited", "the provider says 429", retry_after_ms=600_000)

    async def fail() -> None:
        async with aclosing(open_store(f"sqlite:{tmp_path / 'a.db'}")) as store:
            async with Runtime(store, agent) as runtime:
                for text in ("at once", "with a step"):
                    receipt = await runtime.submit(text.replace(" ", "-"), text)
                    while True:
                        status = await receipt.status()
                        assert status is not None
                        if status.last_failure is not None:
                            break
                        await asyncio.sleep(0.01)

    asyncio.run(fail())
    last = {"kind": "rate_limited", "message": "the provider says 429", "attempt": 1}
    line = "attempt 1 failed: rate_limited: the provider says 429"
    show = ("show", "--store", "sqlite:a.db")

    for session in ("at-once", "with-a-step"):
        [seen] = tenure(*INSPECT, session, "--json", cwd=tmp_path).lines
        assert [one["last_failure"] for one in (*seen["runs"], *seen["inbox"])] == [last, last]
        table = tenure(*INSPECT, session, cwd=tmp_path).out
        assert "attempt 1: rate_limited: the provider says 429" in table
        happened = tenure(*EVENTS, session, cwd=tmp_path).out.splitlines()
        assert ["run_failed" in one for one in happened].count(True) == 1
        [failed] = [one for one in happened if "run_failed" in one]
        assert failed.endswith("rate_limited: the provider says 429 (attempt 1)")
        assert line in tenure(*show, session, cwd=tmp_path).out
        assert line in tenure(*show, session, "--markdown", cwd=tmp_path).out
