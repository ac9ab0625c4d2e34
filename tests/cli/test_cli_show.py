"""`tenure show` prints the conversation in order, with interrupted turns, and changes nothing."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_process import kill, prompts, start, tenure, until, workers_of

RUN = ("run", "--store", "sqlite:a.db", "--agent", "script:ledger.txt")
SHOW = ("show", "--store", "sqlite:a.db")


def worked(folder: Path, *texts: str) -> Path:
    prompts(folder / "p", [{"session": "ann", "text": text} for text in texts])
    ran = tenure(*RUN, "p", cwd=folder)
    assert ran.code == 0, ran.err
    return folder


def shown(folder: Path, *more: str) -> list[str]:
    ran = tenure(*SHOW, "ann", *more, cwd=folder)
    assert (ran.code, ran.err) == (0, "")
    return ran.out.splitlines()


def conversation(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads("\n".join(shown(folder, "--json")))
    return found


def test_messages_and_calls_are_shown_in_order(tmp_path: Path) -> None:
    worked(tmp_path, "add 2 3 & append paid\nraise no luck", "hello there")

    lines = shown(tmp_path)

    assert lines[0] == "session ann, open, revision 2"
    words = [line.split(" ", 2)[1] if line.startswith(">") else line for line in lines[1:] if line]
    assert words == [
        "prompt",
        "  add 2 3 & append paid",
        "  raise no luck",
        "assistant",
        '  * add {"numbers": [2, 3]}',
        "    = 5",
        '  * append {"text": "paid"}',
        "    = appended paid",
        "assistant",
        '  * raise {"message": "no luck"}',
        "    ! no luck",
        "assistant",
        "  5; appended paid; no luck",
        "prompt",
        "  hello there",
        "assistant",
        "  hello there",
    ]


def test_markdown_fences_are_longer_than_those_inside(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("```python\nprint()\n```")
    worked(tmp_path, "read note")

    page = "\n".join(shown(tmp_path, "--markdown"))

    assert page.startswith("# Session ann\n")
    assert "> read note" in page
    assert '- **read** `{"path": "note"}`' in page
    assert "  ````\n  ```python\n  print()\n  ```\n  ````" in page


def test_json_is_complete_where_text_is_cut(tmp_path: Path) -> None:
    worked(tmp_path, "big 300000")

    lines = shown(tmp_path)
    items = conversation(tmp_path)["conversation"]

    assert any("[cut: 300000 characters; --json prints all]" in line for line in lines)
    assert sum(map(len, lines)) < 3_000
    assert items[1]["calls"][0]["result"]["text"] == "x" * 300_000


def test_a_dead_letter_is_shown_with_its_reason(tmp_path: Path) -> None:
    prompts(tmp_path / "p", [{"session": "ann", "text": "hello"}])
    (tmp_path / "mine.py").write_text(HOPELESS)
    tenure("run", "--store", "sqlite:a.db", "--agent", "mine:agent", "p", cwd=tmp_path)

    lines = "\n".join(shown(tmp_path))

    assert "dead lettered" in lines and "nothing helps" in lines


HOPELESS = """
from tenure_drivers.runtime.errors import TurnFailed
from tenure.failure import ErrorKind

async def agent(turn):
    raise TurnFailed(ErrorKind.INVALID_REQUEST, "nothing helps")
