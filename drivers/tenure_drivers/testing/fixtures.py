"""Parts of the conformance suite and the agreement machine: a manual clock, test commands, the expected answers."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, TypeAlias, TypeVar

from attrs import define, frozen

from tenure.commands import Admit, Begin, NewInput
from tenure.indexes import CHANGED, EVENT_BATCHES
from tenure.machines.lease import Owner
from tenure.outcome import Decided, Hint, Insert, Refused, Update
from tenure.queries import Command, First, Get, Query, Question, Reads, read
from tenure.records import Blob, EventBatch, Session
from tenure.release import RELEASE, decide_at
from tenure.world import EMPTY, World, evolve, world_of

from ..stores.base import Clock, Store
from ..stores.field_types import measure_command
from .command_generator import CommandGenerator

__all__ = [
    "START_MS",
    "Explode",
    "ManualClock",
    "Opener",
    "PagedSessions",
    "Put",
    "RandomProgram",
    "SnapshotProbe",
    "Steps",
    "asynchronous",
    "begin",
    "decided",
    "executed",
    "in_turn",
    "prompt",
]


A = TypeVar("A")
Opener: TypeAlias = Callable[[Clock], Store]
Steps: TypeAlias = Generator[Query[Any], Any, A]

START_MS = 1_000_000


@define
class ManualClock:
    """A clock that stands still until a test moves it."""

    now_ms: int = START_MS

    def __call__(self) -> int:
        return self.now_ms


def asynchronous(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test on an event loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def whole() -> None:
            await test(*args, **kwargs)

        asyncio.run(whole())

    return run


async def executed(store: Store, command: Command[Any, Any]) -> object:
    """Return the decision, or AssertionError: a bug of the kernel must show in every store."""
    try:
        return await store.decide(command)
    except AssertionError:  # or Inconsistent, which is one
        return AssertionError


def decided(world: World, command: Command[Any, Any], now_ms: int) -> tuple[object, World]:
    """Return the answer and the world that a store must have after a command."""
    size = measure_command(command)
    if isinstance(size, Refused):
        return size, world
    try:
        answer = decide_at(RELEASE, command, world.load(command.reads()), now_ms)
        return answer, evolve(world, answer.writes) if isinstance(answer, Decided) else world
    except AssertionError as error:
        return error.__class__, world


# -- a program that a crash may interrupt


@frozen
class RandomProgram:
    """A deterministic sequence of groups of commands, and the worlds that a crash may leave."""

    seed: int
    groups: int

    def worlds(self) -> list[list[World]]:
        """Return, for each number of answered groups, the worlds in which a crash may leave a store.

        A group is mostly one transaction, but its commands may be carried out one by one.
        """
        clock, dice, world = ManualClock(), random.Random(self.seed), EMPTY
        client, found = CommandGenerator(dice.choice), list[list[World]]()
        for _ in range(self.groups):
            clock.now_ms += dice.choice((0, 1, 10, 30))
            possible, answers = [world], []
            group = client.send_some(clock.now_ms)
            for command in group:
                answer, world = decided(world, command, clock.now_ms)
                answers.append(answer)
                possible.append(world)
            found.append(possible)
            for command, answer in zip(group, answers, strict=True):
                client.observe(command, answer)
        return [*found, [world]]

    async def run(self, store: Store, clock: ManualClock, answered: Callable[[int], None]) -> None:
        """Execute all groups; call `answered` with the number of groups so far.  `clock` is the clock of the store."""
        dice = random.Random(self.seed)
        client = CommandGenerator(dice.choice)
        client.world = world_of(await store.dump())
        for number in range(self.groups):
            clock.now_ms += dice.choice((0, 1, 10, 30))
            group = client.send_some(clock.now_ms)
            answers = await asyncio.gather(*[executed(store, command) for command in group])
            for command, answer in zip(group, answers, strict=True):
                client.observe(command, answer)
            answered(number + 1)


# -- commands and questions of the suite itself


@frozen
class PutView:
    blob: Blob | None


@frozen
class Put(Command[PutView, str]):
    """Store a text and answer the previous one.  With `wrong`, also insert a row that exists, which must fail."""

    session_id: str
    digest: str
    body: str
    wrong: bool = False

    def reads(self) -> Reads[PutView]:
        return read(PutView, Get(Blob, (self.session_id, self.digest)))

    def decide(self, view: PutView, now_ms: int) -> Decided[str] | Refused:
        blob = Blob(self.session_id, self.digest, self.body)
        write = Insert(blob) if view.blob is None else Update(blob)
        before = "" if view.blob is None else view.blob.body
        hints = (Hint(self.session_id, now_ms),)
        if self.wrong:
            return Decided(before, "TEST", (write, Insert(blob)), hints)
        return Decided(before, "TEST", (write,), hints)


@frozen
class Explode(Command[PutView, str]):
    """A command whose decision raises ZeroDivisionError."""

    session_id: str

    def reads(self) -> Reads[PutView]:
        return read(PutView, Get(Blob, (self.session_id, "x")))

    def decide(self, view: PutView, now_ms: int) -> Decided[str] | Refused:
        raise ZeroDivisionError(self.session_id)


@frozen
class SnapshotProbe(Question[tuple[Session | None, tuple[EventBatch, ...]]]):
    """Read a session and its last events, which must fit together: the session's row numbers its events."""

    session_id: str

    def steps(self) -> Steps[tuple[Session | None, tuple[EventBatch, ...]]]:
        session: Session | None = yield Get(Session, (self.session_id,))
        events: tuple[EventBatch, ...] = yield First(
            EVENT_BATCHES, (self.session_id,), 1, backwards=True
        )
        return session, events


@frozen
class PagedSessions(Question[tuple[str, ...]]):
    """Read session ids in pages of two, in the order of their last change."""

    def steps(self) -> Steps[tuple[str, ...]]:
        found: list[str] = []
        after: tuple[str | int, ...] = ()
        while page := (yield First(CHANGED, (), 2, after=after)):
            found += [s.session_id for s in page]
            after = (page[-1].changed_at_ms, page[-1].session_id)
        return tuple(found)


def prompt(session: str, at: int, payload: str = "hello") -> Admit:
    """Return a command that admits one prompt; `at` makes its id unique."""
    return Admit(session, (NewInput(f"{session}-{at}", "prompt", payload),))


def begin(session: str, at: int) -> Begin:
    """Return a Begin with a lease id and a run id made from `at`."""
    return Begin(session, f"lease-{at}", f"run-{at}", Owner("tester", "first"))


def in_turn(group: Sequence[Command[Any, Any]]) -> list[int]:
    """Return an order in which a group may be decided, with each session in its own order.

    Sessions do not read each other's rows, so any such order gives the same answers.
    """
    return sorted(range(len(group)), key=lambda at: group[at].session_id)
