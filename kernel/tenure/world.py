"""All records as one immutable value: the reference model of a store.  Spec: specs/store.md.

`World` answers every query and `evolve` applies the writes of a decision.  The explorer runs on it, and every store
must agree with it.  A table that a decision does not touch is shared by the worlds before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from operator import attrgetter
from typing import Any, Final, TypeVar, cast

import attrs
from attrs import field, frozen

from .indexes import INDEXES
from .outcome import Drop, Insert, Key, Write
from .queries import (
    Chain,
    Each,
    First,
    Get,
    Index,
    Named,
    Query,
    Question,
    Reads,
    Record,
    answer_named,
)

__all__ = [
    "EMPTY",
    "Columns",
    "Rows",
    "World",
    "ask",
    "chain_of",
    "columns_of",
    "evolve",
    "first_of",
    "index_key_of",
    "index_key_of_shape",
    "key_of",
    "shape_of",
    "turned",
    "world_of",
]


A = TypeVar("A")
R = TypeVar("R", bound=Record)
V = TypeVar("V")
Columns = Callable[[Any], Key | None]


# -- indexes as functions


def key_of(record: type[Record]) -> Callable[[Any], Key]:
    """Return a function for the primary key of a record of this type, always a tuple."""
    return _tuple_of(record.key)


@cache
def index_key_of(index: Index[Any]) -> Columns:
    """Return a function for the sort key of a record in an index; it returns None for a record outside the index.

    Descending columns are negated, so they must be numbers.
    """
    return _placing(index, columns_of(index))


def index_key_of_shape(index: Index[Any], value: Any) -> Columns | None:
    """Return `index_key_of` for all records with the state classes of `value`; None if the index has none of them."""
    columns = columns_of_shape(index, value)
    return None if columns is None else _placing(index, columns)


def _placing(index: Index[Any], columns: Columns) -> Columns:
    if not index.descending:
        return columns

    def index_key(record: Any) -> Key | None:
        values = columns(record)
        return None if values is None else turned(index, values)

    return index_key


@cache
def columns_of(index: Index[Any]) -> Columns:
    """Return a function for the index columns of a record; it returns None if one of them is None.

    A column is a field, a derived property, or a field of a state held flat, which only some of its classes have.
    """
    variants: dict[Any, Columns | None] = {}
    record: Any = index.record
    shape = shape_of(record)

    def columns(value: Any) -> Key | None:
        variant = shape(value)
        try:
            found = variants[variant]
        except KeyError:
            found = variants[variant] = columns_of_shape(index, value)
        return None if found is None else found(value)

    return columns


@cache
def shape_of(record: type[Record]) -> Callable[[Any], Any]:
    """Return a function for the classes of a record's flat states, which decide in which indexes it can be."""
    if not record.flat:
        return lambda value: ()
    states: Callable[[Any], Any] = attrgetter(*record.flat)
    if len(record.flat) == 1:
        return lambda value: states(value).__class__
    return lambda value: tuple([state.__class__ for state in states(value)])


def columns_of_shape(index: Index[Any], value: Any) -> Columns | None:
    """Return `columns_of` for all records with the state classes of `value`; None if the index has none of them."""
    record, paths = index.record, []
    plain = {a.name for a in attrs.fields(cast(Any, record))} | set(record.derived)
    for name in index.columns:
        if name in plain:
            paths.append(name)
            continue
        homes = [f for f in record.flat if name in _fields(getattr(value, f).__class__)]
        if not homes:
            return None
        paths.append(f"{homes[0]}.{name}")
    pick = _tuple_of(tuple(paths))

    def present(value: Any) -> Key | None:
        found = pick(value)
        return None if None in found else found

    return present


def _fields(state: Any) -> frozenset[str]:
    return frozenset(a.name for a in attrs.fields(state))


@cache
def _tuple_of(paths: tuple[str, ...]) -> Callable[[Any], Key]:
    pick: Callable[[Any], Any] = attrgetter(*paths)
    if len(paths) > 1:
        return pick
    return lambda value: (pick(value),)


# -- the world


@frozen(eq=False)
class Rows:
    """The records of one type by key.  `orders` caches, by index, the records in its order."""

    by_key: dict[Key, Any]
    orders: dict[str, list[tuple[Key, Any]]] = field(init=False, factory=dict, repr=False)

    def order(self, index: Index[Any]) -> list[tuple[Key, Any]]:
        """Return the records of an index with their sort keys, in order."""
        found = self.orders.get(index.name)
        if found is None:
            index_key = index_key_of(index)
            placed = [(index_key(r), key, r) for key, r in self.by_key.items()]
            inside = sorted((p, key) for p, key, _ in placed if p is not None)
            found = [(p, self.by_key[key]) for p, key in inside]
            self.orders[index.name] = found
        return found


