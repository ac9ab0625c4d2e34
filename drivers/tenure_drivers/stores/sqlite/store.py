"""SQLite: several OS processes on one machine; group commit, every answer on the disk before it is given."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tenure import indexes
from tenure.outcome import Hint
from tenure.queries import Question, Record
from tenure.records import RECORDS
from tenure.world import ask

from ..base import (
    Capability,
    Clock,
    Corrupt,
    Due,
    Durability,
    Quarantined,
    wall_clock_ms,
)
from ..group_commit import GROUP_MAX, Answer, GroupCommit
from ..grouped_store import Commands, GroupedStore, run_or_split
from ..row_codec import codec_of
from ..url import StoreUrl
from .connection import connect, translated
from .filesystem import refuse_network
from .notify import FileProcesses, HintListener
from .sql import Tables, quoted, select_due
from .writer import Writer, execute_in

A = TypeVar("A")

BUSY_TIMEOUT_MS = 30_000
CHECKPOINT_PAGES = 8_000
WAL_BYTES_MAX = 256 * 1024 * 1024
WAL_LOOK_GROUPS = 256
PAUSE_S = 0.001  # STORE-22: SQLite does not queue its waiters: without a gap between groups the others starve


class SqliteStore(GroupedStore):
    """Creates the file if it is not there; several processes of one machine may open it at once.

    Raises Unavailable, Corrupt or SchemaTooNew if it cannot be opened, ValueError if other machines can reach it.
    A copy that SQLite itself makes of it while it is open is a backup (STORE-23).  Spec: specs/store.md.
    """

    durability = Durability.CRASH
    capabilities = frozenset(Capability)

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock = wall_clock_ms,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
        checkpoint_pages: int = CHECKPOINT_PAGES,
        wal_bytes_max: int = WAL_BYTES_MAX,
        group_max: int = GROUP_MAX,
    ) -> None:
        self.path = Path(path)
        super().__init__(str(self.path))
        refuse_network(self.path)
        self._clock = clock
        self._writing = Writer(
            self.path,
            clock,
            busy_timeout_ms=busy_timeout_ms,
            checkpoint_pages=checkpoint_pages,
            wal_bytes_max=wal_bytes_max,
        )
        self._writer = self._writing.connection
        self._reader = connect(self.path, checkpoint_pages)
        self._looker = connect(self.path, checkpoint_pages)
        self._answers = Tables(self._reader)
        self._looking = threading.Lock()
        self._asking = ThreadPoolExecutor(1, f"tenure-ask-{self.path.name}")
        self._peers = self._writing.peers = FileProcesses(self.path)
        self._ear: HintListener | None = None
        self.group = GroupCommit(
            self._transact,
            name=f"tenure-write-{self.path.name}",
            engine=self._writing.engine,
            after_group=self._after_group,
            has_no_peers=lambda: not self._peers.others(),
            group_max=group_max,
        )

    # -- commands

    def _execute_group(self, commands: Commands, wait: bool) -> Sequence[Answer]:
        return run_or_split(
            lambda some: self._writing.transact(some, wait),
            commands,
            meaning=lambda error: translated(error, self.path),
        )

    def _publish(self, hints: Sequence[Hint]) -> None:
        super()._publish(hints)
        self._peers.notify(hints)

    def _after_group(self) -> None:
        """On the writer's thread after a group, with the lock free."""
        if self.group.groups % WAL_LOOK_GROUPS == 0:
            self._writing.bound_log()
        if self._peers.others():
            time.sleep(PAUSE_S)

    # -- quarantine

    async def quarantined(self) -> tuple[Quarantined, ...]:
        rows = self._look("SELECT session_id, reason, at_ms FROM quarantine", ())
        return tuple([Quarantined(*row) for row in rows])

    async def readmit(self, session_id: str) -> None:
        self._check_usable()
        await asyncio.get_running_loop().run_in_executor(
            self._asking, self._writing.readmit, session_id
        )

    # -- looking

    async def due(self, limit: int) -> tuple[Due, ...]:
        now_ms = self._clock()
        found = self._sampler.sample(limit, lambda a, most: self._due(now_ms, a, most))
        if len(found) < limit:
            known = {session for _, session in found}
            ahead = self._look(select_due(indexes.FUTURE, ">", False), (now_ms, limit))
            more = [(now_ms, session) for _, session in ahead if session not in known]
            found += more[: limit - len(found)]
        return tuple([Due(session, at) for at, session in found])

    def _due(self, now_ms: int, after: tuple[int, str] | None, most: int) -> list[tuple[int, str]]:
        values = (now_ms, *(after or ()), most)
        return self._look(select_due(indexes.DUE, "<=", after is not None), values)

    async def horizon(self) -> int | None:
        rows = self._look(select_due(indexes.DUE, ">", False), (self._clock(), 1))
        return rows[0][0] if rows else None

    def _look(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        """A short read on the caller's thread: readers of a WAL wait for nobody."""
        self._check_usable()
        self._writing.check()
        try:
            with self._looking:
                return self._looker.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise translated(error, self.path) from error

    async def ask(self, question: Question[A]) -> A:
        self._check_usable()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._asking, self._ask, question)

    def ask_now(self, question: Question[A]) -> A:
        """Without an event loop, from any thread."""
        self._check_usable()
        return self._asking.submit(self._ask, question).result()

    def _ask(self, question: Question[A]) -> A:
        return self._in_snapshot(lambda: ask(question, self._answers.answer))

    async def dump(self) -> tuple[Record, ...]:
        self._check_usable()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._asking, self._in_snapshot, self._dump)

    def dump_now(self) -> tuple[Record, ...]:
        """Without an event loop, from any thread."""
        self._check_usable()
        return self._asking.submit(self._in_snapshot, self._dump).result()

    def _dump(self) -> tuple[Record, ...]:
        found: list[Record] = []
        for record in RECORDS:
            codec = codec_of(record)
            sql = f'SELECT {quoted(codec.stored)} FROM "{codec.table}"'
            found += [codec.decode(row) for row in self._reader.execute(sql).fetchall()]
        return tuple(found)

    def _in_snapshot(self, read: Callable[[], A]) -> A:
        self._writing.check()  # else who waits for an answer waits at a file that nobody writes
        try:
            self._reader.execute("BEGIN")
            try:
                return read()
            finally:
                self._reader.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise translated(error, self.path) from error
        except Corrupt as error:
            if error.key:
                self._writing.set_aside(str(error.key[0]), error)  # a key begins with its session
            raise

    # -- hints

    def hints(self) -> AsyncIterator[Hint]:
        self._check_usable()
        if self._ear is None:
            self._ear = HintListener(
                self._peers, self._hint_bus.publish, self._writing.written_by_others
            )
        return self._hint_bus.listen()

    # -- the end

    def _release(self) -> None:
        if self._ear is not None:
            self._ear.end()
        super()._release()
        self._asking.shutdown()
        self._peers.close()
        with self._looking, self._writing.engine:
            for connection in (self._looker, self._reader, self._writer):
                connection.close()


def open_url(url: StoreUrl, *, clock: Clock = wall_clock_ms, **options: Any) -> SqliteStore:
    return SqliteStore(url.rest, clock=clock, **options)


__all__ = ["SqliteStore", "execute_in"]
