"""The statements of one transaction: lock the sessions, read the clock, read, write.

The plan has no connection: it yields statements and receives their rows.  So one plan serves a group of a store and a
command inside a caller's transaction.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, TypeAlias

from attrs import frozen

from tenure.outcome import Decided, Drop, Insert
from tenure.queries import Chain, Command, Each, First, Get, Named, Query, Record
from tenure.records import RECORDS, Session
from tenure.release import RELEASE, decide_at

from ..base import Clock, Corrupt
from ..group_commit import Answer, Deferred, undecided, waves
from .pipeline import Rows, Statement
from .sql import Sql, Texts, arrays, listed, quoted

__all__ = [
    "NOW_MS",
    "ActiveChanged",
    "BatchedReads",
    "Plan",
    "Wait",
    "active_number",
    "check_unchanged",
    "decide_group",
    "lock_rows",
    "quarantine_statement",
    "storable",
]


Plan: TypeAlias = Generator[tuple[list[Statement], bool], Sequence[Rows], list[Answer]]

NOW_MS = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
SNAPSHOT = ", current_setting('transaction_isolation')"
LIMIT_MAX = 2**63 - 1
RECORD_ORDER = {kind: at for at, kind in enumerate(RECORDS)}


class ActiveChanged(Exception):
    """The store has another active number than the statements were made for; the transaction must be rolled back."""

    def __init__(self, active: int) -> None:
        super().__init__(active)
        self.active = active


def check_unchanged(sql: Sql, active: int | None) -> None:
    """Raise ActiveChanged, or Corrupt if the store has no active number (SCHEMA-5)."""
    if active is None:
        raise Corrupt(f"schema {sql.schema!r}", (), "tenure_schema has no row")
    if active != sql.layout.release:
        raise ActiveChanged(active)


# -- a group


class Wait(enum.Enum):
    """Whether a transaction waits for sessions that another one has locked."""

    NOT = "not"
    LOCK = "lock"  # for the row of a session; a session without a row has nothing to wait for
    ALWAYS = "always"


def decide_group(
    sql: Sql, commands: Sequence[Command[Any, Any]], wait: Wait, clock: Clock | None
) -> Plan:
    """Yield statements, and whether they are the last; return the answers, by position.

    A session with several commands is decided in waves, each on what the earlier ones wrote.  The writes of a wave and
    the reads of the next one are one round trip.  Sessions that other transactions hold are skipped, and their commands
    are answered Deferred (STORE-31).  The clock is read by a statement of its own after the locks (STORE-33).  The
    statement that locks the sessions also reads their rows, except with Wait.ALWAYS: then another transaction may have
    created a row while this one waited.
    Raises ActiveChanged, before anything is written.
    """
    answers: list[Answer | None] = [None] * len(commands)
    batches: list[Statement] = []
    written = False
    ids = sorted({c.session_id for c in commands if storable((c.session_id,))})
    locked_ids: frozenset[str] = frozenset()
    for number, wave in enumerate(waves(commands)):
        members = [at for at in wave if answers[at] is None]
        if not members:
            continue
        reads = [commands[at].reads() for at in members]
        queries = [q for wanted in reads for q in wanted.queries]
        locked = not number and wait is not Wait.ALWAYS  # with it, the lock's rows may be outdated
        batch = BatchedReads(sql, queries, locked)
        opening = [] if number else [lock_rows(sql, ids, wait), lock_absent(sql, ids, wait)]
        rows = yield [*batches, *opening, clock_statement(sql, wait), *batch.statements()], False
        rows = rows[len(batches) :]
        server_ms, *isolation = _read_clock(sql, rows[len(opening)])
        if not number:
            locked_ids = frozenset(row[0] for row in rows[0][0])
            if locked:
                batch.take_sessions(rows[0][0])
            creatable = {row[0] for row in rows[1][0] if row[1]}
            _defer(commands, answers, set(ids) - locked_ids - creatable)
            _check_isolation(creatable, *isolation)
        now_ms = server_ms if clock is None else clock()
        batch.receive([found for found, _ in rows[len(opening) + 1 :]])
        more = batch.following()
        if more:
            batch.follow([found for found, _ in (yield more, False)])
        decisions: list[Decided[Any]] = []
        for at, wanted, view in zip(members, reads, batch.views(reads), strict=True):
            if answers[at] is not None:
                continue
            session = commands[at].session_id
            if any(isinstance(v, Session) for v in view) and session not in locked_ids:
                _defer(commands, answers, {session})  # another transaction has created it meanwhile
                continue
            answer = answers[at] = _decide(sql, commands[at], wanted.view, view, now_ms)
            if isinstance(answer, Decided):
                decisions.append(answer)
                if session not in locked_ids:
                    locked_ids = locked_ids | _created(answer)
        written = written or bool(batches)
        batches = writing(sql, decisions)
    if batches or written:
        yield batches, True
    return [a if a is not None else Deferred("not reached") for a in answers]


def clock_statement(sql: Sql, wait: Wait) -> Statement:
    """Return the statement that reads the clock, the active number, and the isolation level of a caller's transaction."""
    return f"SELECT {NOW_MS}, {active_number(sql)}{SNAPSHOT if wait is Wait.ALWAYS else ''}", ()


