"""The line format of a files store: how a line is written, checked and read, and what damage means.

    {"crc":"5f0d1a2b","len":61,"seq":7,"writes":[["+","blob","s","d","text"]]}

`crc` is the CRC-32 of the rest of the line and of all earlier lines of its file, so that no line can be missing or
moved.  `len` counts the bytes after its comma, including the newline.  The first line of a file is its heading: the
kind of file (`tenure`), the release whose rows it has (`schema`), their columns, and the position in the log after
which the file starts.  The heading of the newest log has the active number of the store (specs/schema.md).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from attrs import frozen

from tenure.outcome import Decided, Drop, Insert, Write
from tenure.queries import Record
from tenure.release import RELEASE

from ..base import Corrupt
from ..layout import Layout, check_active, layout_of
from ..payloads import PayloadHook
from ..row_codec import RowCodec

__all__ = [
    "Damaged",
    "Heading",
    "Line",
    "LogPosition",
    "Rows",
    "check_heading",
    "closing",
    "ending",
    "heading",
    "line_of",
    "lines",
    "readable",
    "rows_of",
    "transaction",
    "writes_of",
]


INSERT, UPDATE, DROP = "+", "=", "-"

_dumps = msgspec.json.Encoder().encode
_loads = msgspec.json.Decoder().decode
_HEAD = re.compile(rb'\{"crc":"[0-9a-f]{8}","len":(\d{1,15}),')
_HEAD_MAX = 40  # bytes that it may have
SECTOR = 512  # bytes that a disk writes together


@frozen
class LogPosition:
    """A position in the log: the last transaction before it, and the checksum of the last line before it."""

    seq: int = 0
    crc: int = 0


@frozen
class Line:
    """A line that was checked: its number from 1, its byte offset, its checksum and its fields."""

    number: int
    offset: int
    crc: int
    fields: dict[str, Any]


@frozen
class Heading:
    """What the first line of a file says: the position after which it starts, and the release of its rows."""

    start: LogPosition
    release: int


class Damaged(Corrupt):
    """A line that differs from what was written.  `torn`: a crash may leave the last line of a log like this."""

    def __init__(self, path: Path, number: int, offset: int, why: str, torn: bool = False) -> None:
        super().__init__(f"{path}, line {number} at byte {offset}", (), why)
        self.path, self.number, self.offset, self.torn = path, number, offset, torn


# -- writing


def line_of(fields: bytes, before: int) -> tuple[bytes, int]:
    """Return a line with these fields, and its checksum; `before` is the checksum of the previous line."""
    rest = b'"len":%d,%s}\n' % (len(fields) + 2, fields)
    crc = zlib.crc32(rest, before)
    return b'{"crc":"%08x",%s' % (crc, rest), crc


def transaction(seq: int, writes: bytes) -> bytes:
    """Return the fields of a transaction's line."""
    return b'"seq":%d,"writes":%s' % (seq, writes)


def closing(seq: int) -> bytes:
    """Return the fields of the line that a store writes when it closes: all earlier lines were complete."""
    return b'"seq":%d,"closed":true' % seq


def heading(what: str, after: LogPosition, layout: Layout) -> bytes:
    """Return the fields of a file's first line."""
    columns = {codec.table: codec.stored for codec in _codecs(layout.release).values()}
    return b'"tenure":"%s","schema":%d,"seq":%d,"after":"%08x","tables":%s' % (
        what.encode(), layout.release, after.seq, after.crc, _dumps(columns),
    )  # fmt: skip


def ending(seq: int, rows: int) -> bytes:
    """Return the fields of a snapshot's last line."""
    return b'"seq":%d,"rows":%d' % (seq, rows)


def writes_of(decisions: Iterable[Decided[Any]], layout: Layout) -> bytes:
    """Return the writes of decisions as JSON."""
    return _dumps([row_of(write, layout) for decided in decisions for write in decided.writes])


def row_of(write: Write, layout: Layout) -> tuple[Any, ...]:
    """Return a write as operation, table, and row or key."""
    if isinstance(write, Drop):
        return (DROP, layout.codec(write.record).table, *write.key)
    codec: RowCodec[Any] = layout.codec(write.record.__class__)
    op = INSERT if isinstance(write, Insert) else UPDATE
    return (op, codec.table, *codec.encode(write.record)[: len(codec.stored)])


def rows_of(records: Iterable[Record], layout: Layout) -> bytes:
    """Return inserts of records as JSON."""
    return _dumps([row_of(Insert(record), layout) for record in records])


# -- reading


