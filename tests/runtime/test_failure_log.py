"""Each failure of agent code is logged once, with its traceback and without secrets; a blocked event loop is named."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from tenure.failure import ErrorKind, LastFailure
from tenure.messages.types import Finish, Reply, Request, ToolCall
from tenure.questions.core import InputStatus
from tenure_drivers import (
    ChatAgent,
    NotAnswered,
    Parked,
    Runtime,
    SyncRuntime,
    ToolFailed,
    Turn,
    TurnFailed,
    tool,
)
from tenure_drivers.stores.memory import MemoryStore

WAIT_S = 30


class Panic(BaseException):
    """As an extension module raises it."""


class Careless(Exception):
    """An exception whose text fails."""

    def __str__(self) -> str:
        return str(self.args[3])


def run(
    agent: Callable[[Turn], Awaitable[Any]], text: str = "go", **options: Any
) -> InputStatus | None:
    async def main() -> InputStatus:
        async with aclosing(MemoryStore()) as store, Runtime(store, agent, **options) as runtime:
            return await (await runtime.submit("ann", text)).ended(WAIT_S)

    return asyncio.run(main())


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "tenure.turn"]


def test_each_failure_is_logged_once_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def agent(turn: Turn) -> str:
        match turn.failures:
            case 0:
                raise ValueError("no such seat; password=hunter2")
            case 1:
                await turn.step("read", in_a_step)
            case 2:
                raise Careless("only one")
            case _:
                return "fine"
        return "never"

    def in_a_step() -> None:
        raise Panic("index out of bounds")

    ended = run(agent)

    first, second, third = logged(caplog)
    assert ended is not None and ended.answer == "fine"
    head = f"session ann, run {ended.run_id}: attempt 1 failed: ValueError: no such seat; "
    assert first.startswith(head) and "Traceback (most recent" in first
    assert "in agent" in first and "hunter2" not in first
    assert "attempt 2 failed: Panic: index out of bounds" in second and "in in_a_step" in second
    assert "attempt 3 failed: Careless: " in third and "in agent" in third
    record = caplog.records[0]
    assert (record.session_id, record.run_id) == ("ann", ended.run_id)  # type: ignore[attr-defined]


def test_a_failure_on_purpose_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async def agent(turn: Turn) -> str:
        raise TurnFailed("invalid_request", "I cannot read this")

    run(agent)

    [line] = logged(caplog)
    assert line.endswith("attempt 1 failed: TurnFailed: invalid_request: I cannot read this")


def test_a_turn_that_is_over_its_time_is_logged_with_the_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = 0

    async def agent(turn: Turn) -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            await hang()
        return "fine"

    async def hang() -> None:
        await asyncio.Event().wait()

    ended = run(agent, turn_deadline_ms=100, grace_ms=50)

    [line] = logged(caplog)
    assert ended is not None and ended.answer == "fine"
    assert "attempt 1 failed: the turn took longer than its time limit" in line
    assert "in hang" in line


@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_a_turn_that_is_stopped_is_no_failure(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def agent(turn: Turn) -> str:
            begun.set()
            await asyncio.Event().wait()
            return "never"

        async with aclosing(MemoryStore()) as store:
            async with Runtime(store, agent, grace_ms=50) as runtime:
                receipt = await runtime.submit("ann", "go")
                await begun.wait()
                if how == "cancel":
                    status = await receipt.status()
                    assert status is not None and status.run_id is not None
                    await runtime.cancel("ann", status.run_id)
                    await receipt.ended(WAIT_S)

    asyncio.run(main())

    assert logged(caplog) == []


class Model:
    """Calls the tool `look`, then raises once, then answers."""

    model = "m"

    def __init__(self) -> None:
        self.calls = 0

    async def complete(self, request: Request, emit: Any, key: str) -> Reply:
        self.calls += 1
        if self.calls == 1:
            look, refuse = ToolCall("c", "look", "{}"), ToolCall("d", "refuse", "{}")
            return Reply("", (look, refuse), finish=Finish.TOOL_CALLS)
        if self.calls == 2:
            raise Panic("in the client")
        return Reply("fine")


def test_tools_and_the_client_of_a_chat_agent_are_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @tool
    def look() -> str:
        raise ValueError("nothing to see; token=abcdef")

    @tool
    def refuse() -> str:
        raise ToolFailed("the model reads this")

    ended = run(ChatAgent(Model(), [look, refuse]))

    assert ended is not None and ended.answer == "fine"
    first, second = logged(caplog)
    assert f"session ann, run {ended.run_id}: tool look failed: ValueError: nothing" in first
    assert "in look" in first and "abcdef" not in first
    assert "attempt 1 failed: TurnFailed: transient: the model client: Panic" in second
    assert "in complete" in second


def test_a_failure_is_kept_with_the_run_and_an_answer_that_is_missing_says_why() -> None:
    async def agent(turn: Turn) -> str:
        if turn.text == "once" and turn.failures < 1:
            raise Panic("index out of bounds")
        if turn.text == "never":
            raise TurnFailed("invalid_request", "I cannot read this")
        return "fine"

    async def main() -> None:
        async with aclosing(MemoryStore()) as store, Runtime(store, agent) as runtime:
            once = await runtime.submit("a", "once")
            never = await runtime.submit("b", "never")

            assert await once.result(WAIT_S) == "fine"
            status = await once.status()
            assert status is not None
            kept = LastFailure(ErrorKind.TRANSIENT, "Panic: index out of bounds", 1)
            assert status.last_failure == kept
            with pytest.raises(NotAnswered) as missing:
                await never.result(WAIT_S)
            status = missing.value.status
            assert (status.status, status.answer) == ("dead_lettered", None)
            assert status.last_failure is not None
            assert (status.last_failure.attempt, status.last_failure.kind) == (1, "invalid_request")
            assert str(missing.value) == (
                f"input {never.input_id} of session b: dead_lettered"
                " (invalid_request: I cannot read this)"
            )
            events = [e async for batch in first_events(runtime, "b") for e in batch.events]
            assert [str(e.detail) for e in events if e.kind == "run_failed"] == [
                "invalid_request: I cannot read this (attempt 1)"
            ]

    async def first_events(runtime: Runtime, session: str) -> Any:
        async for batch in runtime.events(session):
            yield batch
            if any(e.kind == "run_finished" for e in batch.events):
                return

    asyncio.run(main())


def test_an_answer_that_was_withdrawn_or_is_empty_has_a_result_too() -> None:
    async def agent(turn: Turn) -> str | None:
        return None

    with SyncRuntime(Runtime(MemoryStore(), agent)) as runtime:
        later = runtime.submit("a", "later", available_at_ms=int(time.time() * 1000) + 3_600_000)
        runtime.interrupt("a")
        with pytest.raises(NotAnswered, match="withdrawn|abandoned|superseded"):
            later.result(WAIT_S)
        assert runtime.submit("b", "now").result(WAIT_S) is None


# -- a blocked event loop


@pytest.mark.parametrize("then", ["returns", "waits"])
def test_an_event_loop_that_was_blocked_past_a_lease_is_named(
    then: str, caplog: pytest.LogCaptureFixture
) -> None:
    calls = 0

    async def agent(turn: Turn) -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            time.sleep(1.0)  # an agent's fault: it should call a step
            if then == "waits":
                await asyncio.sleep(0.05)
        return "fine"

    with caplog.at_level(logging.WARNING, logger="tenure"):
        ended = run(agent, ttl_ms=300)

    assert ended is not None and ended.answer == "fine"
    [line] = [m for m in logged(caplog) if "event loop" in m]
    found = re.search(r"session ann, run (\S+): the event loop did not run for ([\d.]+) s", line)
    assert found is not None and found[1] == ended.run_id and 0.5 < float(found[2]) < 30


def test_a_loop_that_runs_is_not_named(caplog: pytest.LogCaptureFixture) -> None:
    async def agent(turn: Turn) -> str:
        await asyncio.sleep(1.0)
        return "fine"

    run(agent, ttl_ms=3_000)

    assert logged(caplog) == []


def test_a_failure_sends_no_commands_to_the_terminal(caplog: pytest.LogCaptureFixture) -> None:
    async def agent(turn: Turn) -> str:
        if turn.failures:
            return "fine"
        raise ValueError("\x1b[2Jred\r")

    run(agent)

    assert logged(caplog) and all(
        "\x1b" not in line and "\r" not in line for line in logged(caplog)
    )
    assert "ValueError: \\x1b[2Jred\\r" in logged(caplog)[0]


def test_a_turn_that_raises_parked_itself_is_logged_as_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def agent(turn: Turn) -> str:
        if turn.failures == 0:
            raise Parked("by itself")
        return "fine"

    ended = run(agent)

    (only,) = logged(caplog)
    assert ended is not None and ended.answer == "fine"
    assert "attempt 1 failed: Parked: by itself" in only


def test_a_failure_beside_a_wait_is_logged_as_such(caplog: pytest.LogCaptureFixture) -> None:
    async def agent(turn: Turn) -> str:
        try:
            await turn.pause(0.2)
        except Parked as parked:
            raise BaseExceptionGroup("both", [parked, ValueError("beside the wait")]) from None
        return "fine"

    ended = run(agent)

    (only,) = logged(caplog)
    assert ended is not None and ended.answer == "fine" and ended.failures == 0
    assert "after it had parked, which does not count as a failure" in only
    assert "beside the wait" in only
