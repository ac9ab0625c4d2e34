"""The agents of the command line, over real stores and files."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cli_process import column, prompts, tenure
from ledger_child import append_all

from tenure.commands import Admit, NewInput
from tenure.outcome import Refused
from tenure_drivers.agents.ledger_file import LedgerFile, one_line
from tenure_drivers.agents.registry import UnknownAgent, find_agent
from tenure_drivers.cli.retrying_store import RetryingStore
from tenure_drivers.cli.run.admission import Admission
from tenure_drivers.cli.run.input_watcher import FileInput
from tenure_drivers.cli.run.progress_report import answer
from tenure_drivers.cli.run.prompt_file import parse
from tenure_drivers.cli.run.validation import prompt_policy
from tenure_drivers.runtime.client import Client
from tenure_drivers.runtime.runtime import Runtime
from tenure_drivers.stores.memory import MemoryStore

RUN = ("run", "--store", "sqlite:a.db", "--agent")


async def answers(agent: Callable[[Any], Awaitable[Any]], *texts: str) -> list[tuple[Any, ...]]:
    """Return (status, answer, failures) for each text, submitted to one session of a memory store."""
    store = MemoryStore()
    async with Runtime(store, agent) as runtime:
        submissions = [await runtime.submit("s", text) for text in texts]
        found = [await submission.ended() for submission in submissions]
    await store.aclose()
    return [(one.status, one.answer, one.failures) for one in found]


# -- names

UNKNOWN = {
    "": "unknown agent '': expected echo, ledger:FILE, flaky:N, script:FILE, openai:MODEL, module:attribute",
    "nope": "unknown agent 'nope': expected",
    "echo:": "unknown agent 'echo:'",
    "ledger": "unknown agent 'ledger'",
    "ledger:": "invalid agent 'ledger:': the file is missing. Write ledger:FILE",
    "ledger:/no/such/l": "cannot write /no/such/l: No such file or directory",
    "ledger:/": "cannot write /: Is a directory",
    "flaky:": "'' is not a number",
    "flaky:-1": "'-1' is not a number",
    "no.such.module:x": "no module 'no'",
    "json:": "unknown agent 'json:'",
    "json:no.such": "module json has no attribute 'no.such'",
    "json:decoder": "expected an async function, not",
    "json:loads": "expected an async function, not",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_invalid_agent_name_is_reported(name: str) -> None:
    with pytest.raises(UnknownAgent) as raised:
        find_agent(name)

    assert UNKNOWN[name] in str(raised.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import nothing_like_it", "cannot import mine: ModuleNotFoundError: No module named"),
        ("1 / 0", "cannot import mine: ZeroDivisionError: division by zero"),
        ("def agent(:", "cannot import mine: SyntaxError"),
        ("raise SystemExit(3)", "cannot import mine: SystemExit: 3"),
        ("class Panic(BaseException): pass\nraise Panic(3)", "cannot import mine: Panic: 3"),
        ("agent = 7", "expected an async function, not int"),
    ],
)
def test_an_unusable_module_is_reported(tmp_path: Path, body: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(body)
    prompts(tmp_path / "p", [{"session": "s", "text": "x"}])

    ran = tenure(*RUN, "mine:agent", "p", cwd=tmp_path)

    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert said in ran.err


OWN = """
class Polite:
    async def __call__(self, turn):
        return f"please: {turn.text}"

class Agents:
    polite = Polite()

async def committing(turn):
    await turn.commit(text="first")
    await turn.commit(text="second")

async def raising(turn):
    raise ValueError(f"no {turn.text}")

async def silent(turn):
    pass
