"""`tenure submit` and `tenure steer` give an input to a session that another process works on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_process import finish, prompts, start, tenure, until

STORE = ("--store", "sqlite:a.db")
AGENT = """
import asyncio, os, pathlib

def look():
    return 1

async def agent(turn):
    await turn.step("look", look)
    pathlib.Path("begun").touch()
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)
    texts = [turn.text]
    while more := await turn.checkpoint(at_end=True):
        texts += [taken.payload for taken in more]
    return ", ".join(texts)
"""
HOLDS = """
import asyncio, os, pathlib

async def agent(turn):
    pathlib.Path("begun").touch()
    while not (taken := await turn.checkpoint()):
        await asyncio.sleep(0.01)
    pathlib.Path("taken").touch()
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)
    return taken[0].payload
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(AGENT)
    return tmp_path


def test_steering_from_another_process_enters_the_turn(folder: Path) -> None:
    prompts(folder / "p", [{"session": "ann", "text": "hello"}])
    worker = start("run", *STORE, "--agent", "mine:agent", "p", cwd=folder)
    until(lambda: (folder / "begun").exists())

    steered = tenure("steer", *STORE, "ann", "and this", cwd=folder)
    later = tenure("steer", *STORE, "--follow-up", "ann", "and that", cwd=folder)
    (inspected,) = tenure("inspect", *STORE, "--json", "ann", cwd=folder).lines
    shown = tenure("show", *STORE, "ann", cwd=folder).out
    (folder / "go").touch()

    assert (steered.code, later.code) == (0, 0), steered.err + later.err
    (line,), (other,) = steered.lines, later.lines
    run_id = line["run_id"]
    assert line == {
        "session": "ann", "input_id": line["input_id"], "how": "addressed", "run_id": run_id
    }  # fmt: skip
    assert (other["how"], other["run_id"]) == ("addressed", run_id)
    assert [i["target_run"] for i in inspected["inbox"]] == [None, run_id, run_id]
    assert f"ready, for run {run_id}" in shown
    (answer,) = finish(worker).lines
    assert (answer["run_id"], answer["text"]) == (run_id, "hello, and this, and that")
    words = [w.strip() for w in tenure("show", *STORE, "ann", cwd=folder).out.splitlines()]
    order = ["hello", "and this", "and that", "hello, and this, and that"]
    assert [w for w in words if w in order] == order
    assert words.count("assistant") == 1


def test_what_the_turn_has_taken_is_shown_where_it_entered(folder: Path) -> None:
    (folder / "mine.py").write_text(HOLDS)
    prompts(folder / "p", [{"session": "ann", "text": "hello"}])
    worker = start("run", *STORE, "--agent", "mine:agent", "p", cwd=folder)
    until(lambda: (folder / "begun").exists())

    tenure("steer", *STORE, "ann", "and this", cwd=folder)
    until(lambda: (folder / "taken").exists())
    (shown,) = tenure("show", *STORE, "--json", "ann", cwd=folder).lines
    (folder / "go").touch()
    (answer,) = finish(worker).lines
    (after,) = tenure("show", *STORE, "--json", "ann", cwd=folder).lines

    told = [(item["kind"], item["text"], item["open"]) for item in shown["conversation"]]
    assert told == [("input", "hello", True), ("input", "and this", True)]
    assert answer["text"] == "and this"
    kept = [(item["kind"], item["text"]) for item in after["conversation"]]
    assert kept == [("input", "hello"), ("input", "and this"), ("message", "and this")]


def test_without_a_turn_steering_is_queued_or_refused(folder: Path) -> None:
    queued = tenure("steer", *STORE, "bob", "hello", cwd=folder)
    refused = tenure("steer", *STORE, "--if-idle", "refuse", "bob", "hello", cwd=folder)

    (line,) = queued.lines
    assert (queued.code, line["how"], line["run_id"]) == (0, "queued", None)
    assert (refused.code, refused.out) == (1, "")
    assert "tenure steer: refused idle (tenure explain INBOX-" in refused.err


