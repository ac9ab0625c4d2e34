"""Forks and imports: what they copy, and that they end equal however often they are killed.  Spec: specs/import.md."""

from __future__ import annotations

import asyncio
import functools
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from cli_process import start, tenure, until

from tenure.commands import (
    Acquire,
    Acquired,
    Amend,
    ImportNode,
    ImportPage,
    NewProfile,
    ReleaseSession,
    Rewind,
)
from tenure.machines.lease import Owner
from tenure.messages.codec import node_of
from tenure.messages.types import Attachment, Message
from tenure.outcome import Refusal, Refused
from tenure.profile_records import Fork
from tenure.queries import Get, Question
from tenure.questions import LeafMoved, LoadChanges
from tenure.questions.core import LoadTranscript, TranscriptLine
from tenure.records import Phase, Profile, Session
from tenure.transcript import Form, NewNode, Role
from tenure.turn.chat_policy import project, write_prompt
from tenure_drivers.runtime.client import Client
from tenure_drivers.runtime.clock import new_id
from tenure_drivers.runtime.errors import CommandRefused
from tenure_drivers.runtime.runtime import Runtime
from tenure_drivers.runtime.turn import Turn
from tenure_drivers.stores.memory import MemoryStore
from tenure_drivers.stores.registry import open_store

Test = Callable[..., Coroutine[Any, Any, None]]


def in_loop(test: Test) -> Callable[..., None]:
    """Make a test of a coroutine."""

    @functools.wraps(test)
    def run(*args: Any, **kw: Any) -> None:
        asyncio.run(test(*args, **kw))

    return run


CALLS = NewNode(Role.ASSISTANT, "add", ("x", "y"))


async def echo(turn: Turn) -> str:
    return turn.text


@asynccontextmanager
async def talked(*texts: str) -> AsyncIterator[Runtime]:
    """A session "s" in which these prompts were answered."""
    store = MemoryStore()
    async with Runtime(store, echo) as runtime:
        for text in texts:
            await runtime.run("s", text, 10)
        yield runtime
    await store.aclose()


async def amend(client: Client, *nodes: NewNode, **more: Any) -> None:
    taken = await client.execute(Acquire("s", new_id(), Owner("o", "o")))
    assert isinstance(taken, Acquired), taken
    amended = Amend("s", new_id(), taken.fence, taken.revision, nodes, **more)
    commands: tuple[Any, ...] = (amended, ReleaseSession("s", taken.fence))
    for command in commands:
        answer = await client.execute(command)
        assert not isinstance(answer, Refused), answer


async def lines(client: Client, session_id: str, **more: Any) -> tuple[TranscriptLine, ...]:
    return await client.ask(LoadTranscript(session_id, **more))


async def bodies(client: Client, session_id: str) -> list[str]:
    return [line.node.body for line in await lines(client, session_id)]


# -- what a fork copies


@in_loop
async def test_a_model_gets_the_same_of_a_fork() -> None:  # IMPORT-20
    image = write_prompt("look", (Attachment("https://x.test/a.png", "image/png", "a.png"),))
    async with talked("hello", image) as runtime:
        for kind in ("wake", "continuation"):
            await runtime.run("s", "done" * (kind == "wake"), 10, kind=kind)
        await amend(
            runtime, CALLS, NewNode(Role.TOOL, "5", ("y",)), NewNode(Role.TOOL, "6", ("x",))
        )
        await amend(runtime, node_of(Message(Role.ASSISTANT, "so", reasoning="because")))

        done = await runtime.fork("s", "copy", profile=NewProfile("a copy", (("a", "b"),)))

        origin, copy = await lines(runtime, "s"), await lines(runtime, "copy")
        assert project(copy) == project(origin)
        assert all(line.inputs == () for line in copy) and len(copy) == done.nodes == 11
        assert {line.node.at_ms for line in origin} <= {line.node.at_ms for line in copy}
        profile = await runtime.ask(Row(Profile, "copy"))
        assert profile is not None and profile.relation == Fork("s", origin[-1].node.node_id)
        assert (profile.name, profile.labels) == ("a copy", (("a", "b"),))


class Row(Question[Any]):
    """The one row of a session, of a kind."""

    def __init__(self, record: Any, session_id: str) -> None:
        self.record, self.session_id = record, session_id

    def steps(self) -> Any:
        return (yield Get(self.record, (self.session_id,)))


