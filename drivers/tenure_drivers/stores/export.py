"""Exports the records of a store as lines of JSON, and imports them into any other store.  Spec: specs/store.md.

The first line names the format.  The last line counts the rows, so that a truncated file is recognised.  Each line
between them is one row; the row of a session comes before the other rows of that session.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from attrs import frozen

from tenure.outcome import Decided, Hint, Insert, Refusal, Refused
from tenure.queries import Command, Each, Get, Query, Reads, Record, read
from tenure.records import RECORDS, Session
from tenure.world import key_of

from .row_codec import codec_of, table_of

FORMAT = 1
ROWS_AT_ONCE = 128
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


# -- into a store


@frozen
class RestoreView:
    session: Session | None
    records: tuple[Record | None, ...]


@frozen
class Restore(Command[RestoreView, int]):
    """Write rows as they are; a row that is there already must be the same.  The session's own row comes last.

    Until it is there nobody sees the others; once it is, its rows are no longer anybody's to restore.
    Refusals: KEY_CONFLICT.
    """

    session_id: str
    records: tuple[Record, ...]

    def reads(self) -> Reads[RestoreView]:
        keys: list[Query[Record | None]] = [
            Get(r.__class__, key_of(r.__class__)(r)) for r in self.records
        ]
        return read(RestoreView, Get(Session, (self.session_id,)), Each(tuple(keys)))

    def decide(self, view: RestoreView, now_ms: int) -> Decided[int] | Refused:
        missing = []
        for record, there in zip(self.records, view.records, strict=True):
            if there is None:
                missing.append(record)
            elif there != record:
                return Refused(Refusal.KEY_CONFLICT, "STORE-39", there)
        if missing and view.session is not None:
            return Refused(Refusal.KEY_CONFLICT, "STORE-39", view.session)
        hints = tuple(
            [Hint(self.session_id, r.due_at_ms) for r in missing if isinstance(r, Session)]
        )
        writes = tuple([Insert(record) for record in missing])
        return Decided(len(missing), "STORE-39", writes, hints, replayed=not missing)


def restoring(records: Sequence[Record]) -> Iterator[Restore]:
    """Yield the commands that write the rows of one session; execute them in this order."""
    head = [r for r in records if isinstance(r, Session)]
    rest = [r for r in records if not isinstance(r, Session)]
    for at in range(0, len(rest), ROWS_AT_ONCE):
        part = tuple(rest[at : at + ROWS_AT_ONCE])
        yield Restore(part[0].session_id, part)  # type: ignore[attr-defined]
    for session in head:
        yield Restore(session.session_id, (session,))
