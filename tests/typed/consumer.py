"""A program that uses tenure, checked by type checkers against the built wheel.  It is never run.

Each `ignore` marks a mistake that a checker must report: CI fails if it reports nothing there.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedCallResult=false

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

from tenure import EMPTY, Decided, Refused, World, evolve
from tenure.commands import Admit, Admitted, NewInput
from tenure_drivers import (
    Agent,
    ChatAgent,
    Client,
    InputStatus,
    Receipt,
    Runtime,
    Store,
    Turn,
    open_store,
    tool,
)
from tenure_drivers.models.openai import OpenAIModel


async def agent(turn: Turn) -> str:
    assert_type(turn.text, str)
    assert_type(turn.input_ids, tuple[str, ...])
    await turn.commit(text=turn.text)
    return turn.text


def not_an_agent(text: str) -> str:
    return text


@tool
def look_up(name: str) -> str:
    return name


@tool(once=True)
def charge(cents: int, key: str) -> str:
    return f"{key}: {cents}"


assert_type(look_up("ann"), str)  # a tool can still be called as before
assert_type(charge(5, key="k"), str)
look_up(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def submit(client: Client, texts: Sequence[str]) -> InputStatus:
    receipt = await client.submit("session", texts[0], key="k", priority=3)
    assert_type(receipt, Receipt)
    assert_type(await receipt.status(), InputStatus | None)
    return await receipt.ended(timeout=5.0)


async def main() -> None:
    store = open_store("memory:")
    assert_type(store, Store)
    chosen: Agent = ChatAgent(OpenAIModel("model"), [look_up, charge], system="Be brief.")
    async with Runtime(store, chosen) as runtime:
        assert_type(runtime, Runtime)
        await submit(runtime, ["hello"])
    Runtime(store, agent)
    Runtime(store, not_an_agent)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def decide(world: World = EMPTY) -> World:
    command = Admit("session", (NewInput("i1", "prompt", "hello"),))
    answer = command.decide(world.load(command.reads()), 0)
    match answer:
        case Decided():
            assert_type(answer.outcome, Admitted)
            return evolve(world, answer.writes)
        case Refused():
            assert_type(answer.clause, str)
            return world