@in_loop
async def test_a_fork_has_nothing_of_what_is_hidden() -> None:  # IMPORT-20
    async with talked("one", "two", "three") as runtime:
        first, second, _ = [line.node.node_id for line in await lines(runtime, "s")]
        await runtime.amend("s", hide=[second])
        await runtime.fork("s", "copy")
        await runtime.fork("s", "earlier", at=first)
        await runtime.amend("s", show=[second])

        assert await bodies(runtime, "copy") == ["one", "one", "three", "three"]
        assert (await runtime.fork("s", "copy")).nodes == 4
        assert (await runtime.fork("s", "later")).nodes == 6


@in_loop
async def test_a_reader_is_told_of_an_import_when_it_is_whole() -> None:  # READ-20
    async with talked("one") as runtime:
        done = await runtime.fork("s", "copy")
        await runtime.run("copy", "two", 10)

        page = await runtime.ask(LoadChanges("copy"))

        assert page is not None
        moves = [each for each in page.changes if isinstance(each, LeafMoved)]
        kept, last = moves[0].leaf, (await lines(runtime, "copy"))[-1].node.node_id
        assert [(m.revision, m.keep, m.leaf) for m in moves] == [(1, None, kept), (2, kept, last)]
        assert done.nodes == 2


@in_loop
async def test_a_fork_goes_on_by_itself() -> None:
    async with talked("hello") as runtime:
        await runtime.fork("s", "copy")

        assert await runtime.run("copy", "and now", 10) == "and now"
        assert await bodies(runtime, "s") == ["hello"]
        assert await bodies(runtime, "copy") == ["hello", "hello", "and now"]


@in_loop
async def test_a_fork_begins_with_the_last_compaction() -> None:
    async with talked("one", "two") as runtime:
        await amend(runtime, NewNode(Role.USER, "they counted", form=Form.COMPACTION))
        await runtime.run("s", "three", 10)

        await runtime.fork("s", "short")
        await runtime.fork("s", "long", whole=True)

        assert await bodies(runtime, "short") == ["they counted", "three", "three"]
        assert len(await bodies(runtime, "long")) == 7
        assert project(await lines(runtime, "short")) == project(await lines(runtime, "s"))


@in_loop
async def test_a_fork_of_any_node() -> None:
    async with talked("one", "two") as runtime:
        first, second = [line.node.node_id for line in await lines(runtime, "s")]
        await amend(runtime, rewind=Rewind(first))

        earlier = await runtime.fork("s", at=first)
        later = await runtime.fork("s", at=second)

        assert (earlier.node, later.node) == (first, second)
        assert await bodies(runtime, earlier.session_id) == ["one", "one"]
        assert await bodies(runtime, later.session_id) == ["one", "one", "two", "two"]


@in_loop
async def test_a_session_without_nodes_is_forked() -> None:
    async with talked() as runtime:
        await runtime.submit("s", "later", available_at_ms=2**50)

        done = await runtime.fork("s", "copy")
        again = await runtime.fork("s", "copy")

        assert done == again and (done.node, done.nodes) == (None, 0)
        assert await runtime.run("copy", "hello", 10) == "hello"


@in_loop
async def test_a_fork_that_cannot_be_is_refused_before_anything_is_stored() -> (
    None
):  # IMPORT-22, IMPORT-23
    async with talked("one") as runtime:
        await amend(runtime, CALLS, NewNode(Role.TOOL, "5", ("x", "y")))
        _, called, _ = [line.node.node_id for line in await lines(runtime, "s")]
        await runtime.submit("other", "hello", available_at_ms=2**50)
        await runtime.fork("s", "gone")
        await runtime.destroy("gone")
        for session_id, new_id, at, reason in (
            ("nobody", "copy", None, Refusal.UNKNOWN_SESSION),
            ("s", "copy", "nothing", Refusal.UNKNOWN_NODE),
            ("s", "copy", called, Refusal.ILLEGAL),
            ("s", "other", None, Refusal.KEY_CONFLICT),
            ("s", "s", None, Refusal.KEY_CONFLICT),
            ("s", "gone", None, Refusal.PHASE),
        ):
            with pytest.raises(CommandRefused) as refused:
                await runtime.fork(session_id, new_id, at=at)
            assert refused.value.refused.reason is reason
        assert await runtime.ask(Row(Session, "copy")) is None


@in_loop
async def test_a_fork_that_goes_on_copies_what_it_began_with() -> None:  # IMPORT-22
    async with talked("one") as runtime:
        first = await runtime.fork("s", "copy")
        await runtime.run("s", "two", 10)

        assert await runtime.fork("s", "copy") == first
        assert await bodies(runtime, "copy") == ["one", "one"]


