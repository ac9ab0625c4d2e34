"""Steering a turn at work: what it takes, what every attempt gets again, and what the one who steers is told."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from carrying import WAIT_S, Body, opened
from model_script import Call, Say
from openai_asking import serving
from paths import SUPPORT
from pg_server import drop, shared

from tenure.commands import IfIdle, RequestCancel
from tenure.event import EventKind
from tenure.policy import IfOver
from tenure.questions.core import EventsAfter, InputStatus, LoadTranscript
from tenure.transcript import Form
from tenure.turn.chat_policy import project
from tenure_drivers import ChatAgent, tool
from tenure_drivers.agents.script import script
from tenure_drivers.runtime.client import Client
from tenure_drivers.runtime.errors import Steered, SubmissionRefused
from tenure_drivers.runtime.process import local_process
from tenure_drivers.runtime.runtime import Runtime
from tenure_drivers.runtime.sync import SyncRuntime
from tenure_drivers.runtime.turn import Turn
from tenure_drivers.stores.base import Store
from tenure_drivers.stores.registry import open_store

# -- a turn of one's own


def test_a_checkpoint_returns_what_was_said_meanwhile(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        client = Client(store)
        told: list[str] = []

        async def agent(turn: Turn) -> str:
            assert await turn.checkpoint() == ()
            steered = await client.steer("s", "shorter", correlation_id="x")
            assert (steered.how, steered.run_id) == ("addressed", turn.run_id)
            waiting = await steered.status()
            assert waiting is not None and not waiting.delivered
            assert (waiting.status, waiting.target_run) == ("ready", turn.run_id)
            await turn.steered.wait()
            told.extend([i.payload for i in await turn.checkpoint()])
            assert not turn.steered.is_set()
            delivered = await steered.delivered(WAIT_S)
            assert (delivered.status, delivered.checkpoint) == ("bound", 0)
            assert turn.text == "write"  # what was taken is no part of it
            return "written"

        async with Runtime(store, agent) as runtime:
            ended = await (await runtime.submit("s", "write")).ended(WAIT_S)

        assert (ended.answer, told) == ("written", ["shorter"])
        lines = await store.ask(LoadTranscript("s"))
        assert [[i.payload for i in line.inputs] for line in lines] == [["write", "shorter"], []]
        assert lines[0].node.form is Form.INPUTS
        batches = await store.ask(EventsAfter("s"))
        (applied,) = [
            e for batch in batches for e in batch.events if e.kind is EventKind.INPUT_APPLIED
        ]
        assert (applied.run_id, applied.detail) == (ended.run_id, "0")

    carry(body)


def test_every_attempt_gets_the_same_inputs_at_the_same_call(
    carry: Callable[[Body], None],
) -> None:
    async def body(store: Store) -> None:
        client = Client(store)
        attempts: list[list[Any]] = []

        async def agent(turn: Turn) -> str:
            attempts.append(told := [])
            for at in ("first", "second", "third"):
                await turn.step(at, str, at)
                if at == "second" and len(attempts) == 1:
                    await client.steer("s", "shorter", input_id="a")
                told.append([i.payload for i in await turn.checkpoint()])
            if len(attempts) == 1:
                await client.steer("s", "in French", input_id="b")
                raise RuntimeError("broken")
            told.append([i.payload for i in await turn.checkpoint()])
            return "written"

        async with Runtime(store, agent) as runtime:
            await (await runtime.submit("s", "write")).ended(WAIT_S)

        # the first checkpoint of the second attempt asks nobody, although something waits: it had taken nothing there
        assert attempts == [[[], ["shorter"], []], [[], ["shorter"], ["in French"], []]]

    carry(body)


def test_a_commit_that_yields_is_refused_while_something_waits(
    carry: Callable[[Body], None],
) -> None:
    async def body(store: Store) -> None:
        client = Client(store)

        async def agent(turn: Turn) -> None:
            queued = await client.submit("s", "another day")
            follow_up = await client.steer("s", "translate it", kind="follow_up")
            assert await turn.checkpoint() == ()  # it waits for the end
            with pytest.raises(Steered):
                await turn.commit("a poem", yields=True)
            (told,) = await turn.checkpoint(at_end=True)
            assert (told.input_id, queued.how) == (follow_up.input_id, "queued")
            await turn.commit("a translation", yields=True)

        async with Runtime(store, agent) as runtime:
            await (await runtime.submit("s", "write", input_id="i")).ended(WAIT_S)
            assert (await runtime.receipt("s", "i").result(WAIT_S)) == "a translation"

    carry(body)


def test_a_turn_that_was_asked_to_stop_takes_nothing(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        client = Client(store)

        async def agent(turn: Turn) -> str:
            if turn.text != "write":
                return turn.text
            steered = await client.steer("s", "shorter", input_id="a")
            assert steered.how == "addressed"
            await store.execute(RequestCancel("s", "c", turn.run_id))
            late = await client.steer("s", "wait", input_id="b")
            assert late.how == "queued"  # nobody would read it in this turn
            with pytest.raises(SubmissionRefused, match="idle"):
                await client.steer("s", "wait", if_idle=IfIdle.REFUSE)
            await turn.checkpoint()
            return "never"

        async with Runtime(store, agent) as runtime:
            first = await runtime.submit("s", "write")
            assert (await first.ended(WAIT_S)).termination == "cancelled"
            answers = [await runtime.receipt("s", i).result(WAIT_S) for i in ("a", "b")]

        assert answers == ["shorter", "wait"]  # each is an ordinary input then

    carry(body)


def test_steering_that_is_to_be_abandoned_ends_with_its_run(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        client = Client(store)

        async def agent(turn: Turn) -> str:
            await client.steer("s", "shorter", input_id="a", if_over=IfOver.ABANDON)
            return "written"

        async with Runtime(store, agent) as runtime:
            await (await runtime.submit("s", "write")).ended(WAIT_S)
            ended = await runtime.receipt("s", "a").ended(WAIT_S)
        assert ended.status == "abandoned"
        with pytest.raises(SubmissionRefused, match="ended"):
            await client.steer("s", "shorter", target="r-unknown", if_over=IfOver.ABANDON)

    carry(body)


def test_a_run_that_was_asked_to_stop_before_it_was_read_is_not_started(
    carry: Callable[[Body], None],
) -> None:
    """The flag is set between Begin and the question that reads the run."""

    async def body(store: Store) -> None:
        started: list[str] = []

        class Late:
            """A store in whose answers a cancel arrives before the run is read."""

            def __getattr__(self, name: str) -> Any:
                return getattr(store, name)

            async def ask(self, question: Any) -> Any:
                if type(question).__name__ == "LoadRun":
                    await store.execute(RequestCancel("s", "c", question.run_id))
                return await store.ask(question)

        async def agent(turn: Turn) -> str:
            started.append(turn.run_id)
            return "never"

        late: Any = Late()
        async with Runtime(late, agent) as runtime:
            ended = await (await runtime.submit("s", "write")).ended(WAIT_S)

        assert (ended.status, started) == ("abandoned", [])

    carry(body)


def test_without_an_event_loop(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path / 'store.db'}")
    with SyncRuntime(Runtime(store)) as runtime:
        with runtime.turn("s", submit="write") as turn:
            steered = runtime.steer("s", "shorter")
            assert (steered.how, steered.run_id) == ("addressed", turn.run_id)
            assert [i.payload for i in turn.checkpoint()] == ["shorter"]
            assert steered.delivered(WAIT_S).checkpoint == 0
            turn.commit("written")
    asyncio.run(store.aclose())


# -- chat agents


async def until_at_work(client: Client, input_id: str) -> InputStatus:
    """Wait until a run has an input."""
    return await client.receipt("s", input_id).delivered(WAIT_S)


@pytest.mark.parametrize("steering", ["all", "one"])
def test_steering_during_a_batch_reaches_the_next_call_of_the_model(
    carry: Callable[[Body], None], steering: Any
) -> None:
    """The real client asks a real server; a prompt that was queued before does not delay what steers."""

    async def body(store: Store) -> None:
        client = Client(store)

        @tool
        async def look() -> str:
            """Look."""
            await client.submit("s", "another day", input_id="q")
            await client.steer("s", "shorter", input_id="a")
            await client.steer("s", "in French", input_id="b")
            await client.steer("s", "translate it", kind="follow_up", input_id="f")
            return "seen"

        said = (Say("", (Call("look", "{}"),)), Say("one"), Say("two"), Say("three"), Say("four"))
        async with serving(*said) as (server, model):
            agent = ChatAgent(model, [look], steering=steering)
            async with Runtime(store, agent) as runtime:
                first = await (await runtime.submit("s", "write")).ended(WAIT_S)
                last = await runtime.receipt("s", "q").ended(WAIT_S)
                statuses = [await runtime.receipt("s", i).status() for i in ("a", "b", "f")]
                asked = [await server.nth(n) for n in range(1, 4 if steering == "all" else 5)]
        told = [[m["content"] for m in a.messages if m["role"] == "user"] for a in asked]

        if steering == "all":
            assert told == [
                ["write"],
                ["write", "shorter", "in French"],
                ["write", "shorter", "in French", "translate it"],
            ]
        else:
            assert told == [
                ["write"],
                ["write", "shorter"],
                ["write", "shorter", "in French"],
                ["write", "shorter", "in French", "translate it"],
            ]
        assert {s.run_id for s in statuses if s is not None} == {first.run_id}
        assert all(s is not None and s.checkpoint is not None for s in statuses)
        assert first.answer == ("two" if steering == "all" else "three")
        assert last.run_id != first.run_id and last.succeeded

    carry(body)


def test_the_script_agent_is_steered_between_two_replies(tmp_path: Path) -> None:
    async def body() -> None:
        async with opened("memory:") as store:
            client = Client(store)
            async with Runtime(store, script(tmp_path / "ledger")) as runtime:
                receipt = await runtime.submit("s", "sleep 300", input_id="i")
                await until_at_work(client, "i")
                steered = await client.steer("s", "append paid")
                ended = await receipt.ended(WAIT_S)
                status = await steered.ended(WAIT_S)

            messages = project(await store.ask(LoadTranscript("s")))
        assert (tmp_path / "ledger").read_text().endswith(" paid\n")
        assert [m.text for m in messages if m.role == "user"] == ["sleep 300", "append paid"]
        assert ended.run_id == status.run_id and status.checkpoint is not None
        assert ended.answer == "appended paid"

    asyncio.run(body())


# -- a worker in another process


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'store.db'}"
        return
    from psycopg.conninfo import conninfo_to_dict

    schema = f"steering_{os.getpid()}"
    known: dict[str, Any] = conninfo_to_dict(shared())
    host = str(known["host"]).replace("/", "%2F")
    yield f"postgresql://{known['user']}@/{known['dbname']}?host={host}&tenure_schema={schema}"
    drop(shared(), schema)


@contextmanager
def worker(url: str, mode: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(SUPPORT / "steering_child.py"), url, mode]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert said(process) == ["ready"]
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    line = process.stdout.readline()
    found: list[str] = json.loads(line) if line else []
    return found


@pytest.mark.skipif(local_process() is None, reason="needs /proc")
def test_steering_survives_a_worker_that_dies_before_it_answers(url: str) -> None:
    """It is told once to the worker that takes over, and the receipt says at which checkpoint it was taken."""

    async def body() -> tuple[InputStatus, InputStatus, list[str]]:
        async with opened(url) as store:
            client = Client(store)
            await client.submit("s", "write", input_id="i")
            with worker(url, "die") as first:
                assert await asyncio.to_thread(said, first) == ["asked", "write"]
                assert await asyncio.to_thread(said, first) == ["waits"]
                steered = await client.steer("s", "shorter")
                assert steered.how == "addressed"
                assert first.stdin is not None
                first.stdin.write("go on\n")
                first.stdin.flush()
                taken = await steered.delivered(WAIT_S)
                assert await asyncio.to_thread(said, first) == ["asked", "write", "shorter"]
                assert await asyncio.to_thread(said, first) == []  # it has killed itself
            with worker(url, "live") as second:
                assert await asyncio.to_thread(said, second) == ["asked", "write", "shorter"]
                ended = await client.receipt("s", "i").ended(WAIT_S)
                again = await steered.status()
                assert again is not None and again.checkpoint == taken.checkpoint
                assert await asyncio.to_thread(said, second) == []  # nothing was asked again
            lines = await store.ask(LoadTranscript("s"))
            return taken, ended, [i.payload for line in lines for i in line.inputs]

    taken, ended, told = asyncio.run(body())

    assert (taken.status, taken.checkpoint) == ("bound", 1)
    assert (ended.answer, ended.termination) == ("shorter: done", "finished")
    assert told == ["write", "shorter"]