def _read_clock(sql: Sql, answer: Rows) -> list[Any]:
    """Return the time, and the isolation level if it was asked for."""
    now_ms, active, *isolation = answer[0][0]
    check_unchanged(sql, active)
    return [now_ms, *isolation]


def active_number(sql: Sql) -> str:
    """Return the expression for the active number of the store."""
    return f"(SELECT version FROM {sql.name('tenure_schema')})"


def _check_isolation(creatable: set[str], isolation: str = "read committed") -> None:
    """Raise ValueError if the snapshot of a caller's transaction may be older than a session."""
    if creatable and isolation != "read committed":
        raise ValueError(
            f"session {min(creatable)} may exist, but is not in the snapshot of this {isolation} transaction: "
            "use read committed"
        )


def _defer(
    commands: Sequence[Command[Any, Any]], answers: list[Answer | None], sessions: set[str]
) -> None:
    if sessions:
        for at, command in enumerate(commands):
            if command.session_id in sessions:
                answers[at] = Deferred(
                    f"session {command.session_id} stays locked by other processes"
                )


def _created(decided: Decided[Any]) -> frozenset[str]:
    """Return the session that a decision creates; this transaction holds it."""
    return frozenset([w.record.session_id for w in decided.writes if isinstance(w.record, Session)])


def _decide(
    sql: Sql, command: Any, make: Callable[..., Any], view: Sequence[Any], now_ms: int
) -> Answer:
    for value in view:
        if isinstance(value, Corrupt):
            return value
    try:
        return decide_at(sql.layout.release, command, make(*view), now_ms)
    except Exception as error:
        return undecided(command, error)


# -- locks


def lock_rows(sql: Sql, ids: Sequence[str], wait: Wait) -> Statement:
    """Return the statement that locks the rows of sessions in ascending order (STORE-30).

    With Wait.NOT it skips rows that another transaction has locked.
    """
    return (
        f"SELECT {listed(sql.codec(Session).stored)} FROM {sql.name('session')} "
        f"WHERE session_id = ANY(%b::text[]) ORDER BY session_id FOR UPDATE{' SKIP LOCKED' if wait is Wait.NOT else ''}",
        (Texts(ids),),
    )


def lock_absent(sql: Sql, ids: Sequence[str], wait: Wait) -> Statement:
    """Return the statement that finds sessions without a row and tries to lock their creation (STORE-32)."""
    key = "hashtextextended(q.i, hashtextextended(%b::text, 0))"
    lock = f"pg_try_advisory_xact_lock({key})"
    if wait is Wait.ALWAYS:
        lock = f"pg_advisory_xact_lock({key}) IS NOT NULL"
    return (
        f"SELECT q.i, {lock} FROM unnest(%b::text[]) AS q(i) WHERE NOT EXISTS "
        f"(SELECT 1 FROM {sql.name('session')} s WHERE s.session_id = q.i)",
        (sql.schema, Texts(ids)),
    )


