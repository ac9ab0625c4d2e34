"""What a waiter is told, and the commands of a client about a session, its inputs and its dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from tenure.outcome import Refusal
from tenure.questions import AllDeadLetters, Inbox, Result
from tenure.records import Phase
from tenure_drivers import (
    Client,
    CommandRefused,
    NotEnded,
    Runtime,
    SyncRuntime,
    Turn,
    TurnFailed,
    Unavailable,
    open_store,
)

WAIT_S = 30


async def agent(turn: Turn) -> str | None:
    if turn.text == "broken":
        raise TurnFailed("invalid_request", "broken")
    return None if turn.text == "quiet" else turn.text


def play(body: Callable[[Client, Runtime], Awaitable[None]]) -> None:
    async def main() -> None:
        async with aclosing(open_store("memory:")) as store, Runtime(store, agent) as runtime:
            await body(Client(store), runtime)

    asyncio.run(main())


def test_every_end_has_a_result() -> None:  # INBOX-59
    async def body(client: Client, runtime: Runtime) -> None:
        told = await (await client.submit("s", "hello")).ended(WAIT_S)
        quiet = await (await client.submit("s", "quiet")).ended(WAIT_S)
        dead = await (await client.submit("s", "broken")).ended(WAIT_S)
        later = 10**15
        held = await client.submit("s", "later", available_at_ms=later)
        pending = await held.status()
        await client.withdraw("s", held.input_id)
        old = await client.submit("s", "one", available_at_ms=later)
        await client.replace("s", old.input_id, "two")
        left = await client.submit("t", "left", available_at_ms=later)
        await client.retire("t", abandon_queued=True)
        await runtime.drain()
        assert pending is not None
        withdrawn, superseded = await held.ended(WAIT_S), await old.ended(WAIT_S)
        abandoned = await left.ended(WAIT_S)

        assert (told.result, quiet.result) == (Result.RESULT, Result.NO_RESULT)
        assert (dead.result, pending.result) == (Result.DEAD_LETTERED, Result.PENDING)
        assert (withdrawn.result, superseded.result) == (Result.WITHDRAWN, Result.SUPERSEDED)
        assert (abandoned.result, abandoned.by) == (Result.ABANDONED, "retired")

    play(body)


def test_who_waits_in_vain_is_told_the_last_status() -> None:
    async def main() -> None:
        async with aclosing(open_store("memory:")) as store:
            receipt = await Client(store).submit("s", "hello")
            with pytest.raises(NotEnded, match="is ready") as raised:
                while True:  # until the waiter has read it
                    try:
                        await receipt.ended(0.05)
                    except NotEnded as error:
                        if error.status is not None:
                            raise

        assert raised.value.status is not None
        assert raised.value.status.status == "ready"
        assert isinstance(raised.value, TimeoutError)

    asyncio.run(main())


def test_who_waits_is_told_what_its_run_waits_for() -> None:  # INBOX-59
    async def asking(turn: Turn) -> str:
        return (await turn.ask("name", "Your name?")).body

    async def main() -> None:
        async with aclosing(open_store("memory:")) as store, Runtime(store, asking) as runtime:
            receipt = await runtime.submit("s", "hello")
            behind = await runtime.submit("s", "and then?")
            while not (tickets := await runtime.tickets()):
                await asyncio.sleep(0.01)
            with pytest.raises(
                NotEnded, match=rf"is waiting for .* \(ticket {tickets[0].ticket_id}\)"
            ):
                while True:  # until the waiter has read it
                    try:
                        await receipt.ended(0.05)
                    except NotEnded as error:
                        if error.status is not None and error.status.wait is not None:
                            raise
            waiting, held = await receipt.status(), await behind.status()

        assert waiting is not None and held is not None
        assert (waiting.result, held.result) == (Result.WAITING, Result.WAITING)
        for status in (waiting, held):
            assert status.wait is not None and status.wait.tickets == (tickets[0].ticket_id,)

    asyncio.run(main())


def test_who_waits_when_the_runtime_stops_is_told_so() -> None:
    async def main() -> None:
        async with aclosing(open_store("memory:")) as store:
            runtime = Runtime(store)
            await runtime.start()
            receipt = await runtime.submit("s", "hello")
            waiting = [asyncio.create_task(receipt.ended()) for _ in range(2)]
            waiting.append(asyncio.create_task(receipt.delivered()))
            await asyncio.sleep(0)
            await runtime.stop()
            for each in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(each, NotEnded) and "the runtime was stopped" in str(each)

    asyncio.run(main())


def test_a_store_that_does_not_answer_leaves_the_status_unknown() -> None:
    async def main() -> None:
        async with aclosing(open_store("memory:")) as store:
            client = Client(store)
            receipt = await client.submit("s", "hello")

            async def away(question: Any) -> Any:
                raise Unavailable("away")

            store.ask = away  # type: ignore[method-assign]
            with pytest.raises(NotEnded, match="not known yet") as raised:
                await receipt.ended(0.05)

        assert raised.value.status is None

    asyncio.run(main())


def test_a_dead_letter_is_readmitted_once() -> None:  # INBOX-57, INBOX-58
    async def body(client: Client, runtime: Runtime) -> None:
        await (await client.submit("s", "broken")).ended(WAIT_S)
        (letter,) = await client.ask(AllDeadLetters())

        again = await client.readmit("s", letter.input.input_id, command_id="c1")
        same = await client.readmit("s", letter.input.input_id, command_id="c1", new_input_id="x")
        with pytest.raises(CommandRefused) as raised:
            await client.readmit("s", letter.input.input_id)

        assert (letter.session_id, letter.input.payload) == ("s", "broken")
        assert same == again
        assert raised.value.refused.reason is Refusal.ENDED
        assert raised.value.refused.detail.readmitted_as == again.admission.input_id
        await client.receipt("s", again.admission.input_id).ended(WAIT_S)
        (new,) = await client.ask(AllDeadLetters())
        assert new.input.retry_of == letter.input.input_id

    play(body)


def test_all_dead_letters_are_read_in_pages() -> None:
    async def body(client: Client, runtime: Runtime) -> None:
        for session in ("b", "a", "b"):
            await (await client.submit(session, "broken")).ended(WAIT_S)
        await (await client.submit("c", "hello")).ended(WAIT_S)

        found, after = [], ("", 0)
        while page := await client.ask(AllDeadLetters(*after, limit=1)):
            (letter,) = page
            found.append(letter.session_id)
            after = (letter.session_id, letter.seq)

        assert found == ["a", "b", "b"]

    play(body)


def test_an_inbox_has_ended_inputs_too() -> None:
    async def body(client: Client, runtime: Runtime) -> None:
        for number, text in enumerate(("hello", "broken", "quiet")):
            await (await client.submit("s", text, input_id=f"i{number}")).ended(WAIT_S)

        everything = await client.ask(Inbox("s"))
        first = await client.ask(Inbox("s", limit=2))
        rest = await client.ask(Inbox("s", after=first.after or "", limit=2))
        dead = await client.ask(Inbox("s", states=("dead_lettered",)))
        none = await client.ask(Inbox("s", kinds=("wake",)))

        assert [item.input.payload for item in everything.items] == ["hello", "broken", "quiet"]
        assert everything.after is None
        assert [item.input.payload for item in (*first.items, *rest.items)] == [
            "hello", "broken", "quiet"
        ]  # fmt: skip
        assert (first.after, rest.after) == ("i1", None)
        assert [item.status.input_id for item in dead.items] == ["i1"]
        assert none.items == ()

    play(body)


def test_phases_follow_the_commands_of_a_client() -> None:
    async def body(client: Client, runtime: Runtime) -> None:
        await (await client.submit("s", "hello")).ended(WAIT_S)

        phases = [
            (await client.retire("s")).phase,
            (await client.reopen("s")).phase,
            (await client.stop_session("s")).phase,
            (await client.reset("s")).phase,
            (await client.destroy("s")).phase,
        ]
        with pytest.raises(CommandRefused, match="PHASE-6"):
            await client.reopen("s")

        assert phases == [Phase.RETIRED, Phase.OPEN, Phase.STOPPED, Phase.OPEN, Phase.DESTROYED]

    play(body)


def test_inputs_are_reordered() -> None:
    async def main() -> None:
        async with aclosing(open_store("memory:")) as store:
            client = Client(store)
            one, two = await client.submit("s", "one"), await client.submit("s", "two")
            await client.reorder("s", [two.input_id, one.input_id])
            said = []

            async def listening(turn: Turn) -> str:
                said.append(turn.text)
                return "ok"

            async with Runtime(store, listening):
                await one.ended(WAIT_S)

        assert said == ["two", "one"]

    asyncio.run(main())


def test_a_session_without_a_name_gets_one() -> None:
    async def body(client: Client, runtime: Runtime) -> None:
        one, two = await client.submit(None, "hello"), await client.submit(None, "hello")

        assert one.session_id != two.session_id
        assert await one.result(WAIT_S) == "hello"

    play(body)


def test_blocking_code_has_the_same_commands() -> None:
    with SyncRuntime(Runtime(open_store("memory:"), agent)) as runtime:
        runtime.submit("s", "broken").ended(WAIT_S)
        (letter,) = runtime.ask(AllDeadLetters())

        runtime.readmit("s", letter.input.input_id)

        assert runtime.stop_session("s", abandon=True).phase in (Phase.STOPPED, Phase.STOPPING)
        assert runtime.reopen("s").phase is Phase.OPEN


def test_a_start_that_takes_too_long_can_be_repeated() -> None:
    async def main() -> None:
        async with aclosing(open_store("memory:")) as store:
            runtime, due = Runtime(store, agent), store.due

            async def away(limit: int) -> Any:
                raise Unavailable("away for a while")

            store.due = away  # type: ignore[method-assign]
            with pytest.raises(Unavailable, match="has not answered in 0.05 s: away for a while"):
                await runtime.start(0.05)
            store.due = due  # type: ignore[method-assign]
            await runtime.start(WAIT_S)

            assert await (await runtime.submit("s", "hello")).result(WAIT_S) == "hello"
            await runtime.stop()

    asyncio.run(main())
