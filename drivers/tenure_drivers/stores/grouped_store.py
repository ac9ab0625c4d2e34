"""What all stores of tenure share: group commit, the fork check, closing, hints and quarantine defaults.

`GroupedStore` is the base class of every store here.  `TablesStore` keeps all records in memory.  Spec: specs/store.md.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

from tenure.outcome import Decided, Hint, Refused
from tenure.queries import Command, First, Query, Question, Record
from tenure.release import RELEASE

from .base import (
    Clock,
    Corrupt,
    Due,
    DueSampler,
    OutcomeUnknown,
    Quarantined,
    SchemaMismatch,
    Unavailable,
    answer_of,
    outcome_of,
)
from .field_types import measure_command
from .group_commit import (
    GROUP_MAX,
    Answer,
    Busy,
    GroupCommit,
    NoEngineError,
    execute_waves,
    unwritten,
)
from .hint_bus import HintBus
from .layout import check_active
from .ordered_tables import MemoryTables
from .overlay import WriteOverlay

__all__ = ["Commands", "GroupedStore", "TablesStore", "run_or_split"]


A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")

Commands = Sequence[Command[Any, Any]]


class GroupedStore:
    """Executes commands through a `GroupCommit`.  A subclass sets `group`, reads, and releases what it opened.

    `name` stands in messages.  The `GroupCommit` of a subclass calls `_transact`, which calls `_execute_group`.
    """

    group: GroupCommit

    def __init__(self, name: str) -> None:
        self._name = name
        self._pid = os.getpid()
        self._closed = False
        self._hint_bus = HintBus()
        self._sampler = DueSampler()

    # -- commands

    async def execute(self, command: Command[V, O]) -> O | Refused:
        """Execute a command and return its outcome."""
        return outcome_of(await self.decide(command))

    async def decide(self, command: Command[V, O]) -> Decided[O] | Refused:
        """Execute a command and return the whole decision."""
        self._check_usable()
        size = measure_command(command)
        if isinstance(size, Refused):
            return size
        return await self.group.submit(command, size)

    def execute_now(self, command: Command[V, O]) -> O | Refused:
        """Execute a command in a transaction of its own, from any thread and without an event loop."""
        return outcome_of(self.decide_now(command))

    def decide_now(self, command: Command[V, O]) -> Decided[O] | Refused:
        """`execute_now`, with the whole decision."""
        self._check_usable()
        size = measure_command(command)
        if isinstance(size, Refused):
            return size
        return self.group.run_now(command)

    def _transact(self, commands: Commands, wait: bool) -> Sequence[Answer]:
        """Answer each command by position, then publish the hints of what was committed (STORE-15).

        A session whose rows cannot be read or do not fit together is put into quarantine (STORE-47).
        """
        answers = self._execute_group(commands, wait)
        corrupt = {
            command.session_id: str(answer)
            for command, answer in zip(commands, answers, strict=True)
            if isinstance(answer, Corrupt) and answer.key
        }
        if corrupt:
            self._quarantine(corrupt, wait)
        hints = [h for a in answers if a.__class__ is Decided for h in a.hints]
        if hints:
            self._publish(hints)
        return answers

    def _execute_group(self, commands: Commands, wait: bool) -> Sequence[Answer]:
        """Answer each command by position; most subclasses do so with `run_or_split`."""
        raise NotImplementedError

    def _publish(self, hints: Sequence[Hint]) -> None:
        self._hint_bus.publish(hints)

    # -- hints and quarantine

    def hints(self) -> AsyncIterator[Hint]:
        """Subscribe to hints from now on; the iterator ends when the store is closed."""
        return self._hint_bus.listen()

    async def quarantined(self) -> tuple[Quarantined, ...]:
        """Return the sessions in quarantine."""
        raise NotImplementedError

    async def readmit(self, session_id: str) -> None:
        """End the quarantine of a session."""
        raise NotImplementedError

    def _quarantine(self, reasons: Mapping[str, str], wait: bool) -> None:
        """Put sessions into quarantine, with the reason of each; if that fails, the next command about them will.

        Called with `engine` held.  If `wait` is False, do not wait for another connection.
        """
        raise NotImplementedError

    # -- the end

    async def aclose(self) -> None:
        """Finish the commands that were submitted, then close.  A second call does nothing."""
        if not self._closed:
            await asyncio.get_running_loop().run_in_executor(None, self.close)

    def close(self) -> None:
        """`aclose` without an event loop.  In a forked child it releases nothing: the parent owns everything."""
        if self._closed:
            return
        self._closed = True
        if os.getpid() != self._pid:
            return
        self.group.close()
        self._release()

    def _release(self) -> None:
        """Release what the store opened; called once, after the last group."""
        self._hint_bus.end()

    def _check_usable(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"{self._name} was opened by process {self._pid}, this is {os.getpid()}: open it again"
            )
        if self._closed:
            raise Unavailable(f"{self._name} is closed")


def run_or_split(
    attempt: Callable[[Commands], Sequence[Answer]],
    commands: Commands,
    meaning: Callable[[Exception], Exception] = lambda error: error,
    alone: Callable[[Commands], Sequence[Answer]] | None = None,
) -> Sequence[Answer]:
    """Run one transaction for all commands; if a write fails, run each command alone (STORE-14).

    `attempt` runs one transaction and raises if it was rolled back.  Unavailable, OutcomeUnknown and SchemaMismatch are
    the answer to every command.  After any other error nothing is changed, and the error of one command must not fail the others:
    `alone` runs them one by one, each at a new reading of the clock.  `meaning` translates the error of the engine.
    """
    try:
        return attempt(commands)
    except Busy:
        raise
    except (Unavailable, OutcomeUnknown, SchemaMismatch) as error:
        return [error] * len(commands)
    except Exception as error:
        if len(commands) == 1:
            return [unwritten(commands[0], meaning(error))]
    if alone is not None:
        return alone(commands)
    return [a for command in commands for a in run_or_split(attempt, [command], meaning)]


class TablesStore(GroupedStore):
    """A store that holds all records in memory and answers every read from there.

    It decodes every record when it opens, so only sessions whose rows do not fit together are put into quarantine, until
    the store is closed.  `active` is the number of the release that may write (SCHEMA-1).
    """

    def __init__(
        self, name: str, clock: Clock, *, group_max: int = GROUP_MAX, active: int = RELEASE
    ) -> None:
        super().__init__(name)
        self.active = check_active(active, name)
        self.tables = MemoryTables()
        self._clock = clock
        self._reading = threading.Lock()  # held by readers, and while the tables change
        self._quarantined: dict[str, Quarantined] = {}
        self.group = GroupCommit(
            self._transact,
            name=f"tenure-write-{os.path.basename(name)}",
            after_group=self._after_group,
            group_max=group_max,
        )

    # -- the transaction of a group

    def _execute_group(self, commands: Commands, wait: bool) -> Sequence[Answer]:
        return run_or_split(self._attempt, commands)

    def _attempt(self, commands: Commands) -> Sequence[Answer]:
        """Run one transaction.  If it raises, nothing was changed, except after OutcomeUnknown."""
        overlay = WriteOverlay(self.tables)
        answers = execute_waves(overlay, commands, self._clock, self.active, NoEngineError)
        if overlay.decisions:
            self._make_durable(overlay.decisions)
            with self._reading:
                overlay.apply()
        return answers

    def _make_durable(self, decisions: Sequence[Decided[Any]]) -> None:
        """Write the decisions where they survive what `durability` promises (STORE-11); may raise."""

    def _after_group(self) -> None:
        """Called on the writer's thread after each group, while the engine is free."""

    # -- quarantine

    async def quarantined(self) -> tuple[Quarantined, ...]:
        """Return the sessions in quarantine."""
        with self._reading:
            return tuple(self._quarantined.values())

    async def readmit(self, session_id: str) -> None:
        """End the quarantine of a session."""
        with self._reading:
            self._quarantined.pop(session_id, None)

    def _quarantine(self, reasons: Mapping[str, str], wait: bool) -> None:
        with self._reading:
            self._set_aside(reasons)

    def _set_aside(self, reasons: Mapping[str, str]) -> None:
        now_ms = self._clock()
        for session_id, reason in reasons.items():
            self._quarantined[session_id] = Quarantined(session_id, reason, now_ms)

    # -- reads

    async def ask(self, question: Question[A]) -> A:
        """Answer a question from one snapshot."""
        with self._reading:
            self._check_readable()
            try:
                return answer_of(question, self._answer)
            except Corrupt as error:
                self._set_aside({str(key): str(error) for key in error.key})
                raise

    def _answer(self, query: Query[Any]) -> Any:
        if isinstance(query, First) and query.index.for_workers:
            return self.tables.first(query, without=self._quarantined)
        return self.tables.answer(query)

    async def due(self, limit: int) -> tuple[Due, ...]:
        """Return up to `limit` sessions that are due now, in random order."""
        with self._reading:
            self._check_readable()
            return self.tables.sample_due(self._sampler, self._clock(), limit, self._quarantined)

    async def horizon(self) -> int | None:
        """Return the earliest `due_at_ms` in the future."""
        with self._reading:
            self._check_readable()
            return self.tables.horizon(self._clock(), self._quarantined)

    async def dump(self) -> tuple[Record, ...]:
        """Return all records, in no order."""
        return self.dump_now()

    def dump_now(self) -> tuple[Record, ...]:
        """`dump` without an event loop, from any thread."""
        with self._reading:
            self._check_readable()
            return self.tables.all()

    def _check_readable(self) -> None:
        self._check_usable()
