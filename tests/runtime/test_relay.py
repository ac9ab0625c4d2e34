"""What sessions send to others: in one store and between two, also if a process is killed.  Specs: outbound.md, relay.md."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from carrying import WAIT_S, Body
from paths import TESTS

from tenure.commands import (
    Admit,
    Destroy,
    NewOutbound,
    Open,
    Reopen,
    RequestCancel,
    Resend,
    Retire,
    sent,
)
from tenure.outbound_records import Due, Outbound, Undeliverable
from tenure.queries import Command
from tenure.questions import SessionOutbound
from tenure.records import Input, QueueEntry
from tenure.relay import machine
from tenure_drivers import Client, NewInput, Turn
from tenure_drivers.runtime.runtime import Runtime
from tenure_drivers.stores.base import Store, Unavailable
from tenure_drivers.stores.memory import MemoryStore
from tenure_drivers.stores.sqlite.store import SqliteStore


async def send(store: Store, *sent: NewOutbound, session: str = "s", by: str = "c1") -> None:
    """Send commands from a session, which is opened for it."""
    await store.execute(Open(session))
    await Client(store).amend(session, outbound=sent, command_id=by)


def wake(to: str, text: str = "go", id_: str = "", peer: str = "") -> NewOutbound:
    return NewOutbound(Admit(to, (NewInput(id_, "wake", text),)), peer)


async def rows_of(store: Store, session: str = "s") -> tuple[Outbound, ...]:
    return await store.ask(SessionOutbound(session))


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await holds():
            await asyncio.sleep(0.005)


async def until_sent(store: Store, session: str = "s") -> None:
    """Wait until nothing is to be sent."""

    async def none_waits() -> bool:
        rows = await rows_of(store, session)
        return all(isinstance(row.state, Undeliverable) for row in rows)

    await until(none_waits)


async def inputs_of(store: Store, session: str) -> list[Input]:
    """Return the inputs of a session in the order of their admission."""
    rows = [r for r in await store.dump() if r.session_id == session]  # type: ignore[attr-defined]
    at = {row.input_id: row.seq for row in rows if isinstance(row, QueueEntry)}
    return sorted([r for r in rows if isinstance(r, Input)], key=lambda r: at[r.input_id])


@pytest.fixture
def never_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a relay is told makes it look."""
    monkeypatch.setattr(machine, "POLL_MS", 1_000_000_000)


@pytest.mark.usefixtures("never_polls")
def test_what_a_turn_sends_arrives_in_order_when_it_is_committed(
    carry: Callable[[Body], None],
) -> None:  # RELAY-5
    async def agent(turn: Turn) -> str:
        if turn.session_id == "t":
            return f"heard {turn.text}"
        for n in range(8):
            await turn.send("t", str(n))
        assert await turn.read(SessionOutbound("s")) == ()
        with pytest.raises(ValueError, match="9 commands to be sent; at most 8"):
            await turn.send("t", "8")
        return "told"

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            assert await (await runtime.submit("s", "tell them")).result(WAIT_S) == "told"
            await until_sent(store)
        heard = await inputs_of(store, "t")
        assert [each.payload for each in heard] == [str(n) for n in range(8)]
        assert {each.kind for each in heard} == {"peer_message"}
        assert all(each.parent is not None and each.parent.session_id == "s" for each in heard)

    carry(body)


@pytest.mark.usefixtures("never_polls")
def test_what_a_process_without_a_relay_sends_is_sent_by_another_one(tmp_path: Path) -> None:
    async def body() -> None:  # RELAY-23
        own = SqliteStore(tmp_path / "s.db")
        async with Runtime(own, echo):
            await until(lambda: listens(own))
            other = SqliteStore(tmp_path / "s.db")
            await send(other, wake("t", "go"))
            await until_sent(own)
            await other.aclose()
        assert [each.payload for each in await inputs_of(own, "t")] == ["go"]
        await own.aclose()

    async def listens(store: SqliteStore) -> bool:
        return bool(store._hint_bus._listeners)

    asyncio.run(body())


@pytest.mark.usefixtures("never_polls")
def test_a_turn_of_an_own_loop_sends_too(carry: Callable[[Body], None]) -> None:  # RELAY-5
    async def body(store: Store) -> None:
        async with Runtime(store) as runtime:
            async with runtime.turn("s", "go") as turn:
                await turn.send("t", "hello")
                await turn.commit("done")
            await until_sent(store)
        assert [each.payload for each in await inputs_of(store, "t")] == ["hello"]

    carry(body)


def test_a_turn_that_fails_sends_only_what_it_has_sent_at_once(
    carry: Callable[[Body], None],
) -> None:
    tries: list[int] = []

    async def agent(turn: Turn) -> str:
        if turn.session_id == "t":
            return ""
        tries.append(turn.attempt)
        await turn.send("t", "at once", now=True)
        await turn.send("t", f"by try {len(tries)}")
        if len(tries) < 3:
            raise RuntimeError("no")
        return "told"

    async def body(store: Store) -> None:
        async with Runtime(store, agent) as runtime:
            await (await runtime.submit("s", "tell them")).result(WAIT_S)
            await until_sent(store)
        heard = sorted([each.payload for each in await inputs_of(store, "t")])
        assert heard == ["at once", "by try 3"]

    carry(body)


