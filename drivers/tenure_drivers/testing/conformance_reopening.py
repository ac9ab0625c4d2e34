"""Tests of `StoreConformance` about a store that is closed and opened again, and about what an answer survives."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tenure.commands import Admit, Commit, Intend, NewAttachment, NewInput, NewProfile, Open
from tenure.machines.lease import Fence
from tenure.outcome import Decided
from tenure.queries import Command
from tenure.questions import Inbox, LoadSession, LoadTranscript, SessionAttachments
from tenure.records import Child
from tenure.transcript import NewNode, Role, UsageDelta
from tenure.world import world_of

from ..stores.base import Capability, Durability, Store
from .fixtures import ManualClock, Opener, asynchronous, begin, prompt
from .requirements import Requirements, requires

__all__ = ["DurabilityConformance", "ReopenConformance"]


WORK = NewProfile("work", (("model", "m"),), Child("parent", "run-7"), '{"cwd": "/home/ann"}')
FENCE = Fence("s", 1, "lease-1")
REMEMBERED: tuple[Command[Any, Any], ...] = (
    Open("s", profile=WORK),
    prompt("s", 1),
    begin("s", 1),
    Commit(
        "s", FENCE, "run-1", 1, 0, 0,
        nodes=(NewNode(Role.ASSISTANT, "hi"),), usage=(UsageDelta("turn", "m", 1),), state="text",
    ),
    Admit("s", (NewInput("i2", "prompt", "more", key="k2"), NewInput("w1", "wake", "7", key="k7"))),
    Intend("s", (NewAttachment("a1", "aa" * 32, 12, "image/png"),)),
)  # fmt: skip
QUESTIONS = (LoadSession("s"), LoadTranscript("s"), Inbox("s"), SessionAttachments("s"))


@requires(Capability.REOPEN)
class ReopenConformance:
    """A store that is opened again holds what it answered."""

    @pytest.fixture
    def opened(self) -> Opener:
        raise NotImplementedError("see StoreConformance")

    @asynchronous
    async def test_answered_commands_are_there_after_reopening(self, opened: Opener) -> None:
        store = opened(ManualClock())
        await asyncio.gather(*[store.execute(prompt(f"s{n}", n)) for n in range(20)])
        before = world_of(await store.dump())
        await store.aclose()
        await store.aclose()

        store = opened(ManualClock())

        assert world_of(await store.dump()) == before

    @asynchronous
    async def test_what_a_session_remembers_is_there_after_reopening(self, opened: Opener) -> None:
        """Profile, transcript, state, usage, inputs with their keys, and intents."""
        store = opened(ManualClock())
        promised = store.durability
        for command in REMEMBERED:
            assert isinstance(await store.decide(command), Decided), command
        before = await _ask(store)
        assert all(before)
        await store.aclose()

        store = opened(ManualClock())

        assert await _ask(store) == before
        assert store.durability is promised
        for command in REMEMBERED:
            again = await store.decide(command)
            assert isinstance(again, Decided) and again.replayed, command


class DurabilityConformance(Requirements):
    """What a store says that an answer survives is what its other tests can show."""

    @pytest.fixture
    def opened(self) -> Opener:
        raise NotImplementedError("see StoreConformance")

    def test_a_store_that_survives_a_crash_can_be_opened_again(self, opened: Opener) -> None:
        durability = opened(ManualClock()).durability

        assert durability is Durability.NOTHING or Capability.REOPEN in self.capabilities, (
            f"durability {durability}, but the store does not claim {Capability.REOPEN}"
        )


async def _ask(store: Store) -> list[Any]:
    return [await store.ask(question) for question in QUESTIONS]
