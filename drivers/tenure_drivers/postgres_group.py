"""What one transaction of a group says to the server: lock, look at the clock, read, write.

Written without a connection: `locking` and `reading` make statements, `Readings` takes their rows, so that the same
plan serves a group of ours and a command inside somebody else's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from tenure.evolve import key_of
from tenure.outcome import Decided, Drop, Insert, Key, Update, Write
from tenure.queries import Each, First, Get, Query, Record

from .postgres_sql import Sql, Texts, arrays, quoted
from .rows import codec_of

Statement: TypeAlias = tuple[str, Sequence[Any]]

NOW_MS = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
TIMEOUTS = (
    "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true), "
    "set_config('idle_in_transaction_session_timeout', %s, true)"
)


def locking(sql: Sql, session_ids: Iterable[str], wait: bool) -> Statement:
    """Rows in ascending order; without `wait` what others hold is left out."""
    return (
        f"SELECT session_id FROM {sql.name('session')} WHERE session_id = ANY(%b::text[]) "
        f"ORDER BY session_id FOR UPDATE{'' if wait else ' SKIP LOCKED'}",
        (Texts(sorted(i for i in session_ids if storable((i,)))),),
    )


def storable(values: Iterable[object]) -> bool:
    """The server takes no NUL, and no text that is not UTF-8; nothing is stored under such a key."""
    for value in values:
        if isinstance(value, str) and not value.isalnum():
            if "\x00" in value or value != value.encode("utf-8", "replace").decode():
                return False
    return True


class Readings:
    """The queries of several commands, those that are alike in one statement, and the answers to them."""

    def __init__(self, sql: Sql, queries: Sequence[Query[Any]]) -> None:
        self._sql = sql
        self._shapes: dict[Any, list[tuple[int, Query[Any]]]] = {}
        self._count = 0
        self._nothing: dict[int, Any] = {}  # asked for by what cannot be stored
        self._plan = [self._take(query) for query in queries]
        self._answers: list[Any] = [self._nothing.get(at) for at in range(self._count)]
        self._decoders: list[Any] = []

    def _take(self, query: Query[Any]) -> Any:
        """The slot of a simple query; a tuple of them for several."""
        if isinstance(query, Each):
            return tuple([self._take(each) for each in query.queries])
        if isinstance(query, First):
            shape: Any = (query.index.name, len(query.prefix), len(query.after), query.backwards)
        elif isinstance(query, Get):
            shape = query.record
        else:
            raise AssertionError(f"no such query: {query!r}")
        slot, self._count = self._count, self._count + 1
        if not storable(query.key if isinstance(query, Get) else query.prefix):
            self._nothing[slot] = () if isinstance(query, First) else None
            return slot
        self._shapes.setdefault(shape, []).append((slot, query))
        return slot

    def statements(self) -> list[Statement]:
        found: list[Statement] = []
        for asked in self._shapes.values():
            query = asked[0][1]
            if isinstance(query, Get):
                text, kinds = self._sql.get(query.record)
                rows: list[tuple[Any, ...]] = [q.key for _, q in asked]  # type: ignore[attr-defined]
            else:
                assert isinstance(query, First)
                shape = (len(query.prefix), len(query.after), query.backwards)
                text, kinds = self._sql.first(query.index, *shape)
                rows = [(*q.prefix, *q.after, max(q.limit, 0)) for _, q in asked]  # type: ignore[attr-defined]
            found.append((text, arrays(kinds, rows)))
        return found

    def hear(self, results: Sequence[Sequence[Any]]) -> None:
        """The rows of each statement, in order.  Raises Corrupt."""
        for asked, rows in zip(self._shapes.values(), results, strict=True):
            query = asked[0][1]
            several = isinstance(query, First)
            record: type[Record] = query.index.record if isinstance(query, First) else query.record  # type: ignore[attr-defined]
            decode = codec_of(record).decode
            if several:
                for slot, _ in asked:
                    self._answers[slot] = []
            for number, *row in rows:
                slot = asked[number - 1][0]
                if several:
                    self._answers[slot].append(decode(row))
                else:
                    self._answers[slot] = decode(row)

    def answers(self) -> list[Any]:
        return [self._answer(part) for part in self._plan]

    def _answer(self, part: Any) -> Any:
        if isinstance(part, tuple):
            return tuple([self._answer(each) for each in part])
        found = self._answers[part]
        return tuple(found) if isinstance(found, list) else found


def writing(sql: Sql, decisions: Iterable[Decided[Any]]) -> list[Statement]:
    """All writes by record type: first what is new, then what is changed; first of all what goes.

    Sound because a session occurs once.  Rows are in the order of their keys, so that two transactions that insert
    the same new sessions wait for each other in one order.
    """
    batches: dict[tuple[int, type[Record]], list[Any]] = {}
    for decided in decisions:
        for (kind, key), write in net(decided.writes).items():
            if isinstance(write, Drop):
                batches.setdefault((0, kind), []).append(key)
            else:
                operation = 1 if isinstance(write, Insert) else 2
                batches.setdefault((operation, kind), []).append(
                    codec_of(kind).encode(write.record)
                )
    makers = (sql.delete, sql.insert, sql.update)
    found: list[Statement] = []
    for operation, kind in sorted(batches, key=lambda b: b[0]):
        rows = batches[operation, kind]
        if operation == 1:
            at = codec_of(kind).key_at
            rows.sort(key=lambda row: tuple([row[i] for i in at]))
        text, kinds = makers[operation](kind)
        counted = [len(rows)] if operation == 2 else []
        found.append((text, [*arrays(kinds, rows), *counted]))
    return found


def net(writes: Iterable[Write]) -> dict[tuple[type[Record], Key], Write]:
    """What a decision's writes come to, record by record: a statement can touch a row only once."""
    found: dict[tuple[type[Record], Key], Write] = {}
    for write in writes:
        if isinstance(write, Drop):
            at = (write.record, write.key)
            if isinstance(found.get(at), Insert):
                del found[at]
            else:
                found[at] = write
            continue
        kind = write.record.__class__
        at = (kind, key_of(kind)(write.record))
        before = found.get(at)
        if isinstance(before, Insert):
            found[at] = Insert(write.record)
        elif isinstance(before, Drop):
            found[at] = Update(write.record)
        else:
            found[at] = write
    return found


def setting_aside(sql: Sql) -> str:
    return (
        f"INSERT INTO {sql.name('quarantine')} (session_id, reason, at_ms) VALUES (%s, %s, {NOW_MS}) "
        f"ON CONFLICT ({quoted('session_id')}) DO UPDATE SET reason = excluded.reason, "
        "at_ms = excluded.at_ms"
    )
