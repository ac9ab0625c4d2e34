"""`tenure run` as people use it: what it prints, and how it ends."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from cli_process import (
    HELLO,
    RUN,
    column,
    prompts,
    some,
    tenure,
)

from tenure.commands import Admit, NewInput, Stop
from tenure_drivers.stores.sqlite.store import SqliteStore

FIELDS = [
    "line",
    "session",
    "key",
    "input_id",
    "run_id",
    "ended",
    "termination",
    "text",
    "failures",
]


# -- what is printed


def test_a_file_of_prompts_is_answered_in_its_order(tmp_path: Path) -> None:
    prompts(tmp_path / "p", some(40, 7))

    ran = tenure(*RUN, "echo", "--workers", 2, "p", cwd=tmp_path)

    assert ran.code == 0, ran.err
    assert [list(line) for line in ran.lines] == [FIELDS] * 40
    assert column(ran.lines, "line") == list(range(1, 41))
    assert column(ran.lines, "text") == [f"prompt {i}" for i in range(40)]
    assert {line["ended"] for line in ran.lines} == {"consumed"}
    assert ran.err == "40 admitted, 0 known already\n"


def test_the_same_file_again_prints_the_same_lines(tmp_path: Path) -> None:
    prompts(tmp_path / "p", some(20, 3))
    first = tenure(*RUN, "echo", "p", cwd=tmp_path)

    second = tenure(*RUN, "echo", "p", cwd=tmp_path)

    assert (second.code, second.out) == (0, first.out)
    assert second.last == "0 admitted, 20 known already"


def test_a_file_that_grows_is_continued(tmp_path: Path) -> None:
    lines: list[Mapping[str, object]] = [HELLO, HELLO, {"session": "bob", "text": "hi"}]
    prompts(tmp_path / "p", lines)
    before = tenure(*RUN, "echo", "p", cwd=tmp_path)
    prompts(tmp_path / "p", [{"session": "new", "text": "first"}, *lines, HELLO])

    after = tenure(*RUN, "echo", "p", cwd=tmp_path)

    assert after.last == "2 admitted, 3 known already"
    assert column(after.lines, "input_id")[1:4] == column(before.lines, "input_id")
    assert len(set(column(after.lines, "input_id"))) == 5


def test_another_name_does_the_file_again(tmp_path: Path) -> None:
    prompts(tmp_path / "p", [HELLO])
    tenure(*RUN, "echo", "p", cwd=tmp_path)

    named = tenure(*RUN, "echo", "--name", "again", "p", cwd=tmp_path)

    assert named.last == "1 admitted, 0 known already"


def test_one_key_twice_with_one_content_is_one_input(tmp_path: Path) -> None:
    prompts(tmp_path / "p", [{**HELLO, "key": "k"}, HELLO, {**HELLO, "key": "k"}])

    ran = tenure(*RUN, "echo", "p", cwd=tmp_path)

    ids = column(ran.lines, "input_id")
    assert (ran.code, ids[0] == ids[2], ids[0] == ids[1]) == (0, True, False)
    assert column(ran.lines, "key")[::2] == ["k", "k"]
    assert ran.last == "2 admitted, 1 known already"


def test_priority_zero_comes_first_in_a_session(tmp_path: Path) -> None:
    lines: list[dict[str, object]] = [
        {"session": "s", "text": f"{i}", "priority": 200 - i} for i in range(50)
    ]
    prompts(tmp_path / "p", lines)

    ran = tenure(*RUN, "ledger:l", "p", cwd=tmp_path)

    written = [int(line.split(" ")[1]) for line in (tmp_path / "l").read_text().splitlines()]
    assert ran.code == 0
    # They come in batches while work goes on, so only what was waiting is in order: the first admission is one batch.
    assert written == sorted(written, reverse=True) or written[1:] == sorted(
        written[1:], reverse=True
    )


def test_standard_input_is_a_file_too(tmp_path: Path) -> None:
    dash = tenure(*RUN, "echo", "-", cwd=tmp_path, text=json.dumps(HELLO))
    none = tenure(*RUN, "echo", cwd=tmp_path, text="\ufeff" + json.dumps(HELLO) + "\r\n\r\n")

    assert (dash.code, none.code, none.out) == (0, 0, dash.out)


HALF_A_PAIR = """
from tenure.messages.types import Reply
from tenure_drivers import ChatAgent

class Model:
    model = "m"

    async def complete(self, request, emit, key):
        return Reply("a\\ud800b")

agent = ChatAgent(Model())
"""


def test_a_reply_with_half_of_a_surrogate_pair_is_printed_as_strict_json(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HALF_A_PAIR)

    ran = tenure(*RUN, "mine:agent", cwd=tmp_path, text=json.dumps(HELLO))

    assert (ran.code, column(ran.lines, "text")) == (0, ["a?b"]), ran.err


PRINTING = """
import os, subprocess
async def agent(turn):
    print("printed")
    os.write(1, b"written\\n")
    subprocess.run(["echo", "by a child"], check=True)
    return "answer"
