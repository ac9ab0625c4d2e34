"""The writing connection of an SQLite file: one transaction for each group, and the quarantine."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tenure.outcome import Decided, Refused
from tenure.queries import Command
from tenure.release import RELEASE

from ..base import Clock, OutcomeUnknown, Unavailable, Unusable
from ..field_types import measure_command
from ..group_commit import Answer, Busy, execute_wave, execute_waves
from ..layout import check_active, layout_of, warn_if_older
from ..payloads import PayloadHook
from .connection import BUSY, FULL, connect, identity, primary_code, translated
from .notify import FileProcesses, lock_holder
from .schema import prepare, read_active, tables_at, upgrade_alone, user_version
from .sql import Tables

__all__ = ["Writer", "execute_in"]


O = TypeVar("O")
V = TypeVar("V")

RETRY_S = 0.0005  # SQLite's busy handler backs off to 100 ms and misses the gaps of 1 ms (STORE-22)


class Writer:
    """Writes under the lock `engine`; `transact` is called with it held."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        busy_timeout_ms: int,
        checkpoint_pages: int,
        wal_bytes_max: int,
        migrate: bool,
        payloads: PayloadHook | None = None,
    ) -> None:
        self.path = path
        self.engine = threading.Lock()
        self.processes: FileProcesses | None = None  # set after the file was created
        self._clock = clock
        self._timeout_ms = busy_timeout_ms
        self._wal_bytes_max = wal_bytes_max
        active = read_active(path)  # refuses a file of something else, before `connect` changes it
        if migrate and active is not None and active < RELEASE:
            upgrade_alone(path)
        self.connection = connect(path, checkpoint_pages)
        try:
            self.active = prepare(self.connection, path, busy_timeout_ms)
            warn_if_older(self.active, str(path))
            self.connection.execute("PRAGMA busy_timeout=0")
            self._version = self._data_version()
            self._files = [
                (name, found) for name in names_of_files(path) if (found := identity(name))
            ]
        except BaseException:
            self.connection.close()
            raise
        self._tables = Tables(self.connection, layout_of(self.active, payloads))

    # -- the transaction of a group

    def transact(self, commands: Sequence[Command[Any, Any]], wait: bool) -> list[Answer]:
        """Run one transaction; answer each command by position.

        Raises Busy if it may not wait and another connection has the lock.  If it raises, nothing was changed, except
        after OutcomeUnknown.
        """
        self._begin(wait)
        try:
            tables = self._tables = tables_at(self._tables, self.connection, self.path)
            active = tables.layout.release
            answers = execute_waves(tables, commands, self._clock, active, sqlite3.Error)
            self.check_files()
        except BaseException:
            self._roll_back()
            raise
        try:
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._failed_commit(error) from error
        return answers

    def _begin(self, wait: bool) -> None:
        deadline: float | None = None
        while True:
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.Error as error:
                if primary_code(error) != BUSY:
                    raise translated(error, self.path) from error
                if not wait:
                    raise Busy from error
                now = time.monotonic()
                deadline = deadline or now + self._timeout_ms / 1000
                if now >= deadline:
                    raise Unavailable(self._locked_message()) from error
            time.sleep(RETRY_S)

    def _locked_message(self) -> str:
        pid = lock_holder(self.path)
        attached = self.processes.pids() if self.processes is not None else ()
        if pid is not None:
            whom = f"by process {pid}"
        elif attached:
            whom = f"by one of the processes {', '.join(map(str, sorted(set(attached))))}"
        else:
            whom = "by another process"
        return f"{self.path} was locked {whom} for {self._timeout_ms} ms"

    def check_files(self) -> None:
        """Raise Unusable if a file was replaced: SQLite would go on writing to the removed one (STORE-21)."""
        for name, opened in self._files:
            if identity(name) != opened:
                raise Unusable(f"{name} was removed or replaced; open the store again")

    def _failed_commit(self, error: sqlite3.Error) -> Exception:
        known = primary_code(error) in (BUSY, FULL)
        try:
            self._roll_back()
        except sqlite3.Error:
            known = False
        if known:
            return translated(error, self.path)
        return OutcomeUnknown(f"{self.path}: COMMIT failed: {error}; execute the command again")

    def _roll_back(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    # -- the log

    def bound_log(self) -> None:
        """Truncate a log that has grown because a long read kept it from starting over.  Waits for no reader."""
        try:
            if os.stat(f"{self.path}-wal").st_size < self._wal_bytes_max:
                return
        except OSError:
            return
        with self.engine:
            try:
                self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.Error:
                return  # a later group tries again

    def written_by_others(self) -> bool:
        """Return True if another connection has written since the last call."""
        if not self.engine.acquire(blocking=False):
            return False  # a group is being written; the next poll looks again
        try:
            version = self._data_version()
        except sqlite3.Error:
            return False
        finally:
            self.engine.release()
        changed, self._version = version != self._version, version
        return changed

    def _data_version(self) -> int:
        """Return a number that changes when another connection writes."""
        return int(self.connection.execute("PRAGMA data_version").fetchone()[0])

    # -- quarantine

    def quarantine(self, reasons: Mapping[str, str], wait: bool) -> None:
        """Put sessions into quarantine, with `engine` held; if that fails, the next command or reader will."""
        now_ms = self._clock()
        try:
            self._begin(wait)
            self.connection.executemany(
                "INSERT OR REPLACE INTO quarantine (session_id, reason, at_ms) VALUES (?, ?, ?)",
                [(session_id, reason, now_ms) for session_id, reason in reasons.items()],
            )
            self.connection.execute("COMMIT")
        except (sqlite3.Error, Unavailable, Busy):
            self._roll_back()

    def readmit(self, session_id: str) -> None:
        """End the quarantine of a session."""
        with self.engine:
            self._begin(True)
            try:
                self.connection.execute(
                    "DELETE FROM quarantine WHERE session_id = ?", (session_id,)
                )
                self.connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                raise translated(error, self.path) from error


def names_of_files(path: Path) -> tuple[str, ...]:
    """Return the names of the files of a store.  SQLite keeps the others beside the one that a link names."""
    real = os.path.realpath(path)
    if real == os.path.abspath(path):
        return str(path), f"{path}-wal", f"{path}-shm"
    return str(path), real, f"{real}-wal", f"{real}-shm"


def execute_in(
    connection: sqlite3.Connection,
    command: Command[V, O],
    now_ms: int,
    payloads: PayloadHook | None = None,
) -> Decided[O] | Refused:
    """Execute a command inside the caller's own transaction, begun IMMEDIATE on a store's file.

    It takes effect when the caller commits; the caller publishes the hints after that.  After any exception the caller
    must roll back.  `payloads`: the hook of the store.
    """
    size = measure_command(command)
    if isinstance(size, Refused):
        return size
    active = check_active(user_version(connection), "the database")
    tables = Tables(connection, layout_of(active, payloads))
    answer = execute_wave(tables, [command], now_ms, active, sqlite3.Error)[0]
    if isinstance(answer, Exception):
        raise answer
    return answer
