"""Exports the records of a store as lines of JSON, and imports them into any other store.  Spec: specs/store.md.

The first line names the format: the release whose rows it has.  The last line counts the rows, so that a truncated file is recognised.  Each line
between them is one row; the row of a session comes before the other rows of that session.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tenure.queries import Record
from tenure.records import RECORDS, Session
from tenure.release import RELEASE
from tenure.world import key_of

from .row_codec import codec_of, table_of

__all__ = ["InvalidExport", "exported", "imported"]


TABLES = {table_of(record): record for record in RECORDS}


class InvalidExport(ValueError):
    """An export that is not complete or has an invalid line; the message has the line's number."""


def exported(records: Iterable[Record], release: int = RELEASE) -> Iterator[str]:
    """Yield the lines of an export, which this release and every later one can import (SCHEMA-11)."""
    place = {record: at for at, record in enumerate(RECORDS)}
    ordered = sorted(
        records,
        key=lambda r: (r.session_id, place[r.__class__], key_of(r.__class__)(r)),  # type: ignore[attr-defined]
    )
    yield json.dumps({"tenure": "export", "format": release})
    for record in ordered:
        codec = codec_of(record.__class__, release)
        row = dict(zip([c.name for c in codec.columns], codec.encode(record), strict=True))
        yield json.dumps({codec.table: {name: row[name] for name in codec.stored}})
    yield json.dumps({"rows": len(ordered)})


def imported(lines: Iterable[str]) -> Iterator[Record]:
    """Yield the records of an export.  Raises InvalidExport, after the last record if the file is truncated."""
    expected: int | None = None
    order = _Order()
    count = release = 0
    for number, line in enumerate(lines, 1):
        fields = _object(number, line)
        if number == 1:
            release = _format(fields, line)
        elif "rows" in fields:
            expected = fields["rows"]
        elif expected is not None:
            raise InvalidExport(
                f"line {number}: expected the end of the file after the line that counts the rows"
            )
        else:
            record = _record(number, fields, release)
            order.check(number, record)
            yield record
            count += 1
    if expected is None:
        raise InvalidExport(
            f"the file is truncated: it ends after {count} rows, without the line that counts them"
        )
    if expected != count:
        raise InvalidExport(f"the file is not complete: {count} rows of {expected}")


class _Order:
    """Checks that the rows of a session follow each other, each once, after the row of the session itself."""

    def __init__(self) -> None:
        self._session: str | None = None
        self._ended: set[str] = set()
        self._keys: set[object] = set()

    def check(self, number: int, record: Any) -> None:
        """Raise InvalidExport if a record stands in the wrong place."""
        session, kind = record.session_id, record.__class__
        if session != self._session:
            if self._session is not None:
                self._ended.add(self._session)
            if session in self._ended:
                why = "its rows must follow each other"
            elif kind is not Session:
                why = "its first row must be that of the session itself"
            else:
                why = ""
            if why:
                raise InvalidExport(f"line {number}: session {session!r}: {why}")
            self._session, self._keys = session, set()
        key = kind, key_of(kind)(record)
        if key in self._keys:
            raise InvalidExport(f"line {number}: this {table_of(kind)} was there before: {key[1]}")
        self._keys.add(key)


def _object(number: int, line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except RecursionError:
        raise InvalidExport(f"line {number}: nested too deeply: {line[:80]!r}") from None
    except ValueError as error:
        raise InvalidExport(f"line {number}: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidExport(f"line {number}: expected a JSON object: {line[:80]!r}")
    return fields


def _format(fields: dict[str, Any], line: str) -> int:
    """Return the release whose rows an export has."""
    release = fields.get("format")
    if fields.get("tenure") != "export" or release.__class__ is not int or release < 1:
        raise InvalidExport(f"line 1: expected the heading of an export: {line[:80]!r}")
    if release > RELEASE:
        raise InvalidExport(
            f"line 1: an export of release {release}, this is release {RELEASE}: upgrade tenure"
        )
    return int(release)


def _record(number: int, fields: dict[str, Any], release: int) -> Record:
    if len(fields) != 1 or (table := next(iter(fields))) not in TABLES:
        raise InvalidExport(f"line {number}: unknown table: {', '.join(fields)[:80]}")
    codec = codec_of(TABLES[table], release)
    row = fields[table]
    if not isinstance(row, dict) or set(row) != set(codec.stored):
        raise InvalidExport(
            f"line {number}: expected these columns of {table}: {', '.join(codec.stored)}"
        )
    for column in codec.columns[: len(codec.stored)]:
        value, kind = row[column.name], int if column.sql_type == "INTEGER" else str
        if value.__class__ is not kind and not (value is None and column.nullable):
            found = json.dumps(value)[:80]
            raise InvalidExport(
                f"line {number}: {table}.{column.name}: expected {kind.__name__}, found {found}"
            )
    try:
        return codec.decode([row[name] for name in codec.stored])
    except Exception as error:
        raise InvalidExport(f"line {number}: {error}") from error
