"""Reading a folder of logs and snapshots, whatever a crash has left there; and making a snapshot."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen

from tenure.queries import Record

from ..base import Corrupt
from .disk import LOCK, Disk
from .format import (
    Damaged,
    Line,
    LogPosition,
    Rows,
    check_heading,
    ending,
    heading,
    line_of,
    lines,
    rows_of,
    transaction,
)
from .log import LOG, SNAPSHOT, SUFFIX, TEMPORARY, Log, path_of, temporary

ROWS_A_LINE: Final = 64
_NAME = re.compile(rf"({LOG}|{SNAPSHOT})-(\d{{12,}}){re.escape(SUFFIX)}")


@frozen
class Repaired:
    """What a crash had left of a transaction that nobody was answered, cut off at opening."""

    path: Path
    line: int
    offset: int
    cut: int  # bytes
    why: str

    def __str__(self) -> str:
        return f"{self.path}: cut {self.cut} bytes off at line {self.line}, byte {self.offset}: {self.why}"


@frozen
class Contents:
    """The names in a folder that are ours, by the transaction behind which each goes on."""

    logs: dict[int, Path] = field(factory=dict)
    snapshots: dict[int, Path] = field(factory=dict)
    temporary: list[Path] = field(factory=list)
    others: list[str] = field(factory=list)


@frozen
class RecoveredLog:
    rows: dict[type[Record], dict[Any, Any]]
    log: Log
    repaired: Repaired | None
    log_bytes: int  # since the snapshot
    snapshot_bytes: int


def contents(folder: Path) -> Contents:
    found = Contents()
    for path in sorted(folder.iterdir()):
        if (match := _NAME.fullmatch(path.name)) is not None:
            (found.logs if match[1] == LOG else found.snapshots)[int(match[2])] = path
        elif path.name.endswith(SUFFIX + TEMPORARY):
            found.temporary.append(path)
        elif path.name != LOCK:
            found.others.append(path.name)
    return found


# -- reading


class Recovery:
    """Reads a folder from its newest snapshot on.  Raises Corrupt, SchemaTooNew, OSError."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self.disk, self.folder = disk, folder
        self.rows = Rows()
        self.spot = LogPosition()
        self.repaired: Repaired | None = None
        self.sizes = {LOG: 0, SNAPSHOT: 0}
        self.closed = False

    def load(self) -> RecoveredLog:
        names = contents(self.folder)
        if not names.logs and not names.snapshots:
            if names.others:
                why = f"a folder of something else: {names.others[0]} is there, and no log"
                raise Corrupt(str(self.folder), (), why)
            return RecoveredLog({}, Log.begin(self.disk, self.folder, LogPosition()), None, 0, 0)
        base = max(names.snapshots, default=0)
        if names.snapshots:
            self._snapshot(names.snapshots[base])
        if base not in names.logs:
            missing = path_of(self.folder, LOG, base).name
            raise Corrupt(str(self.folder), (), f"{missing} is missing")
        wanted = [path for seq, path in sorted(names.logs.items()) if seq >= base]
        for path in wanted:
            begins = self._log(path, path is wanted[-1])
        rows = self.rows.decoded()
        log = Log(self.disk, wanted[-1], begins, self.spot, self.closed)
        try:
            self._settle(log)
            remove(self.disk, self.folder, outdated(names, base) + names.temporary)
        except BaseException:
            log.abandon()
            raise
        return RecoveredLog(rows, log, self.repaired, self.sizes[LOG], self.sizes[SNAPSHOT])

    def _snapshot(self, path: Path) -> None:
        named = 0
        with path.open("rb") as file:
            for line in lines(path, file):
                if line.number == 1:
                    self.spot = check_heading(path, line, SNAPSHOT)
                elif "rows" not in line.says:
                    named += self.rows.take(path, line)
                elif line.says["rows"] == named and not file.read(1):
                    self.sizes[SNAPSHOT] = path.stat().st_size
                    return
                else:
                    raise Damaged(path, line.number, line.offset, f"it ends behind {named} rows")
        raise Corrupt(str(path), (), "it has no end")

    def _log(self, path: Path, newest: bool) -> LogPosition:
        begins: LogPosition | None = None
        with path.open("rb") as file:
            try:
                for line in lines(path, file):
                    if begins is None:
                        begins = self._heading(path, line)
                    else:
                        self._line(path, line)
            except Damaged as error:
                if not (newest and error.torn and begins is not None):
                    raise
                cut = path.stat().st_size - error.offset
                self.repaired = Repaired(path, error.number, error.offset, cut, str(error.why))
                self.closed = False
        if begins is None:
            raise Corrupt(str(path), (), "it is empty")
        self.sizes[LOG] += path.stat().st_size
        return begins

    def _heading(self, path: Path, line: Line) -> LogPosition:
        begins = check_heading(path, line, LOG)
        if begins != self.spot:
            why = f"it goes on behind {begins}, and what is before it ends at {self.spot}"
            raise Damaged(path, line.number, line.offset, why)
        self.spot = LogPosition(begins.seq, line.crc)
        return begins

    def _line(self, path: Path, line: Line) -> None:
        self.closed = "closed" in line.says
        seq = self.spot.seq + (not self.closed)
        if line.says["seq"] != seq:
            why = f"it is transaction {line.says['seq']}, and should be {seq}"
            raise Damaged(path, line.number, line.offset, why)
        if not self.closed:
            self.rows.take(path, line)
        self.spot = LogPosition(seq, line.crc)

    def _settle(self, log: Log) -> None:
        """What was read is made durable before anybody is answered from it: who wrote it may not have come to that."""
        if self.repaired is not None:
            log.cut(self.repaired.offset)
        log.sync()
        self.disk.sync_folder(self.folder)


# -- snapshots


def write_snapshot(
    disk: Disk, folder: Path, after: LogPosition, tables: Mapping[type[Record], Mapping[Any, Any]]
) -> int:
    """Returns its size when it is there to stay; what it makes superfluous may be removed then.  Raises OSError."""
    path = path_of(folder, SNAPSHOT, after.seq)
    crc, size = 0, 0
    file = disk.create(temporary(path))
    try:
        for fields in _snapshot_fields(after, tables):
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
    after: LogPosition, tables: Mapping[type[Record], Mapping[Any, Any]]
) -> Iterator[bytes]:
    yield heading(SNAPSHOT, after)
    named = 0
    for rows in tables.values():
        records = iter(rows.values())
        while some := tuple(islice(records, ROWS_A_LINE)):
            named += len(some)
            yield transaction(after.seq, rows_of(some))
    yield ending(after.seq, named)


def outdated(names: Contents, base: int) -> list[Path]:
    """What is superfluous beside the snapshot of all up to `base`."""
    old = [path for seq, path in names.logs.items() if seq < base]
    return old + [path for seq, path in names.snapshots.items() if seq < base]


def remove(disk: Disk, folder: Path, paths: Sequence[Path]) -> None:
    for path in paths:
        disk.remove(path)
    if paths:
        disk.sync_folder(folder)
