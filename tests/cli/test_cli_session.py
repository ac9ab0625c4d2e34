"""The commands that change one session, on a store that others may work on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cli_process import finish, prompts, start, tenure, until

STORE = ("--store", "sqlite:a.db")
AGENT = """
import asyncio, pathlib
from tenure_drivers import TurnFailed

async def agent(turn):
    if turn.text == "broken" and not pathlib.Path("repaired").exists():
        raise TurnFailed("invalid_request", "broken")
    return turn.text

async def waits(turn):
    pathlib.Path("begun").touch()
    await asyncio.sleep(3600)
"""


def submit(folder: Path, session: str, text: str) -> str:
    (line,) = tenure("submit", *STORE, session, text, cwd=folder).lines
    return str(line["input_id"])


def process(folder: Path, agent: str = "mine:agent") -> None:
    (folder / "mine.py").write_text(AGENT)
    prompts(folder / "none", [{"session": "other", "text": "hello"}])
    tenure("run", *STORE, "--agent", agent, "none", cwd=folder)


def obeyed(name: str, *arguments: str, cwd: Path) -> dict[str, Any]:
    ran = tenure(name, *STORE, "--json", *arguments, cwd=cwd)
    assert (ran.code, ran.err) == (0, "")
    (line,) = ran.lines
    found: dict[str, Any] = line
    return found


def test_inputs_that_wait_are_withdrawn_replaced_and_reordered(tmp_path: Path) -> None:
    one, two, three = [submit(tmp_path, "ann", text) for text in ("one", "two", "three")]

    gone = tenure("withdraw", *STORE, "ann", one, cwd=tmp_path)
    new = obeyed("replace", "ann", two, "two, corrected", cwd=tmp_path)
    order = obeyed("reorder", "ann", three, new["input_id"], cwd=tmp_path)
    again = tenure("withdraw", *STORE, "ann", one, cwd=tmp_path)
    unknown = tenure("reorder", *STORE, "ann", three, one, cwd=tmp_path)

    assert (gone.code, gone.out) == (0, f"session ann: input {one} was withdrawn\n")
    assert (new["session"], new["how"], new["replaced"]) == ("ann", "queued", two)
    assert order == {"session": "ann", "input_ids": [three, new["input_id"]]}
    (inspected,) = tenure("inspect", *STORE, "--json", "ann", cwd=tmp_path).lines
    assert [i["text"] for i in inspected["inbox"]] == ["three", "two, corrected"]
    assert (again.code, again.out) == (1, "")
    assert "refused: it has ended already: withdrawn by" in again.err
    assert "(tenure explain INBOX-22)" in again.err
    assert (unknown.code, f"not all inputs are ready: {one} is withdrawn" in unknown.err) == (
        1,
        True,
    )


def test_a_dead_letter_is_listed_and_retried(tmp_path: Path) -> None:
    letter = submit(tmp_path, "ann", "broken")
    process(tmp_path)
    until(lambda: tenure("dead", *STORE, cwd=tmp_path).out != "")
    shown = tenure("dead", *STORE, cwd=tmp_path)
    (found,) = tenure("dead", *STORE, "--json", "ann", cwd=tmp_path).lines
    elsewhere = tenure("dead", *STORE, "bob", cwd=tmp_path)
    (tmp_path / "repaired").touch()

    new = obeyed("retry", "ann", letter, cwd=tmp_path)
    twice = tenure("retry", *STORE, "ann", letter, cwd=tmp_path)
    alive = tenure("retry", *STORE, "ann", new["input_id"], cwd=tmp_path)

    assert f"ann {letter} prompt 'broken': invalid_request: broken" in shown.out
    assert (found["session"], found["input_id"], found["text"]) == ("ann", letter, "broken")
    assert elsewhere.out == ""
    assert (twice.code, f"readmitted as {new['input_id']}" in twice.err) == (1, True)
    assert (alive.code, "is no dead letter: it is ready" in alive.err) == (1, True)
    assert tenure("dead", *STORE, cwd=tmp_path).out == ""


def test_a_session_is_retired_stopped_reset_reopened_and_destroyed(tmp_path: Path) -> None:
    submit(tmp_path, "ann", "hello")

    phases = [
        obeyed(name, "ann", *more, cwd=tmp_path)["phase"]
        for name, *more in (
            ("retire",), ("reopen",), ("stop", "--abandon"), ("reset",), ("destroy", "--yes")
        )
    ]  # fmt: skip
    refused = tenure("reopen", *STORE, "ann", cwd=tmp_path)
    nobody = tenure("stop", *STORE, "bob", cwd=tmp_path)
    unasked = tenure("destroy", *STORE, "ann", cwd=tmp_path)
    nowhere = tenure("stop", "--store", "sqlite:b.db", "ann", cwd=tmp_path)

    assert phases == ["retired", "open", "stopped", "open", "destroyed"]
    assert (refused.code, "refused: the session is destroyed" in refused.err) == (1, True)
    assert (nobody.code, "there is no such session" in nobody.err) == (1, True)
    assert (unasked.code, "confirm with --yes" in unasked.err) == (2, True)
    assert (nowhere.code, (tmp_path / "b.db").exists()) == (2, False)


def test_a_turn_of_another_process_is_cancelled_and_interrupted(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(AGENT)
    prompts(tmp_path / "p", [{"session": "ann", "text": "hello"}])
    worker = start("run", *STORE, "--agent", "mine:waits", "p", cwd=tmp_path)
    until(lambda: (tmp_path / "begun").exists())
    (inspected,) = tenure("inspect", *STORE, "--json", "ann", cwd=tmp_path).lines
    (run,) = inspected["runs"]

    asked = tenure("cancel", *STORE, "ann", run["run_id"], cwd=tmp_path)
    unknown = tenure("cancel", *STORE, "ann", "nothing", cwd=tmp_path)
    (answer,) = finish(worker).lines
    interrupted = obeyed("interrupt", "ann", "again", cwd=tmp_path)

    assert (asked.code, asked.out) == (0, f"session ann: run {run['run_id']} was asked to stop\n")
    assert (unknown.code, "has no run nothing" in unknown.err) == (1, True)
    assert (answer["ended"], answer["termination"]) == ("abandoned", "cancelled")
    assert (interrupted["run_id"], interrupted["input_id"] is None) == (None, False)
