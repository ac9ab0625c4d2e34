"""What every store does: load, decide, write, commit, answer, hint.  Spec: specs/store.md."""

from __future__ import annotations

import enum
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Protocol, TypeAlias, TypeVar

from attrs import frozen

from tenure.outcome import Decided, Hint, Refused
from tenure.queries import Command, Question, Record

from .errors import TenureError

A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")

Clock: TypeAlias = Callable[[], int]


def wall_clock_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


class Durability(enum.StrEnum):
    """What an answered command survives."""

    NOTHING = "nothing"  # it is gone with the object
    CRASH = "crash"  # of the process and of the machine: it is on the disk before it is answered


class Capability(enum.StrEnum):
    """What a store can do besides; the conformance suite asks for them by name."""

    REOPEN = "reopen"  # opened again it holds what it held
    PROCESSES = "processes"  # several OS processes may use it at once
    SKEW = "skew"  # and their clocks may differ: fences and records hold all the same
    QUARANTINE = "quarantine"  # a record that cannot be read sets its session aside


@frozen
class Due:
    """A session that something can be done for, since `due_at_ms`."""

    session_id: str
    due_at_ms: int


@frozen
class Quarantined:
    """A session of which a record cannot be read: skipped by `due` until it is readmitted."""

    session_id: str
    reason: str
    at_ms: int


class Unavailable(TenureError):
    """It was not done and nothing has changed.  Try again later."""


class OutcomeUnknown(TenureError):
    """Nobody knows whether it was done.  Execute the command again: if it was, that is a replay."""


class Corrupt(TenureError):
    """What is stored cannot be read."""

    def __init__(self, what: str, key: tuple[object, ...] = (), why: object = "") -> None:
        super().__init__(what, key, why)
        self.what = what  # a file or a table
        self.key = key  # of the record, if it is one record
        self.why = why

    def __str__(self) -> str:
        at = f" {self.key!r}" if self.key else ""
        return f"{self.what}{at} cannot be read: {self.why}"


class SchemaTooNew(TenureError):
    """The store was written by a newer release."""

    def __init__(self, where: str, found: int, known: int) -> None:
        super().__init__(where, found, known)
        self.where, self.found, self.known = where, found, known

    def __str__(self) -> str:
        return f"{self.where} has schema {self.found}; this release knows {self.known}: upgrade"


class Store(Protocol):
    """A store has one clock and reads it behind its lock.  All its methods may be called from any event loop.

    Raises Unavailable, OutcomeUnknown, Corrupt, SchemaTooNew; an AssertionError is a bug in the kernel.
    """

    @property
    def durability(self) -> Durability: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    async def execute(self, command: Command[V, O], /) -> O | Refused:
        """Carry a command out; return its outcome.  Cancelling the caller does not stop the command."""
        ...

    async def decide(self, command: Command[V, O], /) -> Decided[O] | Refused:
        """`execute`, with the whole decision: clause, writes, hints and whether it was a replay."""
        ...

    async def ask(self, question: Question[A], /) -> A:
        """Answer a question from one snapshot, which holds all that was answered before."""
        ...

    async def due(self, limit: int, /) -> tuple[Due, ...]:
        """Up to `limit` sessions that something can be done for now, in random order.  Locks nobody."""
        ...

    async def horizon(self) -> int | None:
        """The earliest `due_at_ms` that has not come yet; None: nothing waits for a time."""
        ...

    def hints(self) -> AsyncIterator[Hint]:
        """Hints from now on, of this and of other processes, until the store is closed.

        Lossy.  An empty session id means that something changed, nobody said where.
        """
        ...

    async def quarantined(self) -> tuple[Quarantined, ...]: ...

    async def readmit(self, session_id: str, /) -> None:
        """End the quarantine of a session, once it has been repaired."""
        ...

    async def dump(self) -> tuple[Record, ...]:
        """All records, in no order; for tests and exports."""
        ...

    async def aclose(self) -> None:
        """Finish what was begun, then close.  Closing twice is closing once."""
        ...


def outcome_of(decided: Decided[O] | Refused) -> O | Refused:
    return decided if isinstance(decided, Refused) else decided.outcome


# -- looking for work

LOOK: int = 1024


class DueSampler:
    """Turns ordered looks at what is due into samples in which everybody comes up.

    Each look goes on behind the last one, at most LOOK rows, and around: however many sessions are due all the time,
    each is seen once in a round.
    """

    def __init__(self) -> None:
        self.after: tuple[int, str] | None = None

    def sample(
        self, limit: int, look: Callable[[tuple[int, str] | None, int], list[tuple[int, str]]]
    ) -> list[tuple[int, str]]:
        """`look(after, limit)` returns (due_at_ms, session_id) in order, strictly behind `after`."""
        most = max(LOOK, limit)
        found = look(self.after, most)
        if len(found) < most and self.after is not None:
            seen = set(found)
            found += [row for row in look(None, most - len(found)) if row not in seen]
        self.after = found[-1] if len(found) == most else None
        return random.sample(found, min(limit, len(found)))
