"""Turns that wait: questions, decisions, pauses, and what comes in meanwhile.  Spec: specs/ticket.md."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from carrying import WAIT_S, Body

from tenure.machines.ticket import Action
from tenure.outcome import Refusal
from tenure.questions.core import InputStatus, Status
from tenure.records import Ticket
from tenure_drivers import CommandRefused, NewInput, Parked, Turn
from tenure_drivers.runtime.client import Client
from tenure_drivers.runtime.runtime import Runtime
from tenure_drivers.stores.base import Store


async def until_asked(client: Client, count: int = 1) -> tuple[Ticket, ...]:
    """Wait until tickets of session `s` are open and its run has parked."""
    while True:
        found = await client.tickets("s")
        if len(found) >= count and await client.tickets():
            return found
        await asyncio.sleep(0.01)


async def until_waiting(client: Client, input_id: str) -> InputStatus:
    """Wait until the run of an input waits, or holds it."""
    while True:
        status = await client.ask(Status("s", input_id))
        if status is not None and status.wait is not None:
            return status
        await asyncio.sleep(0.01)


def test_a_decision_is_answered_after_everything_was_restarted(
    carry: Callable[[Body], None],
) -> None:
    ran: list[str] = []

    def charge() -> str:
        ran.append("charge")
        return "charged"

    async def agent(turn: Turn) -> str:
        charged = await turn.once("charge", charge)
        decision = await turn.ask("buy", "Buy it?", offers=("approve", "reject"))
        return f"{charged}: {decision.action.value} by {decision.by}"

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("s", "buy it")
            (ticket,) = await until_asked(runtime)
        client = Client(store)
        assert (ticket.prompt, ticket.offers) == ("Buy it?", (Action.APPROVE, Action.REJECT))
        await client.decide("s", ticket.ticket_id, "approve", by="ada")
        async with Runtime(store, agent) as runtime:
            status = await runtime.receipt("s", receipt.input_id).ended(WAIT_S)
            assert await runtime.tickets() == ()
        assert status.answer == "charged: approve by ada"
        assert ran == ["charge"]

    carry(body)


def test_the_first_decision_wins(carry: Callable[[Body], None]) -> None:
    async def agent(turn: Turn) -> str:
        return (await turn.ask("name", "Your name?")).body

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("s", "hello")
            (ticket,) = await until_asked(runtime)
            await runtime.decide("s", ticket.ticket_id, "answer", "Ada")
            with pytest.raises(CommandRefused) as refused:
                await runtime.decide("s", ticket.ticket_id, "answer", "Eve")
            assert refused.value.refused.reason is Refusal.ENDED
            assert (await receipt.ended(WAIT_S)).answer == "Ada"

    carry(body)


def test_an_answer_before_the_wait_is_not_lost(carry: Callable[[Body], None]) -> None:
    opened_: asyncio.Queue[str] = asyncio.Queue()
    attempts: list[int] = []

    async def agent(turn: Turn) -> str:
        attempts.append(turn.generation)
        first = await turn.ticket("one", "One?")
        opened_.put_nowait(first)
        await turn.read(Status("s", turn.input_ids[0]))
        while not await settled(turn, first):
            await asyncio.sleep(0.01)
        waited = await turn.wait(first)
        return waited.decisions[0].body if waited.decisions[0] else "nothing"

    async def settled(turn: Turn, ticket_id: str) -> bool:
        return ticket_id in answered

    answered: list[str] = []

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("s", "hello")
            ticket_id = await opened_.get()
            await runtime.decide("s", ticket_id, "answer", "early")
            answered.append(ticket_id)
            assert (await receipt.ended(WAIT_S)).answer == "early"
        assert len(attempts) == 1  # it never parked

    carry(body)


def test_a_pause_needs_no_process(carry: Callable[[Body], None]) -> None:
    async def agent(turn: Turn) -> str:
        await turn.pause(0.05)
        return "rested"

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("s", "hello")
            assert (await receipt.ended(WAIT_S)).answer == "rested"

    carry(body)


def test_nobody_decides_in_time(carry: Callable[[Body], None]) -> None:
    async def agent(turn: Turn) -> str:
        return (await turn.ask("name", "Your name?", within_s=0.05)).action.value

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("s", "hello")
            assert (await receipt.ended(WAIT_S)).answer == "timeout"

    carry(body)


def test_what_the_user_says_next_enters_the_turn(carry: Callable[[Body], None]) -> None:
    async def agent(turn: Turn) -> str:
        waited = await turn.wait(reason="user_input")
        return ", ".join([each.payload for each in waited.inputs])

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            first = await runtime.submit("s", "hello")
            status = await until_waiting(runtime, first.input_id)
            assert status.wait is not None and status.wait.reason == "user_input"
            await runtime.submit("s", "Ada")
            assert (await first.ended(WAIT_S)).answer == "Ada"

    carry(body)


def test_a_wake_ends_a_wait_for_background_work(carry: Callable[[Body], None]) -> None:
    async def agent(turn: Turn) -> str:
        waited = await turn.wait(reason="background")
        return ", ".join([each.payload for each in waited.inputs])

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            first = await runtime.submit("s", "hello")
            await until_waiting(runtime, first.input_id)
            await runtime.submit_many("s", [NewInput("w", "wake", "the job is done")])
            assert (await first.ended(WAIT_S)).answer == "the job is done"

    carry(body)


def test_a_prompt_instead_of_an_answer_ends_the_wait(carry: Callable[[Body], None]) -> None:
    async def agent(turn: Turn) -> str:
        if turn.text == "never mind":
            return "as you like"
        await turn.ask("buy", "Buy it?", offers=("approve",), on_input="supersede")
        return "bought"

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            first = await runtime.submit("s", "buy it")
            await until_asked(runtime)
            second = await runtime.submit("s", "never mind")
            assert (await second.ended(WAIT_S)).answer == "as you like"
            assert (await first.ended(WAIT_S)).termination == "cancelled"

    carry(body)


def test_a_held_input_says_what_holds_it(carry: Callable[[Body], None]) -> None:
    async def agent(turn: Turn) -> str:
        if turn.text == "hurry":
            return "in time"
        return (await turn.ask("buy", "Buy it?", offers=("approve",))).action.value

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            first = await runtime.submit("s", "buy it")
            (ticket,) = await until_asked(runtime)
            second = await runtime.submit("s", "hurry")
            status = await until_waiting(runtime, second.input_id)
            assert status.status == "ready"
            assert status.wait is not None and status.wait.tickets == (ticket.ticket_id,)
            await runtime.decide("s", ticket.ticket_id, "approve")
            assert (await first.ended(WAIT_S)).answer == "approve"
            assert (await second.ended(WAIT_S)).answer == "in time"

    carry(body)


def test_a_cancel_ends_a_wait_with_no_worker(carry: Callable[[Body], None]) -> None:
    async def agent(turn: Turn) -> str:
        await turn.ask("buy", "Buy it?", offers=("approve",))
        return "bought"

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("s", "buy it")
            await until_asked(runtime)
        client = Client(store)
        status = await client.ask(Status("s", receipt.input_id))
        assert status is not None and status.run_id is not None
        assert (await client.cancel("s", status.run_id)).ended
        assert (await client.receipt("s", receipt.input_id).ended(WAIT_S)).status == "abandoned"

    carry(body)


def test_code_that_swallows_its_end_gets_nothing_more(carry: Callable[[Body], None]) -> None:
    attempts: list[int] = []
    caught: list[str] = []

    async def agent(turn: Turn) -> str:
        attempts.append(turn.generation)
        try:
            await turn.ask("buy", "Buy it?", offers=("approve",))
        except Exception:
            try:
                await turn.step("more", lambda: "more")
            except Parked as error:
                caught.append(str(error))
        return "bought"

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("s", "buy it")
            (ticket,) = await until_asked(runtime)
            await runtime.decide("s", ticket.ticket_id, "approve")
            assert (await receipt.ended(WAIT_S)).answer == "bought"
        assert (len(attempts), len(caught)) == (2, 1)

    carry(body)
