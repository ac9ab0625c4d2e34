"""The tests that every store must pass.  A store's test file is a subclass with a fixture and a declaration:

    class TestMine(StoreConformance):
        capabilities = MyStore.capabilities

        @pytest.fixture
        def opener(self, tmp_path: Path) -> Opener:
            return lambda clock: MyStore(tmp_path / "store", clock=clock)

Tests of a capability that the store does not claim are marked as skipped (`@requires`).  Two more fixtures may be
given: `locked`, how another process holds a session, and `crashes`, how the power is cut
(`conformance_workers`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tenure.commands import Admit, Begun, Commit, NewInput, Open, Renew
from tenure.machines.lease import Fence
from tenure.outcome import Decided, Hint, Refusal, Refused
from tenure.queries import Command
from tenure.questions.core import EventsAfter, LoadTranscript
from tenure.records import Blob, Input, Session
from tenure.transcript import NewNode, Role
from tenure.world import EMPTY, world_of

from ..stores.base import Clock, Due, Store, Unavailable
from .command_generator import CommandGenerator
from .conformance_feed import FeedConformance
from .conformance_import import ImportConformance
from .conformance_jobs import JobConformance
from .conformance_outbound import OutboundConformance
from .conformance_pruning import PruningConformance
from .conformance_reading import ReadingConformance
from .conformance_reopening import DurabilityConformance, ReopenConformance
from .conformance_states import StatesConformance
from .conformance_triggers import TriggerConformance
from .conformance_workers import Crashes, Locked, WorkersConformance
from .fixtures import (
    START_MS,
    Explode,
    ManualClock,
    Opener,
    PagedSessions,
    Put,
    RandomProgram,
    SnapshotProbe,
    asynchronous,
    begin,
    decided,
    executed,
    in_turn,
    prompt,
)

__all__ = [
    "START_MS",
    "Crashes",
    "Locked",
    "Opener",
    "Put",
    "StoreConformance",
    "RandomProgram",
    "SnapshotProbe",
    "ManualClock",
    "asynchronous",
    "begin",
    "executed",
    "decided",
    "in_turn",
    "prompt",
]


class StoreConformance(
    ReopenConformance,
    DurabilityConformance,
    FeedConformance,
    ImportConformance,
    ReadingConformance,
    StatesConformance,
    PruningConformance,
    JobConformance,
    TriggerConformance,
    OutboundConformance,
    WorkersConformance,
):
    """The whole suite.  `specs/writing-a-store.md` describes it."""

    @pytest.fixture
    def opener(self) -> Opener:
        raise NotImplementedError("give a fixture `opener` that opens the same empty store again")

    @pytest.fixture
    def opened(self, opener: Opener) -> Iterator[Opener]:
        """`opener`, and stores that a test leaves open are closed after it."""
        stores: list[Store] = []

        def open_one(clock: Clock) -> Store:
            stores.append(opener(clock))
            return stores[-1]

        yield open_one
        for store in stores:
            asyncio.run(store.aclose())

    def test_the_store_has_the_capabilities_that_are_declared(self, opened: Opener) -> None:
        assert opened(ManualClock()).capabilities == self.capabilities, (
            "the test class must declare them: capabilities = MyStore.capabilities"
        )

    # STORE-1: agreement with the model

    @pytest.mark.parametrize("seed", range(12))
    def test_executing_equals_evolving(self, opened: Opener, seed: int) -> None:
        @asynchronous
        async def run() -> None:
            clock, dice, world = ManualClock(), random.Random(seed), EMPTY
            store, client = opened(clock), CommandGenerator(dice.choice)
            for _ in range(120):
                clock.now_ms += dice.choice((0, 1, 10, 30))
                command = client.send(clock.now_ms)
                expected, world = decided(world, command, clock.now_ms)
                answer = await executed(store, command)
                assert answer == expected, command
                client.observe(command, answer)
            assert world_of(await store.dump()) == world

        run()

    @pytest.mark.parametrize("seed", range(12))
    def test_a_group_equals_its_commands_one_by_one(self, opened: Opener, seed: int) -> None:
        @asynchronous
        async def run() -> None:
            clock, dice, world = ManualClock(), random.Random(seed), EMPTY
            store, client = opened(clock), CommandGenerator(dice.choice)
            for _ in range(20):
                clock.now_ms += dice.choice((0, 1, 10, 30))
                group = [client.send(clock.now_ms) for _ in range(dice.randrange(2, 9))]
                group.append(dice.choice(group))  # a command twice: the second is a replay
                answers = await asyncio.gather(*[executed(store, c) for c in group])
                expected = dict[int, object]()
                for at in in_turn(group):
                    expected[at], world = decided(world, group[at], clock.now_ms)
                for at, command in enumerate(group):
                    assert answers[at] == expected[at], (command, group)
                    client.observe(command, answers[at])
                assert world_of(await store.dump()) == world, group

        run()

    # STORE-2, STORE-13: replays and groups

    @asynchronous
    async def test_the_same_command_twice_in_a_group_is_a_replay(self, opened: Opener) -> None:
        store = opened(ManualClock())

        first, second = await asyncio.gather(
            store.decide(prompt("s", 1)), store.decide(prompt("s", 1))
        )

        assert isinstance(first, Decided) and isinstance(second, Decided)
        assert (first.replayed, second.replayed) == (False, True)
        assert second.writes == ()
        assert [r.input_id for r in await store.dump() if isinstance(r, Input)] == ["s-1"]

    @asynchronous
    async def test_a_later_command_sees_what_the_earlier_of_its_group_wrote(
        self, opened: Opener
    ) -> None:
        store = opened(ManualClock())

        found = await asyncio.gather(
            *[store.execute(Put("s", "d", str(at))) for at in range(5)],
            *[store.execute(Put("t", "d", str(at))) for at in range(3)],
        )

        assert found == ["", "0", "1", "2", "3", "", "0", "1"]

    # STORE-3, STORE-14: failures

    @asynchronous
    async def test_a_failed_write_changes_nothing_and_fails_no_other_command(
        self, opened: Opener
    ) -> None:
        store = opened(ManualClock())
        group: Sequence[Command[Any, Any]] = (
            Put("a", "d", "one"),
            Put("b", "d", "two", wrong=True),
            Explode("c"),
            Put("b", "d", "three"),
            Put("d", "d", "four"),
        )

        answers = await asyncio.gather(*[store.execute(c) for c in group], return_exceptions=True)

        assert answers[0] == answers[3] == answers[4] == ""
        assert isinstance(answers[1], AssertionError)
        assert isinstance(answers[2], Exception)
        assert {(b.session_id, b.body) for b in await store.dump() if isinstance(b, Blob)} == {
            ("a", "one"),
            ("b", "three"),
            ("d", "four"),
        }

    @asynchronous
    async def test_a_refused_command_changes_nothing(self, opened: Opener) -> None:
        store = opened(ManualClock())

        answer = await store.execute(Renew("s", Fence("s", 1, "nobodys")))

        assert isinstance(answer, Refused)
        assert await store.dump() == ()

    # STORE-42: types

    @asynchronous
    async def test_a_value_of_a_wrong_type_is_refused_and_fails_no_neighbour(
        self, opened: Opener
    ) -> None:
        store = opened(ManualClock())
        wrong: tuple[Any, ...] = (True, 1.5, 2**63, "1", None)
        commands = [
            Admit(f"s{at}", (NewInput("i", "prompt", "x", available_at_ms=value),))
            for at, value in enumerate(wrong)
        ]

        *answers, fits = await asyncio.gather(*[store.execute(c) for c in commands])

        assert [(a.reason, a.clause) for a in answers if isinstance(a, Refused)] == [
            (Refusal.ILLEGAL, "STORE-42")
        ] * 4
        assert not isinstance(fits, Refused)
        assert {r.session_id for r in await store.dump() if isinstance(r, Session)} == {"s4"}

    @asynchronous
    async def test_a_cancelled_caller_does_not_stop_its_command(self, opened: Opener) -> None:
        store = opened(ManualClock())
        await store.execute(Put("s", "d", "first"))

        tasks = [asyncio.ensure_future(store.execute(Put("s", "d", str(n)))) for n in range(8)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)

        answered = [a for a in answers if not isinstance(a, asyncio.CancelledError)]
        assert answered == [a for a in ["first", *map(str, range(7))] if a in answered]
        assert await store.execute(Put("s", "d", "last")) == "7"

    @asynchronous
    async def test_a_closed_store_is_unavailable(self, opened: Opener) -> None:
        store = opened(ManualClock())
        await store.aclose()

        with pytest.raises(Unavailable):
            await store.execute(prompt("s", 1))

    # STORE-16: questions

    @asynchronous
    async def test_a_question_sees_what_was_answered_before(self, opened: Opener) -> None:
        clock = ManualClock()
        store = opened(clock)
        for at in range(20):
            clock.now_ms += 1
            await store.execute(prompt("s", at))
            session, events = await store.ask(SnapshotProbe("s"))
            assert session is not None and session.changed_at_ms == clock.now_ms
            assert events[0].seq == session.next_event - len(events[0].events)

    @asynchronous
    async def test_a_question_is_answered_from_one_snapshot(self, opened: Opener) -> None:
        store = opened(ManualClock())
        await store.execute(prompt("s", 0))

        async def write() -> None:
            for at in range(1, 60):
                await store.execute(prompt("s", at))

        writing = asyncio.ensure_future(write())
        while not writing.done():
            session, events = await store.ask(SnapshotProbe("s"))
            assert session is not None
            assert events[0].seq == session.next_event - len(events[0].events)
            await asyncio.sleep(0)
        await writing

    @asynchronous
    async def test_a_question_can_read_page_by_page(self, opened: Opener) -> None:
        clock = ManualClock()
        store = opened(clock)
        for name in ("d", "b", "a", "c", "e"):
            await store.execute(Open(name))
            clock.now_ms += name in "ac"

        assert await store.ask(PagedSessions()) == ("a", "b", "d", "c", "e")

    @asynchronous
    async def test_a_question_reads_the_path_of_a_transcript(self, opened: Opener) -> None:
        store = opened(ManualClock())
        for at in range(40):
            await store.execute(prompt("s", at))
            begun = await store.execute(begin("s", at))
            assert isinstance(begun, Begun)
            node = NewNode(Role.ASSISTANT, str(at))
            work = (begun.fence, begun.run_id, begun.turn, begun.n, begun.revision)
            await store.execute(Commit("s", *work, nodes=(node,)))

        for limit in (1, 32, 33, 40, 50):
            lines = await store.ask(LoadTranscript("s", limit))
            assert [line.node.body for line in lines] == [str(at) for at in range(40)][-limit:]
            assert [new.input_id for line in lines for new in line.inputs] == [
                prompt("s", int(line.node.body)).inputs[0].input_id for line in lines
            ]

    @asynchronous
    async def test_a_question_about_an_unknown_key_answers_nothing(self, opened: Opener) -> None:
        store = opened(ManualClock())
        await store.execute(Open("s"))
        everything = await store.ask(EventsAfter("s"))

        assert await store.ask(EventsAfter("s", 2**64)) == ()
        assert await store.ask(EventsAfter("s", limit=2**64)) == everything != ()
        for nobody in ("\0", "s\0", "\ud800"):
            assert await store.ask(LoadTranscript(nobody)) == ()

    # STORE-5, STORE-15: finding work, hints

    @asynchronous
    async def test_due_and_horizon_follow_the_clock(self, opened: Opener) -> None:
        clock = ManualClock()
        store = opened(clock)
        later = NewInput("i", "prompt", "later", available_at_ms=START_MS + 500)
        assert (await store.due(10), await store.horizon()) == ((), None)
        await store.execute(prompt("now", 1))
        await store.execute(Admit("later", (later,)))

        assert await store.due(10) == (Due("now", 0),)
        assert await store.horizon() == START_MS + 500

        begun = await store.execute(begin("now", 1))
        assert isinstance(begun, Begun)
        assert await store.due(10) == ()

        clock.now_ms += 500
        assert await store.due(10) == (Due("later", START_MS + 500),)
        assert await store.horizon() == START_MS + begun.ttl_ms + 1

    @asynchronous
    async def test_a_lease_from_the_future_is_due(self, opened: Opener) -> None:
        clock = ManualClock()
        store = opened(clock)
        await store.execute(prompt("s", 1))
        await store.execute(begin("s", 1))

        clock.now_ms -= 500_000

        assert [due.session_id for due in await store.due(10)] == ["s"]
        assert not isinstance(await store.execute(begin("s", 2)), Refused)
        assert await store.due(10) == ()  # the lease was ended as lost; its run waits for a retry

    @asynchronous
    async def test_every_due_session_is_found_within_one_round(self, opened: Opener) -> None:
        store = opened(ManualClock())
        names = {f"s{n:04}" for n in range(1300)}
        await asyncio.gather(*[store.execute(prompt(name, 1)) for name in names])

        looks = [await store.due(1300) for _ in range(3)]
        sample = await store.due(7)

        assert {due.session_id for look in looks for due in look} == names
        assert len(set(sample)) == 7

    @asynchronous
    async def test_hints_follow_the_commit(self, opened: Opener) -> None:
        store = opened(ManualClock())
        hints, others = store.hints(), store.hints()

        await store.execute(prompt("s", 1))

        assert await asyncio.wait_for(anext(hints), 10) == Hint("s", 0)
        assert await asyncio.wait_for(anext(others), 10) == Hint("s", 0)
        assert [due.session_id for due in await store.due(1)] == ["s"]
        await store.aclose()
        with pytest.raises(StopAsyncIteration):
            while True:
                await asyncio.wait_for(anext(hints), 10)

    # texts

    @pytest.mark.parametrize(
        "text",
        ("", "\u00e9\u4e2d\U0001f600\u202e\ufeff", '"\\\n\r\t', "x" * 9_999_999),
        ids=("empty", "unicode", "escapes", "10 MB"),
    )
    def test_text_is_stored_unchanged(self, opened: Opener, text: str) -> None:
        @asynchronous
        async def run() -> None:
            store = opened(ManualClock())
            new = NewInput("s-1", "continuation", text)  # may be empty
            admitted = await store.execute(Admit("s", (new,)))
            assert not isinstance(admitted, Refused), admitted
            begun = await store.execute(begin("s", 1))
            assert isinstance(begun, Begun)
            nodes = (NewNode(Role.ASSISTANT, text),)
            committed = await store.execute(
                Commit("s", begun.fence, begun.run_id, begun.turn, begun.n, 0, nodes=nodes)
            )
            assert not isinstance(committed, Refused), committed
            found = await store.dump()
            assert [r.payload for r in found if isinstance(r, Input)] == [text]

        run()

    @asynchronous
    async def test_a_nul_is_stored_unchanged_or_refused(self, opened: Opener) -> None:
        store = opened(ManualClock())

        answers = await asyncio.gather(
            store.execute(Put("s", "d", "\0 and \0")),
            store.execute(Put("t", "d", "neighbour")),
            return_exceptions=True,
        )

        kept = {Blob("t", "d", "neighbour")}
        if not isinstance(answers[0], ValueError):
            assert answers[0] == ""
            kept.add(Blob("s", "d", "\0 and \0"))
        assert answers[1] == ""
        assert set(await store.dump()) == kept

    @asynchronous
    async def test_a_lone_surrogate_is_refused_and_fails_no_other_command(
        self, opened: Opener
    ) -> None:
        store = opened(ManualClock())

        answers = await asyncio.gather(
            store.execute(prompt("s", 1, "\ud800")),
            store.execute(prompt("t", 1)),
            store.execute(prompt("\udfff", 1)),
            return_exceptions=True,
        )

        assert isinstance(answers[0], Refused | ValueError)
        assert isinstance(answers[2], Refused | ValueError)
        assert {r.session_id for r in await store.dump() if isinstance(r, Session)} == {"t"}
