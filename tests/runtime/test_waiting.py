"""Turns that wait: questions, decisions, pauses, and what comes in meanwhile.  Spec: specs/ticket.md."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

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
        return f"{charged}: {decision.action} by {decision.by}"

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
        return (await turn.ask("name", "Your name?", within_s=0.05)).action or ""

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
        return (await turn.ask("buy", "Buy it?", offers=("approve",))).action or ""

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


def test_what_a_wait_gave_is_the_same_in_every_attempt(carry: Callable[[Body], None]) -> None:
    # WAIT-32: a decision that comes later changes nothing
    paid: list[str] = []

    async def agent(turn: Turn) -> str:
        one, two = await turn.ticket("one", "One?"), await turn.ticket("two", "Two?")
        waited = await turn.wait(one, two, any=True)
        first = "one" if waited.decisions[0] else "two"
        await turn.once(f"pay {first}", lambda: paid.append(first))
        more = await turn.ask("more", "More?")
        return f"{first} {[d and d.body for d in waited.decisions]} {more.body}"

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("s", "hello")
            asked = {t.prompt: t.ticket_id for t in await until_asked(runtime, 2)}
            await runtime.decide("s", asked["Two?"], "answer", "second")
            while "More?" not in asked:
                asked |= {t.prompt: t.ticket_id for t in await until_asked(runtime)}
            await runtime.decide("s", asked["One?"], "answer", "too late")
            await runtime.decide("s", asked["More?"], "answer", "no")
            assert (await receipt.ended(WAIT_S)).answer == "two [None, 'second'] no"
        assert paid == ["two"]
        paid.clear()

    carry(body)


def test_an_input_that_enters_a_question_is_given_instead_of_a_decision(
    carry: Callable[[Body], None],
) -> None:
    # WAIT-32: and approving the question later changes nothing
    bought: list[str] = []

    async def agent(turn: Turn) -> str:
        decision = await turn.ask("buy", "Buy?", offers=("approve",), on_input="fold")
        if decision.approved:
            await turn.once("buy it", lambda: bought.append("it"))
            return "bought"
        assert decision.action is None
        why = await turn.ask("why", "Why?")
        return f"{[i.payload for i in decision.inputs]} {why.body}"

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("s", "hello")
            (buy,) = await until_asked(runtime)
            await runtime.submit("s", "rather not")
            while len(asked := await until_asked(runtime)) < 2:
                await asyncio.sleep(0.01)
            await runtime.decide("s", buy.ticket_id, "approve")
            (why,) = [t for t in asked if t.prompt == "Why?"]
            await runtime.decide("s", why.ticket_id, "answer", "too dear")
            assert (await receipt.ended(WAIT_S)).answer == "['rather not'] too dear"
        assert bought == []

    carry(body)


def test_an_approval_counts_for_what_was_approved(carry: Callable[[Body], None]) -> None:
    # WAIT-33: another question is asked anew
    amounts: list[int] = []

    async def agent(turn: Turn) -> str:
        amounts.append(1 + len(amounts))
        amount = min(amounts[-1], 2)
        decision = await turn.ask("pay", f"Pay {amount}?", offers=("approve", "reject"))
        return f"{decision.action} {amount}"

    async def body(store: Store) -> None:
        amounts.clear()
        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("s", "hello")
            (first,) = await until_asked(runtime)
            await runtime.decide("s", first.ticket_id, "approve")
            (second,) = await until_asked(runtime)
            assert (first.prompt, second.prompt) == ("Pay 1?", "Pay 2?")
            await runtime.decide("s", second.ticket_id, "reject")
            assert (await receipt.ended(WAIT_S)).answer == "reject 2"

    carry(body)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"within_s": 1e15}, "1000000000000000.0 seconds: expected a number from 0 to"),
        ({"within_s": float("nan")}, "nan seconds: expected a number"),
        ({"within_s": "5"}, "'5' seconds: expected a number"),
        ({"offers": "approve"}, "offers 'approve': expected a list of approve, edit"),
        ({"on_input": "bogus"}, "on_input 'bogus': expected fold, hold, supersede"),
    ],
)
def test_a_wrong_argument_ends_the_run_at_once_and_is_named(
    given: dict[str, Any], message: str, carry: Callable[[Body], None]
) -> None:
    async def agent(turn: Turn) -> str:
        return (await turn.ask("name", "Your name?", **given)).body

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            status = await (await runtime.submit("s", "hello")).ended(WAIT_S)
            assert status.status == "dead_lettered"
            assert message in (status.reason or "")

    carry(body)


def test_questions_in_a_task_group_park_without_a_failure(
    carry: Callable[[Body], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def agent(turn: Turn) -> str:
        async with asyncio.TaskGroup() as group:
            one = group.create_task(turn.ask("one", "One?"))
            two = group.create_task(turn.ask("two", "Two?"))
        return f"{one.result().body} {two.result().body}"

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("s", "hello")
            for _ in range(2):
                (ticket, *_) = await until_asked(runtime)
                await runtime.decide("s", ticket.ticket_id, "answer", ticket.prompt)
            assert (await receipt.ended(WAIT_S)).answer == "One? Two?"
        assert "failed" not in caplog.text

    carry(body)
