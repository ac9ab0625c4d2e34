"""Converts a record to a row of text and integers and back, from its class alone.

A scalar field is one column.  A flat field is a column with the name of its state's class in lower case, and a nullable
column for each field of its state classes.  Derived properties are columns that are written and never read.  Any other
field is a column of JSON text.  Encoder and decoder are compiled once for each class, as straight-line source.

A codec is made for one release: it leaves out what later releases added, and writes rows in the version of that release
(SCHEMA-3).  It reads rows of earlier versions too (SCHEMA-8).
"""

from __future__ import annotations

import enum
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import attrs
import msgspec
from attrs import frozen

from tenure.queries import Record
from tenure.release import RELEASE, added_in, since
from tenure.upgrades import downgrade, upgrade, version_at

from .base import Corrupt, Unavailable
from .payloads import SEALED_SINCE, NotActive, PayloadHook, sealing, unsealing

__all__ = ["VERSION", "RowCodec", "codec_of", "table_of"]


R = TypeVar("R", bound=Record)

_dumps = msgspec.json.Encoder().encode
VERSION = "row_version"  # the column of a row's version; a table whose rows never changed has none


@frozen
class Column:
    """A column of a record's table."""

    name: str
    sql_type: str  # TEXT or INTEGER
    nullable: bool


class Source:
    """The source of one function, and the values that it refers to by name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {}

    def refer(self, value: Any) -> str:
        """Return a new name for a value."""
        name = f"_{len(self.names)}"
        self.names[name] = value
        return name

    def compile(self, name: str, argument: str, title: str) -> Callable[[Any], Any]:
        """Compile the lines as the body of a function."""
        text = f"def {name}({argument}):\n" + "\n".join(f"    {line}" for line in self.lines)
        exec(compile(text, f"<{name} {title}>", "exec"), self.names)
        found: Callable[[Any], Any] = self.names[name]
        return found


# -- one value


def _optional(kind: Any) -> tuple[Any, bool]:
    """Split `X | None` into X and True."""
    if typing.get_origin(kind) not in (types.UnionType, typing.Union):
        return kind, False
    members = [a for a in typing.get_args(kind) if a is not types.NoneType]
    if len(members) == len(typing.get_args(kind)):
        return kind, False
    return typing.Union[tuple(members)], True  # noqa: UP007


def _sql_type(kind: Any) -> str:
    return "INTEGER" if kind in (int, bool) else "TEXT"


def _pack(source: Source, kind: Any, value: str) -> str:
    """Return the expression that converts `value`, a name or an attribute of a name, to a column."""
    inner, nullable = _optional(kind)
    if inner in (int, str):
        return value
    if inner is bool:
        packed = f"(1 if {value} else 0)"
    elif isinstance(inner, type) and issubclass(inner, enum.StrEnum):
        packed = f"{value}._value_"  # sqlite3 adapts a subclass of str slowly
    elif typing.get_origin(inner) is tuple and not nullable:
        return f"({source.refer(_dumps)}({value}).decode() if {value} else '[]')"
    else:
        packed = f"{source.refer(_dumps)}({value}).decode()"
    return f"(None if {value} is None else {packed})" if nullable else packed


def _unpack(source: Source, kind: Any, value: str) -> str:
    """Return the expression that converts a column to a field."""
    inner, nullable = _optional(kind)
    if inner in (int, str):
        return value
    if inner is bool:
        unpacked = f"{value} != 0"
    elif isinstance(inner, type) and issubclass(inner, enum.StrEnum):
        unpacked = f"{source.refer({m.value: m for m in inner})}[{value}]"
    else:
        decode = source.refer(msgspec.json.Decoder(inner).decode)
        if typing.get_origin(inner) is tuple and not nullable:
            return f"(() if {value} == '[]' else {decode}({value}))"
        unpacked = f"{decode}({value})"
    return f"(None if {value} is None else {unpacked})" if nullable else unpacked


# -- one record type


@frozen
class Flat:
    """A field that holds one of several state classes."""

    name: str
    variants: dict[type, dict[str, Any]]  # class -> field -> type
    later: frozenset[tuple[type, str]]  # fields of classes that a later release added

    @property
    def columns(self) -> dict[str, Any]:
        """The fields of all state classes, by name.  Raises TypeError if two of them differ in type."""
        merged: dict[str, Any] = {}
        for cls, kinds in self.variants.items():
            for name, kind in kinds.items():
                if (cls, name) in self.later:
                    continue
                if _optional(merged.setdefault(name, kind))[0] != _optional(kind)[0]:
                    raise TypeError(f"{self.name}.{name} has two types: {merged[name]} and {kind}")
        return merged


def _kinds(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {a.name: hints[a.name] for a in attrs.fields(cls)}


def table_of(record: type[Record]) -> str:
    """The name of its table: `OpenKey` is stored in `open_key`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", record.__name__).lower()


