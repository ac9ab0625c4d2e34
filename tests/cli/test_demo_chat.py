"""`tenure demo` with models and tools: processes die in the middle of turns, and every transcript stays legal."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from paths import SUPPORT

from tenure.commands import Admit, Begin, Begun, Commit, NewInput
from tenure.machines.lease import Owner
from tenure.messages.codec import node_of
from tenure.messages.types import Message, ToolCall
from tenure.outcome import Refused
from tenure.questions.core import TranscriptLine
from tenure.records import Node
from tenure.transcript import NewNode, Role
from tenure_drivers.demo.chat import FAULT_PLACES, chatting, right_answer
from tenure_drivers.demo.plan import draw
from tenure_drivers.demo.report import read_all
from tenure_drivers.demo.transcript_report import TranscriptReport, _calls, report_transcripts
from tenure_drivers.stores.memory import MemoryStore

TENURE = "from tenure_drivers.cli.main import main; main()"
SERVER = SUPPORT / "model_server.py"
SMALL = ("--inputs", "24", "--sessions", "4", "--workers", "2", "--json")


@frozen
class Played:
    code: int
    report: dict[str, Any]
    left: list[Path]


def played(folder: Path, *arguments: str, **environment: str) -> Played:
    done = subprocess.run(
        [sys.executable, "-c", TENURE, "demo", *SMALL, *arguments],
        env={**os.environ, "TMPDIR": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == "", done.stderr
    return Played(done.returncode, json.loads(done.stdout), list(folder.iterdir()))


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2"])
def test_a_scripted_model_and_its_tools_survive_deaths_everywhere(
    seed: str, tmp_path: Path
) -> None:
    demo = played(tmp_path, "--agent", "script", "--seed", seed)

    transcripts = demo.report["transcripts"]
    assert demo.report["holds"] and transcripts["holds"], demo.report
    assert (demo.code, demo.left) == (0, [])
    assert demo.report["answered"] == 24
    assert transcripts["calls"] == transcripts["results"] >= 24 * 4
    assert set(transcripts["died"]) == set(FAULT_PLACES)
    assert all(transcripts["died"].values()), transcripts["died"]
    assert demo.report["kills"] >= sum(transcripts["died"].values())


@pytest.fixture
def server() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, SERVER, "--script", "faults", "--seed", "7", "--pause-ms", "2"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_a_model_on_a_server_with_faults_survives_the_same(server: str, tmp_path: Path) -> None:
    pytest.importorskip("openai")

    demo = played(
        tmp_path, "--agent", "openai:m-1", "--seed", "1",
        OPENAI_BASE_URL=server, OPENAI_API_KEY="sk-demo-0123456789",
    )  # fmt: skip

    transcripts = demo.report["transcripts"]
    assert demo.report["holds"] and transcripts["holds"], demo.report
    assert (demo.code, demo.left) == (0, [])
    assert demo.report["answered"] == 24
    assert transcripts["calls"] == transcripts["results"] > 24
    assert sum(transcripts["died"].values()) > 3, transcripts["died"]


@pytest.mark.parametrize("agent", ["script:", "openai", "openai:"])
def test_an_agent_that_cannot_be_played_is_refused(agent: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TENURE, "demo", "--agent", agent],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert agent in done.stderr


# -- what the report would find


def call(*names: str) -> Message:
    return Message(
        Role.ASSISTANT, calls=tuple(ToolCall(n, "append", '{"text":"input-1 x"}') for n in names)
    )


def result(name: str, text: str = "done") -> Message:
    return Message(Role.TOOL, text, call_id=name)


SAID = Message(Role.ASSISTANT, "yes")


def line(message: Message) -> TranscriptLine:
    new = node_of(message)
    node = Node(
        "s", "n", None, "run", 1, new.role, (), new.call_ids, "", False, 0, new.body, new.form
    )
    return TranscriptLine((), node)


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ((call("a", "b"), result("a"), result("b"), SAID), {}),
        ((call("a", "b"), result("a"), SAID), {"illegal": 1}),
        ((call("a"),), {"illegal": 1}),
        ((result("a"), SAID), {"illegal": 1}),
        ((call("a"), result("a"), result("a"), SAID), {"doubled": 1}),
        ((call("a"), SAID, result("a")), {"illegal": 2}),
        ((call("a"), result("a", "written")), {"unwritten": 1}),
    ],
)
def test_a_transcript_that_is_not_legal_is_found(
    messages: tuple[Message, ...], found: dict[str, int]
) -> None:

    counts: Counter[str] = Counter()

    _calls(tuple(map(line, messages)), set(), counts)

    assert {n: c for n, c in counts.items() if c and n not in ("calls", "results")} == found


def transcripts_of(*nodes: NewNode, prompt: str, ledger: tuple[str, ...] = ()) -> TranscriptReport:
    async def run() -> TranscriptReport:
        store = MemoryStore(clock=lambda: 1_000)
        new = NewInput("input-1", "prompt", prompt)
        assert not isinstance(await store.execute(Admit("s", (new,))), Refused)
        begun = await store.execute(Begin("s", "lease", "run", Owner("w", "w"), 10_000))
        assert isinstance(begun, Begun)
        end = Commit("s", begun.fence, "run", begun.turn, begun.n, begun.revision, nodes=nodes)
        assert not isinstance(await store.execute(end), Refused)
        return await report_transcripts(store, await read_all(store), ledger, died={}, exact=True)

    return asyncio.run(run())


PROMPT = "add 2 3 & append input-1 rain\nsleep 10 & add 1 1"


@pytest.mark.parametrize(
    ("answer", "wrong", "silent"),
    [("input-1: [5, 2], written down", 0, 0), ("input-1: [6, 2], written down", 1, 0), ("", 0, 1)],
)
def test_an_answer_that_is_wrong_or_not_there_is_found(
    answer: str, wrong: int, silent: int
) -> None:
    transcripts = transcripts_of(node_of(Message(Role.ASSISTANT, answer)), prompt=PROMPT)

    assert (transcripts.wrong, transcripts.silent, transcripts.holds) == (
        wrong,
        silent,
        not (wrong or silent),
    )


def test_a_once_tool_that_ran_twice_under_one_key_is_found() -> None:
    said = node_of(Message(Role.ASSISTANT, right_answer(PROMPT)))
    ledger = ("input-1 key-1 input-1 rain\n", "input-1 key-1 input-1 rain\n")

    assert transcripts_of(said, prompt=PROMPT, ledger=ledger).once_twice == 1


def test_a_seed_is_a_script() -> None:
    plan = draw(7, 24, 4, 2)

    assert chatting(plan, "script") == chatting(plan, "script")
    assert {right_answer(p.text).partition(":")[0] for p in chatting(plan, "script").prompts} == {
        p.input_id for p in plan.prompts
    }
