"""PostgreSQL: many workers on many machines; a group of commands is two round trips and one commit.

Needs the extra `postgres`.  Spec: specs/store.md.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg

from tenure.outcome import Hint, Refused
from tenure.queries import Command, Query, Question, Record
from tenure.records import RECORDS
from tenure.world import ask

from ..base import (
    Capability,
    Clock,
    Corrupt,
    Due,
    Durability,
    Quarantined,
    outcome_of,
    wall_clock_ms,
)
from ..group_commit import Answer, GroupCommit
from ..grouped_store import Commands, GroupedStore
from ..row_codec import codec_of
from ..url import StoreUrl, split_server_options
from .connection import (
    Connection,
    address,
    ensure_schema,
    schema_statements,
    translated,
    version_of,
)
from .notify import PostgresNotifier
from .pipeline import Statement
from .sql import Sql, listed, quoted
from .transaction import NOW_MS, BatchedReads, setting_aside, storable
from .writer import ALONG_INDEXES, IDLE_MS, Writer, execute_in, execute_in_now

A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")

SCHEMA = "tenure"
SCHEMA_BYTES_MAX = 56  # with its prefix it names a channel too: 63 bytes
READERS = 2
POSTGRES_GROUP_MAX = 256
SNAPSHOT: Statement = ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", ())
PLANNED: Statement = (f"SELECT {ALONG_INDEXES}", ())  # STORE-40


class PostgresStore(GroupedStore):
    """`dsn` as libpq takes it.  Makes its schema if it is not there; without `create` that is a ValueError.

    Raises Unavailable, SchemaTooNew or Corrupt if it cannot be opened.  The clock is the server's, unless one is given (tests).
    At most `readers` + 3 connections; they come when they are needed.  `prepare` off is for a pooler that gives a
    connection for the length of a transaction: no prepared statements, and hints of other processes are not heard.
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
    ) -> None:
        if not 0 < len(schema.encode()) <= SCHEMA_BYTES_MAX or set("\x00%") & set(schema):
            raise ValueError(f"schema {schema!r}: 1 to {SCHEMA_BYTES_MAX} bytes, no % among them")
        address(dsn)
        super().__init__(f"schema {schema!r}")
        self.dsn, self.schema = dsn, schema
        self._sql = Sql(schema)
        self._clock = clock
        self._prepare = prepare
        self._notifier = PostgresNotifier(dsn, schema, prepare, self._hint_bus.publish)
        self._writing = Writer(Connection(dsn, prepare), self._sql, clock, idle_ms)
        try:
            ensure_schema(self._writing.link, self._sql, create)
        except BaseException:
            self._writing.link.close()
            raise
        self._readers = ThreadPoolExecutor(readers, "tenure-pg-ask")
        self._local = threading.local()
        self._links: list[Connection] = []
        self.group = GroupCommit(self._transact, name="tenure-pg-write", group_max=group_max)

    # -- commands

    def _execute_group(self, commands: Commands, wait: bool) -> Sequence[Answer]:
        return self._writing.transact(commands, wait)

    def _publish(self, hints: Sequence[Hint]) -> None:
        super()._publish(hints)
        self._notifier.publish(list(hints))

    async def execute_in(
        self, connection: psycopg.AsyncConnection[Any], command: Command[V, O]
    ) -> O | Refused:
        """Carry a command out inside the caller's own transaction: it is done when the caller commits.

        Until then the session is locked, so commit soon.  The server gives the hints with the commit.  What fails
        or is refused leaves the caller's work as it is.
        """
        channel = self._notifier.channel
        return outcome_of(await execute_in(connection, self._sql, channel, command))

    def execute_in_now(
        self, connection: psycopg.Connection[Any], command: Command[V, O]
    ) -> O | Refused:
        """`execute_in` on a connection without an event loop."""
        channel = self._notifier.channel
        return outcome_of(execute_in_now(connection, self._sql, channel, command))

    # -- looking

    async def ask(self, question: Question[A]) -> A:
        return await self._read(lambda link: self._ask(link, question))

    def _ask(self, link: Connection, question: Question[A]) -> A:
        link.run([SNAPSHOT, PLANNED])
        try:
            return ask(question, lambda query: self._answer(link, query))
        finally:
            link.roll_back()

    def _answer(self, link: Connection, query: Query[Any]) -> Any:
        readings = BatchedReads(self._sql, [query])
        statements = readings.statements()
        readings.receive([rows for rows, _ in link.run(statements)] if statements else [])
        (answer,) = readings.answers()
        if isinstance(answer, Corrupt):
            raise answer
        return answer

    async def due(self, limit: int) -> tuple[Due, ...]:
        return await self._read(lambda link: self._due(link, limit))

    def _due(self, link: Connection, limit: int) -> tuple[Due, ...]:
        now_ms = self._now(link)
        table, aside = self._sql.name("session"), self._sql.name("quarantine")
        select = (
            "SELECT {0}, session_id FROM {1} s WHERE {0} {2} %s {3} AND NOT EXISTS "
            "(SELECT 1 FROM {4} q WHERE q.session_id = s.session_id) "
            "ORDER BY {0}, session_id LIMIT %s"
        )

        def look(after: tuple[int, str] | None, most: int) -> list[tuple[int, str]]:
            behind = "AND (due_at_ms, session_id) > (%s, %s)" if after else ""
            text = select.format("due_at_ms", table, "<=", behind, aside)
            return list(link.run([(text, (now_ms, *(after or ()), most))])[0][0])

        found = self._sampler.sample(limit, look)
        if len(found) < limit:
            text = select.format("lease_from_ms", table, ">", "", aside)
            known = {session_id for _, session_id in found}
            rows = link.run([(text, (now_ms, limit))])[0][0]
            more = [(now_ms, session_id) for _, session_id in rows if session_id not in known]
            found += more[: limit - len(found)]
        return tuple([Due(session_id, at) for at, session_id in found])

    async def horizon(self) -> int | None:
        table, aside = self._sql.name("session"), self._sql.name("quarantine")
        text = (
            f"SELECT due_at_ms FROM {table} s WHERE due_at_ms > %s AND NOT EXISTS (SELECT 1 FROM "
            f"{aside} q WHERE q.session_id = s.session_id) ORDER BY due_at_ms, session_id LIMIT 1"
        )

        def look(link: Connection) -> int | None:
            rows = link.run([(text, (self._now(link),))])[0][0]
            return rows[0][0] if rows else None

        return await self._read(look)

    def _now(self, link: Connection) -> int:
        if self._clock is not None:
            return self._clock()
        return int(link.run([(f"SELECT {NOW_MS}", ())])[0][0][0][0])

    async def now_ms(self) -> int:
        """The clock that the store decides by."""
        return await self._read(self._now)

    async def quarantined(self) -> tuple[Quarantined, ...]:
        text = f"SELECT session_id, reason, at_ms FROM {self._sql.name('quarantine')}"
        rows = await self._read(lambda link: link.run([(text, ())])[0][0])
        return tuple([Quarantined(*row) for row in rows])

    async def readmit(self, session_id: str) -> None:
        if not storable((session_id,)):  # the server would read it up to a NUL
            return
        text = f"DELETE FROM {self._sql.name('quarantine')} WHERE session_id = %s"
        await self._read(lambda link: link.run([(text, (session_id,))]))

    async def dump(self) -> tuple[Record, ...]:
        def look(link: Connection) -> tuple[Record, ...]:
            found: list[Record] = []
            link.run([SNAPSHOT])
            for record in RECORDS:
                codec = codec_of(record)
                text = f"SELECT {listed(codec.stored)} FROM {self._sql.name(codec.table)}"
                found += [codec.decode(row) for row in link.run([(text, ())])[0][0]]
            link.roll_back()
            return tuple(found)

        return await self._read(look)

    async def _read(self, look: Callable[[Connection], A]) -> A:
        self._check_usable()
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._look, look)

    def _look(self, look: Callable[[Connection], A]) -> A:
        link: Connection | None = getattr(self._local, "link", None)
        if link is None:
            link = self._local.link = Connection(self.dsn, self._prepare)
            self._links.append(link)
        for attempt in (1, 2):
            try:
                return look(link)
            except psycopg.Error as error:
                lost = link.roll_back()
                if not (
                    lost and attempt == 1
                ):  # a look changes nothing: once more on a new connection
                    raise translated(error, self.schema) from error
            except Corrupt as error:
                link.roll_back()
                if error.key:
                    self._set_aside(link, str(error.key[0]), error)
                raise
        raise AssertionError("unreachable")

    def _set_aside(self, link: Connection, session_id: str, error: Corrupt) -> None:
        """If it cannot be noted now, the next one will."""
        try:
            link.run([(setting_aside(self._sql), (session_id, str(error)))])
        except psycopg.Error:
            link.roll_back()

    # -- hints, and the end

    def hints(self) -> AsyncIterator[Hint]:
        self._check_usable()
        self._notifier.listen()
        return self._hint_bus.listen()

    def _release(self) -> None:
        self._notifier.close()
        super()._release()
        self._readers.shutdown()
        for link in (self._writing.link, *self._links):
            link.close()


