"""Records in memory with ordered indexes, for stores without a database.  Spec: specs/store.md."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

from tenure import indexes
from tenure.outcome import Key
from tenure.queries import Chain, Each, First, Get, Index, Named, Query, Record, answer_named
from tenure.records import Session
from tenure.world import (
    Columns,
    chain_of,
    index_key_of,
    index_key_of_shape,
    shape_of,
    turned,
)

from .base import Due, DuePlace, DueRow, DueSampler, due_of

__all__ = ["MemoryTables"]


BUCKET_MAX = 1024


class BucketedKeys:
    """Sorted keys in buckets, so that an insert costs the same however many keys there are."""

    def __init__(self) -> None:
        self.buckets: list[list[Any]] = []
        self.lasts: list[Any] = []

    def fill(self, keys: Sequence[Any]) -> None:
        """Replace all keys by `keys`, which are sorted."""
        half = BUCKET_MAX // 2
        self.buckets = [list(keys[at : at + half]) for at in range(0, len(keys), half)]
        self.lasts = [bucket[-1] for bucket in self.buckets]

    def add(self, key: Any) -> None:
        """Insert a key in order."""
        if not self.buckets:
            self.buckets.append([key])
            self.lasts.append(key)
            return
        at = min(bisect_left(self.lasts, key), len(self.lasts) - 1)
        bucket = self.buckets[at]
        insort(bucket, key)
        if len(bucket) > BUCKET_MAX:
            half = len(bucket) // 2
            self.buckets.insert(at + 1, bucket[half:])
            self.lasts.insert(at + 1, bucket[-1])
            del bucket[half:]
        self.lasts[at] = bucket[-1]

    def remove(self, key: Any) -> None:
        """Remove a key that exists."""
        at = bisect_left(self.lasts, key)
        bucket = self.buckets[at]
        position = bisect_left(bucket, key)
        assert bucket[position] == key
        del bucket[position]
        if bucket:
            self.lasts[at] = bucket[-1]
        else:
            del self.buckets[at], self.lasts[at]

    def upward(self, start: Any, *, after: bool = False) -> Iterator[Any]:
        """Yield keys in ascending order, from the first that is not less than `start`; with `after`, greater."""
        cut = bisect_right if after else bisect_left
        at = bisect_left(self.lasts, start)
        if at < len(self.buckets):
            yield from self.buckets[at][cut(self.buckets[at], start) :]
            for bucket in self.buckets[at + 1 :]:
                yield from bucket

    def downward(self, start: Any) -> Iterator[Any]:
        """Yield keys in descending order, from the last key that is less than `start`."""
        at = min(bisect_left(self.lasts, start), len(self.buckets) - 1)
        if at >= 0:
            yield from reversed(self.buckets[at][: bisect_left(self.buckets[at], start)])
            for bucket in reversed(self.buckets[:at]):
                yield from reversed(bucket)


class Last:
    """A value that is greater than every value of a column."""

    def __lt__(self, other: object) -> bool:
        return False

    def __gt__(self, other: object) -> bool:
        return True


LAST: Any = Last()
Move: TypeAlias = tuple[BucketedKeys, Columns | None, Columns | None]  # of one index


class IndexOrder:
    """The sorted keys of one index: pairs of column values and primary key."""

    def __init__(self, index: Index[Any]) -> None:
        self.index = index
        self.index_key = index_key_of(index)
        self.keys = BucketedKeys()

    def fill(self, rows: Mapping[Key, Any]) -> None:
        """Replace the keys by those of `rows`."""
        keyed = [(self.index_key(record), key) for key, record in rows.items()]
        self.keys.fill(
            sorted([(index_key, key) for index_key, key in keyed if index_key is not None])
        )

    def first(
        self, query: First[Any], without: Container[Key] = (), sessions: Collection[str] = ()
    ) -> list[Key]:
        """Return the primary keys that answer a query, except those in `without`, and those of these sessions."""
        prefix, after, index = query.prefix, query.after, query.index
        if index.descending:
            if after:
                raise AssertionError(
                    f"{index.name} has a descending column: `after` is not supported ({after!r})"
                )
            prefix = turned(index, prefix)
        width, found = len(prefix), list[Key]()
        for index_key, key in self._walk(prefix, after, query.backwards):
            if len(found) >= query.limit or index_key[:width] != prefix:
                break
            if key not in without and not (sessions and key[0] in sessions):
                found.append(key)
        return found

    def _walk(self, prefix: Key, after: Key, backwards: bool) -> Iterator[tuple[Key, Key]]:
        if backwards:
            return self.keys.downward(((*prefix, *after, *(() if after else (LAST,))),))
        if after:
            return self.keys.upward(((*prefix, *after, LAST),), after=True)
        return self.keys.upward((prefix,))


class MemoryTables:
    """Records with their indexes, changed in place; answers the same queries as `World`.

    Writes go through a `WriteOverlay`, which checks them before it applies them.
    """

    def __init__(self, all_indexes: Sequence[Index[Any]] = indexes.INDEXES) -> None:
        self.rows: dict[type[Record], dict[Key, Any]] = {}
        self.orders = {index.name: IndexOrder(index) for index in all_indexes}
        self.of: dict[type[Record], list[IndexOrder]] = {}
        self._unbuilt: set[str] = set()  # orders of primary keys that nobody has asked for
        for order in self.orders.values():
            if order.index.columns == order.index.record.key:
                self._unbuilt.add(order.index.name)
            else:
                self.of.setdefault(order.index.record, []).append(order)
        self.unique = {
            kind: [o for o in orders if o.index.unique and o.index.columns != kind.key]
            for kind, orders in self.of.items()
        }
        self._moves: dict[tuple[type[Record], Any, Any], list[Move]] = {}

    def answer(self, query: Query[Any]) -> Any:
        """Answer one query."""
        if isinstance(query, Get):
            return self.rows.get(query.record, {}).get(query.key)
        if isinstance(query, First):
            return self.first(query)
        if isinstance(query, Each):
            return tuple([self.answer(each) for each in query.queries])
        if isinstance(query, Chain):
            return chain_of(self.rows.get(query.record, {}), query)
        if isinstance(query, Named):
            return answer_named(query, self.answer)
        raise AssertionError(f"no such query: {query!r}")

    def first(self, query: First[Any], without: Collection[str] = ()) -> tuple[Any, ...]:
        """Answer a query of an index, without the records of these sessions."""
        rows = self.rows.get(query.index.record, {})
        found = self.order(query.index).first(query, sessions=without)
        return tuple([rows[key] for key in found])

    def order(self, index: Index[Any]) -> IndexOrder:
        """Return the order of an index.  One of primary keys is built when it is asked for, and kept from then on."""
        order = self.orders[index.name]
        if index.name in self._unbuilt:
            self._unbuilt.discard(index.name)
            order.fill(self.rows.get(index.record, {}))
            self.of.setdefault(index.record, []).append(order)
            self._moves.clear()
        return order

    def put(self, kind: type[Record], changed: Mapping[Key, Record | None]) -> None:
        """Write records of one kind, or remove those that are None, unchecked; `WriteOverlay` has checked them."""
        rows = self.rows.setdefault(kind, {})
        shape, known = shape_of(cast(Any, kind)), self._moves
        for key, record in changed.items():
            before = rows.get(key)
            if record is not None:
                rows[key] = record
            elif before is not None:
                del rows[key]
            shapes = kind, before and shape(before), record and shape(record)
            moves = known.get(shapes)
            if moves is None:
                moves = known[shapes] = self._moves_of(kind, before, record)
            for keys, leaves, enters in moves:
                was, now = leaves and leaves(before), enters and enters(record)
                if was != now:
                    if was is not None:
                        keys.remove((was, key))
                    if now is not None:
                        keys.add((now, key))

    def _moves_of(self, kind: type[Record], before: Any, record: Any) -> list[Move]:
        """Return how a change from a record of one shape to one of another may move it in the indexes."""
        moves: list[Move] = []
        for order in self.of.get(kind, ()):
            if before and record and order.index.columns == kind.key:
                continue  # an update does not change the key
            leaves = before and index_key_of_shape(order.index, before)
            enters = record and index_key_of_shape(order.index, record)
            if leaves or enters:
                moves.append((order.keys, leaves, enters))
        return moves

    def fill(self, rows: dict[type[Record], dict[Key, Any]]) -> None:
        """Replace all records by `rows`."""
        self.rows = rows
        for order in self.orders.values():
            if order.index.name not in self._unbuilt:
                order.fill(rows.get(order.index.record, {}))

    # -- looking for work

    def due(
        self,
        now_ms: int,
        after: DuePlace | None,
        count: int,
        without: Container[str] = (),
    ) -> list[DueRow]:
        """Return up to `count` rows (due_at_ms, session_id, kind) that are due, in order, after `after`."""
        keys = self.orders[indexes.DUE.name].keys
        start: Any = ((),) if after is None else ((*after, LAST),)
        found: list[DueRow] = []
        for index_key, _ in keys.upward(start):
            if index_key[0] > now_ms or len(found) >= count:
                break
            if index_key[1] not in without:
                found.append((index_key[0], index_key[1], self._kind_of(index_key[1])))
        return found

    def _kind_of(self, session_id: str) -> str | None:
        kind: str | None = self.rows[Session][(session_id,)].kind
        return kind

    def sample_due(
        self, sampler: DueSampler, now_ms: int, limit: int, without: Container[str] = ()
    ) -> tuple[Due, ...]:
        """Return sessions that are due, then sessions whose lease begins in the future (STORE-5)."""
        found = sampler.sample(limit, lambda after, count: self.due(now_ms, after, count, without))
        known = {session for _, session, _ in found}
        upcoming = self.orders[indexes.FUTURE.name].keys
        for (_, session), _ in upcoming.upward(((now_ms, LAST),), after=True):
            if len(found) >= limit:
                break
            if session not in known and session not in without:
                found.append((now_ms, session, self._kind_of(session)))
        return due_of(found)

    def horizon(self, now_ms: int, without: Container[str] = ()) -> int | None:
        """Return the earliest `due_at_ms` after `now_ms`."""
        keys = self.orders[indexes.DUE.name].keys
        for (moment, session), _ in keys.upward(((now_ms, LAST),), after=True):
            if session not in without:
                return cast(int, moment)
        return None

    def all(self) -> tuple[Record, ...]:
        """Return all records, in no order."""
        return tuple([record for rows in self.rows.values() for record in rows.values()])
