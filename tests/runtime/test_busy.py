"""What a submission does if its session is busy: in this process, and with a worker in another one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from carrying import WAIT_S, Body, opened
from paths import SUPPORT
from pg_server import drop, shared

from tenure.commands import Admission, Admit, Begin, CancelRequested, NewInput, Withdrawn
from tenure.failure import ErrorKind
from tenure.machines.lease import Owner
from tenure.policy import Lane, Policy
from tenure.queries import Get, Query, Question
from tenure.questions.core import LoadOverview, LoadTranscript, Status
from tenure.records import Input
from tenure_drivers.runtime.client import Client
from tenure_drivers.runtime.errors import (
    Busy,
    CommandRefused,
    NotAnswered,
    NothingDue,
    StillRunning,
    SubmissionRefused,
)
from tenure_drivers.runtime.process import local_process
from tenure_drivers.runtime.runtime import Runtime
from tenure_drivers.runtime.sync import SyncRuntime
from tenure_drivers.runtime.turn import Turn
from tenure_drivers.stores.base import Store
from tenure_drivers.stores.registry import open_store

SOON_S = 0.05  # for what cannot come


async def echo(turn: Turn) -> str:
    return f"{turn.text}!"


async def status_of(store: Store, input_id: str) -> str | None:
    found = await store.ask(Status("s", input_id))
    return None if found is None else found.status


async def take(store: Store, run_id: str = "r1") -> None:
    """Let a worker that says nothing begin what comes next."""
    await store.execute(Begin("s", f"lease-{run_id}", run_id, Owner("other", "other.1"), 3_600_000))


# -- strategies


def test_a_submission_that_does_not_wait_is_refused_and_leaves_nothing(
    carry: Callable[[Body], None],
) -> None:
    async def body(store: Store) -> None:
        client = Client(store)
        first = await client.submit("s", "one", busy="reject")
        with pytest.raises(Busy) as ready:
            await client.submit("s", "two", key="k", input_id="i2", busy="reject")
        await take(store)
        with pytest.raises(Busy) as bound:
            await client.submit("s", "two", key="k", input_id="i2", busy="reject")

        assert first.how == "queued"
        assert (ready.value.run_id, bound.value.run_id) == (None, "r1")
        assert await status_of(store, "i2") is None
        assert (await client.submit("s", "three", key="k")).how == "queued"

    carry(body)


@pytest.mark.parametrize("busy", ["interrupt", "rollback"])
def test_an_interrupt_takes_back_what_waits_and_opens_a_session_that_is_new(
    carry: Callable[[Body], None], busy: Any
) -> None:
    async def body(store: Store) -> None:
        client = Client(store)
        first = await client.submit("s", "one", busy=busy)
        second = await client.submit("s", "two", busy=busy)

        assert [first.how, second.how] == ["queued", "queued"]
        assert await status_of(store, first.input_id) == "superseded"
        assert await status_of(store, second.input_id) == "ready"

    carry(body)


@pytest.mark.parametrize("busy", ["interrupt", "rollback", "replace"])
def test_the_same_submission_again_interrupts_nothing(
    carry: Callable[[Body], None], busy: Any
) -> None:
    within_s = WAIT_S if busy == "replace" else None

    async def body(store: Store) -> None:
        client = Client(store)
        await client.submit("s", "zero")
        first = await client.submit("s", "one", key="k", busy=busy, within_s=within_s)
        again = await client.submit("s", "one", key="k", busy=busy, within_s=within_s)
        with pytest.raises(SubmissionRefused, match="key_conflict"):
            await client.submit("s", "other", key="k", busy=busy, within_s=within_s)

        assert again.input_id == first.input_id
        assert await status_of(store, first.input_id) == "ready"

    carry(body)


@pytest.mark.parametrize(
    ("busy", "within_s"), [("wait", None), ("replace", None), ("enqueue", 1.0), ("reject", 0.0)]
)
def test_a_strategy_that_does_not_exist_or_misses_its_time_is_an_error(
    carry: Callable[[Body], None], busy: Any, within_s: float | None
) -> None:
    async def body(store: Store) -> None:
        with pytest.raises(ValueError, match="busy"):
            await Client(store).submit("s", "one", busy=busy, within_s=within_s)

    carry(body)


def test_a_replacement_waits_for_the_run_at_work(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        working = asyncio.Event()

        async def agent(turn: Turn) -> str:
            if turn.text == "long":
                working.set()
                await asyncio.Event().wait()
            return f"{turn.text}!"

        async with Runtime(store, agent, grace_ms=20) as runtime:
            first = await runtime.submit("s", "long")
            await working.wait()
            second = await runtime.submit("s", "short", busy="replace", within_s=WAIT_S)

            assert await second.result(WAIT_S) == "short!"
            assert (await first.ended(WAIT_S)).termination == "cancelled"

    carry(body)


# -- policies


def test_a_client_has_policies_for_kinds_of_its_own_and_for_others(
    carry: Callable[[Body], None],
) -> None:
    async def body(store: Store) -> None:
        policies = {"nudge": Policy(Lane.SYSTEM), "prompt": Policy(Lane.USER, priority=7)}
        client = Client(store, policies=policies)
        own = Policy(Lane.USER, priority=9)
        await client.submit("s", "a", kind="nudge", input_id="i1")
        await client.submit("s", "b", input_id="i2")
        await client.submit("s", "c", input_id="i3", policy=own)
        await client.interrupt("s", NewInput("i4", "prompt", "d"))

        async def policy_of(input_id: str) -> Policy:
            loaded = await store.ask(Stored(input_id))
            return loaded.policy

        assert await policy_of("i1") == policies["nudge"]
        assert await policy_of("i2") == policies["prompt"]
        assert await policy_of("i3") == own
        assert await policy_of("i4") == policies["prompt"]
        with pytest.raises(SubmissionRefused, match="unknown_kind"):
            await Client(store).submit("s", "a", kind="nudge")

    carry(body)


@frozen
class Stored(Question[Input]):
    """Ask for an input as it was admitted."""

    input_id: str

    def steps(self) -> Generator[Query[Any], Any, Input]:
        found: Input = yield Get(Input, ("s", self.input_id))
        return found


# -- run and abort


def test_run_submits_and_answers(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        async with Runtime(store, echo) as runtime:
            assert await runtime.run("s", "hello", WAIT_S) == "hello!"
            assert await runtime.run("s", "again", WAIT_S, busy="reject") == "again!"

    carry(body)


def test_run_withdraws_what_no_run_works_on(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        client = Client(store)
        with pytest.raises(TimeoutError, match="withdrawn"):
            await client.run("s", "hello", SOON_S, input_id="i")

        assert await status_of(store, "i") == "withdrawn"

    carry(body)


def test_run_leaves_what_a_run_works_on(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        client = Client(store)
        await client.submit("s", "hello", input_id="i")
        await take(store)
        with pytest.raises(StillRunning) as raised:
            await client.run("s", "hello", SOON_S, input_id="i")

        assert (raised.value.run_id, await status_of(store, "i")) == ("r1", "bound")

    carry(body)


def test_abort_withdraws_or_cancels(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        client = Client(store)
        await client.submit("s", "one", input_id="i1")
        await client.submit("s", "two", input_id="i2")
        await take(store)

        assert await client.abort("s", "i2") == Withdrawn("i2")
        assert await client.abort("s", "i1") == CancelRequested("r1", False)
        with pytest.raises(CommandRefused, match="ended"):
            await client.abort("s", "i2")
        with pytest.raises(CommandRefused, match="unknown_input"):
            await client.abort("s", "nobody")

    carry(body)


# -- a turn of one's own


def test_a_turn_of_ones_own_begins_what_it_submits(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        runtime = Runtime(store)
        async with runtime.turn("s", submit="hello") as turn:
            await turn.commit(f"{turn.text}!")
        receipt = runtime.receipt("s", turn.input_ids[0])

        assert await receipt.result(WAIT_S) == "hello!"
        await runtime.stop()

    carry(body)


def test_a_turn_of_ones_own_leaves_nothing_in_a_busy_session(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        runtime = Runtime(store)
        await runtime.submit("s", "before")
        await take(store)
        with pytest.raises(Busy) as raised:
            async with runtime.turn("s", submit=NewInput("i", "prompt", "hello", key="k")):
                raise AssertionError("the session is not idle")

        assert raised.value.run_id == "r1"
        assert await status_of(store, "i") is None
        await runtime.stop()

    carry(body)


def test_a_turn_of_ones_own_takes_its_input_back_if_another_comes_first(
    carry: Callable[[Body], None],
) -> None:
    async def body(store: Store) -> None:
        runtime = Runtime(store)
        admit = runtime._admit_own

        async def overtaken(session_id: str, submit: NewInput | str) -> Admission:
            mine = await admit(session_id, submit)
            await store.execute(Admit("s", (NewInput("u", "prompt", "urgent", priority=0),)))
            return mine

        runtime._admit_own = overtaken  # type: ignore[method-assign]
        with pytest.raises(NothingDue, match="not_next"):
            async with runtime.turn("s", submit=NewInput("i", "prompt", "hello")):
                raise AssertionError("another input comes first")

        assert await status_of(store, "i") == "withdrawn"
        assert await status_of(store, "u") == "ready"
        await runtime.stop()

    carry(body)


def test_a_turn_of_ones_own_says_if_a_worker_was_faster(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        runtime = Runtime(store)
        admit = runtime._admit_own

        async def begun(session_id: str, submit: NewInput | str) -> Admission:
            mine = await admit(session_id, submit)
            await take(store)
            return mine

        runtime._admit_own = begun  # type: ignore[method-assign]
        with pytest.raises(StillRunning) as raised:
            async with runtime.turn("s", submit=NewInput("i", "prompt", "hello")):
                raise AssertionError("another worker has it")

        assert raised.value.run_id == "r1"
        await runtime.stop()

    carry(body)


def test_boundary_commit_failure_unwinds_sync_runtime_state(carry: Callable[[Body], None]) -> None:
    """A turn of one's own whose code fails lets its session go: the same input is begun again, with its journal."""

    async def body(store: Store) -> None:
        runtime = Runtime(store)
        looks: list[int] = []
        new = NewInput("i", "prompt", "hello")
        with pytest.raises(RuntimeError, match="boundary"):
            async with runtime.turn("s", submit=new) as turn:
                await turn.step("look", looks.append, 1)
                raise RuntimeError("boundary")
        overview = await store.ask(LoadOverview("s"))
        assert overview is not None
        assert overview.session.lease_run is None
        (run,) = overview.runs
        assert run.retry.last is not None
        assert run.retry.last.kind is ErrorKind.TRANSIENT
        while True:  # its backoff
            try:
                async with runtime.turn("s", submit=new) as turn:
                    await turn.step("look", looks.append, 2)
                    await turn.commit("done")
                break
            except NothingDue:
                await asyncio.sleep(SOON_S)

        assert looks == [1]
        assert await status_of(store, "i") == "consumed"
        await runtime.stop()

    carry(body)