class RowCodec(Generic[R]):
    """Converts records of one type: `encode(record) -> row` and `decode(row) -> record`.

    `encode` returns all `columns`.  `decode` takes the first of them, `stored`, without the derived ones.
    """

    def __init__(
        self, record: type[R], release: int = RELEASE, payloads: PayloadHook | None = None
    ) -> None:
        self.record = record
        self.release = release
        self.table = table_of(record)
        self.key = record.key
        self.version = version_at(self.table, release)
        self.fields = _kinds(record)
        self.later = {name for name in self.fields if added_in(record, name) > release}
        self.flats = {name: self._flat(name) for name in record.flat}
        self.derived = tuple(n for n in record.derived if added_in(record, n) <= release)
        self.columns = tuple(self._columns())
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            raise TypeError(f"{record.__name__} has two columns of one name: {names}")
        self.stored = tuple(names[: len(names) - len(self.derived)])
        self.encode: Callable[[R], tuple[Any, ...]] = self._encoder()
        self._decode: Callable[[Any], R] = self._decoder()
        if self.version < record.version:
            self.encode = self._downgrading(self.encode)
        if record.version > 1:
            self._decode = self._upgrading(self._decode)
        self.key_at = tuple(names.index(name) for name in self.key)
        at = tuple([names.index(name) for name in record.payloads if name in names])
        if payloads is not None and at:
            if release < SEALED_SINCE:
                payloads = NotActive(payloads)
            self.encode = sealing(self.encode, at, payloads, Unavailable)
            self._decode = unsealing(self._decode, at, payloads, Unavailable)

    def _flat(self, name: str) -> Flat:
        classes = [c for c in typing.get_args(self.fields[name]) if since(c) <= self.release]
        variants = {c: _kinds(c) for c in classes}
        later = [(c, n) for c in classes for n in variants[c] if added_in(c, n) > self.release]
        return Flat(name, variants, frozenset(later))

    def decode(self, row: Any) -> R:
        """Return the record of a row.  Raises Corrupt with the table and the key, Unavailable if a hook does not work."""
        try:
            return self._decode(row)
        except Unavailable:
            raise
        except Exception as error:  # a damaged row may fail anywhere in the constructors
            key = tuple(row[at] for at in self.key_at)
            raise Corrupt(self.table, key, repr(error)) from error

    def check_types(self, rows: Iterable[Sequence[Any]]) -> None:
        """Raise Corrupt, with the key, for a row with a value that is not of its column's type."""
        columns, good = self.columns, set()
        for row in rows:
            types = tuple(map(type, row))
            if types in good:
                continue
            for column, type_, value in zip(
                columns, types, row, strict=False
            ):  # without derived ones
                wanted = str if column.sql_type == "TEXT" else int
                if type_ is not wanted and not (value is None and column.nullable):
                    key = tuple(row[at] for at in self.key_at)
                    raise Corrupt(self.table, key, f"{column.name} is {value!r:.80}")
            good.add(types)

    def _columns(self) -> Iterator[Column]:
        for name, kind in self.fields.items():
            if name in self.later:
                continue
            if (flat := self.flats.get(name)) is not None:
                yield Column(name, "TEXT", False)
                for part, part_kind in flat.columns.items():
                    yield Column(part, _sql_type(_optional(part_kind)[0]), True)
            else:
                inner, nullable = _optional(kind)
                yield Column(name, _sql_type(inner), nullable)
        if self.version > 1:
            yield Column(VERSION, "INTEGER", True)
        for name in self.derived:
            kind = typing.get_type_hints(getattr(self.record, name).fget)["return"]
            inner, nullable = _optional(kind)
            yield Column(name, _sql_type(inner), nullable)

    def _encoder(self) -> Callable[[R], tuple[Any, ...]]:
        source, row = Source(), []
        for name, kind in self.fields.items():
            if name in self.later:
                continue
            if (flat := self.flats.get(name)) is not None:
                row += [name, *flat.columns]
                self._encode_flat(source, flat)
            else:
                row.append(_pack(source, kind, f"record_.{name}"))
        if self.version > 1:
            row.append(str(self.version))
        row += [f"record_.{name}" for name in self.derived]
        source.lines.append(f"return ({', '.join(row)},)")
        return source.compile("encode", "record_", self.table)

    def _encode_flat(self, source: Source, flat: Flat) -> None:
        targets = ", ".join((flat.name, *flat.columns))
        source.lines += [f"state_ = record_.{flat.name}", "class_ = state_.__class__"]
        for at, (cls, kinds) in enumerate(flat.variants.items()):
            values = [repr(cls.__name__.lower())] + [
                _pack(source, kinds[n], f"state_.{n}")
                if n in kinds and (cls, n) not in flat.later
                else "None"
                for n in flat.columns
            ]
            source.lines.append(f"{'elif' if at else 'if'} class_ is {source.refer(cls)}:")
            source.lines.append(f"    {targets} = {', '.join(values)}")
        source.lines += ["else:", f"    raise TypeError(f'{flat.name} is {{state_!r}}')"]

    def _decoder(self) -> Callable[[Any], R]:
        source, values = Source(), []
        source.lines.append(f"{', '.join(self.stored)}, = row_")
        for name, kind in self.fields.items():
            if name in self.later:
                values.append("None")
            elif (flat := self.flats.get(name)) is not None:
                self._decode_flat(source, flat)
                values.append(name)
            else:
                values.append(_unpack(source, kind, name))
        source.lines.append(f"return {source.refer(self.record)}({', '.join(values)})")
        return source.compile("decode", "row_", self.table)

    def _decode_flat(self, source: Source, flat: Flat) -> None:
        for at, (cls, kinds) in enumerate(flat.variants.items()):
            values = ", ".join(
                "None" if (cls, name) in flat.later else _unpack(source, kind, name)
                for name, kind in kinds.items()
            )
            tag = cls.__name__.lower()
            source.lines.append(f"{'elif' if at else 'if'} {flat.name} == {tag!r}:")
            needed = [name for name, kind in kinds.items() if not _optional(kind)[1]]
            if needed:  # the columns of a state are nullable: other states do not have them
                missing = " or ".join(f"{name} is None" for name in needed)
                source.lines.append(f"    if {missing}: raise ValueError({tag!r}, 'NULL')")
            source.lines.append(f"    {flat.name} = {source.refer(cls)}({values})")
        source.lines += ["else:", f"    raise ValueError({flat.name})"]

    # -- rows of other versions

    def _downgrading(
        self, encode: Callable[[R], tuple[Any, ...]]
    ) -> Callable[[R], tuple[Any, ...]]:
        names, table, version = [c.name for c in self.columns], self.table, self.version

        def encode_older(record: R) -> tuple[Any, ...]:
            row = downgrade(table, dict(zip(names, encode(record), strict=True)), version)
            return tuple([row[name] for name in names])

        return encode_older

    def _upgrading(self, decode: Callable[[Any], R]) -> Callable[[Any], R]:
        names, table, newest = self.stored, self.table, self.record.version
        at = names.index(VERSION) if VERSION in names else None

        def decode_any(row: Any) -> R:
            version = (None if at is None else row[at]) or 1
            if version < newest:
                changed = upgrade(table, dict(zip(names, row, strict=True)), version)
                row = [changed[name] for name in names]
            return decode(row)

        return decode_any


_codecs: dict[tuple[type, int], RowCodec[Any]] = {}


def codec_of(record: type[R], release: int = RELEASE) -> RowCodec[R]:
    """Return the codec of a record type for a release; there is one for each."""
    found = _codecs.get((record, release))
    if found is None:
        found = _codecs[record, release] = RowCodec(record, release)
    return found
