"""Turns that start runs of other sessions and wait for some of them, and for people."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from carrying import WAIT_S, Body

from tenure.commands import NewInput
from tenure.machines.ticket import TicketKind
from tenure.questions.core import InputStatus, Status
from tenure.questions.tickets import OpenTickets
from tenure_drivers import Runtime, Turn
from tenure_drivers.runtime.errors import IllegalResult
from tenure_drivers.stores.base import Store


async def until_waiting(store: Store, session: str, input_id: str) -> InputStatus:
    """Wait until the run of an input waits."""
    while True:
        status = await store.ask(Status(session, input_id))
        if status is not None and status.wait is not None:
            return status
        await asyncio.sleep(0.01)


def answer_of(turn: Turn) -> str:
    return turn.inputs[0].payload


def test_a_turn_waits_for_all_runs_that_it_has_started(carry: Callable[[Body], None]) -> None:
    attempts: list[int] = []

    async def agent(turn: Turn) -> str:
        if turn.session_id != "parent":
            return f"{turn.session_id}: {answer_of(turn)}"
        attempts.append(turn.generation)
        one = await turn.start_run("red", "look at red")
        two = await turn.start_run("blue", "look at blue")
        joined = await turn.join(one, two)
        return "; ".join([each.body for each in joined.in_time])

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("parent", "compare")
            answer = (await receipt.ended(WAIT_S)).answer
            assert answer == "red: look at red; blue: look at blue"
        assert len(attempts) in (1, 2)  # it has parked, unless both came before

    carry(body)


def test_the_first_is_enough_and_the_work_of_the_rest_is_cancelled(
    carry: Callable[[Body], None],
) -> None:
    started: list[str] = []

    async def agent(turn: Turn) -> str:
        if turn.session_id == "slow":
            await turn.ask("never", "Well?")
        if turn.session_id != "parent":
            return "fast"
        fast = await turn.start_run("fast", "go")
        slow = await turn.start_run("slow", NewInput("slow-input", "prompt", "go"))
        person = await turn.ticket("person", "Or you?")
        started[:] = [fast, slow, person]
        joined = await turn.join(slow, fast, person, n=1, cancel_rest=True)
        (won,) = joined.in_time
        lost = [each.action for each in joined.decisions if each is not won and each]
        return f"{won.body} by {won.by}, {', '.join(map(str, lost))}"

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("parent", "race")
            answer = (await receipt.ended(WAIT_S)).answer
            assert answer == "fast by fast, superseded, superseded"
            for _ in range(500):
                status = await store.ask(Status("slow", "slow-input"))
                if status is not None and status.ended:
                    break
                await asyncio.sleep(0.01)
            assert status is not None and status.termination in (None, "cancelled"), status
            assert status.status in ("withdrawn", "abandoned", "consumed")
            assert await store.ask(OpenTickets("parent")) == ()

    carry(body)


def test_a_join_outlives_the_processes_of_all_runs(carry: Callable[[Body], None]) -> None:
    async def agent(turn: Turn) -> str:
        if turn.session_id != "parent":
            return (await turn.ask("colour", "Which?")).body
        names = ("one", "two", "three")
        asks = [(name, NewInput(f"of-{name}", "prompt", "ask")) for name in names]
        tickets = [await turn.start_run(name, ask) for name, ask in asks]
        joined = await turn.join(*tickets, n=2)
        return ", ".join([f"{each.by} {each.body}" for each in joined.in_time])

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("parent", "go")
            while len(await runtime.tickets()) < 3:
                await asyncio.sleep(0.01)
            await until_waiting(store, "parent", receipt.input_id)
        for name in ("three", "one"):
            async with Runtime(store, agent) as runtime:
                (asked,) = await runtime.tickets(name)
                await runtime.decide(name, asked.ticket_id, "answer", "red")
                await runtime.receipt(name, f"of-{name}").ended(WAIT_S)
        async with Runtime(store, agent) as runtime:
            status = await runtime.receipt("parent", receipt.input_id).ended(WAIT_S)
            assert status.answer == "one red, three red"

    carry(body)


def test_a_person_may_win_against_a_run(carry: Callable[[Body], None]) -> None:
    async def agent(turn: Turn) -> str:
        if turn.session_id == "child":
            return str((await turn.ask("never", "Well?")).body)
        child = await turn.start_run("child", NewInput("of-child", "prompt", "go"))
        person = await turn.ticket("person", "Or you?")
        joined = await turn.join(child, person, n=1)
        return ", ".join([each.body for each in joined.in_time])

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("parent", "race")
            status = await until_waiting(store, "parent", receipt.input_id)
            assert status.wait is not None
            assert [(w.done_by, w.input_id) for w in status.wait.awaits] == [("child", "of-child")]
            assert status.wait.reason == "tool"  # a person is asked too
            found = await store.ask(OpenTickets("parent"))
            person = next(t for t in found if t.kind is TicketKind.QUESTION)
            await runtime.decide("parent", person.ticket_id, "answer", "me", by="ada")
            assert (await receipt.ended(WAIT_S)).answer == "me"
            await until_waiting(store, "child", "of-child")  # it is not cancelled
            (asked,) = await store.ask(OpenTickets("child"))
            await runtime.decide("child", asked.ticket_id, "answer", "late")  # moves nothing
            child = await runtime.receipt("child", "of-child").ended(WAIT_S)
            assert child.answer == "late"

    carry(body)


def test_a_failed_run_settles_its_ticket_as_failed(carry: Callable[[Body], None]) -> None:
    async def agent(turn: Turn) -> str:
        if turn.session_id == "child":
            raise IllegalResult("cannot")
        child = await turn.start_run("child", "go")
        (decision,) = (await turn.join(child)).decisions
        assert decision is not None
        return f"{decision.action}, {decision.completed}"

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("parent", "try")
            assert (await receipt.ended(WAIT_S)).answer == "failed, False"

    carry(body)


def test_an_attempt_that_ends_at_any_place_starts_nothing_twice(
    carry: Callable[[Body], None],
) -> None:
    crashes = iter(["started", "joined"])
    seen: list[str] = []

    async def agent(turn: Turn) -> str:
        if turn.session_id != "parent":
            seen.append(answer_of(turn))
            return answer_of(turn)
        one, two = await turn.start_run("one", "1"), await turn.start_run("two", "2")
        if next(crashes, "") == "started":
            raise ConnectionError("before the join")
        joined = await turn.join(one, two, n=1)
        if next(crashes, "") == "joined":
            raise ConnectionError("after the join")
        return ", ".join([each.body for each in joined.in_time])

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("parent", "go")
            answer = (await receipt.ended(WAIT_S)).answer
            assert answer in ("1", "2", "1, 2")
        assert sorted(seen) == sorted(set(seen))

    carry(body)


def test_a_join_needs_one_to_all_of_its_tickets(carry: Callable[[Body], None]) -> None:
    async def agent(turn: Turn) -> str:
        with pytest.raises(IllegalResult, match="n 2 of 1"):
            await turn.join("t", n=2)
        with pytest.raises(IllegalResult, match="of 0"):
            await turn.join()
        return "refused"

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("parent", "go")
            assert (await receipt.ended(WAIT_S)).answer == "refused"

    carry(body)
