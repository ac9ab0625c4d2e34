"""Recovery: reads a folder of logs and snapshots after a crash or a close.  Also writes snapshots."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen

from tenure.queries import Record
from tenure.release import RELEASE

from ..base import Corrupt
from ..layout import Layout, layout_of
from ..payloads import PayloadHook
from .disk import LOCK, Disk
from .format import (
    Damaged,
    Heading,
    Line,
    LogPosition,
    Rows,
    check_heading,
    ending,
    heading,
    line_of,
    lines,
    readable,
    rows_of,
    transaction,
)
from .log import LOG, SNAPSHOT, SUFFIX, TEMPORARY, Log, path_of, temporary

__all__ = [
    "Recovery",
    "Repaired",
    "active_of",
    "contents",
    "holds_store",
    "outdated",
    "remove",
    "write_snapshot",
]


ROWS_A_LINE: Final = 64
_NAME = re.compile(rf"({LOG}|{SNAPSHOT})-(\d{{12,}}){re.escape(SUFFIX)}")


@frozen
class Repaired:
    """The incomplete last transaction of a log, which recovery removed; its commands were never answered."""

    path: Path
    line: int
    offset: int
    cut: int  # bytes
    why: str

    def __str__(self) -> str:
        return (
            f"{self.path}: removed {self.cut} bytes of an incomplete write "
            f"at line {self.line}, byte {self.offset}: {self.why}"
        )


@frozen
class Contents:
    """The files of a folder; logs and snapshots by the transaction after which they start."""

    logs: dict[int, Path] = field(factory=dict)
    snapshots: dict[int, Path] = field(factory=dict)
    temporary: list[Path] = field(factory=list)
    others: list[str] = field(factory=list)


@frozen
class RecoveredLog:
    """The records of a folder, and the log to continue with."""

    rows: dict[type[Record], dict[Any, Any]]
    log: Log
    active: int  # the release whose rows the newest log has
    repaired: Repaired | None
    log_bytes: int  # of all logs since the snapshot
    snapshot_bytes: int


@frozen
class Content:
    """What the files of a folder say: the records, and the newest log."""

    rows: dict[type[Record], dict[Any, Any]]
    newest: Path
    heading: Heading  # of the newest log
    names: Contents
    base: int  # the snapshot that was read, or 0


def contents(folder: Path) -> Contents:
    """List the files of a folder.  Raises OSError, or Corrupt for a pipe or a device, which might block its reader."""
    found = Contents()
    for path in sorted(folder.iterdir()):
        if (match := _NAME.fullmatch(path.name)) is not None:
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise Corrupt(str(path), (), "not a file")
            (found.logs if match[1] == LOG else found.snapshots)[int(match[2])] = path
        elif path.name.endswith(SUFFIX + TEMPORARY):
            found.temporary.append(path)
        elif path.name != LOCK:
            found.others.append(path.name)
    return found


def holds_store(folder: Path) -> bool:
    """Return True if a folder has a log or a snapshot, False if it is empty.  Raises Corrupt or OSError."""
    return _is_store(folder, contents(folder))


def _is_store(folder: Path, names: Contents) -> bool:
    if names.logs or names.snapshots:
        return True
    if names.others:
        why = f"not a files store: it has no log, but {names.others[0]}"
        raise Corrupt(str(folder), (), why)
    return False


def active_of(folder: Path) -> int | None:
    """Return the active number of a folder, None if it is empty.  Raises Corrupt, SchemaTooNew or OSError."""
    names = contents(folder)
    if not _is_store(folder, names):
        return None
    if not names.logs:
        raise Corrupt(str(folder), (), "it has no log")
    path = names.logs[max(names.logs)]
    with path.open("rb") as file:
        for line in lines(path, file):
            with readable(path, line):
                return check_heading(path, line, LOG).release
    raise Corrupt(str(path), (), "the file is empty")


# -- reading


class Recovery:
    """Reads a folder, from its newest snapshot on.  Raises Corrupt, SchemaTooNew or OSError."""

    def __init__(self, disk: Disk, folder: Path, payloads: PayloadHook | None = None) -> None:
        self.disk, self.folder = disk, folder
        self.rows = Rows(payloads)
        self.position = LogPosition()
        self.repaired: Repaired | None = None
        self.sizes = {LOG: 0, SNAPSHOT: 0}
        self.closed = False

    def load(self) -> RecoveredLog:
        """Read everything, remove an incomplete last write, and remove files that are no longer needed."""
        found = self.read()
        if found is None:
            begun = Log.begin(self.disk, self.folder, LogPosition(), layout_of(RELEASE))
            return RecoveredLog({}, begun, RELEASE, None, 0, 0)
        start, active = found.heading.start, found.heading.release
        log = Log(self.disk, found.newest, start, self.position, self.closed)
        try:
            self._make_durable(log)
            old = outdated(found.names, found.base) + found.names.temporary
            remove(self.disk, self.folder, old)
        except BaseException:
            log.abandon()
            raise
        sizes = self.sizes[LOG], self.sizes[SNAPSHOT]
        return RecoveredLog(found.rows, log, active, self.repaired, *sizes)

    def read(self) -> Content | None:
        """Read everything and change nothing.  An incomplete last write is skipped.  None for an empty folder."""
        names = contents(self.folder)
        if not _is_store(self.folder, names):
            return None
        base = max(names.snapshots, default=0)
        if names.snapshots:
            self._snapshot(names.snapshots[base])
        if base not in names.logs:
            missing = path_of(self.folder, LOG, base).name
            raise Corrupt(str(self.folder), (), f"{missing} is missing")
        wanted = [path for seq, path in sorted(names.logs.items()) if seq >= base]
        for path in wanted:
            heading = self._log(path, path is wanted[-1])
        return Content(self.rows.decoded(), wanted[-1], heading, names, base)

    def _snapshot(self, path: Path) -> None:
        named = release = 0
        with path.open("rb") as file:
            for line in lines(path, file):
                with readable(path, line):
                    if line.number == 1:
                        heading = check_heading(path, line, SNAPSHOT)
                        self.position, release = heading.start, heading.release
                    elif "rows" not in line.fields:
                        named += self.rows.apply(line, release)
                    elif line.fields["rows"] == named and not file.read(1):
                        self.sizes[SNAPSHOT] = path.stat().st_size
                        return
                    else:
                        raise Damaged(path, line.number, line.offset, f"it ends after {named} rows")
        raise Corrupt(str(path), (), "the last line is missing")

    def _log(self, path: Path, newest: bool) -> Heading:
        heading: Heading | None = None
        with path.open("rb") as file:
            try:
                for line in lines(path, file):
                    with readable(path, line):
                        if heading is None:
                            heading = self._heading(path, line)
                        else:
                            self._line(path, line, heading.release)
            except Damaged as error:
                if not (newest and error.torn and heading is not None):
                    raise
                cut = path.stat().st_size - error.offset
                self.repaired = Repaired(path, error.number, error.offset, cut, str(error.why))
                self.closed = False
        if heading is None:
            raise Corrupt(str(path), (), "the file is empty")
        self.sizes[LOG] += path.stat().st_size
        return heading

    def _heading(self, path: Path, line: Line) -> Heading:
        heading = check_heading(path, line, LOG)
        start = heading.start
        if start != self.position:
            why = f"it starts after {start}, but the file before it ends at {self.position}"
            raise Damaged(path, line.number, line.offset, why)
        self.position = LogPosition(start.seq, line.crc)
        return heading

    def _line(self, path: Path, line: Line, release: int) -> None:
        self.closed = "closed" in line.fields
        seq = self.position.seq + (not self.closed)
        if line.fields["seq"] != seq:
            why = f"expected transaction {seq}, found {line.fields['seq']}"
            raise Damaged(path, line.number, line.offset, why)
        if not self.closed:
            self.rows.apply(line, release)
        self.position = LogPosition(seq, line.crc)

    def _make_durable(self, log: Log) -> None:
        """Sync the log before reads are served: its last writer may have crashed before its own fsync."""
        if self.repaired is not None:
            log.cut(self.repaired.offset)
        log.sync()
        self.disk.sync_folder(self.folder)


# -- snapshots


def write_snapshot(
    disk: Disk,
    folder: Path,
    after: LogPosition,
    tables: Mapping[type[Record], Mapping[Any, Any]],
    layout: Layout,
) -> int:
    """Write a snapshot of all records and return its size, when it is durable.  Raises OSError.

    `outdated` files may be removed after that.
    """
    path = path_of(folder, SNAPSHOT, after.seq)
    crc, size = 0, 0
    file = disk.create(temporary(path))
    try:
        for fields in _snapshot_fields(after, tables, layout):
            line, crc = line_of(fields, crc)
            disk.append(file, line)
            size += len(line)
        disk.sync(file)
    except BaseException:
        disk.close(file)
        disk.remove(temporary(path))
        raise
    disk.close(file)
    disk.rename(temporary(path), path)
    disk.sync_folder(folder)
    return size


def _snapshot_fields(
    after: LogPosition, tables: Mapping[type[Record], Mapping[Any, Any]], layout: Layout
) -> Iterator[bytes]:
    yield heading(SNAPSHOT, after, layout)
    named = 0
    for rows in tables.values():
        records = iter(rows.values())
        while some := tuple(islice(records, ROWS_A_LINE)):
            named += len(some)
            yield transaction(after.seq, rows_of(some, layout))
    yield ending(after.seq, named)


def outdated(names: Contents, base: int) -> list[Path]:
    """Return the files that are not needed beside the snapshot up to `base`."""
    old = [path for seq, path in names.logs.items() if seq < base]
    return old + [path for seq, path in names.snapshots.items() if seq < base]


def remove(disk: Disk, folder: Path, paths: Sequence[Path]) -> None:
    """Remove files, durably."""
    for path in paths:
        disk.remove(path)
    if paths:
        disk.sync_folder(folder)
