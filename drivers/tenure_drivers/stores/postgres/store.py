"""PostgreSQL: many workers on many machines.  A group of commands takes two round trips and one commit.

Needs the extra `postgres`.  Spec: specs/store.md.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg

from tenure.outcome import Hint, Refused
from tenure.queries import Command, Query, Question, Record
from tenure.records import Session
from tenure.release import OLDEST, RELEASE

from ..base import (
    Capability,
    Clock,
    Corrupt,
    Due,
    DuePlace,
    DueRow,
    Durability,
    Quarantined,
    Unusable,
    answer_of,
    due_of,
    outcome_of,
    wall_clock_ms,
)
from ..field_types import measure_command
from ..group_commit import Answer, GroupCommit
from ..grouped_store import Commands, GroupedStore
from ..layout import layout_of, warn_if_older
from ..payloads import PayloadHook
from ..url import StoreUrl, split_server_options
from .connection import StoreConnection, parse_dsn, translated
from .notify import PostgresNotifier
from .pipeline import Statement
from .schema import PostgresMigrator, ensure_schema
from .sql import Sql, listed, quoted
from .transaction import (
    NOW_MS,
    ActiveChanged,
    BatchedReads,
    active_number,
    check_unchanged,
    quarantine_statement,
    storable,
)
from .writer import ALONG_INDEXES, IDLE_MS, Writer, execute_in, execute_in_now

__all__ = ["PostgresStore", "drop_schema", "open_migrator", "open_url"]


A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")

SCHEMA = "tenure"
SCHEMA_BYTES_MAX = 56  # the name of the NOTIFY channel has a prefix, and 63 bytes at most
READERS = 2
POSTGRES_GROUP_MAX = 256
SNAPSHOT: Statement = ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", ())


class PostgresStore(GroupedStore):
    """A store in one schema of a database; `dsn` has libpq's form.

    The schema is created if it does not exist; without `create` that is a ValueError.  The clock is the server's,
    unless one is given (tests).  At most `readers` + 3 connections are opened, each when it is needed.  Use
    `prepare=False` with a pooler in transaction mode: no prepared statements, and no hints of other processes.
    `read_only`: create nothing, execute nothing, put no session into quarantine, and accept the store of any earlier
    release (SCHEMA-1).
    Raises Unavailable, SchemaTooNew, SchemaTooOld or Corrupt if the store cannot be opened.
    """

    durability = Durability.CRASH
    capabilities = frozenset(Capability)

    def __init__(
        self,
        dsn: str,
        *,
        schema: str = SCHEMA,
        clock: Clock | None = None,
        prepare: bool = True,
        readers: int = READERS,
        group_max: int = POSTGRES_GROUP_MAX,
        idle_ms: int = IDLE_MS,
        create: bool = True,
        read_only: bool = False,
        payloads: PayloadHook | None = None,
    ) -> None:
        if not 0 < len(schema.encode()) <= SCHEMA_BYTES_MAX or set("\x00%") & set(schema):
            raise ValueError(f"schema {schema!r}: 1 to {SCHEMA_BYTES_MAX} bytes, no % among them")
        parse_dsn(dsn)
        super().__init__(f"schema {schema!r}")
        self.dsn, self.schema = dsn, schema
        self._sql = Sql(schema, layout_of(RELEASE, payloads))
        self._clock = clock
        self._prepare = prepare
        self._read_only = read_only
        self._oldest = 1 if read_only else OLDEST
        self._notifier = PostgresNotifier(dsn, schema, prepare, self._hint_bus.publish)
        self._writer = Writer(self._new_connection(self._sql), clock, idle_ms)
        try:
            ensure_schema(self._writer.connection, create and not read_only)
        except BaseException:
            self._writer.connection.close()
            raise
        if not read_only:
            warn_if_older(self._writer.sql.layout.release, self._name)
        active = active_number(self._sql)
        self._planned: Statement = (f"SELECT {ALONG_INDEXES}, {active}", ())  # STORE-40, SCHEMA-5
        self._readers = ThreadPoolExecutor(readers, "tenure-pg-ask")
        self._local = threading.local()
        self._connections: list[StoreConnection] = []
        self.group = GroupCommit(self._transact, name="tenure-pg-write", group_max=group_max)

    def _new_connection(self, sql: Sql) -> StoreConnection:
        return StoreConnection(self.dsn, sql, self._prepare, self._oldest)

    @property
    def active(self) -> int:
        """The release that was active at the last read (SCHEMA-1)."""
        connections = (self._writer.connection, *self._connections)
        return max([connection.sql.layout.release for connection in connections])

    # -- commands

    def _execute_group(self, commands: Commands, wait: bool) -> Sequence[Answer]:
        if self._read_only:
            return [Unusable(f"schema {self.schema!r} was opened to be read")] * len(commands)
        return self._writer.transact(commands, wait)

    def _quarantine(self, reasons: Mapping[str, str], wait: bool) -> None:
        _quarantine_with(self._writer.connection, reasons)

    def _publish(self, hints: Sequence[Hint]) -> None:
        super()._publish(hints)
        if others := self._hint_bus.for_others(hints):
            self._notifier.publish(others)

    async def execute_in(
        self, connection: psycopg.AsyncConnection[Any], command: Command[V, O]
    ) -> O | Refused:
        """Execute a command inside the caller's own transaction; it takes effect when the caller commits (STORE-38).

        The session is locked until then, so commit soon.  The server delivers the hints with the commit.  A failure or
        refusal leaves the caller's work as it was.
        """
        size = measure_command(command)
        if isinstance(size, Refused):
            return size
        channel = self._notifier.channel
        return outcome_of(await execute_in(connection, self._writer.sql, channel, command))

    def execute_in_now(
        self, connection: psycopg.Connection[Any], command: Command[V, O]
    ) -> O | Refused:
        """`execute_in` on a connection without an event loop."""
        size = measure_command(command)
        if isinstance(size, Refused):
            return size
        channel = self._notifier.channel
        return outcome_of(execute_in_now(connection, self._writer.sql, channel, command))

    # -- reads

    async def ask(self, question: Question[A]) -> A:
        """Answer a question from one snapshot."""
        return await self._read(lambda connection: self._ask(connection, question))

    def _ask(self, connection: StoreConnection, question: Question[A]) -> A:
        _, planned = connection.run([SNAPSHOT, self._planned])
        check_unchanged(connection.sql, planned[0][0][-1])
        try:
            answer = answer_of(question, lambda query: self._answer(connection, query))
        except psycopg.Error:
            raise  # `_read_here` rolls back, and asks again if the connection was lost
        except BaseException:
            connection.roll_back()
            raise
        connection.roll_back()
        return answer

    def _answer(self, connection: StoreConnection, query: Query[Any]) -> Any:
        reads = BatchedReads(connection.sql, [query])
        statements = reads.statements()
        reads.receive([rows for rows, _ in connection.run(statements)] if statements else [])
        if more := reads.following():
            reads.follow([rows for rows, _ in connection.run(more)])
        (answer,) = reads.answers()
        if isinstance(answer, Corrupt):
            raise answer
        return answer

    async def due(self, limit: int) -> tuple[Due, ...]:
        """Return up to `limit` sessions that are due now, in random order."""
        return await self._read(lambda connection: self._due(connection, limit))

    def _due(self, connection: StoreConnection, limit: int) -> tuple[Due, ...]:
        now_ms = self._now(connection)
        table, working = self._sql.name("session"), self._sql.not_quarantined("s")
        select = (
            "SELECT {0}, session_id, {5} FROM {1} s WHERE {0} {2} %s {3} AND {4} "
            "ORDER BY {0}, session_id LIMIT %s"
        )

        later = connection.sql.layout.codec(Session).later
        kind = "NULL" if "kind" in later else "kind"  # SCHEMA-4

        def look(after: DuePlace | None, count: int) -> list[DueRow]:
            after_sql = "AND (due_at_ms, session_id) > (%s, %s)" if after else ""
            text = select.format("due_at_ms", table, "<=", after_sql, working, kind)
            return list(connection.run([(text, (now_ms, *(after or ()), count))])[0][0])

        found = self._sampler.sample(limit, look)
        if len(found) < limit:
            text = select.format("lease_from_ms", table, ">", "", working, kind)
            known = {session_id for _, session_id, _ in found}
            rows = connection.run([(text, (now_ms, limit))])[0][0]
            more = [(now_ms, id_, kind) for _, id_, kind in rows if id_ not in known]
            found += more[: limit - len(found)]
        return due_of(found)

    async def horizon(self) -> int | None:
        """Return the earliest `due_at_ms` in the future."""
        text = (
            f"SELECT due_at_ms FROM {self._sql.name('session')} s WHERE due_at_ms > %s AND "
            f"{self._sql.not_quarantined('s')} ORDER BY due_at_ms, session_id LIMIT 1"
        )

        def look(connection: StoreConnection) -> int | None:
            rows = connection.run([(text, (self._now(connection),))])[0][0]
            return rows[0][0] if rows else None

        return await self._read(look)

    def _now(self, connection: StoreConnection) -> int:
        """Return the time of the store's clock, if this release may work."""
        text = f"SELECT {NOW_MS}, {active_number(connection.sql)}"
        now_ms, active = connection.run([(text, ())])[0][0][0]
        check_unchanged(connection.sql, active)
        return int(now_ms) if self._clock is None else self._clock()

    async def now_ms(self) -> int:
        """Return the time of the store's clock."""
        return await self._read(self._now)

    async def quarantined(self) -> tuple[Quarantined, ...]:
        """Return the sessions in quarantine."""
        text = f"SELECT session_id, reason, at_ms FROM {self._sql.name('quarantine')}"
        rows = await self._read(lambda connection: connection.run([(text, ())])[0][0])
        return tuple([Quarantined(*row) for row in rows])

    async def readmit(self, session_id: str) -> None:
        """End the quarantine of a session."""
        if not storable((session_id,)):  # the server would truncate the id at a NUL
            return
        text = f"DELETE FROM {self._sql.name('quarantine')} WHERE session_id = %s"
        await self._read(lambda connection: connection.run([(text, (session_id,))]))

    async def dump(self) -> tuple[Record, ...]:
        """Return all records, in no order."""

        def look(connection: StoreConnection) -> tuple[Record, ...]:
            found: list[Record] = []
            _, planned = connection.run([SNAPSHOT, self._planned])
            check_unchanged(connection.sql, planned[0][0][-1])
            layout = connection.sql.layout
            for codec in map(layout.codec, layout.records):
                text = f"SELECT {listed(codec.stored)} FROM {self._sql.name(codec.table)}"
                found += [codec.decode(row) for row in connection.run([(text, ())])[0][0]]
            connection.roll_back()
            return tuple(found)

        return await self._read(look)

    async def _read(self, look: Callable[[StoreConnection], A]) -> A:
        self._check_usable()
        return await asyncio.get_running_loop().run_in_executor(
            self._readers, self._read_here, look
        )

    def _read_here(self, look: Callable[[StoreConnection], A]) -> A:
        connection: StoreConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._new_connection(self._writer.sql)
            self._connections.append(connection)
        repeated = False
        while True:
            try:
                return look(connection)
            except ActiveChanged as changed:
                connection.roll_back()
                connection.work_at(changed.active)
            except psycopg.Error as error:
                lost = connection.roll_back()
                if repeated or not lost:
                    raise translated(error, self.schema) from error
                repeated = True  # a read may be repeated: once more on a new connection
            except Corrupt as error:
                connection.roll_back()
                if error.key and not self._read_only:
                    _quarantine_with(connection, {str(error.key[0]): str(error)})
                raise

    # -- hints, and the end

    def hints(self) -> AsyncIterator[Hint]:
        """Subscribe to the hints of this and of other processes."""
        self._check_usable()
        self._notifier.listen()
        return self._hint_bus.listen()

    def _release(self) -> None:
        self._notifier.close()
        super()._release()
        self._readers.shutdown()
        for connection in (self._writer.connection, *self._connections):
            connection.close()