@frozen(eq=False)
class World:
    """All records of all types.  Two worlds are equal if their records are equal.

    `digest` is the sum of the hashes of all records; `evolve` keeps it up to date.
    """

    tables: dict[type[Record], Rows]
    digest: int = 0

    def __hash__(self) -> int:
        return self.digest

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, World):
            return NotImplemented
        mine, its = self.tables, other.tables
        return self.digest == other.digest and all(
            _by_key(mine, record) == _by_key(its, record) for record in mine.keys() | its.keys()
        )

    def __iter__(self) -> Iterator[Record]:
        for rows in self.tables.values():
            yield from rows.by_key.values()

    def all(self, record: type[R]) -> tuple[R, ...]:
        """Return the records of one type in the order of their keys."""
        return tuple([r for _, r in sorted(_by_key(self.tables, record).items())])

    def answer(self, query: Query[A]) -> A:
        """Answer one query."""
        return cast(A, self._answer(query))

    def load(self, reads: Reads[V]) -> V:
        """Return the view that a command decides over."""
        answer = self._answer
        return reads.view(*[answer(query) for query in reads.queries])

    def _answer(self, query: Query[Any]) -> Any:
        if isinstance(query, Get):
            rows = self.tables.get(query.record)
            return None if rows is None else rows.by_key.get(query.key)
        if isinstance(query, First):
            rows = self.tables.get(query.index.record)
            return () if rows is None else first_of(rows.order(query.index), query)
        if isinstance(query, Each):
            return tuple([self._answer(each) for each in query.queries])
        if isinstance(query, Chain):
            return chain_of(_by_key(self.tables, query.record), query)
        if isinstance(query, Named):
            return answer_named(query, self._answer)
        raise AssertionError(f"unknown query: {query!r}")


EMPTY: Final = World({})


def first_of(order: list[tuple[Key, Any]], query: First[Any]) -> tuple[Any, ...]:
    """Answer `First` from all records of its index in order."""
    prefix, after, index = query.prefix, query.after, query.index
    if index.descending:
        if after:
            raise AssertionError(
                f"{index.name} has descending columns: `after` is not supported ({after!r})"
            )
        prefix = turned(index, prefix)
    width, until = len(prefix), len(prefix) + len(after)
    found = [(p, r) for p, r in order if p[:width] == prefix]
    if query.backwards:
        found.reverse()
        if after:
            found = [(p, r) for p, r in found if p[width:until] < after]
    elif after:
        found = [(p, r) for p, r in found if p[width:until] > after]
    return tuple([r for _, r in found[: query.limit]])


def chain_of(rows: Mapping[Key, R], query: Chain[R]) -> tuple[R, ...]:
    """Answer `Chain` from all records of its type by key."""
    found: list[R] = []
    record = rows.get(query.key)
    while record is not None and len(found) < query.limit:
        found.append(record)
        record = rows.get((*query.key[:-1], getattr(record, query.via)))
    return tuple(found)


def turned(index: Index[Any], values: Key) -> Key:
    """Leading columns of an index as `index_key_of` has them."""
    down = index.descending
    return tuple(
        [
            -cast(int, v) if name in down else v
            for v, name in zip(values, index.columns, strict=False)
        ]
    )


def world_of(records: Iterable[Record]) -> World:
    """Return the world of these records."""
    return evolve(EMPTY, [Insert(record) for record in records])


def evolve(world: World, writes: Iterable[Write]) -> World:
    """Return the world after these writes.

    AssertionError: a write that STORE-8 forbids, which is a bug of the kernel.
    """
    tables = dict(world.tables)
    changed: dict[type[Record], dict[Key, Any]] = {}
    digest = world.digest
    for write in writes:
        kind: type[Record] = write.record if isinstance(write, Drop) else write.record.__class__
        rows = changed.get(kind)
        if rows is None:
            rows = changed[kind] = dict(_by_key(tables, kind))
            tables[kind] = Rows(rows)
        key = write.key if isinstance(write, Drop) else key_of(kind)(write.record)
        digest = (digest + _apply(rows, key, write)) & 0xFFFF_FFFF_FFFF_FFFF
    return World(tables, digest)


def _apply(rows: dict[Key, Any], key: Key, write: Write) -> int:
    """Write into `rows`, and return the change of the sum of hashes."""
    before = rows.get(key)
    if isinstance(write, Drop):
        if before is None:
            return 0
        del rows[key]
        return -hash(before)
    if isinstance(write, Insert):
        if before is not None:
            raise AssertionError(f"insert of a row that exists: {before!r}, now {write.record!r}")
        check_unique(rows.values(), write.record)
    elif before is None:
        raise AssertionError(f"update of a row that does not exist: {write.record!r}")
    rows[key] = write.record
    return hash(write.record) - (0 if before is None else hash(before))


UNIQUE: Final = tuple(i for i in INDEXES if i.unique and i.columns != i.record.key)


def check_unique(others: Iterable[Any], record: Record) -> None:
    """Raise AssertionError if a record has the entry of another one in a unique index."""
    for index_key in [index_key_of(i) for i in UNIQUE if i.record is record.__class__]:
        mine = index_key(record)
        if mine is not None and any(index_key(other) == mine for other in others):
            raise AssertionError(f"a second record at {mine!r} of a unique index: {record!r}")


def _by_key(tables: dict[type[Record], Rows], kind: type[Record]) -> dict[Key, Any]:
    rows = tables.get(kind)
    return {} if rows is None else rows.by_key


# -- questions


def ask(question: Question[A], answer: Callable[[Query[Any]], Any]) -> A:
    """Answer a question, with `answer` for each query of its reading plan."""
    steps = question.steps()
    try:
        query = next(steps)
        while True:
            query = steps.send(answer(query))
    except StopIteration as stop:
        return cast(A, stop.value)
