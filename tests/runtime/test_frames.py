"""A turn reads the states and the frame of its session, sets states, and switches the frame."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from tenure.commands import NewInput, Switched
from tenure.questions import LoadStates
from tenure.records import Session
from tenure_drivers import Runtime, Switch, Turn
from tenure_drivers.stores.memory import MemoryStore

Seen = tuple[str, str, str, Mapping[str, str]]


async def given(agent: Any, *texts: str) -> MemoryStore:
    """Give prompts to an agent, one after the other, and return the store."""
    store = MemoryStore()
    async with Runtime(store, agent) as runtime:
        for text in texts:
            receipt = await runtime.submit("ann", text)
            await receipt.result(10)
        for _ in range(500):  # what was handed off
            (row,) = [r for r in await store.dump() if isinstance(r, Session)]
            if row.due_at_ms is None:
                break
            await asyncio.sleep(0.01)
    return store


def test_a_turn_sets_states_and_switches_the_frame() -> None:  # STATE-8, FRAME-8
    seen: list[Seen] = []
    switched: list[Switched | None] = []

    async def agent(turn: Turn) -> None:
        seen.append((turn.text, turn.frame, turn.agent, dict(turn.states)))
        match turn.text:
            case "buy":
                done = await turn.commit(
                    "ask the buyer",
                    state="notes",
                    states={"plan": "compare"},
                    frame=Switch("buyer", agent="buying"),
                    hand_off=NewInput("h", "hand_off", "which one?"),
                )
            case "which one?":
                done = await turn.commit("red", states={"plan": "red"}, frame=Switch(""))
            case _:
                done = await turn.commit("fine", states={"plan": None, "state": None})
        switched.append(done.switched)

    async def run() -> None:
        store = await given(agent, "buy", "thanks")

        assert await store.ask(LoadStates("ann")) == ()
        bought = await store.ask(LoadStates("ann", "buyer"))
        assert {each.name: each.text for each in bought} == {"state": "notes", "plan": "red"}

    asyncio.run(run())

    told = {"plan": "compare", "state": "notes"}
    assert seen == [
        ("buy", "", "", {}),
        ("which one?", "buyer", "buying", told),
        ("thanks", "", "", told),
    ]
    assert switched == [Switched.OPENED, Switched.BACK, None]


def test_a_bare_name_keeps_the_frame() -> None:  # FRAME-9
    seen: list[tuple[str, str, str | None]] = []

    async def agent(turn: Turn) -> None:
        seen.append((turn.frame, turn.agent, turn.state))
        await turn.commit("go on", state=turn.text, frame="writer")

    asyncio.run(given(agent, "one", "two"))

    assert seen == [("", "", None), ("", "writer", "one")]
