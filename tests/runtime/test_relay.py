"""What sessions send to others: through one store and between two, also if a process is killed.  Spec: specs/relay.md."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tenure.commands import (
    Acquire,
    Admit,
    Amend,
    NewInput,
    NewOutbound,
    Open,
)
from tenure.machines.lease import Owner
from tenure.outbound_records import Undeliverable
from tenure.outcome import Refused
from tenure.questions import SessionOutbound
from tenure.records import Input
from tenure_drivers.runtime.runtime import Runtime
from tenure_drivers.stores.memory import MemoryStore


async def send(store: Any, *sent: NewOutbound, session: str = "s", by: str = "c1") -> None:
    await store.execute(Open(session))
    acquired = await store.execute(Acquire(session, f"L-{by}", Owner("w", "w.1")))
    revision = acquired.revision
    answer = await store.execute(Amend(session, by, acquired.fence, revision, outbound=sent))
    assert not isinstance(answer, Refused), answer


def wake(to: str, text: str = "go", id_: str = "", **more: Any) -> NewOutbound:
    return NewOutbound(Admit(to, (NewInput(id_, "wake", text),), **more))


async def until(found: Callable[[], Any]) -> Any:
    for _ in range(2_000):
        if (answer := await found()) is not None:
            return answer
        await asyncio.sleep(0.005)
    raise AssertionError("not within 10 s")


async def nothing_left(store: Any) -> Any:
    rows = await store.ask(SessionOutbound("s"))
    waiting = [row for row in rows if not isinstance(row.state, Undeliverable)]
    return None if waiting else rows


async def test_what_a_session_sends_arrives_in_order_and_is_removed() -> None:
    store = MemoryStore()
    await send(store, *[wake("t", str(n)) for n in range(8)])
    async with Runtime(store):
        await until(lambda: nothing_left(store))
    rows = [row for row in await store.dump() if isinstance(row, Input)]
    assert [row.payload for row in rows] == [str(n) for n in range(8)]
