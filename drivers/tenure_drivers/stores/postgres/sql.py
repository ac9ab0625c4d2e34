"""PostgreSQL's SQL, generated from the record types and their indexes.

Parameters are arrays, one for each column.  So all reads or writes of one kind in a group are one statement, however
many commands the group has.  Every statement of a decision names the sessions that it is about (STORE-36).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, ParamSpec, TypeAlias

from psycopg import pq
from psycopg.abc import Buffer
from psycopg.adapt import Dumper

from tenure.queries import Index, Record

from ..layout import Layout
from ..row_codec import Column, RowCodec

__all__ = [
    "BIGINT_ARRAY",
    "TEXT_ARRAY",
    "Bigints",
    "BigintsDumper",
    "Sql",
    "Texts",
    "TextsDumper",
    "arrays",
    "column_definition",
    "listed",
    "packed_bigints",
    "packed_texts",
    "quoted",
]


P = ParamSpec("P")
Made: TypeAlias = tuple[str, list[str]]  # a statement, and the types of its parameter columns

TEXT, BIGINT = "text", "bigint"
TEXT_ARRAY, BIGINT_ARRAY = 1009, 1016  # OIDs
_TEXT_OID, _INT8_OID = 25, 20
_NULL = b"\xff\xff\xff\xff"
_length, _integer = struct.Struct("!i").pack, struct.Struct("!iq").pack


class Texts(list["str | None"]):
    """A parameter of type text[], sent in binary; in text format each element would be escaped."""


class Bigints(list["int | None"]):
    """A parameter of type bigint[], sent in binary."""


_array = struct.Struct("!iiiii").pack
_TEXT_1 = _array(1, 0, _TEXT_OID, 1, 1)  # an array of one text, up to the text
_INT8_1 = _array(1, 0, _INT8_OID, 1, 1) + struct.pack("!i", 8)
_int8 = struct.Struct("!q").pack


def _head(values: Sequence[Any], oid: int) -> bytes:
    if not values:
        return struct.pack("!iii", 0, 0, oid)
    return _array(1, int(None in values), oid, len(values), 1)


def packed_texts(values: Sequence[str | None]) -> bytes:
    """Return a text[] in PostgreSQL's binary format."""
    if len(values) == 1 and (value := values[0]) is not None:
        data = value.encode()
        return _TEXT_1 + _length(len(data)) + data
    parts = [_head(values, _TEXT_OID)]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            data = value.encode()
            parts += (_length(len(data)), data)
    return b"".join(parts)


def packed_bigints(values: Sequence[int | None]) -> bytes:
    """Return a bigint[] in PostgreSQL's binary format.  Raises OverflowError for more than 64 bits."""
    try:
        if len(values) == 1 and (value := values[0]) is not None:
            return _INT8_1 + _int8(value)
        parts = [_NULL if value is None else _integer(8, value) for value in values]
    except struct.error as error:
        raise OverflowError(f"an integer of more than 64 bits among {values!r:.200}") from error
    return _head(values, _INT8_OID) + b"".join(parts)


class TextsDumper(Dumper):
    """Lets a caller's psycopg connection send `Texts`."""

    format = pq.Format.BINARY
    oid = TEXT_ARRAY

    def dump(self, obj: Any) -> Buffer:
        return packed_texts(obj)


class BigintsDumper(Dumper):
    """Lets a caller's psycopg connection send `Bigints`."""

    format = pq.Format.BINARY
    oid = BIGINT_ARRAY

    def dump(self, obj: Any) -> Buffer:
        return packed_bigints(obj)