def lines(path: Path, file: BinaryIO) -> Iterator[Line]:
    """Yield the lines of a file from its start.  Raises Damaged at the first damaged line."""
    number, offset, crc = 0, 0, 0
    for text in file:
        number += 1
        rest = text[18:]
        found = zlib.crc32(rest, crc)
        if not text.startswith(b'{"crc":"%08x",' % found) or not text.endswith(b"\n"):
            last = not file.read(1)
            raise Damaged(path, number, offset, _why(text), last and _is_torn(text, offset))
        try:
            fields = _loads(text)
        except msgspec.DecodeError as error:
            raise Damaged(path, number, offset, f"not valid JSON: {error}") from error
        crc = found
        yield Line(number, offset, crc, fields)
        offset += len(text)


def _why(text: bytes) -> str:
    head = _HEAD.match(text)
    if head is None:
        return "the start of the line is damaged"
    should, found = int(head[1]), len(text) - head.end()
    if found != should:
        return f"it has {found} bytes, expected {should}"
    return "the checksum does not match"


def _is_torn(text: bytes, offset: int) -> bool:
    """Return True if a crash may have left this last line: its end is missing, or whole sectors that read as zeros.

    A complete line with other bytes is damage: its transaction may have been acknowledged.
    """
    head = _HEAD.match(text)
    if b"\0" in text:
        return _lacks_sectors(text, offset)
    if text.endswith(b"\n"):
        return False  # the newline is written last
    return len(text) - head.end() < int(head[1]) if head else len(text) < _HEAD_MAX


def _lacks_sectors(text: bytes, offset: int) -> bool:
    """Return True if each sector with a zero byte has nothing but zeros in this line; JSON has no zero byte."""
    for at in range(-(offset % SECTOR), len(text), SECTOR):
        part = text[max(at, 0) : at + SECTOR]
        if b"\0" in part and part.strip(b"\0"):
            return False
    return True


@contextmanager
def readable(path: Path, line: Line) -> Iterator[None]:
    """Raise Damaged where the fields of a line, whose checksum is right, are not those that a store writes."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        why = f"impossible content: {error!r}"
        raise Damaged(path, line.number, line.offset, why) from error


def check_heading(path: Path, line: Line, what: str) -> Heading:
    """Return what the heading says.  Raises SchemaTooNew, or Damaged if it does not fit."""
    fields = line.fields
    if fields.get("tenure") != what:
        raise Damaged(
            path, 1, 0, f"expected the heading of a {what}, found {fields.get('tenure')!r}"
        )
    release = check_active(fields["schema"], str(path), oldest=1)
    for table, columns in fields["tables"].items():
        codec = _codecs(release).get(table)
        if codec is None or codec.stored != tuple(columns):
            known = None if codec is None else ", ".join(codec.stored)
            why = f"release {release} with other columns of {table}: expected {known}"
            raise Damaged(path, 1, 0, why)
    return Heading(LogPosition(fields["seq"], int(fields["after"], 16)), release)


# -- the rows that all lines together give


@cache
def _codecs(release: int = RELEASE) -> dict[str, RowCodec[Any]]:
    layout = layout_of(release)
    return {codec.table: codec for codec in map(layout.codec, layout.records)}


class Rows:
    """Rows by table and key, not decoded until all lines were applied."""

    def __init__(self, payloads: PayloadHook | None = None) -> None:
        self._layout = layout_of(RELEASE, payloads)
        self.tables: dict[str, dict[Any, list[Any]]] = {table: {} for table in _codecs()}
        self._keys = {table: codec.key_at for table, codec in _codecs().items()}

    def apply(self, line: Line, release: int) -> int:
        """Apply the writes of a line in a file of a release; return their number.  Call it within `readable`."""
        writes = line.fields["writes"]
        for op, table, *row in writes:
            known = row if release == RELEASE or op == DROP else _as_now(table, row, release)
            self._apply(op, table, known)
        return len(writes)

    def _apply(self, op: str, table: str, row: list[Any]) -> None:
        rows = self.tables[table]
        if op == DROP:
            rows.pop(tuple(row), None)
            return
        key = tuple([row[at] for at in self._keys[table]])
        if (key in rows) is not (op == UPDATE):
            raise ValueError(f"{op} of {table} {key}")
        rows[key] = row

    def decoded(self) -> dict[type[Record], dict[Any, Any]]:
        """Return the records by type and key.  Raises Corrupt with table and key for an invalid row."""
        found: dict[type[Record], dict[Any, Any]] = {}
        for table, rows in self.tables.items():
            codec = self._layout.codec(_codecs()[table].record)
            codec.check_types(rows.values())  # JSON may have any type anywhere
            found[codec.record] = {key: codec.decode(row) for key, row in rows.items()}
            rows.clear()
        return found


def _as_now(table: str, row: list[Any], release: int) -> list[Any]:
    """Return a row with the columns of this release: those that its release did not have are None."""
    found = dict(zip(_codecs(release)[table].stored, row, strict=True))
    return [found.get(name) for name in _codecs()[table].stored]
