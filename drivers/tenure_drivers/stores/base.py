"""The contract of every store: load, decide, write, commit, answer, publish hints.  Spec: specs/store.md."""

from __future__ import annotations

import enum
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from attrs import frozen

from tenure.kind import Kind
from tenure.outcome import Decided, Hint, Refused
from tenure.queries import Command, Query, Question, Record, RowsContradict
from tenure.world import ask

from .errors import TenureError

__all__ = [
    "Capability",
    "Clock",
    "Corrupt",
    "Due",
    "DuePlace",
    "DueRow",
    "DueSampler",
    "Durability",
    "Inconsistent",
    "OutcomeUnknown",
    "Quarantined",
    "SchemaMismatch",
    "SchemaTooNew",
    "SchemaTooOld",
    "Store",
    "Unavailable",
    "Unusable",
    "answer_of",
    "due_of",
    "outcome_of",
    "wall_clock_ms",
]


A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")

Clock: TypeAlias = Callable[[], int]


def wall_clock_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


class Durability(enum.StrEnum):
    """What an executed command survives."""

    NOTHING = "nothing"  # they end with the store object
    CRASH = "crash"  # a crash of the process and of the machine: they are on disk before the answer


class Capability(enum.StrEnum):
    """A feature that a store may have; the conformance suite tests the declared ones."""

    REOPEN = "reopen"  # opened again, it holds what it held
    PROCESSES = "processes"  # several OS processes may use it at once
    SKEW = "skew"  # their clocks may differ, and fences and records still hold
    QUARANTINE = "quarantine"  # an unreadable record puts only its session into quarantine


@frozen
class Due:
    """A session, a job or a trigger that has had work since `due_at_ms`."""

    session_id: str
    due_at_ms: int
    kind: Kind = Kind.SESSION


@frozen
class Quarantined:
    """A session whose records cannot be read or do not fit together (STORE-47); `due` skips it until it is readmitted."""

    session_id: str
    reason: str
    at_ms: int


class Unavailable(TenureError):
    """The command was not executed and nothing has changed.  It may be tried again."""


class Unusable(Unavailable):
    """The store cannot be used until a person changes something: a password, a permission, a database.

    A retry cannot help.
    """


class OutcomeUnknown(TenureError):
    """The command may have been executed.  Execute it again: if it was executed, that is a replay."""


class Corrupt(TenureError):
    """Stored data cannot be read.  `what` is a file or a table, `key` the key of the record, if it is one record."""

    def __init__(self, what: str, key: tuple[object, ...] = (), why: object = "") -> None:
        super().__init__(what, key, why)
        self.what = what
        self.key = key
        self.why = why

    def __str__(self) -> str:
        at = f" {self.key!r}" if self.key else ""
        return f"{self.what}{at} cannot be read: {self.why}"


class Inconsistent(Corrupt, AssertionError):
    """The rows of a session do not fit together: a command cannot be decided on them, or its writes are impossible.

    It is an AssertionError too: a bug of the kernel, if nobody else has changed the rows.
    """

    def __init__(self, session_id: str, command: str, why: object) -> None:
        super().__init__("session", (session_id,), why)
        self.command = command

    def __str__(self) -> str:
        return (
            f"the rows of session {self.key[0]!r} do not fit together: {self.command}: {self.why}"
        )


class SchemaMismatch(TenureError):
    """This release does not work with the release that is active in the store (SCHEMA-1)."""


class SchemaTooNew(SchemaMismatch):
    """A newer release is active in the store: this one reads and writes nothing (SCHEMA-1)."""

    def __init__(self, where: str, found: int, known: int) -> None:
        super().__init__(where, found, known)
        self.where, self.found, self.known = where, found, known

    def __str__(self) -> str:
        return f"{self.where}: release {self.found} is active, this is release {self.known}: upgrade tenure"


class SchemaTooOld(SchemaMismatch):
    """A release is active in the store that is too old for this one (SCHEMA-1)."""

    def __init__(self, where: str, found: int, needed: int) -> None:
        super().__init__(where, found, needed)
        self.where, self.found, self.needed = where, found, needed

    def __str__(self) -> str:
        return (
            f"{self.where}: release {self.found} is active, this release works with {self.needed} or newer: "
            "stop all workers, then run `tenure store migrate` and `tenure store activate`"
        )