"""


def test_your_own_agent_is_found_in_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    prompts(tmp_path / "p", [{"session": "s", "text": "x"}])

    ran = tenure(*RUN, "mine:Agents.polite", "p", cwd=tmp_path)

    assert (ran.code, column(ran.lines, "text")) == (0, ["please: x"])


def test_an_agent_that_commits_twice_has_committed_once(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    prompts(tmp_path / "p", [{"session": "s", "text": "x"}])

    ran = tenure(*RUN, "mine:committing", "p", cwd=tmp_path)

    assert (ran.code, column(ran.lines, "text")) == (0, ["first"])


def test_an_agent_that_always_raises_ends_as_a_dead_letter(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    prompts(tmp_path / "p", [{"session": "s", "text": "x"}])

    ran = tenure(*RUN, "mine:raising", "p", cwd=tmp_path)

    assert ran.code == 1
    assert (ran.lines[0]["ended"], ran.lines[0]["failures"]) == ("dead_lettered", 5)
    assert "line 1: dead_lettered: error: " in ran.err and "ValueError: no x" in ran.err
    assert ran.err.count(" failed: ValueError: no x\nTraceback (most recent call last):") == 5


# -- echo, flaky


def test_echo_answers_the_text() -> None:
    found = asyncio.run(answers(find_agent("echo"), "héllo\n", " "))

    assert found == [("consumed", "héllo\n", 0), ("consumed", " ", 0)]


def test_flaky_fails_the_given_number_of_times() -> None:
    found = asyncio.run(answers(find_agent("flaky:2"), "a", "b"))

    assert found == [("consumed", "a", 2), ("consumed", "b", 2)]


def test_flaky_five_times_is_given_up() -> None:
    [(status, answer, failures)] = asyncio.run(answers(find_agent("flaky:5"), "a"))

    assert (status, answer, failures) == ("dead_lettered", None, 5)


# -- ledger


def ids(path: Path) -> list[str]:
    return [line.split(" ", 1)[0] for line in path.read_text(encoding="utf-8").splitlines()]


def test_ledger_writes_a_line_for_each_input(tmp_path: Path) -> None:
    texts = ["plain", "two\nlines\r\n", "back\\slash", "\u2028\x85\x0b\x1c", " "]

    found = asyncio.run(answers(find_agent(f"ledger:{tmp_path / 'l'}"), *texts))

    assert [answer for _, answer, _ in found] == texts
    lines = (tmp_path / "l").read_text(encoding="utf-8").splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [one_line(text) for text in texts]


def test_a_line_is_written_once(tmp_path: Path) -> None:
    one, other = LedgerFile(tmp_path / "l"), LedgerFile(tmp_path / "l")

    answers = [one.append("a", "x"), other.append("a", "x"), other.append("b", ""), one.holds("b")]

    assert answers == [True, False, True, True]
    assert (tmp_path / "l").read_text() == "a x\nb \n"


@pytest.mark.parametrize("torn", ["c", "c te", "b", "a x"])
def test_an_incomplete_last_line_is_removed(tmp_path: Path, torn: str) -> None:
    file = LedgerFile(tmp_path / "l")
    file.append("a", "x")
    with (tmp_path / "l").open("a") as end:
        end.write(torn)

    before = [file.holds("b"), file.holds("c")]
    written = LedgerFile(tmp_path / "l").append("b", "y")

    assert (before, written) == ([False, False], True)
    assert (tmp_path / "l").read_text() == "a x\nb y\n"
    assert file.holds("b") and not file.holds("c")


def test_a_replaced_file_is_read_again(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path / "l")
    file.append("a", "x")

    (tmp_path / "l").unlink()

    assert not file.holds("a")
    assert file.append("a", "x") and ids(tmp_path / "l") == ["a"]


def test_concurrent_processes_append_without_duplicates(tmp_path: Path) -> None:
    spawned = multiprocessing.get_context("spawn")
    path = tmp_path / "l"
    writers = [spawned.Process(target=append_all, args=(str(path), seed)) for seed in range(3)]

    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert sorted(ids(path)) == sorted(f"id{number}" for number in range(60))


def test_a_crash_before_the_write_is_repaired_by_another_step(tmp_path: Path) -> None:
    """The first process crashes between mark and write, the second between write and report."""
    (tmp_path / "mine.py").write_text(DYING)
    prompts(tmp_path / "p", [{"session": "s", "text": "x"}])

    ran = tenure(*RUN, "mine:agent", "p", cwd=tmp_path)

    assert (ran.code, column(ran.lines, "text")) == (0, ["x"])
    assert ids(tmp_path / "l") == column(ran.lines, "input_id")
    assert sorted(path.name for path in tmp_path.glob("died-*")) == ["died-after", "died-before"]


DYING = """
import os, pathlib, signal
from tenure_drivers.agents import ledger_file
from tenure_drivers.agents.ledger import ledger

append = ledger_file.LedgerFile.append

def die(when):
    if not os.path.exists(f"died-{when}"):
        pathlib.Path(f"died-{when}").touch()
        os.kill(os.getpid(), signal.SIGKILL)

def dying(self, input_id, text):
    die("before")
    append(self, input_id, text)
    die("after")

ledger_file.LedgerFile.append = dying
agent = ledger(pathlib.Path("l"))
"""


# -- a conflict that arises after the check


def test_a_line_whose_key_got_other_content_is_refused() -> None:
    async def race() -> tuple[list[FileInput], str, list[FileInput]]:
        store = MemoryStore()
        lines, _ = parse(
            b"\n".join(b'{"session":"s","text":"%d","key":"%d"}' % (i, i) for i in range(3))
        )
        admitted = await store.execute(Admit("s", (NewInput("i", "prompt", "other", key="1"),)))
        assert not isinstance(admitted, Refused)
        rows = [FileInput(line) for line in lines]
        followed: list[FileInput] = []
        admission = Admission(
            Client(RetryingStore("memory:", store)),
            prompt_policy(ordered=True),
            rows,
            followed.extend,
        )
        await admission.run()
        return rows, str(admission.count), followed

    rows, count, followed = asyncio.run(race())

    assert [row.ended for row in rows] == [False, True, False]
    assert (answer(rows[1])["ended"], answer(rows[1])["input_id"]) == ("refused", None)
    assert count == "2 admitted, 0 known already"
    assert followed == [rows[0], rows[2]]
