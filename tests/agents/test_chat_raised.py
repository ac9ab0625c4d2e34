"""What tools, a model client, a system prompt function and a stream of a chat agent raise fails a call or a turn, no more."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from tenure.failure import FAILURES_MAX
from tenure.messages.types import Delta, Finish, Reply, Request, ToolCall
from tenure.questions.core import InputStatus, LoadTranscript
from tenure.transcript import Role
from tenure.turn.chat_policy import project
from tenure_drivers import ChatAgent, Runtime, Turn, tool
from tenure_drivers.agents.tools import ToolFailed, make
from tenure_drivers.runtime.errors import describe
from tenure_drivers.stores.memory import MemoryStore

WAIT_S = 30


class Panic(BaseException):
    """As an extension module raises it."""


class Careless(Exception):
    """An exception whose text fails."""

    def __str__(self) -> str:
        return str(self.args[3])


class CarelessTool(ToolFailed, Careless):
    """A ToolFailed whose text fails."""

    __str__ = Careless.__str__


RAISED: dict[str, Callable[[], BaseException]] = {
    "Panic": lambda: Panic("index out of bounds"),
    "SystemExit": lambda: SystemExit(3),
    "GeneratorExit": lambda: GeneratorExit("left"),
    "CancelledError": lambda: asyncio.CancelledError("by itself"),
    "Careless": lambda: Careless("only one"),
}


class Model:
    """Calls the tool that the prompt names, then says "told"; the prompt "model" makes it raise."""

    model = "m"

    def __init__(self, make: Callable[[], BaseException]) -> None:
        self.make, self.calls = make, 0

    async def complete(self, request: Request, emit: Callable[[Delta], None], key: str) -> Reply:
        self.calls += 1
        prompt = [m for m in request.messages if m.role is Role.USER][-1].text
        if prompt == "model":
            raise self.make()
        if prompt == "stream":
            emit(Delta("text", "a piece"))
        if prompt in ("model", "stream", "system", "fine"):
            return Reply("fine")
        if request.messages[-1].role is Role.TOOL:
            return Reply("told")
        return Reply("", (ToolCall("c", prompt, "{}"),), finish=Finish.TOOL_CALLS)


@pytest.mark.parametrize("name", RAISED)
def test_everything_that_a_chat_agent_calls_may_raise(name: str) -> None:
    raised = RAISED[name]
    calls: Counter[str] = Counter()

    @tool
    def plain() -> None:
        raise raised()

    @tool
    async def awaited() -> None:
        raise raised()

    @tool(once=True)
    def paid() -> None:
        raise raised()

    def system(turn: Turn) -> str:
        calls["system"] += turn.text == "system"
        if turn.text == "system":
            raise raised()
        return "be kind"

    def show(turn: Turn, delta: Delta) -> None:
        calls["stream"] += 1
        raise raised()

    agent = ChatAgent(Model(raised), [plain, awaited, paid], system=system, show=show)
    broken = ("model", "stream", "system")
    tools = ("plain", "awaited", "paid")

    async def main() -> tuple[dict[str, InputStatus], dict[str, list[str]]]:
        async with aclosing(MemoryStore()) as store, Runtime(store, agent, grace_ms=50) as runtime:
            receipts = {p: await runtime.submit(p, p) for p in (*broken, *tools, "fine")}
            ended = {p: await receipt.ended(WAIT_S) for p, receipt in receipts.items()}
            said = {}
            for prompt in tools:
                lines = project(await store.ask(LoadTranscript(prompt)))
                said[prompt] = [m.text for m in lines if m.role is Role.TOOL]
            return ended, said

    ended, said = asyncio.run(main())

    assert ended["fine"].answer == "fine"
    for where in broken:
        assert (ended[where].status, ended[where].failures) == ("dead_lettered", FAILURES_MAX)
        assert name in ended[where].reason
    assert calls == {"system": FAILURES_MAX, "stream": FAILURES_MAX}
    for where in tools:
        assert ended[where].answer == "told", (where, ended[where])
        assert len(said[where]) == 1 and said[where][0].startswith(name)


def test_a_tool_failure_without_a_text_is_a_result() -> None:
    def fail() -> None:
        raise CarelessTool("only one")

    result = asyncio.run(make(fail).run(ToolCall("c", "fail", "{}"), "k", 1))

    assert result.is_error and not result.retryable and "IndexError" in result.text


@pytest.mark.parametrize("name", RAISED)
def test_a_probe_of_a_tool_may_raise(name: str) -> None:
    def probe(key: str) -> Any:
        raise RAISED[name]()

    made = make(lambda: None, name="pay", once=True, probe=probe)

    with pytest.raises(Exception) as raised:
        asyncio.run(made.look("k"))

    assert describe(raised.value).startswith(name)
