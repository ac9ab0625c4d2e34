"""The writes of a transaction, over tables that do not have them yet.  Spec: specs/store.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from tenure.outcome import Decided, Drop, Insert, Key, Write
from tenure.queries import Each, First, Get, Named, Query, Record, answer_named
from tenure.world import first_of, key_of

from .ordered_tables import IndexOrder, MemoryTables

__all__ = ["WriteOverlay"]

NO_ROWS: Final[Mapping[Key, Any]] = {}


class WriteOverlay:
    """Answers queries with the writes of one transaction, which no reader sees before `apply` (STORE-11)."""

    def __init__(self, tables: MemoryTables) -> None:
        self.tables = tables
        self.decisions: list[Decided[Any]] = []
        self._changed: dict[
            type[Record], dict[Any, dict[Key, Any]]
        ] = {}  # by session; None: dropped

    def answer(self, query: Query[Any]) -> Any:
        """Answer one query, from the writes and then from the tables."""
        if not self._changed:
            return self.tables.answer(query)
        if isinstance(query, Get):
            return self._get(query.record, query.key)
        if isinstance(query, First):
            return self._first(query)
        if isinstance(query, Each):
            return tuple([self.answer(each) for each in query.queries])
        if isinstance(query, Named):
            return answer_named(query, self.answer)
        raise AssertionError(f"no such query: {query!r}")

    def write(self, decisions: Sequence[Decided[Any]]) -> None:
        """Check and add writes.  Raises AssertionError for an impossible write (STORE-8); then discard the overlay."""
        for decided in decisions:
            for write in decided.writes:
                self._write(write)
        self.decisions += decisions

    def apply(self) -> None:
        """Write everything to the tables."""
        for kind, sessions in self._changed.items():
            for changed in sessions.values():
                self.tables.put(kind, changed)

    def _write(self, write: Write) -> None:
        if isinstance(write, Drop):
            self._changes_of(write.record, write.key)[write.key] = None
            return
        record = write.record
        kind = record.__class__
        key = key_of(kind)(record)
        changed = self._changes_of(kind, key)
        before = changed[key] if key in changed else self.tables.rows.get(kind, NO_ROWS).get(key)
        if isinstance(write, Insert):
            if before is not None:
                raise AssertionError(f"insert of what exists: {before!r}, now {record!r}")
        elif before is None:
            raise AssertionError(f"update of what does not exist: {record!r}")
        for order in self.tables.unique.get(kind, ()):
            self._check_unique(order, before, record)
        changed[key] = record

    def _check_unique(self, order: IndexOrder, before: Record | None, record: Record) -> None:
        index_key = order.index_key(record)
        if index_key is None or (before is not None and order.index_key(before) == index_key):
            return
        if self._first(First(order.index, index_key, 1)):
            raise AssertionError(f"a second record at {index_key!r} of {order.index.name}")

    def _changes_of(self, kind: type[Record], key: Key) -> dict[Key, Any]:
        sessions = self._changed.get(kind)
        if sessions is None:
            sessions = self._changed[kind] = {}
        changed = sessions.get(key[0])
        if changed is None:
            changed = sessions[key[0]] = {}
        return changed

    def _get(self, kind: type[Record], key: Key) -> Any:
        changed = self._changed.get(kind, {}).get(key[0], {})
        return changed[key] if key in changed else self.tables.rows.get(kind, NO_ROWS).get(key)

    def _first(self, query: First[Any]) -> tuple[Any, ...]:
        index = query.index
        sessions = self._changed.get(index.record, {})
        if query.prefix and index.columns[0] == "session_id":
            changed = sessions.get(query.prefix[0], {})
        else:
            changed = {key: r for some in sessions.values() for key, r in some.items()}
        if not changed:
            return cast(tuple[Any, ...], self.tables.answer(query))
        order, rows = self.tables.order(index), self.tables.rows.get(index.record, {})
        found = {key: rows[key] for key in order.first(query, changed)}
        found |= {key: record for key, record in changed.items() if record is not None}
        keyed = [(order.index_key(record), key) for key, record in found.items()]
        ordered = sorted([(index_key, key) for index_key, key in keyed if index_key is not None])
        return first_of([(index_key, found[key]) for index_key, key in ordered], query)
