"""The writing end of an SQLite file: one transaction a group, and the sessions that are set aside."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from tenure.outcome import Decided, Refused
from tenure.queries import Command

from ..base import Clock, Corrupt, OutcomeUnknown, Quarantined, Unavailable
from ..group_commit import Answer, Busy, execute_wave, execute_waves
from .connection import BUSY, FULL, connect, identity, prepare, primary_code, translated
from .notify import FileProcesses, lock_holder
from .sql import Tables

O = TypeVar("O")
V = TypeVar("V")

TRY_S = 0.0005  # SQLite's own waiting backs off to 100 ms and misses the gaps that others leave


class Writer:
    """Everything here runs under `engine`; `transact` is called with it held."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        busy_timeout_ms: int,
        checkpoint_pages: int,
        wal_bytes_max: int,
    ) -> None:
        self.path = path
        self.engine = threading.Lock()
        self.peers: FileProcesses | None = None  # known once the file is there
        self._clock = clock
        self._timeout_ms = busy_timeout_ms
        self._wal_bytes_max = wal_bytes_max
        self._suspects: list[Quarantined] = []
        self.connection = connect(path, checkpoint_pages)
        try:
            prepare(self.connection, path, busy_timeout_ms)
            self.connection.execute("PRAGMA busy_timeout=0")
            self._version = self._data_version()
            names = (str(path), f"{path}-wal")
            self._files = [(name, found) for name in names if (found := identity(name))]
        except BaseException:
            self.connection.close()
            raise
        self._tables = Tables(self.connection)

    # -- the transaction of a group

    def transact(self, commands: Sequence[Command[Any, Any]], wait: bool) -> list[Answer]:
        """Run one transaction; answer each command by position.

        Raises Busy if it may not wait and another connection has the lock.  If it raises, nothing was changed, except
        after OutcomeUnknown.
        """
        self._begin(wait)
        try:
            answers = execute_waves(self._tables, commands, self._clock, sqlite3.Error)
            for command, answer in zip(commands, answers, strict=True):
                if isinstance(answer, Corrupt):
                    self._suspect(command.session_id, answer)
            self._set_aside()
            self.check()
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
                    raise Unavailable(self._who_locks()) from error
            time.sleep(TRY_S)

    def _who_locks(self) -> str:
        pid = lock_holder(self.path)
        seen = self.peers.pids() if self.peers is not None else ()
        if pid is not None:
            whom = f"by process {pid}"
        elif seen:
            whom = f"by one of the processes {', '.join(map(str, sorted(set(seen))))}"
        else:
            whom = "by another process"
        return f"{self.path} was locked {whom} for {self._timeout_ms} ms"

    def check(self) -> None:
        """STORE-21: the engine goes on writing to a file that has lost its name, where nobody will find it."""
        for name, opened in self._files:
            if identity(name) != opened:
                raise Unavailable(f"{name} was removed or replaced; open the store again")

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
        """A reader that stayed long has kept the log from starting over: try to, without waiting for anybody."""
        try:
            if os.stat(f"{self.path}-wal").st_size < self._wal_bytes_max:
                return
        except OSError:
            return
        with self.engine:
            try:
                self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.Error:
                return  # another time

    def written_by_others(self) -> bool:
        """Whether somebody else has written since the last look."""
        if not self.engine.acquire(blocking=False):
            return False  # we are writing; there will be another look
        try:
            version = self._data_version()
        except sqlite3.Error:
            return False
        finally:
            self.engine.release()
        changed, self._version = version != self._version, version
        return changed

    def _data_version(self) -> int:
        """Changes when another connection has written; what this one writes does not count."""
        return int(self.connection.execute("PRAGMA data_version").fetchone()[0])

    # -- quarantine

    def set_aside(self, session_id: str, error: Corrupt) -> None:
        """A reader has met a record that cannot be read.  If it cannot be noted now, the next one will."""
        with self.engine:
            self._suspect(session_id, error)
            try:
                self._begin(True)
                self._set_aside()
                self.connection.execute("COMMIT")
            except (sqlite3.Error, Unavailable):
                self._roll_back()

    def readmit(self, session_id: str) -> None:
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

    def _suspect(self, session_id: str, error: Corrupt) -> None:
        self._suspects.append(Quarantined(session_id, str(error), self._clock()))

    def _set_aside(self) -> None:
        """Within a transaction.  It blocks nobody but the session itself."""
        while self._suspects:
            one = self._suspects.pop()
            self.connection.execute(
                "INSERT OR REPLACE INTO quarantine (session_id, reason, at_ms) VALUES (?, ?, ?)",
                (one.session_id, one.reason, one.at_ms),
            )


def execute_in(
    connection: sqlite3.Connection, command: Command[V, O], now_ms: int
) -> Decided[O] | Refused:
    """Carry a command out inside the caller's own transaction, begun IMMEDIATE on a file of ours.

    Nothing is done until the caller commits; to give the hints after that is the caller's too.  Any exception means
    that the transaction must be rolled back.
    """
    answer = execute_wave(Tables(connection), [command], now_ms, sqlite3.Error)[0]
    if isinstance(answer, Exception):
        raise answer
    return answer