"""


@pytest.mark.parametrize("url", ("memory:", "files:f", "sqlite:a.db"))
def test_what_an_agent_and_its_children_print_goes_to_standard_error(
    url: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(PRINTING)

    ran = tenure(
        *("run", "--store", url, "--agent", "mine:agent"), cwd=tmp_path, text=json.dumps(HELLO)
    )

    assert (ran.code, column(ran.lines, "text")) == (0, ["answer"])
    assert [ran.err.count(part) for part in ("printed", "written", "by a child")] == [1, 1, 1]


def test_memory_works_in_one_process(tmp_path: Path) -> None:
    text = json.dumps(HELLO)

    alone = tenure("run", "--store", "memory:", "--agent", "echo", cwd=tmp_path, text=text)
    two = tenure(
        *("run", "--store", "memory:", "--agent", "echo", "--workers", 2), cwd=tmp_path, text=text
    )

    assert (alone.code, column(alone.lines, "text")) == (0, ["hello"])
    assert (two.code, two.err) == (
        2,
        "tenure run: --workers 2: the memory: store supports one process only\n",
    )


# -- large


def test_a_text_of_ten_million_bytes_works(tmp_path: Path) -> None:
    text = "é" * 5_000_000
    prompts(tmp_path / "p", [{"session": "s", "text": text}])

    ran = tenure(*RUN, "echo", "p", cwd=tmp_path)

    assert ran.code == 0, ran.err
    assert ran.lines[0]["text"] == text


@pytest.mark.slow
def test_thousands_of_lines_of_one_session_work(tmp_path: Path) -> None:
    prompts(tmp_path / "p", some(3_000, 1))

    ran = tenure(*RUN, "echo", "p", cwd=tmp_path)

    assert ran.code == 0, ran.err
    assert column(ran.lines, "text") == [f"prompt {i}" for i in range(3_000)]
    assert ran.last == "3000 admitted, 0 known already"


# -- endings


def far_ms() -> int:
    return int(time.time() * 1000) + 86_400_000


def test_what_is_delayed_is_named_and_waited_for_only_on_request(tmp_path: Path) -> None:
    soon = int(time.time() * 1000) + 3_000
    later = {**HELLO, "text": "later", "available_at_ms": soon}
    prompts(tmp_path / "p", [HELLO, later, HELLO])
    prompts(tmp_path / "q", [{**HELLO, "available_at_ms": far_ms()}, {**HELLO, "key": "now"}])

    far = tenure(*RUN, "echo", "q", cwd=tmp_path)
    waited = tenure(*RUN, "echo", "--wait", "p", cwd=tmp_path)

    assert (far.code, far.out) == (3, "")
    assert far.err.startswith("line 1 of session ann is delayed until 20")
    assert far.last == "2 admitted, 0 known already"
    assert (waited.code, column(waited.lines, "text")) == (0, ["hello", "later", "hello"])


def test_what_is_dead_lettered_counts_before_what_is_delayed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "async def agent(turn):\n    return 7 if turn.text == 'bad' else turn.text\n"
    )
    lines: list[dict[str, object]] = [
        {"session": "a", "text": "bad"},
        {"session": "b", "text": "good"},
        {"session": "c", "text": "late", "available_at_ms": far_ms()},
    ]
    prompts(tmp_path / "p", lines)

    ran = tenure(*RUN, "mine:agent", "p", cwd=tmp_path)

    assert ran.code == 1
    assert column(ran.lines, "ended") == ["dead_lettered", "consumed"]
    assert "line 1: dead_lettered: error: " in ran.err and "int" in ran.err


@pytest.mark.parametrize("wait", [(), ("--wait",)])
def test_inputs_of_a_stopped_session_are_not_waited_for(
    tmp_path: Path, wait: tuple[str, ...]
) -> None:
    async def stopped() -> None:
        store = SqliteStore(tmp_path / "a.db")
        await store.execute(Admit("ann", (NewInput("i1", "prompt", "hello", key="k"),)))
        await store.execute(Stop("ann", "c1"))
        await store.aclose()

    asyncio.run(stopped())
    prompts(tmp_path / "p", [{**HELLO, "key": "k"}, {"session": "bob", "text": "hi"}])

    ran = tenure(*RUN, "echo", *wait, "p", cwd=tmp_path)
    new = tenure(*RUN, "echo", "-", cwd=tmp_path, text=json.dumps(HELLO))

    assert (ran.code, ran.out, ran.last) == (3, "", "1 admitted, 1 known already")
    assert "line 1 of session ann is ready" in ran.err
    assert new.code == 2 and "line 1: refused phase (tenure explain INBOX-3): stopped" in new.err


def test_a_prompt_whose_run_fails_after_a_message_is_a_failure(tmp_path: Path) -> None:
    """Its input is consumed (RUN-13), as is that of a chat whose model fails after a tool call."""
    (tmp_path / "mine.py").write_text(
        "from tenure.transcript import NewNode, Role\n"
        "from tenure.turn_end import Record\n"
        "from tenure_drivers import TurnFailed\n"
        "async def agent(turn):\n"
        "    await turn.record(Record(nodes=(NewNode(Role.ASSISTANT, 'partly'),)))\n"
        "    raise TurnFailed('invalid_request', 'the model is gone')\n"
    )
    prompts(tmp_path / "p", [HELLO])

    ran = tenure(*RUN, "mine:agent", "p", cwd=tmp_path)

    assert ran.code == 1
    assert [(line["ended"], line["termination"]) for line in ran.lines] == [("consumed", "error")]
    assert "line 1: consumed: error: invalid_request: the model is gone" in ran.err
