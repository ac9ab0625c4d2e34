"""Jobs in a runtime: functions with steps, what ends them, jobs of turns, and the tools of a chat agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from carrying import WAIT_S, Body
from scripted_chat import Scripted, calling, saying, texts, transcript

from tenure.commands import CancelJob, Register, Take
from tenure.failure import ErrorKind
from tenure.machines.job import Disposition, How
from tenure.machines.lease import Owner
from tenure_drivers.agents.chat import ChatAgent
from tenure_drivers.agents.job_tools import job_tools
from tenure_drivers.runtime.client import Client
from tenure_drivers.runtime.errors import Cancelled, TurnFailed
from tenure_drivers.runtime.jobs.definition import job
from tenure_drivers.runtime.jobs.handle import JobHandle, JobNotCompleted, JobNotEnded
from tenure_drivers.runtime.jobs.process_job import Process, Processes
from tenure_drivers.runtime.jobs.session_job import ChildSession, ChildSessions
from tenure_drivers.runtime.jobs.work import BlockingWork, Work
from tenure_drivers.runtime.runtime import Runtime
from tenure_drivers.runtime.turn import Turn
from tenure_drivers.stores.base import Store

Carry = Callable[[Body], None]


class Point(msgspec.Struct):
    x: int
    y: int


@job(disposition="rerunnable")
async def add(work: Work, point: Point) -> int:
    """Add two numbers."""
    return int(await work.step("sum", lambda: point.x + point.y))


@job(disposition="owner_bound")
def add_in_thread(work: BlockingWork, point: Point) -> int:
    work.heartbeat()
    return int(work.once("sum", lambda: point.x + point.y))


@job(disposition="owner_bound")
def fail(work: BlockingWork) -> None:
    raise ValueError(f"attempt {work.attempt}")


async def until_status(handle: JobHandle, *wanted: str) -> None:
    while (item := await handle.status()) is None or item.status not in wanted:
        await asyncio.sleep(0.01)


def test_functions_are_jobs_with_typed_input(carry: Carry) -> None:
    async def body(store: Store) -> None:
        async with Runtime(store, jobs=[add, add_in_thread]) as runtime:
            first = await runtime.start_job(add, {"x": 1, "y": 2})
            second = await runtime.start_job(add_in_thread, {"x": 3, "y": 4})
            third = await runtime.start_job(add, {"x": "one"})

            assert await first.result(WAIT_S) == 3
            assert await second.result(WAIT_S) == 7
            with pytest.raises(JobNotCompleted, match="failed"):
                await third.result(WAIT_S)

    carry(body)


def test_a_failed_owner_bound_job_says_why_and_runs_once(carry: Carry) -> None:
    async def body(store: Store) -> None:
        async with Runtime(store, jobs=[fail]) as runtime:
            result = await (await runtime.start_job(fail)).ended(WAIT_S)

        assert (result.how, result.reason) == (How.FAILED, "transient: ValueError: attempt 1")

    carry(body)


def test_a_rerunnable_job_is_retried_and_repeats_no_step(carry: Carry) -> None:
    steps: list[str] = []

    @job(disposition="rerunnable")
    async def flaky(work: Work) -> str:
        await work.step("first", steps.append, "first")
        if work.attempt < 3:
            raise OSError("not yet")
        await work.step("second", steps.append, "second")
        return f"attempt {work.attempt}"

    async def body(store: Store) -> None:
        async with Runtime(store, jobs=[flaky]) as runtime:
            assert await (await runtime.start_job(flaky)).result(WAIT_S) == "attempt 3"

    carry(body)
    assert steps == ["first", "second"]


def test_a_registered_job_is_known_by_its_id(carry: Carry) -> None:
    async def body(store: Store) -> None:
        client = Client(store)
        first = await client.start_job(add, {"x": 1, "y": 2}, job_id="j", origin="ann")
        again = await client.start_job(add, {"x": 1, "y": 2}, job_id="j", origin="ann")
        assert first.id == again.id == "j"
        page = await client.jobs(origin="ann")
        assert [(i.job.session_id, i.status) for i in page.items] == [("j", "waiting")]
        with pytest.raises(JobNotEnded):
            await first.ended(0)
        with pytest.raises(LookupError):
            await client.job("other").ended(WAIT_S)

    carry(body)


def test_a_cancelled_job_is_told_and_ends_as_cancelled(carry: Carry) -> None:
    told: list[str] = []

    @job(disposition="owner_bound")
    async def endless(work: Work) -> None:
        try:
            await work.notified()
            await work.heartbeat()
        except Cancelled as error:
            told.append(str(error))
            raise

    async def body(store: Store) -> None:
        async with Runtime(store, jobs=[endless]) as runtime:
            handle = await runtime.start_job(endless, job_id="j")
            await until_status(handle, "started")
            asked = await handle.cancel("ann")
            result = await handle.ended(WAIT_S)

        assert (asked.ended, result.how) == (False, How.CANCELLED)

    carry(body)
    assert told == ["job j has to end: cancelled"]


def test_a_cancel_before_the_start_ends_the_job_at_once(carry: Carry) -> None:
    async def body(store: Store) -> None:
        handle = await Client(store).start_job(add, {"x": 1, "y": 2})
        assert (await handle.cancel()).ended
        assert (await handle.ended(WAIT_S)).how is How.CANCELLED

    carry(body)


def test_a_worker_takes_only_jobs_that_it_has(carry: Carry) -> None:
    async def body(store: Store) -> None:
        client = Client(store)
        other = await client.start_job(add, {"x": 1, "y": 2})
        async with Runtime(store, jobs=[add_in_thread]) as runtime:
            mine = await runtime.start_job(add_in_thread, {"x": 1, "y": 2})
            assert await mine.result(WAIT_S) == 3
            await until_status(other, "waiting")
        async with Runtime(store, jobs=[add]):
            assert await other.result(WAIT_S) == 3

    carry(body)


def test_a_verdict_needs_no_runner(carry: Carry) -> None:
    """A worker ends a job that it could not execute."""

    async def body(store: Store) -> None:
        await store.execute(Register("j", "unknown", "null", Disposition.RERUNNABLE))
        await store.execute(Take("j", "L1", Owner("gone", "gone-1"), 0))
        await store.execute(CancelJob("j", "c1", "ann"))
        async with Runtime(store, jobs=[add]) as runtime:
            assert (await runtime.job("j").ended(WAIT_S)).how is How.CANCELLED

    carry(body)


def test_jobs_leave_slots_for_sessions(carry: Carry) -> None:
    running: list[str] = []
    most = 0

    @job(disposition="rerunnable")
    async def slow(work: Work) -> None:
        nonlocal most
        running.append(work.id)
        most = max(most, len(running))
        await asyncio.sleep(0.02)
        running.remove(work.id)

    async def echo(turn: Turn) -> str:
        return turn.text

    async def body(store: Store) -> None:
        async with Runtime(store, echo, jobs=[slow], jobs_at_once=2) as runtime:
            handles = [await runtime.start_job(slow) for _ in range(8)]
            answer = await (await runtime.submit("ann", "hello")).result(WAIT_S)
            for handle in handles:
                assert (await handle.ended(WAIT_S)).how is How.COMPLETED
        assert answer == "hello"

    carry(body)
    assert most == 2


def test_definitions_are_checked() -> None:
    with pytest.raises(ValueError, match="external"):
        job(disposition="external")
    with pytest.raises(TypeError, match="expected a function"):
        job(disposition="rerunnable")(lambda: None)
    with pytest.raises(TypeError, match="decorate"):
        Runtime(None, jobs=[lambda work: None])  # type: ignore[arg-type, list-item]
    with pytest.raises(ValueError, match="two are named 'process'"):
        Runtime(None, jobs=[Processes(), Processes()])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="argv"):
        Process("ls -l")


# -- jobs of turns


def test_a_turn_starts_a_job_once_over_attempts(carry: Carry) -> None:
    attempts: list[int] = []

    async def agent(turn: Turn) -> str:
        handle = await turn.start(add, {"x": 1, "y": 2}, wake=False)
        attempts.append(turn.attempt)
        if len(attempts) == 1:
            raise OSError("once more")
        return handle.id

    async def body(store: Store) -> None:
        async with Runtime(store, agent, jobs=[add]) as runtime:
            job_id = await (await runtime.submit("ann", "go")).result(WAIT_S)
            assert job_id is not None
            assert await runtime.job(job_id).result(WAIT_S) == 3
            assert len((await runtime.jobs(origin="ann")).items) == 1

    carry(body)
    assert len(attempts) == 2


def test_a_model_starts_a_job_and_looks_at_it(carry: Carry) -> None:
    async def body(store: Store) -> None:
        async def check(emit: Any) -> Any:
            (item,) = (await Client(store).jobs(origin="ann", changed=False)).items
            await JobHandle(Client(store), item.job.session_id).ended(WAIT_S)
            return calling(("c2", "check_job", f'{{"job_id": "{item.job.session_id}"}}'))

        start = '{"job": "add", "input": {"x": 1, "y": 2}}'
        model = Scripted(
            calling(("c1", "start_job", start)), check, saying("it is 3"), saying("thanks")
        )
        agent = ChatAgent(model, tools=job_tools(add))
        async with Runtime(store, agent, jobs=[add]) as runtime:
            answer = await (await runtime.submit("ann", "add 1 and 2")).result(WAIT_S)
        said = texts(await transcript(store, "ann"))

        assert answer == "it is 3"
        assert any('"output":3' in line.replace(" ", "") for line in said), said

    carry(body)


def test_a_model_signals_a_job_that_waits(carry: Carry) -> None:
    async def body(store: Store) -> None:
        client = Client(store)

        async def tell(emit: Any) -> Any:
            (item,) = (await client.jobs(origin="ann")).items
            arguments = {"job_id": item.job.session_id, "name": "go", "value": 1}
            told = ("c2", "signal_job", msgspec.json.encode(arguments).decode())
            return calling(told, ("c3", *told[1:]))

        start = calling(("c1", "start_job", '{"job": "guided"}'))
        agent = ChatAgent(Scripted(start, tell, saying("told")), tools=job_tools(guided))
        async with Runtime(store, agent, jobs=[guided]) as runtime:
            await (await runtime.submit("ann", "begin")).result(WAIT_S)
            (item,) = (await client.jobs(origin="ann", changed=True)).items
            assert await client.job(item.job.session_id).result(WAIT_S) == [1, 1]

    carry(body)


def test_a_model_sees_only_jobs_of_its_session(carry: Carry) -> None:
    async def body(store: Store) -> None:
        await Client(store).start_job(add, {"x": 1, "y": 2}, job_id="j", origin="bob")
        model = Scripted(calling(("c1", "cancel_job", '{"job_id": "j"}')), saying("no"))
        agent = ChatAgent(model, tools=job_tools(add))
        async with Runtime(store, agent) as runtime:
            await (await runtime.submit("ann", "stop it")).result(WAIT_S)
        said = texts(await transcript(store, "ann"))
        assert any("this session has no job j" in line for line in said), said

    carry(body)


# -- events and signals


@job(disposition="rerunnable", events={"progress": {"type": "integer"}, "note": None})
async def guided(work: Work) -> list[Any]:
    """Wait for two signals, without a worker."""
    await work.emit("progress", 1)
    first = await work.wait_signal("go")
    await work.emit("progress", 2)
    second = await work.wait_signal("go")
    await work.emit("note", {"attempt": work.attempt})
    return [first, second]


@job(disposition="owner_bound", events={"waits": None})
def guided_in_thread(work: BlockingWork) -> list[Any]:
    work.emit("waits")
    return [work.wait_signal("go"), work.wait_signal("go")]


def test_the_nth_signal_satisfies_the_nth_wait(carry: Carry) -> None:
    async def body(store: Store) -> None:
        async with Runtime(store, jobs=[guided, guided_in_thread]) as runtime:
            early = await runtime.start_job(guided)
            assert await early.signal("go", "a", signal_id="1") == 1
            assert await early.signal("go", "a", signal_id="1") == 1
            late = await runtime.start_job(guided_in_thread)
            async for event in late.events():
                assert event.type == "waits"
                await late.signal("go", [1])
                await late.signal("go", [2])

            assert await late.result(WAIT_S) == [[1], [2]]
            await until_status(early, "waiting")
            assert await early.signal("go", "b") == 2
            assert await early.result(WAIT_S) == ["a", "b"]
            emitted = [(e.seq, e.type, e.value) async for e in early.events()]
            assert [e[:2] for e in emitted] == [(1, "progress"), (2, "progress"), (3, "note")]
            assert [e.seq async for e in early.events(after=2)] == [3]

    carry(body)


def test_an_event_of_another_type_fails_the_job(carry: Carry) -> None:
    @job(disposition="owner_bound")
    async def loud(work: Work) -> None:
        await work.emit("noise", 1)

    async def body(store: Store) -> None:
        async with Runtime(store, jobs=[loud]) as runtime:
            result = await (await runtime.start_job(loud)).ended(WAIT_S)
        assert result.how is How.FAILED and "noise" in result.reason

    carry(body)


def test_a_process_emits_the_end_of_its_output(carry: Carry) -> None:
    async def body(store: Store) -> None:
        async with Runtime(store, jobs=[Processes()]) as runtime:
            handle = await runtime.start_job(
                Process(["sh", "-c", "echo one; echo two >&2; exit 1"])
            )
            result = await handle.ended(WAIT_S)
            events = [(e.type, e.value) async for e in handle.events()]

        assert (result.how, events) == (How.FAILED, [("output", "one\ntwo\n")])

    carry(body)


def test_a_session_is_woken_when_its_job_ends(carry: Carry) -> None:
    said: list[str] = []

    async def agent(turn: Turn) -> str:
        said.append(turn.text)
        if len(said) == 1:
            await turn.start(add, {"x": 1, "y": 2})
        return "done"

    async def body(store: Store) -> None:
        async with Runtime(store, agent, jobs=[add]) as runtime:
            await (await runtime.submit("ann", "go")).ended(WAIT_S)
            (item,) = (await runtime.jobs(origin="ann", changed=False)).items
            while len(said) < 2:
                await asyncio.sleep(0.01)

        assert said[1] == f"job {item.job.session_id} (add) has ended: completed"

    carry(body)


def test_a_turn_joins_jobs_without_a_process(carry: Carry) -> None:
    attempts: list[int] = []

    async def agent(turn: Turn) -> str:
        attempts.append(turn.attempt)
        first = await turn.start_job(add, {"x": 1, "y": 2})
        second = await turn.start_job(fail)
        waited = await turn.join(first, second)
        return " ".join(f"{d.action}: {d.body}" for d in waited.decisions if d is not None)

    async def body(store: Store) -> None:
        async with Runtime(store, agent, jobs=[add, fail]) as runtime:
            answer = await (await runtime.submit("ann", "go")).result(WAIT_S)
            assert answer == "completed: 3 failed: transient: ValueError: attempt 1"
            assert len((await runtime.jobs(origin="ann")).items) == 2

    carry(body)
    assert len(attempts) > 1


def test_the_first_of_two_jobs_is_enough_and_the_other_is_cancelled(carry: Carry) -> None:
    async def agent(turn: Turn) -> str:
        first = await turn.start_job(add, {"x": 1, "y": 2})
        second = await turn.start_job(guided)
        waited = await turn.join(first, second, n=1, cancel_rest=True)
        assert waited.decisions[0] is not None
        return f"{second} {waited.decisions[0].body}"

    async def body(store: Store) -> None:
        async with Runtime(store, agent, jobs=[add, guided]) as runtime:
            answer = await (await runtime.submit("ann", "go")).result(WAIT_S)
            assert answer is not None
            job_id, body = answer.split()
            assert (body, (await runtime.job(job_id).ended(WAIT_S)).how) == ("3", How.CANCELLED)

    carry(body)


# -- child sessions


def test_a_child_session_returns_the_answer_of_its_run(carry: Carry) -> None:
    async def agent(turn: Turn) -> str:
        if turn.text == "no":
            raise TurnFailed(ErrorKind.INVALID_REQUEST, "refused")
        return turn.text.upper()

    async def body(store: Store) -> None:
        async with Runtime(store, agent, jobs=[ChildSessions()]) as runtime:
            first = await runtime.start_job(ChildSession("hello"), job_id="j")
            second = await runtime.start_job(ChildSession("again", "ann"))
            third = await runtime.start_job(ChildSession("no"))

            assert await first.result(WAIT_S) == "HELLO"
            assert await second.result(WAIT_S) == "AGAIN"
            assert "refused" in (await third.ended(WAIT_S)).reason
            status = await runtime.receipt("j.session", "j").ended(WAIT_S)
            assert status.answer == "HELLO"

    carry(body)


def test_a_cancel_of_the_job_stops_the_run_of_its_child_session(carry: Carry) -> None:
    began = asyncio.Event()

    async def agent(turn: Turn) -> None:
        began.set()
        await turn.notified()
        await turn.may_begin()

    async def body(store: Store) -> None:
        async with Runtime(store, agent, jobs=[ChildSessions()]) as runtime:
            handle = await runtime.start_job(ChildSession("wait", "ann"), job_id="j")
            await began.wait()
            await handle.cancel()
            assert (await handle.ended(WAIT_S)).how is How.CANCELLED
            status = await runtime.receipt("ann", "j").ended(WAIT_S)
        assert status.termination == "cancelled"

    carry(body)