def storable(values: Iterable[object]) -> bool:
    """Return False for a key that PostgreSQL cannot store: a NUL, invalid UTF-8, more than 64 bits."""
    for value in values:
        if isinstance(value, str):
            if "\x00" in value:
                return False
            if not value.isascii() and value != value.encode("utf-8", "replace").decode():
                return False
        elif isinstance(value, int) and not -LIMIT_MAX <= value <= LIMIT_MAX:
            return False
    return True


# -- reading


def limited(limit: int) -> int:
    """Return a limit as a valid bigint."""
    return min(max(limit, 0), LIMIT_MAX)


@frozen
class NamedSlot:
    """The place of a `Named`: of the record that has the names, and in the queries that follow."""

    query: Named[Any]
    slot: int
    number: int


class BatchedReads:
    """The queries of several commands, one statement for all queries of one shape, and their answers.

    `locked`: the rows of the sessions come from the statement that locks them (`take_sessions`).  What a record names is
    read in a second round (`following`, `follow`), which few commands need.
    """

    def __init__(self, sql: Sql, queries: Sequence[Query[Any]], locked: bool = False) -> None:
        self._sql = sql
        self._newest = sql.layout.release == RELEASE
        self._sessions: dict[str, list[int]] | None = {} if locked else None
        self._shapes: dict[Any, list[tuple[int, Any]]] = {}
        self._answers: list[Any] = []
        self._named: list[NamedSlot] = []
        self._second: BatchedReads | None = None
        self._plan = [self._take(query) for query in queries]

    def _take(self, query: Query[Any]) -> Any:
        """Add a query; return its slot, or a tuple of slots for `Each`."""
        shape: Any
        found: list[Record] | None = None
        if isinstance(query, Get):
            shape, given = query.record, query.key
        elif isinstance(query, First):
            shape = (query.index.name, len(query.prefix), len(query.after), query.backwards)
            found, given = [], query.prefix + query.after
        elif isinstance(query, Chain):
            shape, given, found = (query.record, query.via), query.key, []
        elif isinstance(query, Each):
            return tuple([self._take(each) for each in query.queries])
        elif isinstance(query, Named):
            self._named.append(NamedSlot(query, self._take(query.get), len(self._named)))
            return self._named[-1]
        else:
            raise AssertionError(f"no such query: {query!r}")
        slot = len(self._answers)
        self._answers.append(found)
        if shape is Session and self._sessions is not None:
            self._sessions.setdefault(str(given[0]), []).append(slot)
        elif storable(given) and (self._newest or self._sql.layout.has(query)):
            asked = self._shapes.get(shape)
            if asked is None:
                self._shapes[shape] = [(slot, query)]
            else:
                asked.append((slot, query))
        return slot

    def statements(self) -> list[Statement]:
        """Return one statement for each shape of query."""
        found: list[Statement] = []
        for shape, asked in self._shapes.items():
            one = asked[0][1]
            if isinstance(one, First):
                text, kinds = self._sql.first(one.index, *shape[1:])
                rows = [(*q.prefix, *q.after, limited(q.limit)) for _, q in asked]
            elif isinstance(one, Chain):
                text, kinds = self._sql.chain(*shape)
                rows = [(*q.key, limited(q.limit)) for _, q in asked]
            else:
                text, kinds = self._sql.get(shape)
                rows = [q.key for _, q in asked]
            found.append((text, arrays(kinds, rows)))
        return found

    def take_sessions(self, rows: Sequence[Any]) -> None:
        """Take the rows of the statement that locks the sessions."""
        assert self._sessions is not None
        decode = self._sql.codec(Session).decode
        for row in rows:
            for slot in self._sessions.get(row[0], ()):
                self._answers[slot] = _decoded(decode, row)

    def receive(self, results: Sequence[Sequence[Any]]) -> None:
        """Take the rows of each statement, in order.  A corrupt row is the answer to its own query only."""
        answers = self._answers
        for (shape, asked), rows in zip(self._shapes.items(), results, strict=True):
            one, several = asked[0][1], isinstance(shape, tuple)
            record_type = one.index.record if isinstance(one, First) else one.record
            decode = self._sql.codec(record_type).decode
            for row in rows:
                slot = asked[row[0] - 1][0]
                record = _decoded(decode, row[1:])
                if not several or isinstance(record, Corrupt):
                    answers[slot] = record
                elif not isinstance(answers[slot], Corrupt):
                    answers[slot].append(record)

    def following(self) -> list[Statement]:
        """Return the statements for what the records that were read name (STORE-55); empty if there are none."""
        if not self._named:
            return []
        found = [(each.query, self._answers[each.slot]) for each in self._named]
        wanted = [Each(() if isinstance(a, Corrupt) else q.gets(a)) for q, a in found]
        self._second = BatchedReads(self._sql, wanted)
        return self._second.statements()

    def follow(self, results: Sequence[Sequence[Any]]) -> None:
        """Take the rows of the statements of `following`."""
        assert self._second is not None
        self._second.receive(results)

    def views(self, reads: Sequence[Any]) -> list[list[Any]]:
        """Return the answers to the queries of each command, in order."""
        found = map(self._answer, self._plan)
        return [[next(found) for _ in wanted.queries] for wanted in reads]

    def answers(self) -> list[Any]:
        """Return the answer to each query, in order."""
        return [self._answer(part) for part in self._plan]

    def _answer(self, part: Any) -> Any:
        if part.__class__ is tuple:
            parts = [self._answer(each) for each in part]
            return next((p for p in parts if isinstance(p, Corrupt)), tuple(parts))
        if isinstance(part, NamedSlot):
            return self._answer_named(part)
        found = self._answers[part]
        return tuple(found) if found.__class__ is list else found

    def _answer_named(self, part: NamedSlot) -> Any:
        first = self._answers[part.slot]
        if isinstance(first, Corrupt):
            return first
        found = () if self._second is None else self._second.answer_at(part.number)
        return found if isinstance(found, Corrupt) else tuple([r for r in found if r is not None])

    def answer_at(self, number: int) -> Any:
        """Return the answer to one of the queries."""
        return self._answer(self._plan[number])


