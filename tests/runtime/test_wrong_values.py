"""An agent that hands over a value of a wrong type fails at once, and the failure names the value."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tenure.commands import NewEntry
from tenure.failure import ErrorKind
from tenure.records import EntryKind
from tenure.transcript import NewNode, Role, UsageDelta
from tenure_drivers import Switch
from tenure_drivers.runtime.errors import TurnFailed
from tenure_drivers.runtime.runtime import Runtime
from tenure_drivers.runtime.turn import Turn
from tenure_drivers.stores.memory import MemoryStore

WRONG: Any = {
    "state": lambda t: t.commit("x", state=5),
    "usage": lambda t: t.commit("x", usage=(UsageDelta("s", "m", 1.5),)),  # type: ignore[arg-type]
    "frame": lambda t: t.commit("x", frame=7),
    "switch": lambda t: t.commit("x", frame=Switch(7)),  # type: ignore[arg-type]
    "states": lambda t: t.commit("x", states=["plan"]),
    "text": lambda t: t.commit("x", states={"plan": 7}),
    "role": lambda t: t.commit(nodes=(NewNode("assistant", "x"),)),  # type: ignore[arg-type]
    "call_ids": lambda t: t.commit(nodes=(NewNode(Role.ASSISTANT, "x", ["c1"]),)),  # type: ignore[arg-type]
    "node": lambda t: t.commit(nodes=("x",)),
    "termination": lambda t: t.commit("x", termination="finished"),
    "record": lambda t: t.record((NewEntry(EntryKind.REPORT, "e#1", "x"),)),
    "end": lambda t: t.end("x"),
}
NAMED = {
    "state": "Commit: state 5 (int): expected str or None",
    "usage": "Commit: usage[0].requests 1.5 (float): expected int of at most 64 bits",
    "frame": "Commit: frame 7 (int): expected str or None",
    "switch": "Commit: switch.frame_id 7 (int): expected str",
    "states": "states is list, expected a mapping",
    "text": "Commit: states[0].text 7 (int): expected str or None",
    "role": "Commit: nodes[0].role 'assistant' (str): expected Role",
    "call_ids": "Commit: nodes[0].call_ids ['c1'] (list): expected tuple of str",
    "node": "Commit: nodes[0] 'x' (str): expected NewNode",
    "termination": "Commit: termination 'finished' (str): expected Termination",
    "record": "a record is tuple, expected Record",
    "end": "the end of a turn is str, expected TurnEnd",
    "failure": "usage[0].requests 1.5 (float): expected int of at most 64 bits",
}


async def fail(turn: Turn) -> None:
    usage: Any = (UsageDelta("s", "m", 1.5),)  # type: ignore[arg-type]
    raise TurnFailed(ErrorKind.RATE_LIMITED, "429", usage=usage)


@pytest.mark.parametrize("name", NAMED)
def test_a_wrong_value_fails_the_turn_once_and_is_named(name: str) -> None:
    do: Callable[[Turn], Awaitable[None]] = fail if name == "failure" else WRONG[name]
    turns = 0

    async def agent(turn: Turn) -> None:
        nonlocal turns
        turns += 1
        await do(turn)

    async def run() -> None:
        store = MemoryStore()
        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("s", "hello")
            ended = await receipt.ended(30)
        assert ended.status == "dead_lettered"
        assert "invalid_request" in ended.reason and NAMED[name] in ended.reason
        await store.aclose()

    asyncio.run(run())

    assert turns == 1


def test_a_subclass_of_str_is_an_answer_like_any_other() -> None:
    class Markup(str):
        pass

    async def agent(turn: Turn) -> str:
        return Markup("answer")

    async def run() -> None:
        store = MemoryStore()
        async with Runtime(store, agent) as runtime:
            ended = await (await runtime.submit("s", "hello")).ended(30)
        assert (ended.answer, type(ended.answer)) == ("answer", str)
        await store.aclose()

    asyncio.run(run())