def _quarantine_with(connection: StoreConnection, reasons: Mapping[str, str]) -> None:
    """Put sessions into quarantine; if that fails, the next command or reader will."""
    statement = quarantine_statement(connection.sql)
    try:
        connection.run([(statement, (s, r.replace("\x00", "\\x00"))) for s, r in reasons.items()])
    except psycopg.Error:
        connection.roll_back()


def _connect_to(url: str) -> StoreConnection:
    dsn, options = split_server_options(StoreUrl.parse(url))
    return StoreConnection(dsn, Sql(str(options.get("schema", SCHEMA)), layout_of(RELEASE)))


def open_migrator(url: StoreUrl) -> PostgresMigrator:
    """Return what migrates the schema of a URL."""
    dsn, options = split_server_options(url)
    return PostgresMigrator(dsn, str(options.get("schema", SCHEMA)))


def drop_schema(url: str) -> None:
    """Drop the schema of a URL, with everything in it."""
    connection = _connect_to(url)
    sql = connection.sql
    try:
        connection.run([("SET client_min_messages = warning", ())])
        connection.run([(f"DROP SCHEMA IF EXISTS {quoted(sql.schema)} CASCADE", ())])
    except psycopg.Error as error:
        raise translated(error, sql.schema) from error
    finally:
        connection.close()


def open_url(url: StoreUrl, *, clock: Clock = wall_clock_ms, **options: Any) -> PostgresStore:
    """Open `postgresql://...`.  The clock is the server's, unless the caller gives another."""
    dsn, own_options = split_server_options(url)
    if clock is not wall_clock_ms:
        own_options["clock"] = clock
    return PostgresStore(dsn, **{**options, **own_options})
