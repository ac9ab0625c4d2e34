"""A store in memory: immutable records behind ordered indexes.  For tests, simulation and embedding."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, TypeVar, cast

from tenure import indexes
from tenure.evolve import ask, key_of, place_of, turned
from tenure.outcome import Decided, Drop, Hint, Insert, Key, Refused, Write
from tenure.queries import Command, Each, First, Get, Index, Query, Question, Record

from .contract import (
    Capability,
    Clock,
    Due,
    Durability,
    Quarantined,
    Rounds,
    Unavailable,
    outcome_of,
    wall_clock_ms,
)
from .group import execute_wave
from .hints import Audience

A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")

BUCKET_MAX = 1024


class Sorted:
    """Keys in order, in buckets, so that inserting stays cheap however many there are."""

    def __init__(self) -> None:
        self.buckets: list[list[Any]] = []
        self.lasts: list[Any] = []

    def add(self, key: Any) -> None:
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
        at = bisect_left(self.lasts, key)
        bucket = self.buckets[at]
        inside = bisect_left(bucket, key)
        assert bucket[inside] == key
        del bucket[inside]
        if bucket:
            self.lasts[at] = bucket[-1]
        else:
            del self.buckets[at], self.lasts[at]

    def upward(self, start: Any, *, behind: bool = False) -> Iterator[Any]:
        """From the first key that is not less than `start`, or is greater."""
        cut = bisect_right if behind else bisect_left
        at = bisect_left(self.lasts, start)
        if at < len(self.buckets):
            yield from self.buckets[at][cut(self.buckets[at], start) :]
            for bucket in self.buckets[at + 1 :]:
                yield from bucket

    def downward(self, start: Any) -> Iterator[Any]:
        """From the last key that is less than `start`."""
        at = min(bisect_left(self.lasts, start), len(self.buckets) - 1)
        if at >= 0:
            yield from reversed(self.buckets[at][: bisect_left(self.buckets[at], start)])
            for bucket in reversed(self.buckets[:at]):
                yield from reversed(bucket)


class Last:
    """Greater than every value of a column."""

    def __lt__(self, other: object) -> bool:
        return False

    def __gt__(self, other: object) -> bool:
        return True


LAST: Any = Last()


class Order:
    """The keys of one index: (columns, primary key)."""

    def __init__(self, index: Index[Any]) -> None:
        self.index = index
        self.place = place_of(index)
        self.keys = Sorted()

    def add(self, record: Record, key: Key) -> None:
        if (place := self.place(record)) is not None:
            self.keys.add((place, key))

    def check(self, record: Record, key: Key) -> None:
        if not self.index.unique or self.index.columns == self.index.record.key:
            return
        if (place := self.place(record)) is not None:
            for found, other in self.keys.upward((place,)):
                if found == place and other != key:
                    raise AssertionError(f"a second record at {place!r} of {self.index.name}")
                if found != place:
                    return

    def remove(self, record: Record, key: Key) -> None:
        if (place := self.place(record)) is not None:
            self.keys.remove((place, key))

    def first(self, query: First[Any]) -> list[Key]:
        prefix, after, index = query.prefix, query.after, query.index
        if index.descending:
            if after:
                raise AssertionError(f"{index.name} runs backwards: nothing is behind {after!r}")
            prefix = turned(index, prefix)
        width, found = len(prefix), list[Key]()
        for place, key in self._walk(prefix, after, query.backwards):
            if len(found) >= query.limit or place[:width] != prefix:
                break
            found.append(key)
        return found

    def _walk(self, prefix: Key, after: Key, backwards: bool) -> Iterator[tuple[Key, Key]]:
        if backwards:
            return self.keys.downward(((*prefix, *after, *(() if after else (LAST,))),))
        if after:
            return self.keys.upward(((*prefix, *after, LAST),), behind=True)
        return self.keys.upward((prefix,))


class MemoryTables:
    """`World`, but changed in place: it answers the same queries and takes the same writes."""

    def __init__(self, all_indexes: Sequence[Index[Any]] = indexes.INDEXES) -> None:
        self.rows: dict[type[Record], dict[Key, Any]] = {}
        self.orders = {index.name: Order(index) for index in all_indexes}
        self.of: dict[type[Record], list[Order]] = {}
        for order in self.orders.values():
            self.of.setdefault(order.index.record, []).append(order)

    def answer(self, query: Query[Any]) -> Any:
        if isinstance(query, Get):
            return self.rows.get(query.record, {}).get(query.key)
        if isinstance(query, First):
            rows = self.rows.get(query.index.record, {})
            return tuple([rows[key] for key in self.orders[query.index.name].first(query)])
        if isinstance(query, Each):
            return tuple([self.answer(each) for each in query.queries])
        raise AssertionError(f"no such query: {query!r}")

    def write(self, decisions: Sequence[Decided[Any]]) -> None:
        """All or nothing: a write that cannot be done undoes those before it."""
        done: list[tuple[type[Record], Key, Any]] = []
        try:
            for decided in decisions:
                for write in decided.writes:
                    self._write(write, done)
        except BaseException:
            for kind, key, before in reversed(done):
                self._put(kind, key, before)
            raise

    def _write(self, write: Write, done: list[tuple[type[Record], Key, Any]]) -> None:
        if isinstance(write, Drop):
            kind, key, record = write.record, write.key, None
        else:
            record = write.record
            kind = record.__class__
            key = key_of(kind)(record)
        before = self.rows.get(kind, {}).get(key)
        if isinstance(write, Insert) and before is not None:
            raise AssertionError(f"insert of what exists: {before!r}, now {record!r}")
        if record is not None and before is None and not isinstance(write, Insert):
            raise AssertionError(f"update of what does not exist: {record!r}")
        if record is not None:
            for order in self.of.get(kind, ()):
                order.check(record, key)
        done.append((kind, key, before))
        self._put(kind, key, record)

    def _put(self, kind: type[Record], key: Key, record: Record | None) -> None:
        rows = self.rows.setdefault(kind, {})
        before = rows.pop(key, None) if record is None else rows.get(key)
        orders = self.of.get(kind, ())
        if before is not None:
            for order in orders:
                order.remove(before, key)
        if record is not None:
            rows[key] = record
            for order in orders:
                order.add(record, key)


class NoEngineError(Exception):
    """Memory has no engine that could fail."""


class MemoryStore:
    """One process; gone with the object.  A command runs at once, on its caller's thread."""

    durability = Durability.NOTHING
    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, *, clock: Clock = wall_clock_ms) -> None:
        self.tables = MemoryTables()
        self._clock = clock
        self._lock = threading.Lock()
        self._audience = Audience()
        self._rounds = Rounds()
        self._closed = False

    async def execute(self, command: Command[V, O]) -> O | Refused:
        return outcome_of(self.carry_out_now(command))

    async def carry_out(self, command: Command[V, O]) -> Decided[O] | Refused:
        return self.carry_out_now(command)

    def execute_now(self, command: Command[V, O]) -> O | Refused:
        """Without an event loop, from any thread."""
        return outcome_of(self.carry_out_now(command))

    def carry_out_now(self, command: Command[V, O]) -> Decided[O] | Refused:
        with self._lock:
            self._open()
            answer = execute_wave(self.tables, (command,), self._clock(), NoEngineError)[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Decided) and answer.hints:
            self._audience.tell(answer.hints)
        return answer

    async def ask(self, question: Question[A]) -> A:
        with self._lock:
            self._open()
            return ask(question, self.tables.answer)

    async def due(self, limit: int) -> tuple[Due, ...]:
        with self._lock:
            self._open()
            now_ms = self._clock()
            found = self._rounds.sample(limit, lambda a, most: self._due(now_ms, a, most))
            known = {session for _, session in found}
            ahead = self.tables.orders[indexes.FUTURE.name].keys
            for (_, session), _ in ahead.upward(((now_ms, LAST),), behind=True):
                if len(found) >= limit:
                    break
                if session not in known:
                    found.append((now_ms, session))
        return tuple([Due(session, at) for at, session in found])

    async def horizon(self) -> int | None:
        with self._lock:
            self._open()
            keys = self.tables.orders[indexes.DUE.name].keys
            for (moment, _), _ in keys.upward(((self._clock(), LAST),), behind=True):
                return cast(int, moment)
        return None

    def hints(self) -> AsyncIterator[Hint]:
        return self._audience.listen()

    async def quarantined(self) -> tuple[Quarantined, ...]:
        return ()

    async def readmit(self, session_id: str) -> None:
        return None

    async def dump(self) -> tuple[Record, ...]:
        with self._lock:
            return tuple([r for rows in self.tables.rows.values() for r in rows.values()])

    async def aclose(self) -> None:
        self._closed = True
        self._audience.end()

    def _open(self) -> None:
        if self._closed:
            raise Unavailable("the store is closed")

    def _due(self, now_ms: int, after: tuple[int, str] | None, most: int) -> list[tuple[int, str]]:
        keys = self.tables.orders[indexes.DUE.name].keys
        start: Any = ((),) if after is None else ((*after, LAST),)
        found: list[tuple[int, str]] = []
        for place, _ in keys.upward(start):
            if place[0] > now_ms or len(found) >= most:
                break
            found.append((place[0], place[1]))
        return found
