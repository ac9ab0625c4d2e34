"""The log that a store of files appends to: every transaction a line, on the disk before it is answered."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..base import OutcomeUnknown, Unavailable
from .disk import NO_ROOM, Disk
from .format import LogPosition, closing, heading, line_of, transaction

LOG, SNAPSHOT, TEMPORARY = "log", "snapshot", ".tmp"
SUFFIX: Final = ".jsonl"


def path_of(folder: Path, what: str, seq: int) -> Path:
    """The log that goes on behind a transaction, or the snapshot of all up to it."""
    return folder / f"{what}-{seq:012d}{SUFFIX}"


def temporary(path: Path) -> Path:
    return path.with_name(path.name + TEMPORARY)


class Log:
    """The newest file of a log.  After a failed fsync nobody knows what is on the disk, so it takes no more."""

    def __init__(
        self, disk: Disk, path: Path, begins: LogPosition, at: LogPosition, closed: bool
    ) -> None:
        self.path = path
        self.begins = begins  # what its first line says
        self.at = at
        self.closed = closed  # nothing was appended since it was closed in good order
        self.unusable = ""  # why nothing may be appended any more
        self._disk = disk
        self._file = disk.reopen(path)
        self.size = path.stat().st_size

    @classmethod
    def begin(cls, disk: Disk, folder: Path, after: LogPosition, old: Log | None = None) -> Log:
        """A new file, complete or not there at all; `old` takes no more once it may be there.  Raises OSError."""
        path = path_of(folder, LOG, after.seq)
        line, crc = line_of(heading(LOG, after), 0)
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
                old.poison(f"the next log could not be begun: {error}")
            raise

    def append(self, writes: bytes) -> None:
        """Write a transaction.  Raises Unavailable (it was not done) or OutcomeUnknown."""
        self.check()
        line, crc = line_of(transaction(self.at.seq + 1, writes), self.at.crc)
        self._append(line)
        self.at = LogPosition(self.at.seq + 1, crc)
        self.closed = False

    def close(self) -> None:
        """Say that all is whole, if it is; a store that was not closed is read all the same."""
        try:
            if not (self.unusable or self.closed):
                line, crc = line_of(closing(self.at.seq), self.at.crc)
                self._append(line)
                self.at, self.closed = LogPosition(self.at.seq, crc), True
        except (Unavailable, OutcomeUnknown):
            pass
        self.abandon()

    def abandon(self) -> None:
        self._disk.close(self._file)

    def cut(self, size: int) -> None:
        self._disk.cut(self._file, size)
        self.size = size

    def sync(self) -> None:
        self._disk.sync(self._file)

    def check(self) -> None:
        if self.unusable:
            raise Unavailable(f"{self.path}: {self.unusable}; close the store and open it again")

    def poison(self, why: str) -> None:
        self.unusable = self.unusable or why

    def _append(self, line: bytes) -> None:
        if self._disk.gone(self._file):
            self.poison("the file was removed")
            self.check()
        try:
            self._disk.append(self._file, line)
        except OSError as error:
            self._take_back(error)
            raise Unavailable(f"{self.path}: {error}") from error
        try:
            self._disk.sync(self._file)
        except OSError as error:
            self.poison(f"fsync failed: {error}")
            raise OutcomeUnknown(
                f"{self.path}: fsync failed: {error}; close the store, open it again and execute the command again"
            ) from error
        self.size += len(line)

    def _take_back(self, error: OSError) -> None:
        """Cut off what was written of a line.  It has no end, so it counts for nothing if that fails as well."""
        if error.errno not in NO_ROOM:
            self.poison(f"write failed: {error}")
        try:
            self._disk.cut(self._file, self.size)
        except OSError as other:
            self.poison(f"write failed: {error}; and then: {other}")