def _decoded(decode: Callable[[Any], Record], row: Any) -> Record | Corrupt:
    try:
        return decode(row)
    except Corrupt as error:
        return error


# -- writing


def writing(sql: Sql, decisions: Iterable[Decided[Any]]) -> list[Statement]:
    """Return the statements for all writes: first drops, then inserts, then updates, by record type.

    The order of writes does not matter: a decision writes a row at most once (STORE-9), a wave holds a session once,
    and every key begins with its session.  Sessions come first, and rows in the order of their keys.
    """
    batches: dict[tuple[int, type[Record]], list[Any]] = {}
    for write in [write for decided in decisions for write in decided.writes]:
        if isinstance(write, Drop):
            batches.setdefault((0, write.record), []).append(write.key)
        else:
            kind = write.record.__class__
            operation = 1 if write.__class__ is Insert else 2
            batches.setdefault((operation, kind), []).append(sql.codec(kind).encode(write.record))
    makers = (sql.delete, sql.insert, sql.update)
    found: list[Statement] = []
    for operation, kind in sorted(
        batches, key=lambda b: (b[0], RECORD_ORDER.get(b[1], len(RECORD_ORDER)))
    ):
        rows = batches[operation, kind]
        if operation == 1 and len(rows) > 1:
            at = sql.codec(kind).key_at
            rows.sort(key=lambda row: tuple([row[i] for i in at]))
        text, kinds = makers[operation](kind)
        counted = [len(rows)] if operation == 2 else []
        found.append((text, [*arrays(kinds, rows), *counted]))
    return found


def quarantine_statement(sql: Sql) -> str:
    """Return the statement that puts a session into quarantine, with its parameters id and reason."""
    return (
        f"INSERT INTO {sql.name('quarantine')} (session_id, reason, at_ms) VALUES (%s, %s, {NOW_MS}) "
        f"ON CONFLICT ({quoted('session_id')}) DO UPDATE SET reason = excluded.reason, "
        "at_ms = excluded.at_ms"
    )