def arrays(kinds: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[Any]:
    """Return one array parameter for each column of the rows."""
    columns = list(zip(*rows, strict=True)) or [()] * len(kinds)
    return [
        Texts(column) if kind == TEXT else Bigints(column)
        for kind, column in zip(kinds, columns, strict=True)
    ]


def kind_of(sql_type: str) -> str:
    """Return the PostgreSQL type of a column type of the row codec."""
    return BIGINT if sql_type == "INTEGER" else TEXT


def remembered(make: Callable[P, Made]) -> Callable[P, Made]:
    """Cache the statements that a function makes: making one takes longer than executing it."""
    return cache(make)  # type: ignore[return-value]  # typeshed's has no parameters


class Sql:
    """All statements for one schema of the database, for the rows of one release."""

    def __init__(self, schema: str, layout: Layout) -> None:
        self.schema = schema
        self.layout = layout
        self.codec = layout.codec
        self.get = remembered(self._get)
        self.first = remembered(self._first)
        self.chain = remembered(self._chain)
        self.insert = remembered(self._insert)
        self.update = remembered(self._update)
        self.delete = remembered(self._delete)

    def at(self, release: int) -> Sql:
        """Return the statements for the rows of another release."""
        return Sql(self.schema, self.layout.at(release))

    def name(self, table: str) -> str:
        """Return the quoted name of a table with its schema."""
        return f"{quoted(self.schema)}.{quoted(table)}"

    def not_quarantined(self, row: str) -> str:
        """Return the condition that the session of a row is not in quarantine."""
        quarantine = self.name("quarantine")
        return f"NOT EXISTS (SELECT 1 FROM {quarantine} q WHERE q.session_id = {row}.session_id)"

    # -- schema

    def create_table(self, codec: RowCodec[Any]) -> str:
        """Return the table of a record.  Texts compare by code point, as in the kernel."""
        columns = [column_definition(c) for c in codec.columns]
        columns.append(f"PRIMARY KEY ({listed(codec.key)})")
        return f"CREATE TABLE {self.name(codec.table)} ({', '.join(columns)})"

    def create_index(self, index: Index[Any], how: str = "") -> str | None:
        """Return a partial index over the rows that have all its columns; None if it is the primary key.

        `how` is empty or CONCURRENTLY.
        """
        codec = self.codec(index.record)
        if index.columns == codec.key:
            return None
        nullable = {c.name for c in codec.columns if c.nullable}
        columns = ", ".join(quoted(n) + " DESC" * (n in index.descending) for n in index.columns)
        where = " AND ".join(f"{quoted(n)} IS NOT NULL" for n in index.columns if n in nullable)
        return (
            f"CREATE {'UNIQUE ' * index.unique}INDEX {how}{' ' * bool(how)}{quoted(index.name)} "
            f"ON {self.name(codec.table)} ({columns})" + (f" WHERE {where}" if where else "")
        )

    # -- reading; the first column of a result is the number of the query, from 1

    def _get(self, record: type[Record]) -> Made:
        codec = self.codec(record)
        kinds = kinds_of(codec, codec.key)
        source, names = _source("k", kinds)
        on = " AND ".join(f"t.{quoted(n)} = q.{at}" for n, at in zip(codec.key, names, strict=True))
        columns = ", ".join(f"t.{quoted(n)}" for n in codec.stored)
        return (
            f"SELECT q.o, {columns} FROM {source} JOIN {self.name(codec.table)} t ON {on}",
            kinds,
        )

    def _first(self, index: Index[Any], width: int, after: int, backwards: bool) -> Made:
        codec = self.codec(index.record)
        nullable = {c.name for c in codec.columns if c.nullable}
        prefix, rest = index.columns[:width], index.columns[width:]
        given = (*prefix, *rest[:after])
        kinds = [*kinds_of(codec, given), BIGINT]
        source, names = _source("p", kinds)
        where = [f"{quoted(n)} = q.{at}" for n, at in zip(prefix, names, strict=False)]
        where += [f"{quoted(n)} IS NOT NULL" for n in rest if n in nullable]
        if after:
            marks = ", ".join(f"q.{at}" for at in names[width : width + after])
            sign = "<" if backwards else ">"
            where.append(f"({listed(rest[:after])}) {sign} ({marks})")
        if index.for_workers:
            where.append(self.not_quarantined("s"))
        order = [
            quoted(n) + (" DESC" if (n in index.descending) != backwards else "") for n in rest
        ]
        inner = (
            f"SELECT * FROM {self.name(codec.table)} s WHERE {' AND '.join(where) or 'true'} "
            f"ORDER BY {', '.join(order) or '1'} LIMIT q.{names[-1]}"
        )
        columns = ", ".join(f"t.{quoted(n)}" for n in codec.stored)
        outer = ", ".join(["q.o", *(f"t.{o}" for o in order)])
        return (
            f"SELECT q.o, {columns} FROM {source} CROSS JOIN LATERAL ({inner}) t ORDER BY {outer}",
            kinds,
        )

    def _chain(self, record: type[Record], via: str) -> Made:
        codec = self.codec(record)
        kinds = [*kinds_of(codec, codec.key), BIGINT]
        source, names = _source("k", kinds)
        table, limit, last = self.name(codec.table), names[-1], quoted(codec.key[-1])
        first = " AND ".join(
            f"t.{quoted(n)} = q.{at}" for n, at in zip(codec.key, names, strict=False)
        )
        same = "".join(f"t.{quoted(n)} = chain.{quoted(n)} AND " for n in codec.key[:-1])
        columns = ", ".join(f"t.{quoted(n)}" for n in codec.stored)
        return (
            f"WITH RECURSIVE chain(o_, most_, nth_, {listed(codec.stored)}) AS ("
            f"SELECT q.o, q.{limit}, 1::bigint, {columns} FROM {source} JOIN {table} t ON {first} "
            f"WHERE q.{limit} > 0 UNION ALL SELECT o_, most_, nth_ + 1, {columns} FROM chain "
            f"JOIN {table} t ON {same}t.{last} = chain.{quoted(via)} WHERE nth_ < most_) "
            f"SELECT o_, {listed(codec.stored)} FROM chain ORDER BY o_, nth_",
            kinds,
        )

    # -- writing

    def _insert(self, record: type[Record]) -> Made:
        codec = self.codec(record)
        names = [c.name for c in codec.columns]
        kinds = kinds_of(codec, names)
        source, given = _source("c", kinds)
        columns = ", ".join(f"q.{at}" for at in given)
        return (
            f"INSERT INTO {self.name(codec.table)} ({listed(names)}) "
            f"SELECT {columns} FROM {source} ORDER BY q.o",
            kinds,
        )

    def _update(self, record: type[Record]) -> Made:
        codec = self.codec(record)
        names = [c.name for c in codec.columns]
        kinds = kinds_of(codec, names)
        source, given = _source("c", kinds)
        at = dict(zip(names, given, strict=True))
        sets = ", ".join(f"{quoted(n)} = q.{at[n]}" for n in names if n not in codec.key)
        on = " AND ".join(f"t.{quoted(n)} = q.{at[n]}" for n in codec.key)
        update = (
            f"UPDATE {self.name(codec.table)} t SET {sets} FROM {source} WHERE {on} RETURNING 1"
        )
        # COMMIT is sent in the same round trip, so a missing row must raise an error at the server.
        return f"WITH u AS ({update}) SELECT 1 / (count(*) = %s)::int FROM u", kinds

    def _delete(self, record: type[Record]) -> Made:
        codec = self.codec(record)
        kinds = kinds_of(codec, codec.key)
        source, given = _source("k", kinds)
        on = " AND ".join(f"t.{quoted(n)} = q.{at}" for n, at in zip(codec.key, given, strict=True))
        return f"DELETE FROM {self.name(codec.table)} t USING {source} WHERE {on}", kinds


def quoted(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'


def listed(names: Iterable[str]) -> str:
    """Quote identifiers and join them with commas."""
    return ", ".join(map(quoted, names))


def kinds_of(codec: RowCodec[Any], names: Iterable[str]) -> list[str]:
    """Return the PostgreSQL types of columns."""
    types = {c.name: kind_of(c.sql_type) for c in codec.columns}
    return [types[name] for name in names]


def column_definition(column: Column) -> str:
    """Return a column's name, type and NOT NULL."""
    return f"{quoted(column.name)} {_column_type(column.sql_type)}{'' if column.nullable else ' NOT NULL'}"


def _column_type(sql_type: str) -> str:
    return "bigint" if sql_type == "INTEGER" else 'text COLLATE "C"'


def _source(letter: str, kinds: Sequence[str]) -> tuple[str, list[str]]:
    """Return the parameters as a table q with one row for each query, numbered in q.o, and its column names."""
    names = [f"{letter}{i}" for i in range(len(kinds))]
    marks = ", ".join(f"%b::{kind}[]" for kind in kinds)
    return f"unnest({marks}) WITH ORDINALITY AS q({', '.join([*names, 'o'])})", names