def test_two_relays_execute_each_command_once(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        for n in range(4):
            await send(store, *[wake(f"t{m % 3}", f"{n}.{m}") for m in range(8)], session=f"s{n}")
        async with Runtime(store), Runtime(store):
            for n in range(4):
                await until_sent(store, f"s{n}")
        got = [each for n in range(3) for each in await inputs_of(store, f"t{n}")]
        assert Counter(each.payload for each in got) == Counter(
            f"{n}.{m}" for n in range(4) for m in range(8)
        )

    carry(body)


# -- targets that refuse, and targets that do not answer


def test_a_refusal_for_good_is_listed_and_holds_up_nobody(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        await store.execute(Open("t"))
        await store.execute(Retire("t", "r1"))
        # a retired session takes wakes, but no messages (INBOX-6)
        no = NewOutbound(Admit("t", (NewInput("", "peer_message", "no"),)))
        await send(store, wake("t", "1"), no, wake("t", "2"))
        async with Runtime(store) as runtime:
            await until_sent(store)
            (row,) = await rows_of(store)
            assert isinstance(row.state, Undeliverable)
            assert (row.number, row.state.refusal) == (2, "phase")
            assert [each.payload for each in await inputs_of(store, "t")] == ["1", "2"]

            await store.execute(Reopen("t", "r2"))
            await runtime.execute(Resend("s", "c2", 2))
            await until_sent(store)
        assert [each.payload for each in await inputs_of(store, "t")] == ["1", "2", "no"]

    carry(body)


def test_what_no_longer_matters_is_not_listed(carry: Callable[[Body], None]) -> None:
    """A decision about a ticket that is settled, and a cancel of a run that has ended."""

    async def body(store: Store) -> None:
        async with Runtime(store, echo) as runtime:
            receipt = await runtime.submit("t", "x")
            await receipt.result(WAIT_S)
            status = await receipt.status()
            assert status is not None and status.run_id is not None
            await send(store, NewOutbound(RequestCancel("t", "", status.run_id)))
            await until_sent(store)
        assert await rows_of(store) == ()

    carry(body)


async def echo(turn: Turn) -> str:
    return turn.text


class Away:
    """A store that does not answer for a while."""

    def __init__(self, store: Store, times: int) -> None:
        self.store, self.times = store, times

    async def decide(self, command: Command[Any, Any]) -> Any:
        if self.times:
            self.times -= 1
            raise Unavailable("away")
        return await self.store.decide(command)


def test_a_target_that_does_not_answer_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent, "BACKOFF_BASE_MS", 20)

    async def body() -> None:
        own, far = MemoryStore(), MemoryStore()
        away: Any = Away(far, 3)
        await send(own, *[wake("t", str(n), peer="far") for n in range(4)], wake("u", "near"))
        async with Runtime(own, peers={"far": away}):
            await until_sent(own)
        assert [each.payload for each in await inputs_of(far, "t")] == ["0", "1", "2", "3"]
        assert [each.payload for each in await inputs_of(own, "u")] == ["near"]
        assert away.times == 0

    asyncio.run(body())


def test_rows_for_a_store_that_nobody_has_named_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:  # RELAY-20
        own, far = MemoryStore(), MemoryStore()
        await send(own, wake("t", "far", peer="far"), wake("t", "near"))
        async with Runtime(own):
            await until(lambda: are_left(own, 1))
            (row,) = await rows_of(own)
        assert (row.peer, row.state, row.attempts) == ("far", Due(0), 0)
        async with Runtime(own, peers={"far": far}):
            await until_sent(own)
        assert [each.payload for each in await inputs_of(far, "t")] == ["far"]

    async def are_left(store: Store, count: int) -> bool:
        return len(await rows_of(store)) == count

    asyncio.run(body())
    with pytest.raises(ValueError, match="peer 'a b'"):
        Runtime(MemoryStore(), peers={"a b": MemoryStore()})


def test_a_destroyed_session_still_sends(carry: Callable[[Body], None]) -> None:  # OUTBOUND-51
    async def body(store: Store) -> None:
        await send(store, wake("t", "last words"))
        await store.execute(Destroy("s", "d1"))
        async with Runtime(store):
            await until_sent(store)
        assert [each.payload for each in await inputs_of(store, "t")] == ["last words"]

    carry(body)


# -- a relay that is killed


def test_a_relay_that_is_killed_50_times_loses_and_doubles_nothing(tmp_path: Path) -> None:
    own, far = tmp_path / "own.db", tmp_path / "far.db"
    kills, sessions = 50, 30

    async def fill() -> None:
        store = SqliteStore(own)
        for n in range(sessions):
            for by in range(2):
                new = [wake(f"t{m % 3}", f"{n:02}/{by}{m}", peer="far") for m in range(8)]
                await send(store, *new, session=f"s{n}", by=f"c{by}")
        await store.aclose()
        await SqliteStore(far).aclose()

    asyncio.run(fill())
    script = str(TESTS / "support" / "relay_child.py")

    ran = subprocess.run(
        [sys.executable, script, str(own), str(far), str(kills), "1"],
        timeout=300, capture_output=True, text=True,
    )  # fmt: skip

    assert ran.stdout.split() == [str(kills), "0"], f"{ran.stdout} {ran.stderr}"

    async def read() -> list[Input]:
        store = SqliteStore(far)
        found = [each for m in range(3) for each in await inputs_of(store, f"t{m}")]
        await store.aclose()
        return found

    got = asyncio.run(read())
    routes = {(n, m): [f"{n:02}/{by}{k}" for by in range(2) for k in range(m, 8, 3)]
              for n in range(sessions) for m in range(3)}  # fmt: skip
    for (n, m), expected in routes.items():
        arrived = [e.payload for e in got if e.session_id == f"t{m}" and e.payload[:2] == f"{n:02}"]
        assert arrived == expected, "each once, in order"
    assert len(got) == sessions * 16
