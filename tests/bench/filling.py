"""Stores that already hold much: rows made by hand, written past the kernel or restored.

They are what the kernel would have written: its own laws are asked in the tests.  A count that is wrong on a session's
row lets a store leave out the very work that is to be measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from attrs import evolve as evolve_command

from tenure.commands import NewState, NewTicket, Park, Switch
from tenure.commands.restore import Restore
from tenure.limits import RESTORED_ROWS_MAX, STATES_MAX
from tenure.machines import input as input_
from tenure.machines.run import WaitReason
from tenure.machines.ticket import Action, TicketKind
from tenure.outcome import Decided, Refused
from tenure.policy import POLICIES, Delivery, Lane
from tenure.records import Input, Node, QueueEntry, Session
from tenure.transcript import Role, Tip, hash_content
from tenure.world import EMPTY, evolve
from tenure_drivers.stores.registry import open_store
from tenure_drivers.stores.row_codec import codec_of
from tenure_drivers.stores.sqlite.sql import insert_record
from tenure_drivers.stores.sqlite.store import SqliteStore

from .items import Client
from .window import BODY, PAYLOAD

SESSION, TICKET = "session-000000", "ticket"
FRAME_IDS = tuple(f"f{number:03d}" for number in range(255))
NODES_MIN = 12
NEVER_MS = 10**12


def started() -> list[Any]:
    """The rows of a session in which a run has begun."""
    world, client = EMPTY, Client(0)
    for make in (client.admit, client.begin):
        command: Any = make()
        decided = command.decide(world.load(command.reads()), 1_000)
        assert isinstance(decided, Decided)
        world = evolve(world, decided.writes)
    return list(world)


def waiting() -> list[Any]:
    """The rows of a session whose run waits for a person."""
    world, client = EMPTY, Client(0)

    def executed(command: Any) -> Any:
        nonlocal world
        decided = command.decide(world.load(command.reads()), 1_000)
        assert isinstance(decided, Decided), decided
        world = evolve(world, decided.writes)
        return decided.outcome

    executed(client.admit())
    begun = executed(client.begin())
    asked = NewTicket(TICKET, "ask", TicketKind.QUESTION, "may I?", (Action.ANSWER,))
    executed(
        Park(
            SESSION, begun.fence, begun.run_id, begun.turn, begun.n, "wait",
            WaitReason.APPROVAL, tickets=(asked,),
        )
    )  # fmt: skip
    return list(world)


def inbox(depth: int, delayed_until: int = NEVER_MS, runs: tuple[str, ...] = ()) -> Iterator[Any]:
    """`depth` inputs of which a tenth is delayed; the session's row comes last.

    With `runs` every hundredth is steering that names one of them.
    """
    delayed, addressed = len(range(3, depth + 1, 10)), 0
    policy, digest = POLICIES["prompt"], hash_content("prompt", PAYLOAD)
    for number in range(1, depth + 1):
        input_id = f"old-{number:08d}"
        yield Input(SESSION, input_id, "prompt", "bench", None, None, digest, policy, 1, PAYLOAD)
        state: input_.Delayed | input_.Ready
        if number % 10 == 3:
            state = input_.Delayed(0, delayed_until, None, False, 200)
        elif runs and number % 100 == 7:
            addressed += 1
            state = input_.Ready(
                0, number, None, False, 200,
                delivery=Delivery.EARLIEST, target_run=runs[addressed % len(runs)],
            )  # fmt: skip
        else:
            state = input_.Ready(0, number, None, False, 200)
        yield QueueEntry(SESSION, input_id, number, Lane.USER, 128, state)
    yield Session(
        SESSION,
        next_rank=depth + 1,
        ready_user_count=depth - delayed,
        delayed_count=delayed,
        targeted_count=addressed or None,
        due_at_ms=0,
    )


def transcript(length: int, session_id: str = SESSION, body: str = BODY) -> Iterator[Any]:
    for number in range(1, length + 1):
        parent = f"old-{number - 1:08d}" if number > 1 else None
        yield Node(
            session_id, f"old-{number:08d}", parent, "old", number, Role.ASSISTANT,
            (), (), "c1:old", False, 1, body,
        )  # fmt: skip
    yield Session(session_id, revision=length, leaf=Tip(f"old-{length:08d}", "c1:old"))


def framed(frames: int, blobs: int = 0, session_id: str = SESSION) -> list[Any]:
    """A session with at least ten nodes and this many frames, which hold at least so many blobs together."""
    world, client = EMPTY, Client(0)
    client.session_id = session_id
    for number in range(max(frames - 1, NODES_MIN)):
        begun: Any = None
        for step in range(3):
            command: Any = client.admit() if step == 0 else client.begin()
            if step == 2:
                names = range(min(STATES_MAX, max(0, blobs - STATES_MAX * number)))
                states = tuple([NewState(f"n{n}", f"{n} of {number}") for n in names])
                frame_id = FRAME_IDS[number % (frames - 1)]
                command = evolve_command(
                    client.commit(begun), switch=Switch(frame_id), states=states
                )
            decided = command.decide(world.load(command.reads()), 1_000)
            assert isinstance(decided, Decided), decided
            world, begun = evolve(world, decided.writes), decided.outcome
    return sorted(world, key=lambda row: isinstance(row, Session))


def with_blobs(blobs: int) -> Iterator[Any]:
    """A session with a few or with 250 frames, and others, which have this many blobs together."""
    of_session = min(blobs, 250 * STATES_MAX)
    for number in range(max(1, blobs // of_session)):
        session_id = SESSION if number == 0 else f"other-{number:06d}"
        yield from framed(max(3, of_session // STATES_MAX + 1), of_session, session_id)


def written(path: Path, records: Iterable[Any], clock: list[int]) -> SqliteStore:
    """An SQLite store that holds these, written past the kernel: a million take a minute."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    store = SqliteStore(path, clock=lambda: clock[0])
    writer = store._writer.connection
    writer.execute("PRAGMA synchronous=OFF")  # what is measured is work, not the disk
    writer.execute("BEGIN")
    for record in records:
        kind = type(record)
        codec = codec_of(kind)
        writer.execute(insert_record(codec), codec.encode(record))
    writer.execute("COMMIT")
    return store


async def restored(url: str, records: Iterable[Any], clock: list[int] | None = None) -> Any:
    """Any store, with these rows put into it: of one session after the other, its own row last."""
    options: dict[str, Any] = {} if clock is None else {"clock": lambda: clock[0]}
    store = open_store(url, **options)
    part: list[Any] = []
    for record in records:
        if isinstance(record, Session) or len(part) == RESTORED_ROWS_MAX:
            await _restore(store, part)
            part = []
        part.append(record)
        if isinstance(record, Session):
            await _restore(store, part)
            part = []
    return store


async def _restore(store: Any, records: list[Any]) -> None:
    if records:
        answer = await store.execute(Restore(records[0].session_id, tuple(records)))
        assert not isinstance(answer, Refused), answer


def restored_now(url: str, records: Iterable[Any], clock: list[int]) -> Any:
    """For `execute_now`: no event loop is left behind."""
    return asyncio.run(restored(url, records, clock))
