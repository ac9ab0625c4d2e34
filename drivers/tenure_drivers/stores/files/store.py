"""A folder of files: one OS process, no database, group commit; writes are on disk before they are answered.

All records are in memory, with the same indexes as in a memory store.  A log of readable, checksummed lines holds every
transaction (`format`, `log`).  A snapshot replaces the log when it has grown (`recovery`).  Spec: specs/store.md.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tenure.outcome import Decided
from tenure.release import RELEASE

from ..base import Capability, Clock, Durability, Unavailable, wall_clock_ms
from ..group_commit import GROUP_MAX, Answer
from ..grouped_store import Commands, TablesStore
from ..layout import Layout, check_active, layout_of, warn_if_older
from ..migration import Migrate, Numbers, may_migrate
from ..payloads import PayloadHook
from ..url import StoreUrl
from .disk import Disk, Ownership, not_opened
from .format import LogPosition, writes_of
from .log import SNAPSHOT, Log, path_of
from .recovery import (
    Recovery,
    Repaired,
    active_of,
    contents,
    holds_store,
    outdated,
    remove,
    write_snapshot,
)

LOG_BYTES_MAX = 64 * 1024 * 1024

log = logging.getLogger("tenure")


class FilesStore(TablesStore):
    """A store in a folder, which is created if it does not exist.

    `repaired` is the incomplete write of a crash that was removed when the store was opened.  A snapshot is written at
    opening or in the background when the log is larger than `log_bytes_max` and than the last snapshot.  `migrate`: "auto"
    makes this release active in a folder of an earlier one (SCHEMA-10), "no" never does.
    Raises Unavailable, Corrupt, SchemaTooNew or SchemaTooOld if the folder cannot be opened.
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
        migrate: Migrate = "auto",
        payloads: PayloadHook | None = None,
    ) -> None:
        self.folder = Path(folder).absolute()  # agents may change the working folder
        super().__init__(str(Path(folder)), clock, group_max=group_max)
        self._log_bytes_max = log_bytes_max
        self._payloads = payloads
        self._layouts: dict[int, Layout] = {}  # a layout with a hook has codecs of its own
        self._disk = disk or Disk()
        self._snapshot_lock = threading.Lock()  # held around a snapshot
        self._engine_gate = threading.Lock()  # held by a snapshot that waits for the engine
        self.repaired: Repaired | None = None
        self._log: Log
        self._load(may_migrate(migrate))
        self._snapshot_thread = ThreadPoolExecutor(1, f"tenure-snapshot-{self.folder.name}")
        self._snapshot_queued = False
        self._snapshot_if_grown()

    # -- the transaction of a group

    def _attempt(self, commands: Commands) -> Sequence[Answer]:
        self._log.check()
        answers = super()._attempt(commands)
        self._snapshot_if_grown()
        return answers

    def _make_durable(self, decisions: Sequence[Decided[Any]]) -> None:
        self._log.append(writes_of(decisions, self._layout))

    def _check_readable(self) -> None:
        self._check_usable()
        self._log.check()

    # -- snapshots

    async def snapshot(self) -> None:
        """Write all records to one file and remove the log up to here.  Commands are executed meanwhile.

        Raises Unavailable; then nothing has changed.
        """
        self._check_usable()
        await asyncio.get_running_loop().run_in_executor(self._snapshot_thread, self.snapshot_now)

    def snapshot_now(self) -> None:
        """`snapshot` without an event loop, from any thread."""
        with self._snapshot_lock:
            self._check_usable()
            try:
                self._write_snapshot()
            except OSError as error:
                raise Unavailable(f"{self.folder}: writing a snapshot failed: {error}") from error

    def _write_snapshot(self) -> None:
        with self._engine_gate:
            self.group.engine.acquire()
        try:
            self._log.check()
            self._begin_log()
            after = self._log.start
            rows = {kind: dict(held) for kind, held in self.tables.rows.items()}
        finally:
            self.group.engine.release()
        if after.seq == 0 or path_of(self.folder, SNAPSHOT, after.seq).exists():
            return
        self._snapshot_bytes = write_snapshot(self._disk, self.folder, after, rows, self._layout)
        self._log_bytes = 0
        remove(self._disk, self.folder, outdated(contents(self.folder), after.seq))

    def _begin_log(self) -> None:
        if self._log.end.seq > self._log.start.seq:
            self._begin_log_after(self._log.end)

    def _begin_log_after(self, position: LogPosition) -> None:
        begun = Log.begin(self._disk, self.folder, position, self._layout, self._log)
        self._log_bytes += self._log.size
        self._log.abandon()
        self._log = begun

    def _after_group(self) -> None:
        """Let a waiting snapshot take the engine: locks are not fair, so the writer's thread could always be faster."""
        with self._engine_gate:
            pass

    def _snapshot_if_grown(self) -> None:
        grown = self._log_bytes + self._log.size
        if not self._snapshot_queued and grown > max(self._log_bytes_max, self._snapshot_bytes):
            self._snapshot_queued = True
            self._snapshot_thread.submit(self._snapshot_in_background)

    def _snapshot_in_background(self) -> None:
        try:
            self.snapshot_now()
        except (Unavailable, RuntimeError) as error:
            if self._closed:
                return
            log.warning("%s", error)
            self._log_bytes_max *= 2  # do not try again at once
        finally:
            self._snapshot_queued = False

    # -- opening and closing

    def _load(self, migrate: bool) -> None:
        try:
            if self.folder.exists() and not self.folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "Not a folder", str(self.folder))
            if not self.folder.is_dir():
                self._disk.make_folder(self.folder)
            holds_store(self.folder)  # before a lock is created in a folder of something else
            self._ownership = Ownership(self.folder)
            try:
                found = Recovery(self._disk, self.folder, self._payloads).load()
            except BaseException:
                self._ownership.release()
                raise
        except OSError as error:
            raise not_opened(self.folder, error) from error
        self.repaired = found.repaired
        if self.repaired is not None:
            log.warning("%s", self.repaired)
        self._log = found.log
        self._log_bytes = max(0, found.log_bytes - found.log.size)  # of older files
        self._snapshot_bytes = found.snapshot_bytes
        self.active = found.active
        try:
            self.tables.fill(found.rows)
            if migrate and found.active < RELEASE:
                self._activate()
            warn_if_older(check_active(self.active, str(self.folder)), str(self.folder))
        except BaseException:
            self._log.abandon()
            self._ownership.release()
            raise

    def _activate(self) -> None:
        """Begin a log of this release (SCHEMA-7); it replaces a log that has no transaction."""
        before, self.active = self.active, RELEASE
        empty = self._log.end.seq == self._log.start.seq
        try:
            self._begin_log_after(self._log.start if empty else self._log.end)
        except OSError as error:
            raise not_opened(self.folder, error) from error
        log.warning("%s: migrated from release %d to %d", self.folder, before, RELEASE)

    @property
    def _layout(self) -> Layout:
        found = self._layouts.get(self.active)
        if found is None:
            found = self._layouts[self.active] = layout_of(self.active, self._payloads)
        return found

    def _release(self) -> None:
        super()._release()
        self._snapshot_thread.shutdown()
        with self.group.engine:
            self._log.close()
            self._ownership.release()


def open_url(url: StoreUrl, *, clock: Clock = wall_clock_ms, **options: Any) -> FilesStore:
    """Open `files:FOLDER`."""
    return FilesStore(url.rest, clock=clock, **options)


class FilesMigrator:
    """Activates a folder; it has no tables, so there is nothing to migrate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def numbers(self) -> Numbers:
        """Return the numbers of the folder, without changing it."""
        try:
            active = active_of(self.folder) if self.folder.exists() else None
        except OSError as error:
            raise not_opened(self.folder, error) from error
        return Numbers(RELEASE, active, ()) if active else Numbers(0, 0, ())

    def migrate(self, report: Callable[[str], None]) -> None:
        """Create the folder if it does not exist."""
        FilesStore(self.folder, migrate="no").close()

    def activate(self) -> None:
        """Make this release active (SCHEMA-7).  Raises Unavailable while another process owns the folder."""
        FilesStore(self.folder).close()


def open_migrator(url: StoreUrl) -> FilesMigrator:
    """Return what migrates the folder of a URL."""
    return FilesMigrator(Path(url.rest))


__all__ = ["FilesMigrator", "FilesStore", "Repaired", "open_migrator", "open_url"]