# -- imports of nodes


def said(count: int, size: int = 200) -> list[ImportNode]:
    roles = (Role.USER, Role.ASSISTANT)
    return [ImportNode(f"n{i}", roles[i % 2], f"{i}".rjust(size), i) for i in range(count)]


@in_loop
async def test_inputs_wait_until_an_import_is_whole() -> None:
    nodes = said(200)
    async with talked() as runtime:
        sent: list[ImportPage] = []
        execute = runtime.execute

        async def noting(command: Any) -> Any:
            if isinstance(command, ImportPage) and len(sent) == 2:
                await runtime.submit("s", "and now", input_id="i")
                assert (await runtime.ask(Row(Session, "s"))).phase is Phase.IMPORTING
            sent.extend([command] if isinstance(command, ImportPage) else [])
            return await execute(command)

        runtime.execute = noting  # type: ignore[method-assign]
        await runtime.import_session("s", nodes)

        assert await runtime.receipt("s", "i").result(10) == "and now"
        assert [page.number for page in sent] == [1, 2, 3, 4]
        expected = [node.body for node in nodes]
        assert await bodies(runtime, "s") == [*expected, "and now"]


@in_loop
async def test_two_imports_of_the_same_at_once() -> None:
    nodes = said(300)
    async with talked() as runtime:
        both = await asyncio.gather(*[runtime.import_session("s", nodes) for _ in range(2)])

        assert both[0] == both[1]
        assert await bodies(runtime, "s") == [node.body for node in nodes]


@pytest.mark.parametrize(
    "nodes",
    [
        said(70)[:65] + [ImportNode("t", Role.TOOL, "5", 1, ("x",))],
        [*said(70), ImportNode("t", Role.ASSISTANT, "5", 1, ("x",))],
        [*said(70), evolve(said(1)[0], body="another")],
        [*said(70), evolve(said(1)[0], node_id="r:1:0:0")],
    ],
    ids=["result without a call", "call without a result", "an id twice", "an id of a run"],
)
@in_loop
async def test_nothing_is_stored_of_an_import_that_is_not_legal(
    nodes: Sequence[ImportNode],
) -> None:
    async with talked() as runtime:
        with pytest.raises(CommandRefused):
            await runtime.import_session("s", nodes)

        assert await runtime.ask(Row(Session, "s")) is None


# -- killed


def test_a_fork_that_is_killed_again_and_again_ends_equal(tmp_path: Path) -> None:
    """Processes with SIGKILL, on a file: what the last one leaves is what a single one would have."""
    url, nodes = f"sqlite:{tmp_path / 'a.db'}", said(3_000)
    run_in(url, lambda client: client.import_session("s", nodes))
    run_in(url, lambda client: client.fork("s", "whole"))

    killed = [killed_after(tmp_path, pages) for pages in (1, 9, 17, 33)]
    done = tenure("fork", "--store", "sqlite:a.db", "s", "copy", cwd=tmp_path)

    assert sum(killed) > 1, "it was done before it was killed"
    assert (done.code, done.lines[0]["nodes"], done.lines[0]["pages"]) == (0, 3_000, 47)
    with closing(sqlite3.connect(tmp_path / "a.db")) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(node)")][1:]
        select = f"SELECT {', '.join(columns)} FROM node WHERE session_id = ? ORDER BY node_id"
        assert db.execute(select, ("copy",)).fetchall() == db.execute(select, ("whole",)).fetchall()
    texts = run_in(url, lambda client: bodies(client, "copy"))
    assert texts == [node.body for node in nodes]
    checked = tenure("store", "check", "--store", "sqlite:a.db", cwd=tmp_path)
    assert checked.code == 0, checked.out


def killed_after(folder: Path, pages: int) -> bool:
    """Kill a fork when it has copied so many pages; return whether it had not copied all."""
    process = start("fork", "--store", "sqlite:a.db", "s", "copy", cwd=folder)
    until(lambda: progress(folder) > pages or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return progress(folder) <= 47


def run_in(url: str, body: Any) -> Any:
    async def whole() -> Any:
        store = open_store(url)
        try:
            return await body(Client(store))
        finally:
            await store.aclose()

    return asyncio.run(whole())


def progress(folder: Path) -> int:
    """The number of the next page of the fork."""
    with closing(sqlite3.connect(folder / "a.db")) as db:
        found = db.execute("SELECT next_page FROM import_progress WHERE session_id = 'copy'")
        return int((found.fetchone() or (0,))[0])