def test_submit_waits_for_the_answer(folder: Path) -> None:
    submitted = tenure("submit", *STORE, "--key", "1", "ann", "hello", cwd=folder)
    again = tenure("submit", *STORE, "--key", "1", "--wait", "0", "ann", "hello", cwd=folder)
    other = tenure("submit", *STORE, "--key", "1", "ann", "bye", cwd=folder)
    prompts(folder / "p", [{"session": "bob", "text": "x"}])
    assert tenure("run", *STORE, "--agent", "echo", "p", cwd=folder).code == 0
    waited = tenure("submit", *STORE, "--key", "1", "--wait", "60", "ann", "hello", cwd=folder)

    (line,), (known,), (end,) = submitted.lines, again.lines, waited.lines
    assert (submitted.code, line["how"]) == (0, "queued")
    assert (again.code, known["how"], known["ended"]) == (3, "known", None)
    assert known["input_id"] == line["input_id"]
    assert (other.code, other.out) == (1, "")
    assert "key '1' has other content" in other.err
    assert (waited.code, end["ended"], end["text"]) == (0, "consumed", "hello")


def test_ask_prints_the_answer_alone(folder: Path) -> None:
    early = tenure("ask", *STORE, "--within", "0", "ann", "early", cwd=folder)
    tenure("submit", *STORE, "--key", "1", "ann", "hello", cwd=folder)
    prompts(folder / "p", [{"session": "bob", "text": "x"}])
    assert tenure("run", *STORE, "--agent", "echo", "p", cwd=folder).code == 0

    answered = tenure("ask", *STORE, "--key", "1", "ann", "hello", cwd=folder)
    other = tenure("ask", *STORE, "--key", "1", "ann", "bye", cwd=folder)

    assert (early.code, early.out) == (3, "")
    assert "was withdrawn: no run worked on it after 0" in early.err
    assert (answered.code, answered.out, answered.err) == (0, "hello\n", "")
    assert (other.code, other.out) == (1, "")


def test_the_text_may_come_from_standard_input(folder: Path) -> None:
    (folder / "text").write_text("from a file\n")
    with (folder / "text").open() as text:
        ran = finish(start("submit", *STORE, "ann", cwd=folder, stdin=text))

    (inspected,) = tenure("inspect", *STORE, "--json", "ann", cwd=folder).lines
    assert json.loads(ran.out)["how"] == "queued"
    assert [i["text"] for i in inspected["inbox"]] == ["from a file"]


def test_the_place_in_the_queue_and_the_time_are_options(tmp_path: Path) -> None:
    at = str(2**41)
    tenure("submit", *STORE, "ann", "later", cwd=tmp_path)
    tenure("submit", *STORE, "--priority", "5", "ann", "first", cwd=tmp_path)
    tenure("submit", *STORE, "--available-at-ms", at, "ann", "one day", cwd=tmp_path)

    (seen,) = tenure("inspect", *STORE, "--json", "ann", cwd=tmp_path).lines
    found = [(i["text"], i["status"], i["priority"], i["due_at_ms"]) for i in seen["inbox"]]
    assert found == [
        ("first", "ready", 5, None),
        ("later", "ready", 128, None),
        ("one day", "delayed", 128, int(at)),
    ]


def test_a_busy_session_is_left_alone_or_taken_over(tmp_path: Path) -> None:
    (line,) = tenure("submit", *STORE, "ann", "hello", cwd=tmp_path).lines

    refused = tenure("submit", *STORE, "--busy", "reject", "ann", "again", cwd=tmp_path)
    assert refused.code == 1 and line["input_id"] in refused.err and not refused.lines
    taken = tenure("submit", *STORE, "--busy", "interrupt", "ann", "instead", cwd=tmp_path)
    assert taken.code == 0
    without = tenure("submit", *STORE, "--busy", "replace", "ann", "again", cwd=tmp_path)
    wrong = tenure("submit", *STORE, "--within", "1", "ann", "again", cwd=tmp_path)
    assert (without.code, wrong.code) == (2, 2) and "--within" in without.err
    replaced = tenure(
        "submit", *STORE, "--busy", "replace", "--within", "5", "ann", "last", cwd=tmp_path
    )
    assert replaced.code == 0

    (seen,) = tenure("inspect", *STORE, "--json", "ann", cwd=tmp_path).lines
    found = [(i["text"], i["status"]) for i in seen["inbox"]]
    assert found == [("hello", "superseded"), ("instead", "superseded"), ("last", "ready")]
