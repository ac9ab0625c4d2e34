"""The lines of a store of files: what one says, how it is checked, and what a damaged one means.

    {"crc":"5f0d1a2b","len":61,"seq":7,"writes":[["+","blob","s","d","text"]]}

`crc` is the CRC-32 of the rest of the line and of the lines before it in its file, so that none can be missing or
exchanged; `len` counts the bytes behind its comma, the newline included.  A file begins with a line that says
`tenure`: what it is, the schema, the columns of the tables, and behind which line of which log it goes on.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
from attrs import frozen

from tenure.outcome import Decided, Drop, Insert, Write
from tenure.queries import Record
from tenure.records import RECORDS

from ..base import Corrupt, SchemaTooNew
from ..row_codec import RowCodec, codec_of

SCHEMA: Final = 1
INSERT, UPDATE, DROP = "+", "=", "-"

_dumps = msgspec.json.Encoder().encode
_loads = msgspec.json.Decoder().decode
_HEAD = re.compile(rb'\{"crc":"[0-9a-f]{8}","len":(\d{1,15}),')


@frozen
class LogPosition:
    """Behind which transaction, and the checksum of the last line there."""

    seq: int = 0
    crc: int = 0


@frozen
class Line:
    number: int
    offset: int
    crc: int
    says: dict[str, Any]


class Damaged(Corrupt):
    """A line that is not what was written.  `torn`: it is as a crash leaves the last line of a log."""

    def __init__(self, path: Path, number: int, offset: int, why: str, torn: bool = False) -> None:
        super().__init__(f"{path}, line {number} at byte {offset}", (), why)
        self.path, self.number, self.offset, self.torn = path, number, offset, torn


# -- writing


def line_of(fields: bytes, before: int) -> tuple[bytes, int]:
    """A line that says `fields`, behind a line with the checksum `before`; and its own checksum."""
    rest = b'"len":%d,%s}\n' % (len(fields) + 2, fields)
    crc = zlib.crc32(rest, before)
    return b'{"crc":"%08x",%s' % (crc, rest), crc


def transaction(seq: int, writes: bytes) -> bytes:
    return b'"seq":%d,"writes":%s' % (seq, writes)


def closing(seq: int) -> bytes:
    """Everything before it was whole when the store was closed."""
    return b'"seq":%d,"closed":true' % seq


def heading(what: str, after: LogPosition) -> bytes:
    columns = {codec.table: codec.stored for codec in _codecs().values()}
    return b'"tenure":"%s","schema":%d,"seq":%d,"behind":"%08x","tables":%s' % (
        what.encode(), SCHEMA, after.seq, after.crc, _dumps(columns),
    )  # fmt: skip


def ending(seq: int, rows: int) -> bytes:
    return b'"seq":%d,"rows":%d' % (seq, rows)


def writes_of(decisions: Iterable[Decided[Any]]) -> bytes:
    return _dumps([row_of(write) for decided in decisions for write in decided.writes])


def row_of(write: Write) -> tuple[Any, ...]:
    if isinstance(write, Drop):
        return (DROP, codec_of(write.record).table, *write.key)
    codec = codec_of(write.record.__class__)
    op = INSERT if isinstance(write, Insert) else UPDATE
    return (op, codec.table, *codec.encode(write.record)[: len(codec.stored)])


def rows_of(records: Iterable[Record]) -> bytes:
    return _dumps([row_of(Insert(record)) for record in records])


# -- reading


def lines(path: Path, file: BinaryIO) -> Iterator[Line]:
    """All lines of a file that begins at 0.  Raises Damaged at the first that is not what was written."""
    number, offset, crc = 0, 0, 0
    for text in file:
        number += 1
        rest = text[18:]
        found = zlib.crc32(rest, crc)
        if not text.startswith(b'{"crc":"%08x",' % found) or not text.endswith(b"\n"):
            last = not file.read(1)
            raise Damaged(path, number, offset, _why(text), last and _as_torn(text))
        try:
            says = _loads(text)
        except msgspec.DecodeError as error:
            raise Damaged(path, number, offset, f"no JSON: {error}") from error
        crc = found
        yield Line(number, offset, crc, says)
        offset += len(text)


def _why(text: bytes) -> str:
    head = _HEAD.match(text)
    if head is None:
        return "a line without a beginning"
    should, found = int(head[1]), len(text) - head.end()
    if found != should:
        return f"it has {found} bytes and should have {should}"
    return "its checksum is another"


def _as_torn(text: bytes) -> bool:
    """A torn line may have any bytes missing, but is not longer than it was to be, and is one line."""
    head = _HEAD.match(text)
    if head is not None:
        return len(text) - head.end() <= int(head[1])
    return b'{"crc":"' not in text[1:]


def check_heading(path: Path, line: Line, what: str) -> LogPosition:
    """Raises SchemaTooNew or Damaged unless the file is what its name says; returns behind what it goes on."""
    says = line.says
    if says.get("tenure") != what:
        raise Damaged(path, 1, 0, f"it should begin a {what}, and says {says.get('tenure')!r}")
    if says["schema"] > SCHEMA:
        raise SchemaTooNew(str(path), says["schema"], SCHEMA)
    for table, columns in says["tables"].items():
        codec = _codecs().get(table)
        if codec is None or codec.stored != tuple(columns):
            known = None if codec is None else ", ".join(codec.stored)
            why = f"schema {says['schema']} with other columns of {table}: known are {known}"
            raise Damaged(path, 1, 0, why)
    return LogPosition(says["seq"], int(says["behind"], 16))


# -- what the lines of a folder add up to


@cache
def _codecs() -> dict[str, RowCodec[Any]]:
    return {codec.table: codec for codec in map(codec_of, RECORDS)}


class Rows:
    """Raw rows by table and key; only those that are left in the end are decoded."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[Any, list[Any]]] = {table: {} for table in _codecs()}
        self._keys = {table: codec.key_at for table, codec in _codecs().items()}

    def take(self, path: Path, line: Line) -> int:
        """Apply what a line writes; return how many rows it names."""
        writes = line.says["writes"]
        try:
            for op, table, *row in writes:
                self._take(op, table, row)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise Damaged(path, line.number, line.offset, f"no such write: {error!r}") from error
        return len(writes)

    def _take(self, op: str, table: str, row: list[Any]) -> None:
        rows = self.tables[table]
        if op == DROP:
            rows.pop(tuple(row), None)
            return
        key = tuple([row[at] for at in self._keys[table]])
        if (key in rows) is not (op == UPDATE):
            raise ValueError(f"{op} of {table} {key}")
        rows[key] = row

    def decoded(self) -> dict[type[Record], dict[Any, Any]]:
        """Raises Corrupt with table and key for a row that is no record."""
        found: dict[type[Record], dict[Any, Any]] = {}
        for table, rows in self.tables.items():
            codec = _codecs()[table]
            found[codec.record] = {key: codec.decode(row) for key, row in rows.items()}
            rows.clear()
        return found
