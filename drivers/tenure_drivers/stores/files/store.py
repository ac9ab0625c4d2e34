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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tenure.outcome import Decided

from ..base import Capability, Clock, Durability, Unavailable, wall_clock_ms
from ..group_commit import GROUP_MAX, Answer
from ..grouped_store import Commands, TablesStore
from ..url import StoreUrl
from .disk import Disk, Ownership
from .format import writes_of
from .log import SNAPSHOT, Log, path_of
from .recovery import Recovery, Repaired, contents, outdated, remove, write_snapshot

LOG_BYTES_MAX = 64 * 1024 * 1024

log = logging.getLogger("tenure")


class FilesStore(TablesStore):
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
        super().__init__(str(self.folder), clock, group_max=group_max)
        self._log_bytes_max = log_bytes_max
        self._disk = disk or Disk()
        self._shortening = threading.Lock()  # held around a snapshot
        self._gate = threading.Lock()  # held by a snapshot that waits for the engine
        self.repaired: Repaired | None = None
        self._log: Log
        self._load()
        self._making = ThreadPoolExecutor(1, f"tenure-snapshot-{self.folder.name}")
        self._wanted = False
        self._watch_growth()

    # -- the transaction of a group

    def _attempt(self, commands: Commands) -> Sequence[Answer]:
        self._log.check()
        answers = super()._attempt(commands)
        self._watch_growth()
        return answers

    def _make_durable(self, decisions: Sequence[Decided[Any]]) -> None:
        self._log.append(writes_of(decisions))

    def _check_readable(self) -> None:
        self._check_usable()
        self._log.check()

    # -- snapshots

    async def snapshot(self) -> None:
        """Write all that is held into one file and forget the log up to here.  Commands go on meanwhile.

        Raises Unavailable; then all is as before.
        """
        self._check_usable()
        await asyncio.get_running_loop().run_in_executor(self._making, self.snapshot_now)

    def snapshot_now(self) -> None:
        """Without an event loop, from any thread."""
        with self._shortening:
            self._check_usable()
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
            after = self._log.begins
            rows = {kind: dict(held) for kind, held in self.tables.rows.items()}
        finally:
            self.group.engine.release()
        if after.seq == 0 or path_of(self.folder, SNAPSHOT, after.seq).exists():
            return
        self._snapshot_bytes = write_snapshot(self._disk, self.folder, after, rows)
        self._log_bytes = 0
        remove(self._disk, self.folder, outdated(contents(self.folder), after.seq))

    def _begin_log(self) -> None:
        if self._log.at.seq > self._log.begins.seq:
            begun = Log.begin(self._disk, self.folder, self._log.at, self._log)
            self._log_bytes += self._log.size
            self._log.abandon()
            self._log = begun

    def _after_group(self) -> None:
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

    def _release(self) -> None:
        super()._release()
        self._making.shutdown()
        with self.group.engine:
            self._log.close()
            self._ownership.give_up()


def open_url(url: StoreUrl, *, clock: Clock = wall_clock_ms, **options: Any) -> FilesStore:
    return FilesStore(url.rest, clock=clock, **options)


__all__ = ["FilesStore", "Repaired"]
