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
from tenure.evolve import ask
from tenure.outcome import Decided, Hint, Refused
from tenure.queries import Command, Question, Record
from tenure.records import RECORDS

from .contract import (
    Capability,
    Clock,
    Corrupt,
    Due,
    Durability,
    OutcomeUnknown,
    Quarantined,
    Rounds,
    Unavailable,
    outcome_of,
    wall_clock_ms,
)
from .database import BUSY, FULL, connect, expected, prepare, primary_code, translated
from .group import GROUP_MAX, Answer, Busy, GroupCommit, execute_wave, waves
from .hints import Audience
from .peers import Ear, Peers, lock_holder
from .rows import codec_of
from .sql import Tables, quoted, select_due

A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")

BUSY_TIMEOUT_MS = 30_000
CHECKPOINT_PAGES = 8_000
WAL_BYTES_MAX = 256 * 1024 * 1024
WAL_LOOK_GROUPS = 256
PAUSE_S = 0.001  # sqlite does not queue its waiters: without a gap between groups the others starve


class SqliteStore:
    """Raises Unavailable, Corrupt or SchemaTooNew if the file cannot be opened; creates it if it is not there."""

    durability = Durability.CRASH
    capabilities = frozenset((Capability.REOPEN, Capability.PROCESSES, Capability.QUARANTINE))

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
        self._clock = clock
        self._timeout_ms = busy_timeout_ms
        self._wal_bytes_max = wal_bytes_max
        self._pid = os.getpid()
        self._closed = False
        self._writer = connect(self.path, checkpoint_pages)
        try:
            prepare(self._writer, self.path, busy_timeout_ms)
            self._reader = connect(self.path, checkpoint_pages)
            self._looker = connect(self.path, checkpoint_pages)
        except BaseException:
            self._writer.close()
            raise
        self._waiting_ms = -1
        self._tables = Tables(self._writer)
        self._answers = Tables(self._reader)
        self._looking = threading.Lock()
        self._asking = ThreadPoolExecutor(1, f"tenure-ask-{self.path.name}")
        self._rounds = Rounds()
        self._suspects: list[Quarantined] = []  # found while reading, to be written by a writer
        self._version = self._data_version()
        self._peers = Peers(self.path)
        self._audience = Audience()
        self._ear: Ear | None = None
        self.group = GroupCommit(
            self._transact,
            name=f"tenure-write-{self.path.name}",
            between=self._between,
            most=group_max,
        )

    # -- commands

    async def execute(self, command: Command[V, O]) -> O | Refused:
        self._usable()
        return outcome_of(await self.group.submit(command))

    async def carry_out(self, command: Command[V, O]) -> Decided[O] | Refused:
        self._usable()
        return await self.group.submit(command)

    def execute_now(self, command: Command[V, O]) -> O | Refused:
        """Without an event loop, from any thread; grouped with nobody."""
        self._usable()
        return outcome_of(self.group.run_now(command))

    # -- the transaction of a group

    def _transact(self, commands: Sequence[Command[Any, Any]], wait: bool) -> Sequence[Answer]:
        try:
            answers = self._once(commands, wait)
        except (Busy, Unavailable, OutcomeUnknown) as error:
            if isinstance(error, Busy):
                raise
            return [error] * len(commands)
        except Exception as error:
            if len(commands) == 1:
                return [translated(error, self.path)]
            # Somebody's writes failed and nothing is changed: each alone, at a new reading of the clock.
            return [answer for command in commands for answer in self._transact([command], True)]
        hints = [h for a in answers if a.__class__ is Decided for h in a.hints]
        if hints:
            self._audience.tell(hints)
            self._peers.tell(hints)
        return answers

    def _once(self, commands: Sequence[Command[Any, Any]], wait: bool) -> list[Answer]:
        """One transaction.  Raises what went wrong, and then nothing was changed, but for OutcomeUnknown."""
        self._begin(wait)
        execute = self._writer.execute
        try:
            answers: list[Answer] = [Unavailable("not reached")] * len(commands)
            for wave in waves(commands):
                members = [commands[at] for at in wave]
                found = execute_wave(self._tables, members, self._clock(), sqlite3.Error)
                for at, answer in zip(wave, found, strict=True):
                    answers[at] = answer
                    if isinstance(answer, Corrupt):
                        self._suspect(commands[at].session_id, answer)
            if self._suspects:
                self._set_aside()
        except BaseException:
            self._roll_back()
            raise
        try:
            execute("COMMIT")
        except sqlite3.Error as error:
            raise self._failed_commit(error) from error
        return answers

    def _begin(self, wait: bool) -> None:
        waiting_ms = self._timeout_ms if wait else 0
        if waiting_ms != self._waiting_ms:
            self._writer.execute(f"PRAGMA busy_timeout={waiting_ms}")
            self._waiting_ms = waiting_ms
        try:
            self._writer.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if primary_code(error) != BUSY:
                raise translated(error, self.path) from error
            if not wait:
                raise Busy from error
            raise Unavailable(self._who_locks()) from error

    def _who_locks(self) -> str:
        pid = lock_holder(self.path)
        seen = self._peers.pids()
        if pid is not None:
            whom = f"by process {pid}"
        elif seen:
            whom = f"by one of the processes {', '.join(map(str, sorted(set(seen))))}"
        else:
            whom = "by another process"
        return f"{self.path} was locked {whom} for {self._timeout_ms} ms"

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
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    def _between(self) -> None:
        """On the writer's thread after a group, with the lock free."""
        if self.group.groups % WAL_LOOK_GROUPS == 0:
            self._bound_wal()
        if self._peers.others():
            time.sleep(PAUSE_S)

    def _bound_wal(self) -> None:
        """A reader that stayed long has kept the log from starting over: try to, without waiting for anybody."""
        try:
            if os.stat(f"{self.path}-wal").st_size < self._wal_bytes_max:
                return
        except OSError:
            return
        with self.group.engine:
            self._writer.execute("PRAGMA busy_timeout=0")
            self._waiting_ms = 0
            try:
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.Error:
                return  # another time

    # -- quarantine

    def _suspect(self, session_id: str, error: Corrupt) -> None:
        self._suspects.append(Quarantined(session_id, str(error), self._clock()))

    def _set_aside(self) -> None:
        """Within the transaction.  It blocks nobody but the session itself."""
        while self._suspects:
            one = self._suspects.pop()
            self._writer.execute(
                "INSERT OR REPLACE INTO quarantine (session_id, reason, at_ms) VALUES (?, ?, ?)",
                (one.session_id, one.reason, one.at_ms),
            )

    async def quarantined(self) -> tuple[Quarantined, ...]:
        rows = self._look("SELECT session_id, reason, at_ms FROM quarantine", ())
        return tuple([Quarantined(*row) for row in rows])

    async def readmit(self, session_id: str) -> None:
        self._usable()
        await asyncio.get_running_loop().run_in_executor(self._asking, self._readmit, session_id)

    def _readmit(self, session_id: str) -> None:
        with self.group.engine:
            self._begin(True)
            try:
                self._writer.execute("DELETE FROM quarantine WHERE session_id = ?", (session_id,))
                self._writer.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                raise translated(error, self.path) from error

    # -- looking

    async def due(self, limit: int) -> tuple[Due, ...]:
        now_ms = self._clock()
        found = self._rounds.sample(limit, lambda a, most: self._due(now_ms, a, most))
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
        self._usable()
        try:
            with self._looking:
                return self._looker.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise translated(error, self.path) from error

    async def ask(self, question: Question[A]) -> A:
        self._usable()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._asking, self._ask, question)

    def ask_now(self, question: Question[A]) -> A:
        """Without an event loop, from any thread."""
        self._usable()
        return self._asking.submit(self._ask, question).result()

    def _ask(self, question: Question[A]) -> A:
        return self._in_snapshot(lambda: ask(question, self._answers.answer))

    async def dump(self) -> tuple[Record, ...]:
        self._usable()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._asking, self._in_snapshot, self._dump)

    def dump_now(self) -> tuple[Record, ...]:
        """Without an event loop, from any thread."""
        self._usable()
        return self._asking.submit(self._in_snapshot, self._dump).result()

    def _dump(self) -> tuple[Record, ...]:
        found: list[Record] = []
        for record in RECORDS:
            codec = codec_of(record)
            sql = f'SELECT {quoted(codec.stored)} FROM "{codec.table}"'
            found += [codec.decode(row) for row in self._reader.execute(sql).fetchall()]
        return tuple(found)

    def _in_snapshot(self, read: Callable[[], A]) -> A:
        try:
            self._reader.execute("BEGIN")
            try:
                return read()
            finally:
                self._reader.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise translated(error, self.path) from error
        except Corrupt as error:
            self._suspect_read(error)
            raise

    def _suspect_read(self, error: Corrupt) -> None:
        if error.key:
            self._suspect(str(error.key[0]), error)  # a key begins with its session
            with self.group.engine:
                try:
                    self._begin(True)
                    self._set_aside()
                    self._writer.execute("COMMIT")
                except (sqlite3.Error, Unavailable):
                    self._roll_back()

    # -- hints

    def hints(self) -> AsyncIterator[Hint]:
        self._usable()
        if self._ear is None:
            self._ear = Ear(self._peers, self._audience.tell, self._written_by_others)
        return self._audience.listen()

    def _written_by_others(self) -> bool:
        if not self.group.engine.acquire(blocking=False):
            return False  # we are writing; there will be another look
        try:
            version = self._data_version()
        except sqlite3.Error:
            return False
        finally:
            self.group.engine.release()
        changed, self._version = version != self._version, version
        return changed

    def _data_version(self) -> int:
        """Changes when another connection has written; ours do not count."""
        return int(self._writer.execute("PRAGMA data_version").fetchone()[0])

    # -- the end

    async def aclose(self) -> None:
        if not self._closed:
            await asyncio.get_running_loop().run_in_executor(None, self.close)

    def close(self) -> None:
        """`aclose` without an event loop."""
        if self._closed:
            return
        self._closed = True
        if os.getpid() != self._pid:  # nothing here is the child's
            return
        self.group.close()
        if self._ear is not None:
            self._ear.end()
        self._audience.end()
        self._asking.shutdown()
        self._peers.close()
        with self._looking, self.group.engine:
            for connection in (self._looker, self._reader, self._writer):
                connection.close()

    def _usable(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"{self.path} was opened by process {self._pid}, this is {os.getpid()}: open it again"
            )
        if self._closed:
            raise Unavailable(f"{self.path} is closed")


__all__ = ["SqliteStore", "expected"]
