"""Exports the records of a store as lines of JSON, and imports them into any other store.  Spec: specs/store.md.

The first line names the format.  The last line counts the rows, so that a truncated file is recognised.  Each line
between them is one row; the row of a session comes before the other rows of that session.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tenure.queries import Record
from tenure.records import RECORDS
from tenure.world import key_of

from .row_codec import codec_of, table_of

__all__ = ["InvalidExport", "exported", "imported"]


FORMAT = 1
TABLES = {table_of(record): record for record in RECORDS}


class InvalidExport(ValueError):
    """An export that is not complete or has an invalid line; the message has the line's number."""


def exported(records: Iterable[Record]) -> Iterator[str]:
    """Yield the lines of an export."""
    place = {record: at for at, record in enumerate(RECORDS)}
    ordered = sorted(
        records,
        key=lambda r: (r.session_id, place[r.__class__], key_of(r.__class__)(r)),  # type: ignore[attr-defined]
    )
    yield json.dumps({"tenure": "export", "format": FORMAT})
    for record in ordered:
        codec = codec_of(record.__class__)
        row = dict(zip([c.name for c in codec.columns], codec.encode(record), strict=True))
        yield json.dumps({codec.table: {name: row[name] for name in codec.stored}})
    yield json.dumps({"rows": len(ordered)})


def imported(lines: Iterable[str]) -> Iterator[Record]:
    """Yield the records of an export.  Raises InvalidExport, after the last record if the file is truncated."""
    expected: int | None = None
    count = 0
    for number, line in enumerate(lines, 1):
        fields = _object(number, line)
        if number == 1:
            if fields.get("tenure") != "export" or fields.get("format") != FORMAT:
                raise InvalidExport(f"line 1: expected an export of format {FORMAT}: {line[:80]!r}")
        elif "rows" in fields:
            expected = fields["rows"]
        elif expected is not None:
            raise InvalidExport(
                f"line {number}: expected the end of the file after the line that counts the rows"
            )
        else:
            yield _record(number, fields)
            count += 1
    if expected is None:
        raise InvalidExport(
            f"the file is truncated: it ends after {count} rows, without the line that counts them"
        )
    if expected != count:
        raise InvalidExport(f"the file is not complete: {count} rows of {expected}")


def _object(number: int, line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise InvalidExport(f"line {number}: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidExport(f"line {number}: expected a JSON object: {line[:80]!r}")
    return fields


def _record(number: int, fields: dict[str, Any]) -> Record:
    if len(fields) != 1 or (table := next(iter(fields))) not in TABLES:
        raise InvalidExport(f"line {number}: unknown table: {', '.join(fields)[:80]}")
    codec = codec_of(TABLES[table])
    row = fields[table]
    if not isinstance(row, dict) or set(row) != set(codec.stored):
        raise InvalidExport(
            f"line {number}: expected these columns of {table}: {', '.join(codec.stored)}"
        )
    try:
        return codec.decode([row[name] for name in codec.stored])
    except Exception as error:
        raise InvalidExport(f"line {number}: {error}") from error
