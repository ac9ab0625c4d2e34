"""Approvals of tools, on real stores: who is asked what, and what becomes of a decision.  Spec: specs/chat.md."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest
from carrying import WAIT_S, Body
from scripted_chat import Scripted, calling, saying, texts, transcript

from tenure.messages.types import Reply, ToolCall
from tenure.records import Ticket
from tenure_drivers import Action, ChatAgent, Decision, Runtime, tool
from tenure_drivers.agents.approvals import QUESTION_MAX
from tenure_drivers.agents.tools import make
from tenure_drivers.runtime.client import Client
from tenure_drivers.stores.base import Store


async def until_asked(client: Client, count: int = 1) -> tuple[Ticket, ...]:
    """Wait until so many tickets are open and the run has parked."""
    while True:
        found = await client.tickets("s")
        if len(found) == count and await client.tickets():
            return found
        await asyncio.sleep(0.01)


class Shop:
    """Tools that remember what they did."""

    def __init__(self, **approval: Any) -> None:
        self.done: list[str] = []
        self.buy = make(self._buy, name="buy", once=True, **{"approve": True, **approval})
        self.look = make(self._look, name="look")

    def _buy(self, item: str, count: int = 1) -> str:
        """Buy something."""
        self.done.append(f"buy {count} {item}")
        return f"bought {count} {item}"

    def _look(self) -> str:
        self.done.append("look")
        return "tea is 3"

    def agent(self, *replies: Reply) -> ChatAgent:
        return ChatAgent(Scripted(*replies, saying("done")), [self.buy, self.look])


BUY = calling(("b", "buy", '{"item": "tea"}'), ("l", "look", "{}"))


def test_a_call_waits_for_its_approval_and_others_do_not(carry: Callable[[Body], None]) -> None:
    shops = [Shop(), Shop()]

    async def body(store: Store) -> None:
        async with Runtime(store, shops[0].agent(BUY)) as runtime:
            receipt = await runtime.submit("s", "tea?")
            (ticket,) = await until_asked(runtime)
            assert texts(await transcript(store)) == []  # nothing is committed
        assert shops[0].done == ["look"]
        assert (ticket.prompt, ticket.call_id) == ('Call buy with {"item": "tea"}?', "b")  # CHAT-50
        assert ticket.offers == (Action.APPROVE, Action.EDIT, Action.REJECT, Action.ANSWER)
        await Client(store).decide("s", ticket.ticket_id, "approve", by="ada")
        async with Runtime(store, shops[1].agent()) as runtime:
            status = await runtime.receipt("s", receipt.input_id).ended(WAIT_S)
        assert (status.answer, shops[1].done) == ("done", ["buy 1 tea"])  # CHAT-51
        assert texts(await transcript(store)) == [
            "user: tea?", "assistant: ", "tool: tea is 3", "tool: bought 1 tea", "assistant: done",
        ]  # fmt: skip

    carry(body)


@pytest.mark.parametrize(
    ("action", "text", "result", "done"),
    [
        ("edit", '{"item":"tea","count":2}', "bought 2 tea", ["look", "buy 2 tea"]),
        ("edit", '{"item":3}', "invalid arguments: Expected `str`", ["look"]),
        ("reject", "too much", "not carried out: rejected: too much", ["look"]),
        ("answer", "we have some", "we have some", ["look"]),
    ],
)
def test_a_decision_becomes_the_result(
    carry: Callable[[Body], None], action: str, text: str, result: str, done: list[str]
) -> None:  # CHAT-51
    shop = Shop()

    async def body(store: Store) -> None:
        async with Runtime(store, shop.agent(BUY)) as runtime:
            receipt = await runtime.submit("s", "tea?")
            (ticket,) = await until_asked(runtime)
            await runtime.decide("s", ticket.ticket_id, action, text)
            assert (await receipt.ended(WAIT_S)).answer == "done"
        answers = {m.call_id: m.text for m in await transcript(store) if m.call_id}
        assert answers["b"].startswith(result)
        assert shop.done == done

    carry(body)


def test_nobody_decides_in_time(carry: Callable[[Body], None]) -> None:  # CHAT-51
    shop = Shop(within_s=0.05)

    async def body(store: Store) -> None:
        async with Runtime(store, shop.agent(BUY)) as runtime:
            receipt = await runtime.submit("s", "tea?")
            assert (await receipt.ended(WAIT_S)).answer == "done"
        assert "tool: not carried out: nobody decided in time" in texts(await transcript(store))
        assert shop.done == ["look"]

    carry(body)


def test_a_function_says_which_calls_are_asked_about(carry: Callable[[Body], None]) -> None:
    shop = Shop(approve=lambda count: f"Buy {count}?" if count > 1 else False)
    calls = calling(("a", "buy", '{"item":"tea"}'), ("b", "buy", '{"item":"tea","count":9}'))

    async def body(store: Store) -> None:
        async with Runtime(store, shop.agent(calls)) as runtime:
            receipt = await runtime.submit("s", "tea?")
            (ticket,) = await until_asked(runtime)
            assert (ticket.prompt, ticket.call_id) == ("Buy 9?", "b")
            assert shop.done == ["buy 1 tea"]
            await runtime.decide("s", ticket.ticket_id, "reject")
            assert (await receipt.ended(WAIT_S)).answer == "done"

    carry(body)


def test_invalid_arguments_ask_nobody(carry: Callable[[Body], None]) -> None:  # CHAT-50
    shop = Shop()

    async def body(store: Store) -> None:
        async with Runtime(store, shop.agent(calling(("b", "buy", '{"item": 3}')))) as runtime:
            receipt = await runtime.submit("s", "tea?")
            assert (await receipt.ended(WAIT_S)).answer == "done"
        assert any("invalid arguments" in text for text in texts(await transcript(store)))

    carry(body)


def test_a_tool_is_handed_the_decision(carry: Callable[[Body], None]) -> None:  # CHAT-52
    async def body(store: Store) -> None:
        given: list[Decision | None] = []

        @tool(approve=lambda item: item != "water", resume="tool", offers=("approve", "answer"))
        def order(item: str, decision: Decision | None) -> str:
            given.append(decision)
            return "free" if decision is None else f"{decision.action} {decision.body}"

        calls = calling(("a", "order", '{"item":"water"}'), ("b", "order", '{"item":"tea"}'))
        client = Scripted(calls, saying("done"))
        async with Runtime(store, ChatAgent(client, [order])) as runtime:
            receipt = await runtime.submit("s", "tea?")
            (ticket,) = await until_asked(runtime)
            await runtime.decide("s", ticket.ticket_id, "answer", "green", by="ada")
            assert (await receipt.ended(WAIT_S)).answer == "done"
        assert given == [None, Decision(Action.ANSWER, "green", "ada")]
        assert [m.text for m in await transcript(store) if m.call_id] == ["free", "answer green"]
        assert "decision" not in client.requests[0].tools[0].schema

    carry(body)


@pytest.mark.parametrize("action", ["approve", "reject"])
def test_a_decision_is_that_of_the_other_calls_of_the_run(
    carry: Callable[[Body], None], action: str
) -> None:  # CHAT-53
    shop = Shop(remember="run")
    two = calling(("a", "buy", '{"item":"tea"}'), ("b", "buy", '{"item":"milk"}'))
    later = calling(("c", "buy", '{"item":"cake"}'))

    async def body(store: Store) -> None:
        async with Runtime(store, shop.agent(two, later)) as runtime:
            receipt = await runtime.submit("s", "tea?")
            _, second = await until_asked(runtime, 2)
            await runtime.decide("s", second.ticket_id, action, by="ada")
            assert (await receipt.ended(WAIT_S)).answer == "done"
            assert await runtime.tickets("s") == ()
        bought = ["buy 1 cake", "buy 1 milk", "buy 1 tea"] if action == "approve" else []
        assert sorted(shop.done) == bought

    carry(body)


def test_what_the_user_says_next_is_answered_and_needs_no_button(
    carry: Callable[[Body], None],
) -> None:  # CHAT-54
    shop = Shop()

    async def body(store: Store) -> None:
        async with Runtime(store, shop.agent(BUY)) as runtime:
            first = await runtime.submit("s", "tea?")
            (ticket,) = await until_asked(runtime)
            second = await runtime.submit("s", "never mind")
            assert (await second.ended(WAIT_S)).answer == "done"
            status = await first.ended(WAIT_S)
            assert (status.status, status.termination) == ("consumed", "cancelled")
            with pytest.raises(Exception, match="ended"):
                await runtime.decide("s", ticket.ticket_id, "approve")
        assert shop.done == ["look"]
        assert texts(await transcript(store)) == [
            "user: tea?", "assistant: ", "tool: tea is 3", "tool: not carried out: nobody decided",
            "user: never mind", "assistant: done",
        ]  # fmt: skip

    carry(body)


def test_a_message_for_the_turn_that_waits_is_answered_too(carry: Callable[[Body], None]) -> None:
    shop = Shop()

    async def body(store: Store) -> None:
        async with Runtime(store, shop.agent(BUY)) as runtime:
            first = await runtime.submit("s", "tea?")
            await until_asked(runtime)
            steered = await runtime.steer("s", "coffee instead")
            assert (await steered.ended(WAIT_S)).answer == "done"
            assert (await first.ended(WAIT_S)).termination == "cancelled"
        assert "user: coffee instead" in texts(await transcript(store))

    carry(body)


def test_a_cancel_ends_a_turn_that_waits(carry: Callable[[Body], None]) -> None:
    shop = Shop()

    async def body(store: Store) -> None:
        async with Runtime(store, shop.agent(BUY)) as runtime:
            receipt = await runtime.submit("s", "tea?")
            await until_asked(runtime)
            status = await receipt.status()
            assert status is not None and status.run_id is not None
            assert (await runtime.cancel("s", status.run_id)).ended
            assert (await receipt.ended(WAIT_S)).termination == "cancelled"
        assert texts(await transcript(store))[-1] == "tool: not carried out: nobody decided"

    carry(body)


def test_what_the_user_says_waits_while_somebody_else_is_asked(
    carry: Callable[[Body], None],
) -> None:  # CHAT-54
    shop = Shop(approver="other")

    async def body(store: Store) -> None:
        async with Runtime(store, shop.agent(BUY)) as runtime:
            first = await runtime.submit("s", "tea?")
            (ticket,) = await until_asked(runtime)
            second = await runtime.submit("s", "hurry")
            while (status := await second.status()) is None or status.wait is None:
                await asyncio.sleep(0.01)
            assert status.wait.tickets == (ticket.ticket_id,)
            await runtime.decide("s", ticket.ticket_id, "approve")
            assert (await first.ended(WAIT_S)).answer == "done"
            assert (await second.ended(WAIT_S)).answer == "done"
        assert shop.done == ["look", "buy 1 tea"]

    carry(body)


# -- questions


def question(text: str = '{"item": "tea"}', **options: Any) -> str | None:
    shop = Shop(**options)
    return asyncio.run(shop.buy.question(ToolCall("b", "buy", text)))


def test_a_function_that_fails_asks_a_person() -> None:  # CHAT-50
    raised: list[Exception] = []
    shop = Shop(approve=lambda item: item.nonsense)

    asked = asyncio.run(shop.buy.question(ToolCall("b", "buy", '{"item":"tea"}'), raised.append))

    assert asked == 'Call buy with {"item":"tea"}?' and len(raised) == 1
    assert question(approve=lambda item: 42) is not None  # what is no answer asks too


def test_a_question_can_always_be_stored() -> None:
    long = question(approve=lambda: "x" * (QUESTION_MAX + 1))

    assert long is not None and long.endswith(
        f"[cut: {QUESTION_MAX} of {QUESTION_MAX + 1} characters]"
    )
    assert question(approve=lambda: "a\x00b\ud800") == "ab?"


def test_an_async_function_may_say_it() -> None:
    async def dear(count: int) -> bool:
        await asyncio.sleep(0)
        return count > 1

    assert question(approve=dear) is None
    assert question('{"item":"tea","count":2}', approve=dear) is not None
    assert question(approve=lambda **arguments: arguments["count"] == 1) is not None


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"remember": "run"}, "need approve"),
        ({"approve": True, "remember": "always"}, "remember 'always': expected one of"),
        ({"approve": True, "approver": "boss"}, "approver 'boss': expected one of"),
        ({"approve": True, "resume": "tool"}, "needs a parameter decision"),
        (
            {"approve": True, "offers": ("timeout",)},
            "expected a list of approve, edit, reject, answer",
        ),
        ({"approve": True, "offers": ()}, "expected at least one action"),
        ({"approve": True, "within_s": -1}, "tool buy: -1 seconds: expected a number from 0"),
        (
            {"approve": True, "within_s": math.nan},
            "tool buy: nan seconds: expected a number from 0",
        ),
        (
            {"approve": True, "within_s": math.inf},
            "tool buy: inf seconds: expected a number from 0",
        ),
        ({"approve": True, "within_s": "9"}, "tool buy: '9' seconds: expected a number from 0"),
        ({"approve": True, "offers": "approve"}, "tool buy: offers 'approve': expected a list of"),
        ({"approve": "yes"}, "approve 'yes': expected True or a function"),
        ({"approve": lambda price: True}, "has the parameter price, and the tool has not"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], problem: str) -> None:
    def buy(item: str) -> str:
        return item

    with pytest.raises((ValueError, TypeError), match=problem):
        make(buy, **options)
