"""The log of a files store: one line for each transaction, on disk before its commands are answered."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..base import OutcomeUnknown, Unavailable
from ..layout import Layout
from .disk import NO_ROOM, Disk
from .format import LogPosition, closing, heading, line_of, transaction

__all__ = ["LOG", "SNAPSHOT", "SUFFIX", "TEMPORARY", "Log", "path_of", "temporary"]


LOG, SNAPSHOT, TEMPORARY = "log", "snapshot", ".tmp"
SUFFIX: Final = ".jsonl"


def path_of(folder: Path, what: str, seq: int) -> Path:
    """Return the path of the log that starts after a transaction, or of the snapshot up to it."""
    return folder / f"{what}-{seq:012d}{SUFFIX}"


def temporary(path: Path) -> Path:
    """Return the name of a file until it is complete."""
    return path.with_name(path.name + TEMPORARY)


class Log:
    """The newest log file of a folder.  After a failed fsync it is unusable, because its content is unknown."""

    def __init__(
        self, disk: Disk, path: Path, start: LogPosition, end: LogPosition, closed: bool
    ) -> None:
        self.path = path
        self.start = start  # as its heading says
        self.end = end
        self.closed = closed  # its last line says that the store was closed
        self.unusable = ""  # why nothing may be appended; empty: it may
        self._disk = disk
        self._file = disk.reopen(path)
        self.size = path.stat().st_size

    @classmethod
    def begin(
        cls, disk: Disk, folder: Path, after: LogPosition, layout: Layout, old: Log | None = None
    ) -> Log:
        """Create a new log file for rows of a layout, complete or not at all.  Raises OSError.

        `old` becomes unusable if the new file may exist although an error is raised.
        """
        path = path_of(folder, LOG, after.seq)
        line, crc = line_of(heading(LOG, after, layout), 0)
        file = disk.create(temporary(path))
        try:
            disk.append(file, line)
            disk.sync(file)
        finally:
            disk.close(file)
        try:
            disk.rename(temporary(path), path)
            disk.sync_folder(folder)
            return cls(disk, path, after, LogPosition(after.seq, crc), True)
        except OSError as error:
            if old is not None:
                old.disable(f"the next log could not be created: {error}")
            raise

    def append(self, writes: bytes) -> None:
        """Append a transaction and sync it.  Raises Unavailable if it was not written, or OutcomeUnknown."""
        self.check()
        line, crc = line_of(transaction(self.end.seq + 1, writes), self.end.crc)
        self._append(line)
        self.end = LogPosition(self.end.seq + 1, crc)
        self.closed = False

    def close(self) -> None:
        """Append the closing line and close the file.  A log without that line can be opened too."""
        try:
            if not (self.unusable or self.closed):
                line, crc = line_of(closing(self.end.seq), self.end.crc)
                self._append(line)
                self.end, self.closed = LogPosition(self.end.seq, crc), True
        except (Unavailable, OutcomeUnknown):
            pass
        self.abandon()

    def abandon(self) -> None:
        """Close the file and write nothing."""
        self._disk.close(self._file)

    def cut(self, size: int) -> None:
        """Truncate the file."""
        self._disk.cut(self._file, size)
        self.size = size

    def sync(self) -> None:
        """Return when the content survives a power cut."""
        self._disk.sync(self._file)

    def check(self) -> None:
        """Raise Unavailable if nothing may be appended."""
        if self.unusable:
            raise Unavailable(f"{self.path}: {self.unusable}; close the store and open it again")

    def disable(self, why: str) -> None:
        """Forbid further writes; the first reason is kept."""
        self.unusable = self.unusable or why

    def _append(self, line: bytes) -> None:
        if self._disk.gone(self._file):
            self.disable("the file was removed")
            self.check()
        try:
            self._disk.append(self._file, line)
        except OSError as error:
            self._truncate(error)
            raise Unavailable(f"{self.path}: {error}") from error
        try:
            self._disk.sync(self._file)
        except OSError as error:
            self.disable(f"fsync failed: {error}")
            raise OutcomeUnknown(
                f"{self.path}: fsync failed: {error}; close the store, open it again and execute the command again"
            ) from error
        self.size += len(line)

    def _truncate(self, error: OSError) -> None:
        """Remove a line that was written in part.  If that fails too, recovery will ignore the incomplete line."""
        if error.errno not in NO_ROOM:
            self.disable(f"write failed: {error}")
        try:
            self._disk.cut(self._file, self.size)
        except OSError as other:
            self.disable(f"write failed: {error}; truncating failed: {other}")
