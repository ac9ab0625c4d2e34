"""SQLite's SQL, generated from the record types and their indexes, and its execution."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from tenure.outcome import Decided, Drop, Insert
from tenure.queries import Chain, Each, First, Get, Index, Named, Query, Record, answer_named

from ..base import Corrupt, Quarantined
from ..layout import Layout
from ..row_codec import RowCodec, table_of

__all__ = [
    "SELECT_QUARANTINE",
    "Tables",
    "all_records",
    "create_index",
    "create_table",
    "fetch_leniently",
    "insert_record",
    "is_invalid",
    "is_invalid_text",
    "quarantine_of",
    "quoted",
    "KIND",
    "select_due",
    "select_first",
    "update_record",
]


T = TypeVar("T")
SELECT_QUARANTINE = "SELECT session_id, reason, at_ms FROM quarantine"
NOT_QUARANTINED = '"session_id" NOT IN (SELECT session_id FROM quarantine)'
LIMIT_MAX = 2**63 - 1
UNSTORABLE = (UnicodeEncodeError, OverflowError)  # raised for a key that SQLite cannot store


def quoted(names: Iterable[str]) -> str:
    """Quote identifiers and join them with commas."""
    return ", ".join(f'"{name}"' for name in names)


def _all(conditions: Iterable[str]) -> str:
    return " AND ".join(conditions)


def _equal(names: Iterable[str]) -> list[str]:
    return [f'"{name}" = ?' for name in names]


# -- rows


class InvalidText(str):
    """A text that is not UTF-8, with `\\xNN` for each invalid byte."""


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return InvalidText(raw.decode(errors="backslashreplace"))


def fetch(
    cursor: sqlite3.Cursor, sql: str, values: Sequence[Any], codec: RowCodec[Any]
) -> list[Any]:
    """Return the rows of a query of records.  Raises Corrupt for a row with a text that is not UTF-8."""
    try:
        return cursor.execute(sql, values).fetchall()
    except sqlite3.OperationalError as error:
        if not is_invalid_text(error):
            raise
    rows = fetch_leniently(cursor, sql, values)
    for row in rows:
        wrong = [name for name, v in zip(codec.stored, row, strict=True) if is_invalid(v)]
        if wrong:
            key = tuple([row[at] for at in codec.key_at])
            raise Corrupt(codec.table, key, f"not UTF-8: {', '.join(wrong)}")
    return rows


def fetch_leniently(cursor: sqlite3.Cursor, sql: str, values: Sequence[Any]) -> list[Any]:
    """Return the rows of a query, with an InvalidText for each text that is not UTF-8."""
    connection = cursor.connection
    before, connection.text_factory = connection.text_factory, _text
    try:
        return cursor.execute(sql, values).fetchall()
    finally:
        connection.text_factory = before


def is_invalid_text(error: sqlite3.Error) -> bool:
    """Return True if a query failed at a text that is not UTF-8.  SQLite does not check what is written."""
    return str(error).startswith("Could not decode to UTF-8")


def is_invalid(value: object) -> bool:
    """Return True for a value of `fetch_leniently` that is not UTF-8."""
    return value.__class__ is InvalidText


# -- whole tables


def all_records(connection: sqlite3.Connection, layout: Layout) -> tuple[Record, ...]:
    """Return all records, in no order.  Raises Corrupt with the key of a record that cannot be read."""
    found: list[Record] = []
    for codec in map(layout.codec, layout.records):
        sql = f'SELECT {quoted(codec.stored)} FROM "{codec.table}"'
        found += map(codec.decode, fetch(connection.cursor(), sql, (), codec))
    return tuple(found)


def quarantine_of(connection: sqlite3.Connection) -> tuple[Quarantined, ...]:
    """Return the sessions in quarantine."""
    return tuple([Quarantined(*row) for row in connection.execute(SELECT_QUARANTINE).fetchall()])


# -- schema


def create_table(codec: RowCodec[Any]) -> str:
    """Return the table of a record: clustered if its key is the session id alone, otherwise a rowid table.

    In a rowid table the rows of many sessions share pages, so a group commit writes a third of the pages.
    """
    lines = [
        f'"{c.name}" {c.sql_type}' + ("" if c.nullable else " NOT NULL") for c in codec.columns
    ]
    lines.append(f"PRIMARY KEY ({quoted(codec.key)})")
    tail = "STRICT, WITHOUT ROWID" if len(codec.key) == 1 else "STRICT"
    return f'CREATE TABLE "{codec.table}" ({", ".join(lines)}) {tail}'


def create_index(index: Index[Any], codec: RowCodec[Any]) -> str | None:
    """Return a partial index over the rows that have all its columns; None if it is the primary key."""
    if index.columns == codec.key:
        return None
    columns = ", ".join(f'"{n}" DESC' if n in index.descending else f'"{n}"' for n in index.columns)
    nullable = [c.name for c in codec.columns if c.nullable and c.name in index.columns]
    where = f" WHERE {_all(not_null(nullable))}" if nullable else ""
    unique = "UNIQUE " if index.unique else ""
    return f'CREATE {unique}INDEX "{index.name}" ON "{codec.table}" ({columns}){where}'


def not_null(names: Iterable[str]) -> list[str]:
    """Return the conditions that columns are not NULL."""
    return [f'"{name}" IS NOT NULL' for name in names]


# -- statements


def select_record(codec: RowCodec[Any]) -> str:
    """Return the query of a record by key."""
    return f'SELECT {quoted(codec.stored)} FROM "{codec.table}" WHERE {_all(_equal(codec.key))}'


def select_first(
    index: Index[Any], codec: RowCodec[Any], width: int, after: int, backwards: bool
) -> str:
    """Return the query of the first records of an index.

    Parameters: `width` columns of the prefix, `after` columns of the position after which it starts, the limit.
    """
    prefix, rest = index.columns[:width], index.columns[width:]
    nullable = {c.name for c in codec.columns if c.nullable}
    where = _equal(prefix) + not_null(n for n in rest if n in nullable)
    if after:
        sign, marks = "<" if backwards else ">", ", ".join("?" * after)
        where.append(f"({quoted(rest[:after])}) {sign} ({marks})")
    if index.for_workers:
        where.append(NOT_QUARANTINED)
    order = ", ".join(
        f'"{n}" DESC' if (n in index.descending) != backwards else f'"{n}"' for n in rest
    )
    by = "" if index.columns == index.record.key else f' INDEXED BY "{index.name}"'
    return (
        f'SELECT {quoted(codec.stored)} FROM "{codec.table}"{by}'
        + (f" WHERE {_all(where)}" if where else "")
        + (f" ORDER BY {order}" if order else "")
        + " LIMIT ?"
    )


def select_chain(codec: RowCodec[Any], via: str) -> str:
    """Return the query of a chain of records.  Parameters, by number: the key, the limit."""
    at = {name: f"?{number}" for number, name in enumerate(codec.key, 1)}
    limit, last = f"?{len(at) + 1}", codec.key[-1]
    first = _all(f'"{name}" = {mark}' for name, mark in at.items())
    same = _all(f't."{name}" = {at[name]}' for name in codec.key[:-1])
    columns = quoted(codec.stored)
    step = ", ".join(f't."{name}"' for name in codec.stored)
    return (
        f'WITH RECURSIVE chain(nth_, {columns}) AS (SELECT 1, {columns} FROM "{codec.table}" '
        f"WHERE {first} AND {limit} > 0 UNION ALL SELECT nth_ + 1, {step} FROM chain "
        f'JOIN "{codec.table}" t ON {same} AND t."{last}" = chain."{via}" WHERE nth_ < {limit}) '
        f"SELECT {columns} FROM chain ORDER BY nth_"
    )


KIND: Final = '"kind"'  # which a store of release 1 does not have


def select_due(index: Index[Any], when: str, after: bool) -> str:
    """Return the query of time, session id and kind over an index of the first two, without quarantined sessions.

    `when` is the operator that compares the time with the first parameter.
    """
    moment, session = index.columns
    table = table_of(index.record)
    condition = f' AND ("{moment}", "{session}") > (?, ?)' if after else ""
    return (
        f'SELECT "{moment}", "{session}", {KIND} FROM "{table}" INDEXED BY "{index.name}" '
        f'WHERE "{moment}" {when} ?{condition} AND {NOT_QUARANTINED} '
        f'ORDER BY "{moment}", "{session}" LIMIT ?'
    )


def insert_record(codec: RowCodec[Any]) -> str:
    """Return the INSERT of a row."""
    names = [c.name for c in codec.columns]
    return f'INSERT INTO "{codec.table}" ({quoted(names)}) VALUES ({", ".join("?" * len(names))})'


def update_record(codec: RowCodec[Any]) -> str:
    """Return the UPDATE of a row; its parameters are numbered, so that they are those of the INSERT."""
    at = {c.name: f"?{i}" for i, c in enumerate(codec.columns, 1)}
    rest = [n for n in at if n not in codec.key] or list(codec.key)
    sets = ", ".join(f'"{n}" = {at[n]}' for n in rest)
    match = _all(f'"{n}" = {at[n]}' for n in codec.key)
    return f'UPDATE "{codec.table}" SET {sets} WHERE {match}'


def delete_record(codec: RowCodec[Any]) -> str:
    """Return the DELETE of a row by key."""
    return f'DELETE FROM "{codec.table}" WHERE {_all(_equal(codec.key))}'


# -- execution


class PerRecordType(dict[type[Record], T]):
    """A value for each record type, made when it is first used."""

    def __init__(self, make: Callable[[type[Record]], T]) -> None:
        self.make = make

    def __missing__(self, kind: type[Record]) -> T:
        found = self[kind] = self.make(kind)
        return found


class Tables:
    """Answers queries and writes decisions over one connection.  Raises Corrupt for an invalid row."""

    def __init__(self, connection: sqlite3.Connection, layout: Layout) -> None:
        codec = layout.codec
        self.layout = layout
        self.cursor = connection.cursor()
        self.answer = layout.reading(self._answer)
        self.gets = PerRecordType(lambda kind: (select_record(codec(kind)), codec(kind)))
        self.firsts: dict[tuple[str, int, int, bool], tuple[str, RowCodec[Any]]] = {}
        self.encoders = PerRecordType(lambda kind: codec(kind).encode)
        self.inserts = PerRecordType(lambda kind: insert_record(codec(kind)))
        self.updates = PerRecordType(lambda kind: update_record(codec(kind)))
        self.deletes = PerRecordType(lambda kind: delete_record(codec(kind)))

    # -- reading

    def _answer(self, query: Query[Any]) -> Any:
        if query.__class__ is Get:
            return self._get(query)
        if query.__class__ is First:
            return self._first(query)
        if isinstance(query, Each):
            return tuple([self.answer(each) for each in query.queries])
        if isinstance(query, Chain):
            return self._chain(query)
        if isinstance(query, Named):
            return answer_named(query, self.answer)
        raise AssertionError(f"no such query: {query!r}")

    def _get(self, query: Get[Any]) -> Any:
        sql, codec = self.gets[query.record]
        try:
            rows = fetch(self.cursor, sql, query.key, codec)
        except UNSTORABLE:
            return None
        return codec.decode(rows[0]) if rows else None

    def _first(self, query: First[Any]) -> Any:
        if query.limit <= 0:
            return ()
        index = query.index
        shape = (index.name, len(query.prefix), len(query.after), query.backwards)
        found = self.firsts.get(shape)
        if found is None:
            if query.after and index.descending:
                raise AssertionError(
                    f"{index.name} has a descending column: `after` is not supported"
                )
            codec = self.layout.codec(index.record)
            sql = select_first(index, codec, *shape[1:])
            found = self.firsts[shape] = (sql, codec)
        values = (*query.prefix, *query.after, min(query.limit, LIMIT_MAX))
        try:
            rows = fetch(self.cursor, found[0], values, found[1])
        except UNSTORABLE:
            return ()
        decode = found[1].decode
        return tuple([decode(row) for row in rows])

    def _chain(self, query: Chain[Any]) -> tuple[Any, ...]:
        codec = self.layout.codec(query.record)
        sql = select_chain(codec, query.via)
        values = (*query.key, min(query.limit, LIMIT_MAX))
        try:
            rows = fetch(self.cursor, sql, values, codec)
        except UNSTORABLE:
            return ()
        return tuple([codec.decode(row) for row in rows])

    # -- writing

    def write(self, decisions: Sequence[Decided[Any]]) -> None:
        """Write the decisions of a wave by record type: drops, then inserts, then updates.

        The order of writes does not matter: a decision writes a row at most once (STORE-9), a wave holds a session
        once, and every key begins with its session.
        """
        inserts: defaultdict[type[Record], list[Any]] = defaultdict(list)
        updates: defaultdict[type[Record], list[Any]] = defaultdict(list)
        drops: defaultdict[type[Record], list[Any]] = defaultdict(list)
        encoders = self.encoders
        for decided in decisions:
            for write in decided.writes:
                if isinstance(write, Drop):
                    drops[write.record].append(write.key)
                else:
                    record = write.record
                    kind = record.__class__
                    rows = inserts if write.__class__ is Insert else updates
                    rows[kind].append(encoders[kind](record))
        for statements, batches in (
            (self.deletes, drops),
            (self.inserts, inserts),
            (self.updates, updates),
        ):
            for kind, found in batches.items():
                self._run(statements, kind, found)

    def _run(self, statements: PerRecordType[str], kind: type[Record], rows: Sequence[Any]) -> None:
        try:
            if len(rows) == 1:
                self.cursor.execute(statements[kind], rows[0])
            else:
                self.cursor.executemany(statements[kind], rows)
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_TRIGGER:
                raise  # the database refuses what the kernel has decided (STORE-48)
            raise AssertionError(f"{error}: one of {rows!r:.400}") from error
        if statements is self.updates and self.cursor.rowcount != len(rows):
            raise AssertionError(f"update of what does not exist: one of {rows!r:.400}")