class Store(Protocol):
    """The protocol of a store.  All methods may be called from any event loop.

    A store has one clock and reads it after it has locked the session (STORE-10).
    Raises Unavailable, OutcomeUnknown, Corrupt, SchemaTooOld or SchemaTooNew, the last also after another process has
    activated a newer release (SCHEMA-5).  An AssertionError is a bug of the kernel.
    """

    @property
    def durability(self) -> Durability:
        """What an answer survives."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the store can do beyond the contract."""
        ...

    async def execute(self, command: Command[V, O], /) -> O | Refused:
        """Execute a command and return its outcome.  Cancelling the caller does not stop the command."""
        ...

    async def decide(self, command: Command[V, O], /) -> Decided[O] | Refused:
        """Execute a command and return the whole decision: clause, writes, hints, and whether it was a replay."""
        ...

    async def ask(self, question: Question[A], /) -> A:
        """Answer a question from one snapshot, which includes every command that was answered before."""
        ...

    async def due(self, limit: int, /) -> tuple[Due, ...]:
        """Return up to `limit` sessions that have work now, in random order.  Locks nothing."""
        ...

    async def horizon(self) -> int | None:
        """Return the earliest `due_at_ms` in the future; None if no session waits for a time."""
        ...

    def hints(self) -> AsyncIterator[Hint]:
        """Subscribe to the hints of this and of other processes, from now on until the store is closed.

        A hint may be lost.  An empty session id means that any session may have changed.
        """
        ...

    async def quarantined(self) -> tuple[Quarantined, ...]:
        """Return the sessions in quarantine."""
        ...

    async def readmit(self, session_id: str, /) -> None:
        """End the quarantine of a session whose records were repaired."""
        ...

    async def dump(self) -> tuple[Record, ...]:
        """Return all records, in no order; for tests and exports."""
        ...

    async def aclose(self) -> None:
        """Finish the commands that were submitted, then close.  A second call does nothing."""
        ...


def answer_of(question: Question[A], answer: Callable[[Query[Any]], Any]) -> A:
    """Answer a question, with `answer` for each of its queries.  Raises Inconsistent if the rows contradict each other."""
    try:
        return ask(question, answer)
    except RowsContradict as error:
        session_id = str(getattr(question, "session_id", ""))
        raise Inconsistent(session_id, question.__class__.__name__, error) from error


def outcome_of(decided: Decided[O] | Refused) -> O | Refused:
    """Return the outcome of a decision, or the refusal."""
    return decided if isinstance(decided, Refused) else decided.outcome


# -- looking for work

ROWS_PER_LOOK: int = 1024


DuePlace: TypeAlias = tuple[int, str]  # due_at_ms, session_id
DueRow: TypeAlias = tuple[int, str, str | None]  # with the kind; None: a session
KINDS: Final[dict[str | None, Kind]] = {kind.value: kind for kind in Kind}


def due_of(rows: Iterable[DueRow]) -> tuple[Due, ...]:
    """Return rows of `DueSampler` as answers of `due`.  An unknown kind is found when the row is read."""
    return tuple([Due(id_, at_ms, KINDS.get(kind, Kind.SESSION)) for at_ms, id_, kind in rows])


class DueSampler:
    """Turns ordered reads of the due index into random samples that leave out no session.

    Each read continues after the previous one, for at most ROWS_PER_LOOK rows, and starts over at the end.  So each due
    session is read once in a round, however many there are.
    """

    def __init__(self) -> None:
        self.after: DuePlace | None = None

    def sample(
        self, limit: int, look: Callable[[DuePlace | None, int], list[DueRow]]
    ) -> list[DueRow]:
        """Return up to `limit` rows.

        `look(after, count)` returns up to `count` rows (due_at_ms, session_id, kind) in order, all greater than `after`.
        """
        count = max(ROWS_PER_LOOK, limit)
        found = look(self.after, count)
        if len(found) < count and self.after is not None:
            known = set(found)
            found += [row for row in look(None, count - len(found)) if row not in known]
        self.after = found[-1][:2] if len(found) == count else None
        return random.sample(found, min(limit, len(found)))
