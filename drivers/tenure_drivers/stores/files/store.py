"""A folder of files: one OS process, no database.  Group commit, every answer on the disk before it is given.

All records are in memory, behind the same indexes as in a store in memory; a log of readable, checksummed lines says
how they came to be what they are (files_line.py), and from time to time a snapshot shortens it (files_load.py).
Spec: specs/store.md.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tenure.outcome import Decided, Hint, Refused
from tenure.queries import Command, Question, Record
from tenure.world import ask

from ..base import (
    Capability,
    Clock,
    Due,
    DueSampler,
    Durability,
    OutcomeUnknown,
    Quarantined,
    Unavailable,
    outcome_of,
    wall_clock_ms,
)
from ..group_commit import GROUP_MAX, Answer, GroupCommit, NoEngineError, execute_wave, waves
from ..hint_bus import HintBus
from ..ordered_tables import MemoryTables
from ..overlay import WriteOverlay
from ..url import StoreUrl
from .disk import Disk, Ownership
from .format import writes_of
from .log import SNAPSHOT, Log, path_of
from .recovery import Recovery, Repaired, contents, outdated, remove, write_snapshot

A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")

LOG_BYTES_MAX = 64 * 1024 * 1024

log = logging.getLogger("tenure")


class FilesStore:
    """Raises Unavailable, Corrupt or SchemaTooNew if the folder cannot be opened; creates it if it is not there.

    `repaired` says what a crash had left at the end of the log, and was cut off.  A snapshot is made at opening, and
    beside the work, when the log has grown over `log_bytes_max` and over the last snapshot.
    """

    durability = Durability.CRASH
    capabilities = frozenset((Capability.REOPEN,))

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        clock: Clock = wall_clock_ms,
        group_max: int = GROUP_MAX,
        log_bytes_max: int = LOG_BYTES_MAX,
        disk: Disk | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.tables = MemoryTables()
        self._clock = clock
        self._log_bytes_max = log_bytes_max
        self._disk = disk or Disk()
        self._pid = os.getpid()
        self._closed = False
        self._reading = threading.Lock()  # held while the tables change, and by who reads them
        self._shortening = threading.Lock()  # held around a snapshot
        self._gate = threading.Lock()  # held by a snapshot that waits for the engine
        self._rounds = DueSampler()
        self._audience = HintBus()
        self.repaired: Repaired | None = None
        self._log: Log
        self._load()
        self._making = ThreadPoolExecutor(1, f"tenure-snapshot-{self.folder.name}")
        self._wanted = False
        self.group = GroupCommit(
            self._transact,
            name=f"tenure-write-{self.folder.name}",
            between=self._let_snapshot_in,
            most=group_max,
        )
        self._watch_growth()

    # -- commands

    async def execute(self, command: Command[V, O]) -> O | Refused:
        self._usable()
        return outcome_of(await self.group.submit(command))

    async def decide(self, command: Command[V, O]) -> Decided[O] | Refused:
        self._usable()
        return await self.group.submit(command)

    def execute_now(self, command: Command[V, O]) -> O | Refused:
        """Without an event loop, from any thread; grouped with nobody."""
        self._usable()
        return outcome_of(self.group.run_now(command))

    # -- the transaction of a group

    def _transact(self, commands: Sequence[Command[Any, Any]], wait: bool) -> Sequence[Answer]:
        try:
            answers = self._once(commands)
        except (Unavailable, OutcomeUnknown) as error:
            return [error] * len(commands)
        except Exception as error:
            if len(commands) == 1:
                return [error]
            # Somebody's writes failed and nothing is changed: each alone, at a new reading of the clock.
            return [answer for command in commands for answer in self._transact([command], True)]
        hints = [h for a in answers if a.__class__ is Decided for h in a.hints]
        if hints:
            self._audience.publish(hints)
        return answers

    def _once(self, commands: Sequence[Command[Any, Any]]) -> list[Answer]:
        """One transaction.  Raises what went wrong, and then nothing was changed, but for OutcomeUnknown."""
        self._log.check()
        staged = WriteOverlay(self.tables)
        answers: list[Answer] = [Unavailable("not reached")] * len(commands)
        for wave in waves(commands):
            members = [commands[at] for at in wave]
            found = execute_wave(staged, members, self._clock(), NoEngineError)
            for at, answer in zip(wave, found, strict=True):
                answers[at] = answer
        if staged.decisions:
            self._log.append(writes_of(staged.decisions))
            with self._reading:
                staged.apply()
            self._watch_growth()
        return answers

    # -- reading

    async def ask(self, question: Question[A]) -> A:
        with self._reading:
            self._readable()
            return ask(question, self.tables.answer)

    async def due(self, limit: int) -> tuple[Due, ...]:
        with self._reading:
            self._readable()
            return self.tables.sample_due(self._rounds, self._clock(), limit)

    async def horizon(self) -> int | None:
        with self._reading:
            self._readable()
            return self.tables.horizon(self._clock())

    def hints(self) -> AsyncIterator[Hint]:
        return self._audience.listen()

    async def quarantined(self) -> tuple[Quarantined, ...]:
        return ()

    async def readmit(self, session_id: str) -> None:
        return None

    async def dump(self) -> tuple[Record, ...]:
        return self.dump_now()

    def dump_now(self) -> tuple[Record, ...]:
        """Without an event loop, from any thread."""
        with self._reading:
            self._readable()
            return self.tables.all()

    # -- snapshots

    async def snapshot(self) -> None:
        """Write all that is held into one file and forget the log up to here.  Commands go on meanwhile.

        Raises Unavailable; then all is as before.
        """
        self._usable()
        await asyncio.get_running_loop().run_in_executor(self._making, self.snapshot_now)

    def snapshot_now(self) -> None:
        """Without an event loop, from any thread."""
        with self._shortening:
            self._usable()
            try:
                self._shorten()
            except OSError as error:
                raise Unavailable(f"{self.folder}: no snapshot: {error}") from error

    def _shorten(self) -> None:
        with self._gate:
            self.group.engine.acquire()
        try:
            self._log.check()
            self._begin_log()
            behind = self._log.begins
            rows = {kind: dict(held) for kind, held in self.tables.rows.items()}
        finally:
            self.group.engine.release()
        if behind.seq == 0 or path_of(self.folder, SNAPSHOT, behind.seq).exists():
            return
        self._snapshot_bytes = write_snapshot(self._disk, self.folder, behind, rows)
        self._log_bytes = 0
        remove(self._disk, self.folder, outdated(contents(self.folder), behind.seq))

    def _begin_log(self) -> None:
        if self._log.at.seq > self._log.begins.seq:
            begun = Log.begin(self._disk, self.folder, self._log.at, self._log)
            self._log_bytes += self._log.size
            self._log.abandon()
            self._log = begun

    def _let_snapshot_in(self) -> None:
        """On the writer's thread after a group: it would be faster than who waits for the engine, for ever."""
        with self._gate:
            pass

    def _watch_growth(self) -> None:
        grown = self._log_bytes + self._log.size
        if not self._wanted and grown > max(self._log_bytes_max, self._snapshot_bytes):
            self._wanted = True
            self._making.submit(self._shorten_quietly)

    def _shorten_quietly(self) -> None:
        try:
            self.snapshot_now()
        except (Unavailable, RuntimeError) as error:
            if self._closed:
                return
            log.warning("%s", error)
            self._log_bytes_max *= 2  # not again at once
        finally:
            self._wanted = False

    # -- beginning and end

    def _load(self) -> None:
        try:
            if not self.folder.is_dir():
                self._disk.make_folder(self.folder)
            self._ownership = Ownership(self.folder)
            try:
                found = Recovery(self._disk, self.folder).load()
            except BaseException:
                self._ownership.give_up()
                raise
        except OSError as error:
            raise Unavailable(f"{self.folder} cannot be opened: {error}") from error
        self.repaired = found.repaired
        if self.repaired is not None:
            log.warning("%s", self.repaired)
        self.tables.fill(found.rows)
        self._log = found.log
        self._log_bytes = max(0, found.log_bytes - found.log.size)  # of older files
        self._snapshot_bytes = found.snapshot_bytes

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
        self._audience.end()
        self._making.shutdown()
        with self.group.engine:
            self._log.close()
            self._ownership.give_up()

    def _readable(self) -> None:
        self._usable()
        self._log.check()

    def _usable(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"{self.folder} was opened by process {self._pid}, this is {os.getpid()}: open it again"
            )
        if self._closed:
            raise Unavailable(f"{self.folder} is closed")


def open_url(url: StoreUrl, *, clock: Clock = wall_clock_ms, **options: Any) -> FilesStore:
    return FilesStore(url.rest, clock=clock, **options)


__all__ = ["FilesStore", "Repaired"]
