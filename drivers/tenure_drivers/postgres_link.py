"""A connection to PostgreSQL that comes back, the schema behind it, and the news between processes."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import psycopg
from psycopg import errors

from tenure.indexes import INDEXES
from tenure.outcome import Hint
from tenure.records import RECORDS

from .contract import Corrupt, SchemaTooNew, Unavailable
from .postgres_group import Statement
from .postgres_sql import Bigints, BigintsDumper, Sql, Texts, TextsDumper

SCHEMA_VERSION = 1
PAYLOAD_BYTES_MAX = 7_900
LISTEN_S = 1.0


def translated(error: psycopg.Error, where: str) -> Exception:
    """What an error of the server, or of the way to it, means to a caller."""
    found: Exception
    if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn | errors.DataCorrupted):
        found = Corrupt(where, (), error)
    elif isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        found = Unavailable(f"{where}: {error}")
    elif isinstance(error, errors.InsufficientPrivilege | errors.ReadOnlySqlTransaction):
        found = Unavailable(f"{where}: {error}")
    else:
        return error
    found.__cause__ = error
    return found


class Link:
    """Connects when it is needed.  One thread at a time."""

    def __init__(self, dsn: str, prepare: bool = True) -> None:
        self._dsn, self._prepare = dsn, prepare
        self._connection: psycopg.Connection[Any] | None = None

    @property
    def connection(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._dsn,
                autocommit=True,
                prepare_threshold=2 if self._prepare else None,
                application_name="tenure",
            )
            self._connection.adapters.register_dumper(Texts, TextsDumper)
            self._connection.adapters.register_dumper(Bigints, BigintsDumper)
        return self._connection

    def run(self, statements: Sequence[Statement]) -> list[tuple[Sequence[Any], int]]:
        """All in one round trip; rows and counts of each.  Raises psycopg.Error for the first that fails."""
        connection = self.connection
        with connection.pipeline():
            cursors = []
            for text, values in statements:
                cursor = connection.cursor(binary=True)
                cursor.execute(text.encode(), values or None)
                cursors.append(cursor)
        return [(c.fetchall() if c.description else (), c.rowcount) for c in cursors]

    def roll_back(self) -> bool:
        """Leave any transaction.  True: the connection is lost."""
        connection = self._connection
        if connection is None or connection.closed or connection.broken:
            self._connection = None
            return True
        try:
            connection.rollback()
            return False
        except psycopg.Error:
            connection.close()
            self._connection = None
            return True

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def prepared(link: Link, sql: Sql) -> None:
    """Make the schema, or check that it is ours; safe with many starting at once."""
    try:
        link.run([("BEGIN", ())])
        lock = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 7465))"
        link.run([(lock, (sql.schema,))])
        exists = "SELECT to_regclass(%s) IS NOT NULL"
        if not link.run([(exists, (sql.name("tenure_schema"),))])[0][0][0][0]:
            lines = sql.create(RECORDS, INDEXES)
            link.run([(line, ()) for line in lines])
            stamp = f"INSERT INTO {sql.name('tenure_schema')} (version) VALUES (%s)"
            link.run([(stamp, (SCHEMA_VERSION,))])
        rows = link.run([(f"SELECT version FROM {sql.name('tenure_schema')}", ())])[0][0]
        link.run([("COMMIT", ())])
    except psycopg.Error as error:
        link.roll_back()
        raise translated(error, sql.schema) from error
    version = rows[0][0] if rows else 0
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(sql.schema, version, SCHEMA_VERSION)


class Newsroom:
    """NOTIFY in transactions of its own, LISTEN on a connection of its own; losing a word costs latency only."""

    def __init__(self, dsn: str, channel: str, tell: Callable[[Iterable[Hint]], None]) -> None:
        self.channel = channel
        self._dsn, self._tell = dsn, tell
        self._outgoing: queue.SimpleQueue[list[Hint] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._speaker: threading.Thread | None = None
        self._listener: threading.Thread | None = None
        self._closed = threading.Event()

    def payload(self, hints: Sequence[Hint]) -> str:
        said = json.dumps([[h.session_id, h.due_at_ms, h.cancel_run] for h in hints])
        return said if len(said.encode()) <= PAYLOAD_BYTES_MAX else "[]"

    def tell(self, hints: list[Hint]) -> None:
        if self._speaker is None:
            self._speaker = threading.Thread(target=self._speak, name="tenure-pg-say", daemon=True)
            self._speaker.start()
        self._outgoing.put(hints)

    def listen(self) -> None:
        if self._listener is None:
            self._listener = threading.Thread(target=self._hear, name="tenure-pg-hear", daemon=True)
            self._listener.start()

    def close(self) -> None:
        self._closed.set()
        self._outgoing.put(None)
        for thread in (self._speaker, self._listener):
            if thread is not None:
                thread.join()

    def _speak(self) -> None:
        link = Link(self._dsn)
        say = "SELECT pg_notify(%s, %s)"
        while (hints := self._outgoing.get()) is not None:
            statement = (say, (self.channel, self.payload(hints)))
            try:
                link.run(
                    [("BEGIN", ()), ("SET LOCAL synchronous_commit = off", ()), statement,
                     ("COMMIT", ())]
                )  # fmt: skip
            except psycopg.Error:
                link.roll_back()
        link.close()

    def _hear(self) -> None:
        missed = False
        while not self._closed.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True) as connection:
                    connection.execute(f'LISTEN "{self.channel}"')
                    if missed:
                        self._tell([Hint("", None)])  # whatever was said while nobody listened
                    missed = True
                    while not self._closed.is_set():
                        for note in connection.notifies(timeout=LISTEN_S, stop_after=64):
                            self._tell(_hints(note.payload))
            except psycopg.Error:
                self._closed.wait(LISTEN_S)


def _hints(payload: str) -> list[Hint]:
    try:
        said = json.loads(payload)
        return [Hint(*one) for one in said] or [Hint("", None)]
    except (ValueError, TypeError):
        return [Hint("", None)]