def _reach(url: str) -> tuple[Connection, Sql]:
    dsn, options = split_server_options(StoreUrl.parse(url))
    return Connection(dsn), Sql(str(options.get("schema", SCHEMA)))


def missing_sql(url: str) -> list[str]:
    """The statements that opening this URL would make its schema with; none if it is there."""
    link, sql = _reach(url)
    try:
        return schema_statements(link, sql) if version_of(link, sql) is None else []
    except psycopg.Error as error:
        raise translated(error, sql.schema) from error
    finally:
        link.close()


def drop_schema(url: str) -> None:
    """Everything in it is gone."""
    link, sql = _reach(url)
    try:
        link.run([("SET client_min_messages = warning", ())])
        link.run([(f"DROP SCHEMA IF EXISTS {quoted(sql.schema)} CASCADE", ())])
    except psycopg.Error as error:
        raise translated(error, sql.schema) from error
    finally:
        link.close()


def open_url(url: StoreUrl, *, clock: Clock = wall_clock_ms, **options: Any) -> PostgresStore:
    """Open a store on a server.  Its clock is the server's, unless the caller gives another."""
    dsn, ours = split_server_options(url)
    if clock is not wall_clock_ms:
        ours["clock"] = clock
    return PostgresStore(dsn, **{**options, **ours})
