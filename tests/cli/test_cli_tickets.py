"""`tenure tickets` and `tenure decide`: a person decides while no process of the agent lives."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from cli_process import Ran, kill, prompts, start, tenure, until, workers_of

STORE = ("--store", "sqlite:a.db")
AGENT = """
import pathlib

def charge():
    with open("charged", "a") as file:
        file.write("x")
    return "charged"

async def agent(turn):
    charged = await turn.once("charge", charge)
    if turn.text == "delegate":
        return (await turn.join(await turn.start_run("bob", "buy it"))).in_time[0].body
    if turn.text == "soon":
        decision = await turn.ask("soon", "Now?", within_s=600)
        return f"{decision.action}"
    if turn.text == "pause":
        await turn.pause(0.2)
        return "rested"
    decision = await turn.ask("buy", "Buy it?", offers=("approve", "edit", "reject"))
    return f"{charged}, {decision.action} {decision.body} by {decision.by}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(AGENT)
    return tmp_path


def run(folder: Path, name: str) -> Ran:
    return tenure("run", *STORE, "--agent", "mine:agent", name, cwd=folder)


def asked(folder: Path, session: str | None = None) -> list[dict[str, Any]]:
    names = () if session is None else (session,)
    return tenure("tickets", *STORE, *names, cwd=folder).lines


def test_an_approval_after_everything_was_killed(folder: Path) -> None:
    prompts(folder / "p", [{"session": "ann", "key": "k", "text": "buy it"}])
    worker = start("run", *STORE, "--agent", "mine:agent", "--workers", "1", "p", cwd=folder)
    until(lambda: (folder / "a.db").exists() and bool(asked(folder)))
    for pid in (*workers_of(worker), worker.pid):
        kill(pid)
    worker.wait()
    worker.communicate()

    (ticket,) = asked(folder)
    checked = tenure("store", "check", *STORE, cwd=folder)
    assert checked.code == 0, checked
    decided = tenure(
        "decide", *STORE, "--by", "ada", "ann", ticket["ticket"], "approve", "now", cwd=folder
    )
    again = tenure("decide", *STORE, "ann", ticket["ticket"], "reject", cwd=folder)
    ended = run(folder, "p")

    assert decided.code == 0, decided.err
    assert decided.lines == [
        {"session": "ann", "ticket": ticket["ticket"], "run": ticket["run"], "action": "approve"}
    ]
    assert again.code == 1
    assert 'is settled already (tenure explain TICKET-13): approve by ada: "now"' in again.err
    assert ended.lines[0]["text"] == "charged, approve now by ada"
    assert (folder / "charged").read_text() == "x"
    assert asked(folder) == []


def test_a_run_names_what_it_waits_for(folder: Path) -> None:
    prompts(folder / "p", [{"session": "ann", "text": "buy it"}])

    ended = run(folder, "p")
    (ticket,) = asked(folder, "ann")

    shown = tenure("show", *STORE, "ann", cwd=folder).out

    assert ended.code == 3
    assert f"is waiting for an approval (ticket {ticket['ticket']})" in ended.err
    assert f"run {ticket['run']} waiting for an approval" in shown.splitlines()[0]
    assert f"-- asks: Buy it? (ticket {ticket['ticket']}: approve, edit, reject)" in shown
    assert (ticket["prompt"], ticket["offers"]) == ("Buy it?", ["approve", "edit", "reject"])


def test_a_run_names_the_work_that_it_awaits_and_goes_on_with_its_end(folder: Path) -> None:
    prompts(folder / "p", [{"session": "ann", "key": "k", "text": "delegate"}])

    waits = run(folder, "p")
    (work,), (question,) = asked(folder, "ann"), asked(folder, "bob")
    shown = tenure("show", *STORE, "ann", cwd=folder).out
    tenure("decide", *STORE, "--by", "ada", "bob", question["ticket"], "approve", cwd=folder)
    ended = run(folder, "p")

    awaited = f"input {work['ticket']} of session bob"
    assert (waits.code, work["kind"], work["awaits"]) == (3, "work", awaited)
    assert f"waiting for the work of others (ticket {work['ticket']}; {awaited})" in waits.err
    assert f"-- {awaited}" in shown
    assert ended.lines[0]["text"] == "charged, approve  by ada"
    assert asked(folder) == []


def test_secrets_are_removed_from_a_question(folder: Path) -> None:
    (folder / "asks.py").write_text(
        'async def agent(turn):\n    return (await turn.ask("q", turn.text)).body\n'
    )
    prompts(folder / "p", [{"session": "ann", "text": "log in with password=Tr0ub4dor"}])

    tenure("run", *STORE, "--agent", "asks:agent", "p", cwd=folder)

    assert asked(folder)[0]["prompt"] == "log in with password=[removed]"
    shown = tenure("show", *STORE, "ann", cwd=folder).out
    assert "asks: log in with password=[removed] (ticket" in shown


def test_a_decision_that_is_not_offered_is_refused_in_words(folder: Path) -> None:
    prompts(folder / "p", [{"session": "ann", "text": "buy it"}])
    run(folder, "p")
    (ticket,) = asked(folder)

    refused = tenure("decide", *STORE, "ann", ticket["ticket"], "answer", "yes", cwd=folder)
    unknown = tenure("decide", *STORE, "ann", "t9", "approve", cwd=folder)

    assert (refused.code, unknown.code) == (1, 1)
    assert (
        "illegal (tenure explain TICKET-15): answer: the ticket offers approve, edit, reject"
        in refused.err
    )
    assert "there is no ticket t9 in this session (tenure explain TICKET-12)" in unknown.err


def test_a_ticket_that_cannot_be_read_hides_no_other(folder: Path) -> None:
    prompts(folder / "p", [{"session": name, "text": "buy it"} for name in ("ann", "bob", "cid")])
    run(folder, "p")
    with contextlib.closing(sqlite3.connect(folder / "a.db")) as damaged, damaged:
        damaged.execute("""UPDATE ticket SET offers = '["arprove"]' WHERE session_id = 'bob'""")

    listed = tenure("tickets", *STORE, cwd=folder)

    assert sorted([line["session"] for line in listed.lines]) == ["ann", "cid"]
    assert listed.code == 1 and "tenure tickets: session bob: " in listed.err


def test_a_run_does_not_wait_for_a_person_because_there_is_a_time_limit(folder: Path) -> None:
    prompts(folder / "p", [{"session": "ann", "text": "soon"}])

    ended = run(folder, "p")
    (ticket,) = asked(folder)

    assert ended.code == 3
    assert f"is waiting for an answer (ticket {ticket['ticket']})" in ended.err


def test_a_deadline_passes_while_nobody_submits(folder: Path) -> None:
    prompts(folder / "p", [{"session": "ann", "text": "pause"}])

    ended = run(folder, "p")

    assert (ended.code, ended.lines[0]["text"]) == (0, "rested")
