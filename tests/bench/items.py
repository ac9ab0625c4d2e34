"""The item: admit one input of 200 B, begin, commit with 2 KB; and what tenure writes for it."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from tenure.commands import Admit, Begin, Begun, Commit, NewInput, Renew
from tenure.machines.lease import Owner
from tenure.outcome import Decided, Refused
from tenure.queries import Get
from tenure.records import Session
from tenure.transcript import NewNode, Role
from tenure.world import EMPTY, evolve

from .window import BODY, PAYLOAD, Window, in_tasks

OWNER = Owner("bench", "bench.1")


class Client:
    """The worker of one session: names its commands as a host would.

    `done`: how many it has worked already.  A name that was used before is a replay, which is no work.
    """

    def __init__(self, number: int, done: int = 0) -> None:
        self.session_id = f"session-{number:06d}"
        self.done = done

    def admit(self) -> Admit:
        self.done += 1
        self.name = f"{self.session_id}-{self.done:08d}"
        return Admit(self.session_id, (NewInput(f"in-{self.name}", "prompt", PAYLOAD),))

    def begin(self) -> Begin:
        return Begin(self.session_id, f"lease-{self.name}", f"run-{self.name}", OWNER)

    def renew(self, begun: Begun) -> Renew:
        return Renew(self.session_id, begun.fence)

    def commit(self, begun: Begun, bodies: tuple[str, ...] = (BODY,)) -> Commit:
        return Commit(
            self.session_id, begun.fence, begun.run_id, begun.turn, begun.n, begun.revision,
            nodes=tuple([NewNode(Role.ASSISTANT, body) for body in bodies]),
        )  # fmt: skip


def work_sync(store: Any, window: Window) -> None:
    client, execute = Client(0), store.execute_now
    while window.open():
        started = time.monotonic()
        execute(client.admit())
        begun = execute(client.begin())
        committed = execute(client.commit(begun))
        assert not isinstance(committed, Refused), committed
        window.count(started)


async def work_async(store: Any, window: Window, first: int, sessions: int) -> None:
    clients = [Client(first + number) for number in range(sessions)]
    await in_tasks(window, sessions, lambda session: one_item(store, clients[session]))


async def work_once(store: Any, numbers: range) -> None:
    """One item in each of these sessions."""
    await asyncio.gather(*[one_item(store, Client(number)) for number in numbers])


async def one_item(store: Any, client: Client) -> None:
    await store.execute(client.admit())
    begun = await store.execute(client.begin())
    committed = await store.execute(client.commit(begun))
    assert not isinstance(committed, Refused), committed


async def work_roaming(store: Any, window: Window, sessions: int, among: int) -> None:
    """Each time at a random one of a large database; two may meet, and only one of them begins."""
    base = time.time_ns() // 1_000_000 % 10_000_000 * 10  # a database is used again: no name twice
    clients = [Client(0, done=base + number * 100_000) for number in range(sessions)]
    dice = random.Random(base)

    async def item(number: int) -> None:
        client = clients[number]
        while True:
            client.session_id = f"session-{dice.randrange(among):06d}"
            await store.execute(client.admit())
            begun = await store.execute(client.begin())
            if isinstance(begun, Begun):
                break
        committed = await store.execute(client.commit(begun))
        assert not isinstance(committed, Refused), committed

    await in_tasks(window, sessions, item)


def recorded_item() -> tuple[Session, list[tuple[Any, ...]]]:
    """The session after two items, and the writes of the second, a tuple a command."""
    world, client = EMPTY, Client(0)
    transactions: list[tuple[Any, ...]] = []
    begun: Any = None
    for step in range(6):
        command: Any
        match step % 3:
            case 0:
                command = client.admit()
            case 1:
                command = client.begin()
            case _:
                command = client.commit(begun)
        decided = command.decide(world.load(command.reads()), 1_000)
        assert isinstance(decided, Decided)
        world = evolve(world, decided.writes)
        begun = decided.outcome if isinstance(decided.outcome, Begun) else begun
        transactions.append(decided.writes)
    session = world.answer(Get(Session, ("session-000000",)))
    assert session is not None
    return session, transactions[3:]