"""


def test_an_input_that_not_everybody_reads_says_so(tmp_path: Path) -> None:
    for kind in ("prompt", "wake", "activation"):
        submit = ("submit", "ann", "hello", "--store", "sqlite:a.db", "--kind", kind)
        assert tenure(*submit, cwd=tmp_path).code == 0

    heads = [line for line in shown(tmp_path) if line.startswith("> ")]

    assert ["(" in head for head in heads] == [False, True, True]
    assert "(only the model reads it)" in heads[1]
    assert "(it only starts a turn)" in heads[2]


def test_a_limit_shows_the_end_and_a_note(tmp_path: Path) -> None:
    worked(tmp_path, "one", "two", "three")

    lines = shown(tmp_path, "--limit", "1")

    assert [line for line in lines if line.startswith("  ")] == ["  three", "  three"]
    assert lines[1].startswith("... (what was before: --before ")


def test_pages_are_turned_back_to_the_beginning(tmp_path: Path) -> None:
    worked(tmp_path, "one", "two", "three")
    texts, options = list[str](), list[str]()
    while True:
        page = json.loads("\n".join(shown(tmp_path, "--json", "--limit", "1", *options)))
        texts = [item["text"] for item in page["conversation"]] + texts
        if page["before"] is None:
            break
        options = ["--before", page["before"]]

    assert texts == ["one", "one", "two", "two", "three", "three"]
    assert shown(tmp_path, "--before", "1:unknown")[1:] == []
    wrong = tenure(*SHOW, "--before", "node", "ann", cwd=tmp_path)
    assert wrong.code == 2 and "'node': expected a position" in wrong.err


def test_erased_texts_are_said_to_be_erased(tmp_path: Path) -> None:
    worked(tmp_path, "secret")
    assert (
        tenure("destroy", "--store", "sqlite:a.db", "--erase", "--yes", "ann", cwd=tmp_path).code
        == 0
    )

    lines = shown(tmp_path)

    assert lines[0].endswith(", its texts were erased")
    assert "secret" not in "\n".join(lines)


def test_control_characters_are_escaped(tmp_path: Path) -> None:
    worked(tmp_path, "\x1b[2Jgone\x07 \u202e")

    lines = shown(tmp_path)

    assert "  \\x1b[2Jgone\\x07 \\u202e" in lines


def test_a_killed_turn_shows_started_calls_and_the_inbox(tmp_path: Path) -> None:
    texts = ("add 1 2\nappend first & sleep 600000", "and then")
    prompts(tmp_path / "p", [{"session": "ann", "text": text} for text in texts])
    process = start(*RUN, "p", cwd=tmp_path)
    until(lambda: results(tmp_path) >= 2, process)
    for pid in workers_of(process):
        kill(pid)
    process.kill()
    process.communicate()

    lines = shown(tmp_path)
    found = conversation(tmp_path)

    at = next(n for n, line in enumerate(lines) if "not committed yet" in line)
    assert '  * sleep {"ms": 600000}' in lines[at:]
    assert "    ... not answered yet" in lines[at:]
    assert "    = appended first" in lines[at:]
    assert "in the inbox: 1" in lines and "  and then" == lines[-1]
    assert found["open_run"] is not None
    assert [item.get("open", False) for item in found["conversation"]] == [True] * 3


def test_a_prompt_is_shown_from_the_beginning_of_its_turn(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import asyncio, pathlib\n"
        "async def agent(turn):\n"
        "    pathlib.Path('begun').touch()\n"
        "    await asyncio.Event().wait()\n"
    )
    prompts(tmp_path / "p", [{"session": "ann", "text": text} for text in ("first", "second")])
    process = start("run", "--store", "sqlite:a.db", "--agent", "mine:agent", "p", cwd=tmp_path)
    until((tmp_path / "begun").exists, process)

    lines = shown(tmp_path)
    process.kill()
    process.communicate()

    at = next(n for n, line in enumerate(lines) if "not committed yet" in line)
    assert "  first" in lines[at:] and "in the inbox: 1" in lines
    assert lines[-1] == "  second"


def results(folder: Path) -> int:
    """Return how many tool results are stored."""
    if not (folder / "a.db").exists():
        return 0
    connection = sqlite3.connect(f"file:{folder / 'a.db'}?mode=ro", uri=True)
    try:
        found: int = connection.execute("SELECT count(*) FROM node WHERE role = 'tool'").fetchone()[
            0
        ]
        return found
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()


CANCELLED = """
import asyncio, sqlite3
from contextlib import aclosing
from tenure.commands import NewInput
from tenure_drivers import Runtime, open_store
from tenure_drivers.agents.registry import find_agent

async def main():
    store = open_store("sqlite:a.db")
    async with aclosing(store), Runtime(store, find_agent("script:ledger.txt")) as runtime:
        receipt = await runtime.submit("ann", "append first & sleep 600000")
        while not (status := await receipt.status()).run_id: await asyncio.sleep(0.01)
        count = "SELECT count(*) FROM node WHERE role = 'tool'"
        while not sqlite3.connect("a.db").execute(count).fetchone()[0]: await asyncio.sleep(0.01)
        await runtime.cancel("ann", status.run_id)
        await receipt.ended()
        await runtime.submit("ann", "later", available_at_ms=4_000_000_000_000)
        taken = await runtime.submit("ann", "taken back", available_at_ms=4_000_000_000_000)
        await runtime.interrupt("ann", NewInput("next", "prompt", "instead"))
        await taken.ended()
        await runtime.receipt("ann", "next").ended()

asyncio.run(main())
"""


def test_cancelled_and_withdrawn_inputs_are_shown(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", CANCELLED], cwd=tmp_path, check=True, timeout=60)

    lines = shown(tmp_path)

    assert "    = appended first" in lines
    assert any(line.startswith("    ! cancelled while it ran") for line in lines)
    assert any(line.startswith("-- run ") and "ended cancelled" in line for line in lines)
    taken_back = [n for n, line in enumerate(lines) if line.endswith(": superseded")]
    assert [lines[n + 1] for n in taken_back] == ["  later", "  taken back"]
    assert not any("in the inbox" in line for line in lines)


def test_show_writes_nothing_and_creates_nothing(tmp_path: Path) -> None:
    worked(tmp_path, "hello")
    before = (tmp_path / "a.db").read_bytes()

    shown(tmp_path)
    missing = tenure("show", "--store", "sqlite:none.db", "ann", cwd=tmp_path)
    nobody = tenure(*SHOW, "bob", cwd=tmp_path)

    assert (tmp_path / "a.db").read_bytes() == before
    assert (missing.code, missing.out) == (2, "") and "none.db" in missing.err
    assert (nobody.code, nobody.out) == (2, "") and "no session 'bob'" in nobody.err
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("agent", ["script", "script:", "script:/nowhere/x", "openai", "openai:"])
def test_an_unknown_agent_is_refused_with_a_message(agent: str, tmp_path: Path) -> None:
    hello = '{"session": "ann", "text": "hello"}'

    ran = tenure("run", "--store", "sqlite:a.db", "--agent", agent, cwd=tmp_path, text=hello)

    assert (ran.code, ran.out) == (2, "")
    assert agent in ran.err
