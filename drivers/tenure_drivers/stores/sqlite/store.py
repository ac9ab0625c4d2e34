"""SQLite: several OS processes on one machine, group commit; writes are on disk before they are answered."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tenure import indexes
from tenure.outcome import Hint
from tenure.queries import Question, Record
from tenure.records import Session
from tenure.release import added_in

from ..base import (
    Capability,
    Clock,
    Corrupt,
    Due,
    DuePlace,
    DueRow,
    Durability,
    Quarantined,
    answer_of,
    due_of,
    wall_clock_ms,
)
from ..group_commit import GROUP_MAX, Answer, GroupCommit
from ..grouped_store import Commands, GroupedStore, run_or_split
from ..layout import check_active, layout_of
from ..migration import Migrate, may_migrate
from ..payloads import PayloadHook
from ..url import StoreUrl
from .connection import connect, translated
from .filesystem import refuse_network, refuse_odd_files
from .notify import FileProcesses, HintListener
from .schema import SqliteMigrator, tables_at, user_version
from .sql import (
    KIND,
    SELECT_QUARANTINE,
    Tables,
    all_records,
    fetch_leniently,
    is_invalid,
    is_invalid_text,
    select_due,
)
from .writer import Writer, execute_in

A = TypeVar("A")

BUSY_TIMEOUT_MS = 30_000
CHECKPOINT_PAGES = 8_000
WAL_BYTES_MAX = 256 * 1024 * 1024
GROUPS_PER_WAL_CHECK = 256
PAUSE_S = 0.001  # STORE-22: SQLite does not queue waiters; without a gap between groups other processes starve


class SqliteStore(GroupedStore):
    """A store in an SQLite file, which is created if it does not exist.

    Several processes of one machine may open it at once.  A copy that SQLite itself makes while it is open is a backup
    (STORE-23).  `migrate`: "auto" upgrades a file of an earlier release if nobody else has it open (SCHEMA-10), "no" never
    does.  Spec: specs/store.md.
    Raises Unavailable, Corrupt, SchemaTooNew or SchemaTooOld if it cannot be opened, ValueError if other machines can
    reach it.
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
        migrate: Migrate = "auto",
        payloads: PayloadHook | None = None,
    ) -> None:
        super().__init__(str(Path(path)))
        self.path = Path(path).absolute()  # agents may change the working folder
        refuse_network(self.path)
        refuse_odd_files(self.path)
        self._clock = clock
        self._writer = Writer(
            self.path,
            clock,
            busy_timeout_ms=busy_timeout_ms,
            checkpoint_pages=checkpoint_pages,
            wal_bytes_max=wal_bytes_max,
            migrate=may_migrate(migrate),
            payloads=payloads,
        )
        self._reader = connect(self.path, checkpoint_pages)
        self._due_reader = connect(self.path, checkpoint_pages)
        self._answers = Tables(self._reader, layout_of(self._writer.active, payloads))
        self._due_lock = threading.Lock()
        self._question_thread = ThreadPoolExecutor(1, f"tenure-ask-{self.path.name}")
        self._processes = self._writer.processes = FileProcesses(self.path)
        self._listener: HintListener | None = None
        self.group = GroupCommit(
            self._transact,
            name=f"tenure-write-{self.path.name}",
            engine=self._writer.engine,
            after_group=self._after_group,
            has_no_peers=lambda: self._processes.alone,
            group_max=group_max,
        )

    @property
    def active(self) -> int:
        """The release that was active at the last read (SCHEMA-1)."""
        return self._answers.layout.release

    # -- commands

    def _execute_group(self, commands: Commands, wait: bool) -> Sequence[Answer]:
        return run_or_split(
            lambda some: self._writer.transact(some, wait),
            commands,
            meaning=lambda error: translated(error, self.path),
        )

    def _publish(self, hints: Sequence[Hint]) -> None:
        super()._publish(hints)
        self._processes.notify(self._hint_bus.for_others(hints))

    def _after_group(self) -> None:
        """Bound the log, and leave the lock free while other processes are attached (STORE-22)."""
        if self.group.groups % GROUPS_PER_WAL_CHECK == 0:
            self._writer.bound_log()
        if not self._processes.alone:
            time.sleep(PAUSE_S)

    # -- quarantine

    async def quarantined(self) -> tuple[Quarantined, ...]:
        """Return the sessions in quarantine."""
        rows = self._read_now(SELECT_QUARANTINE, ())
        return tuple([Quarantined(*row) for row in rows])

    def _quarantine(self, reasons: Mapping[str, str], wait: bool) -> None:
        self._writer.quarantine(reasons, wait)

    async def readmit(self, session_id: str) -> None:
        """End the quarantine of a session."""
        self._check_usable()
        await asyncio.get_running_loop().run_in_executor(
            self._question_thread, self._writer.readmit, session_id
        )

    # -- reads

    async def due(self, limit: int) -> tuple[Due, ...]:
        """Return up to `limit` sessions that are due now, in random order."""
        now_ms = self._clock()
        found = self._sampler.sample(limit, lambda a, count: self._due(now_ms, a, count))
        if len(found) < limit:
            known = {session for _, session, _ in found}
            upcoming = self._read_now(select_due(indexes.FUTURE, ">", False), (now_ms, limit))
            more = [(now_ms, id_, kind) for _, id_, kind in upcoming if id_ not in known]
            found += more[: limit - len(found)]
        return due_of(found)

    def _due(self, now_ms: int, after: DuePlace | None, count: int) -> list[DueRow]:
        values = (now_ms, *(after or ()), count)
        return self._read_now(select_due(indexes.DUE, "<=", after is not None), values)

    async def horizon(self) -> int | None:
        """Return the earliest `due_at_ms` in the future."""
        rows = self._read_now(select_due(indexes.DUE, ">", False), (self._clock(), 1))
        return rows[0][0] if rows else None

    def _read_now(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        """Read on the caller's thread: the read is short, and a reader of a WAL waits for no writer.

        A row with a text that is not UTF-8 is left out: no command can name its session.
        """
        self._check_usable()
        self._writer.check_files()
        try:
            with self._due_lock:
                active = user_version(self._due_reader)
                check_active(active, str(self.path))
                if active < added_in(Session, "kind"):  # SCHEMA-4
                    sql = sql.replace(KIND, "NULL")
                try:
                    return self._due_reader.execute(sql, values).fetchall()
                except sqlite3.OperationalError as error:
                    if not is_invalid_text(error):
                        raise
                rows = fetch_leniently(self._due_reader.cursor(), sql, values)
                return [row for row in rows if not any(map(is_invalid, row))]
        except sqlite3.Error as error:
            raise translated(error, self.path) from error

    async def ask(self, question: Question[A]) -> A:
        """Answer a question from one snapshot."""
        self._check_usable()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._question_thread, self._ask, question)

    def ask_now(self, question: Question[A]) -> A:
        """`ask` without an event loop, from any thread."""
        self._check_usable()
        return self._question_thread.submit(self._ask, question).result()

    def _ask(self, question: Question[A]) -> A:
        return self._in_snapshot(lambda: answer_of(question, self._answers.answer))

    async def dump(self) -> tuple[Record, ...]:
        """Return all records, in no order."""
        self._check_usable()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._question_thread, self._in_snapshot, self._dump)

    def dump_now(self) -> tuple[Record, ...]:
        """`dump` without an event loop, from any thread."""
        self._check_usable()
        return self._question_thread.submit(self._in_snapshot, self._dump).result()

    def _dump(self) -> tuple[Record, ...]:
        return all_records(self._reader, self._answers.layout)

    def _in_snapshot(self, read: Callable[[], A]) -> A:
        self._writer.check_files()  # a removed file would give old answers (STORE-21)
        try:
            self._reader.execute("BEGIN")
            try:
                self._answers = tables_at(self._answers, self._reader, self.path)
                return read()
            finally:
                self._reader.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise translated(error, self.path) from error
        except Corrupt as error:
            if error.key:
                with self._writer.engine:  # a key begins with its session
                    self._writer.quarantine({str(error.key[0]): str(error)}, True)
            raise

    # -- hints

    def hints(self) -> AsyncIterator[Hint]:
        """Subscribe to the hints of this and of other processes."""
        self._check_usable()
        if self._listener is None:
            self._listener = HintListener(
                self._processes, self._hint_bus.publish, self._writer.written_by_others
            )
        return self._hint_bus.listen()

    # -- the end

    def _release(self) -> None:
        if self._listener is not None:
            self._listener.end()
        super()._release()
        self._question_thread.shutdown()
        self._processes.close()
        with self._due_lock, self._writer.engine:
            for connection in (self._due_reader, self._reader, self._writer.connection):
                connection.close()


def open_url(url: StoreUrl, *, clock: Clock = wall_clock_ms, **options: Any) -> SqliteStore:
    """Open `sqlite:PATH` or a bare `PATH.db`."""
    return SqliteStore(url.rest, clock=clock, **options)


def open_migrator(url: StoreUrl) -> SqliteMigrator:
    """Return what migrates the file of a URL."""
    return SqliteMigrator(Path(url.rest))


__all__ = ["CHECKPOINT_PAGES", "SqliteStore", "execute_in", "open_migrator", "open_url"]