def test_without_an_event_loop(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path / 'store.db'}")
    with SyncRuntime(Runtime(store)) as runtime:
        with runtime.turn("s", submit="hello") as turn:
            turn.commit(f"{turn.text}!")
        with pytest.raises(TimeoutError):
            runtime.run("s", "nobody works", SOON_S)
        waiting = runtime.submit("s", "later", busy="reject")
        assert runtime.abort("s", waiting.input_id) == Withdrawn(waiting.input_id)
    asyncio.run(store.aclose())


# -- a worker in another process


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'store.db'}"
        return
    from psycopg.conninfo import conninfo_to_dict

    schema = f"busy_{os.getpid()}"
    known: dict[str, Any] = conninfo_to_dict(shared())
    host = str(known["host"]).replace("/", "%2F")
    yield f"postgresql://{known['user']}@/{known['dbname']}?host={host}&tenure_schema={schema}"
    drop(shared(), schema)


@contextmanager
def busy_worker(url: str, prompt: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a process, and let it work on this prompt, input "first"; yield it with the id of the run."""

    async def admit() -> None:
        async with opened(url) as store:
            await Client(store).submit("s", prompt, input_id="first")

    asyncio.run(admit())
    command = [sys.executable, str(SUPPORT / "busy_child.py"), url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert said(process) == "ready"
            yield process, said(process).removeprefix("works on ")
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def submit_to(url: str, **options: Any) -> tuple[str | None, tuple[str | None, ...]]:
    """Submit "short"; return its answer, and the messages of the transcript."""

    async def body() -> tuple[str | None, tuple[str | None, ...]]:
        async with opened(url) as store:
            client = Client(store)
            answer = await client.run("s", "short", WAIT_S, **options)
            lines = await store.ask(LoadTranscript("s"))
            return answer, tuple([line.node.body for line in lines])

    return asyncio.run(body())


def first_of(url: str) -> tuple[str, str | None]:
    async def body() -> tuple[str, str | None]:
        async with opened(url) as store:
            status = await Client(store).receipt("s", "first").ended(WAIT_S)
            return status.status, status.termination

    return asyncio.run(body())


process_tests = pytest.mark.skipif(local_process() is None, reason="needs /proc")


@process_tests
def test_reject_a_session_that_is_busy_elsewhere(url: str) -> None:
    with busy_worker(url, "long") as (_, run_id), pytest.raises(Busy) as raised:
        submit_to(url, busy="reject")

    assert raised.value.run_id == run_id


@process_tests
def test_interrupt_a_session_that_is_busy_elsewhere(url: str) -> None:
    with busy_worker(url, "long"):
        answer, transcript = submit_to(url, busy="interrupt")

        assert answer == "answered short"
        assert "working on it" in transcript
        assert first_of(url) == ("consumed", "cancelled")


@process_tests
def test_roll_back_a_session_that_is_busy_elsewhere(url: str) -> None:
    with busy_worker(url, "long"):
        answer, transcript = submit_to(url, busy="rollback")

        assert answer == "answered short"
        assert transcript == ("answered short",)
        assert first_of(url) == ("superseded", "rolled_back")


@process_tests
def test_a_once_step_elsewhere_is_not_rolled_back(url: str) -> None:
    with busy_worker(url, "long once"):
        answer, transcript = submit_to(url, busy="rollback")

        assert answer == "answered short"
        assert "working on it" in transcript
        assert first_of(url) == ("consumed", "cancelled")


@process_tests
def test_replace_in_a_session_that_is_busy_elsewhere(url: str) -> None:
    with busy_worker(url, "long"):
        answer, _ = submit_to(url, busy="replace")

        assert answer == "answered short"
        assert first_of(url) == ("consumed", "cancelled")


@process_tests
def test_enqueue_in_a_session_that_is_busy_elsewhere(url: str) -> None:
    async def cancel(run_id: str) -> None:
        async with opened(url) as store:
            client = Client(store)
            receipt = await client.submit("s", "short")
            assert (await client.abort("s", "first")) == CancelRequested(run_id, False)
            assert await receipt.result(WAIT_S) == "answered short"

    with busy_worker(url, "long") as (_, run_id):
        asyncio.run(cancel(run_id))


@process_tests
def test_a_replacement_that_is_too_late_leaves_no_trace(url: str) -> None:
    """The worker is stopped, so it cannot end its run in time."""

    async def body(process: subprocess.Popen[str], run_id: str) -> None:
        async with opened(url) as store:
            client = Client(store)
            with pytest.raises(Busy) as raised:
                await client.submit(
                    "s", "short", key="k", input_id="i", busy="replace", within_s=SOON_S
                )
            assert raised.value.run_id == run_id
            assert await status_of(store, "i") is None
            other = await client.submit("s", "other", key="k", busy="enqueue")
            assert other.how == "queued"
            process.send_signal(signal.SIGCONT)
            assert await other.result(WAIT_S) == "answered other"
            with pytest.raises(NotAnswered):
                await client.receipt("s", "first").result(WAIT_S)

    with busy_worker(url, "long") as (process, run_id):
        process.send_signal(signal.SIGSTOP)
        asyncio.run(body(process, run_id))
