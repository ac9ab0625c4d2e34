"""The schema of a PostgreSQL store: what its tables have and lack, creation, migration and activation.

The active number is the row of the table `tenure_schema`.  Spec: specs/schema.md.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from attrs import frozen
from psycopg import errors

from tenure.release import RELEASE

from ..base import Corrupt, Unavailable
from ..layout import Layout, check_active, layout_of, warn_if_older
from ..migration import NotMigrated, Numbers, columns_lacking, incomplete, schema_number
from .connection import BEGIN, StoreConnection, translated
from .pipeline import Statement
from .sql import Sql, Texts, column_definition, kind_of, quoted

__all__ = ["PostgresMigrator", "creating", "ensure_schema"]


LOCK_KEY = "hashtextextended(%s, 7465)"
LOCK_MS = 2_000  # for ALTER TABLE: what waits for its lock keeps everybody else waiting
TRIES = 60
PAUSE_S = 0.5

COLUMNS = (
    "SELECT c.relname::text, c.relkind::text, a.attname::text, format_type(a.atttypid, NULL), a.attnotnull::int "
    "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'f') AND a.attnum > 0 AND NOT a.attisdropped"
)
INDEXES = (
    "SELECT c.relname::text, i.indisvalid::int FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
    "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s"
)

NUMBER = "tenure_schema"  # the table with the active number
NAMED = (
    "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = %b::text AND c.relname = ANY(%b::text[])"
)

log = logging.getLogger("tenure")


@frozen
class Catalogue:
    """What the schema has: tables by name with their columns, partitioned tables, and indexes with whether they are valid."""

    tables: dict[str, dict[str, tuple[str, bool]]]
    partitioned: frozenset[str]
    indexes: dict[str, bool]


def read_catalogue(connection: StoreConnection) -> Catalogue:
    """Read what the schema has, in one round trip."""
    schema = (connection.sql.schema,)
    columns, indexes = connection.run([(COLUMNS, schema), (INDEXES, schema)])
    tables: dict[str, dict[str, tuple[str, bool]]] = {}
    partitioned = set()
    for table, relkind, column, kind, not_null in columns[0]:
        tables.setdefault(table, {})[column] = (kind, bool(not_null))
        if relkind == "p":
            partitioned.add(table)
    found = {name: bool(valid) for name, valid in indexes[0]}
    return Catalogue(tables, frozenset(partitioned), found)


def lacking(sql: Sql, catalogue: Catalogue, layout: Layout) -> list[str]:
    """Return the statements that add what is missing.  Raises Corrupt for what cannot be added."""
    lines: list[str] = []
    for codec in map(layout.codec, layout.records):
        if codec.table in catalogue.tables:
            table = sql.name(codec.table)
            found = catalogue.tables[codec.table]
            for column in columns_lacking(f"schema {sql.schema!r}", codec, found, kind_of):
                lines.append(f"ALTER TABLE {table} ADD COLUMN {column_definition(column)}")
        else:
            lines.append(sql.create_table(codec))
    for index in layout.indexes:
        table = layout.codec(index.record).table
        online = table in catalogue.tables and table not in catalogue.partitioned
        line = sql.create_index(index, "CONCURRENTLY" if online else "")
        valid = catalogue.indexes.get(index.name)
        if line is None or valid:
            continue
        if valid is False:  # what an interrupted CREATE INDEX CONCURRENTLY leaves
            lines.append(f"DROP INDEX CONCURRENTLY IF EXISTS {sql.name(index.name)}")
        lines.append(line)
    if "quarantine" not in catalogue.tables:
        lines.append(
            f'CREATE TABLE {sql.name("quarantine")} (session_id text COLLATE "C" PRIMARY KEY, '
            "reason text NOT NULL, at_ms bigint NOT NULL)"
        )
    return lines


def creating(connection: StoreConnection) -> list[str]:
    """Return the statements that create everything, and the schema unless an administrator has created it."""
    sql = connection.sql.at(RELEASE)
    there = "SELECT count(*) FROM pg_namespace WHERE nspname = %s"
    lines = []
    if not connection.run([(there, (sql.schema,))])[0][0][0][0]:
        lines.append(f"CREATE SCHEMA IF NOT EXISTS {quoted(sql.schema)}")
    lines += lacking(sql, Catalogue({}, frozenset(), {}), sql.layout)
    lines.append(f"CREATE TABLE {sql.name(NUMBER)} (version bigint NOT NULL)")
    lines.append(f"INSERT INTO {sql.name(NUMBER)} (version) VALUES ({RELEASE})")
    return lines


# -- opening


def ensure_schema(connection: StoreConnection, create: bool) -> None:
    """Create the schema if it does not exist, check it, and use the statements for its active number.

    Several processes may do this at once.
    """
    sql = connection.sql
    try:
        active = read_active(connection)
        if active is None and not create:
            raise ValueError(
                f"schema {sql.schema!r} does not exist; run `tenure store migrate` to create it"
            )
        if active is None:
            active = _create(connection)
        connection.work_at(active)
        missing = lacking(connection.sql, read_catalogue(connection), connection.sql.layout)
    except psycopg.Error as error:
        connection.roll_back()
        raise translated(error, sql.schema) from error
    if missing:
        raise incomplete(f"schema {sql.schema!r}", active, missing)
    warn_if_older(active, f"schema {sql.schema!r}")


def _create(connection: StoreConnection) -> int:
    connection.run([(BEGIN, ())])
    connection.run([(f"SELECT pg_advisory_xact_lock({LOCK_KEY})", (connection.sql.schema,))])
    active = read_active(connection)
    if active is None:
        connection.run([(line, ()) for line in creating(connection)])
        active = RELEASE
    connection.run([("COMMIT", ())])
    return active


def read_active(connection: StoreConnection) -> int | None:
    """Return the active number; None if the schema has nothing of a store, 0 if its number is missing.

    Raises Corrupt for a schema with tables of a store, or of something else with such names, but without a number.
    """
    # Not by to_regclass: it may answer from a cache that is older than the table.
    sql = connection.sql
    tables = [layout_of(RELEASE).codec(record).table for record in layout_of(RELEASE).records]
    names = Texts([NUMBER, "quarantine", *tables])
    found = {name for (name,) in connection.run([(NAMED, (sql.schema, names))])[0][0]}
    if not found:
        return None
    if NUMBER not in found:
        why = (
            f"it has {', '.join(sorted(found))}, but no table {NUMBER}: restore a backup, "
            "or choose another schema with ?tenure_schema=NAME"
        )
        raise Corrupt(f"schema {sql.schema!r}", (), why)
    rows = connection.run([(f"SELECT version FROM {sql.name(NUMBER)}", ())])[0][0]
    return int(rows[0][0]) if rows else 0


# -- migration and activation


class PostgresMigrator:
    """Migrates and activates one schema of a database, while others may be using it."""

    def __init__(self, dsn: str, schema: str) -> None:
        self._dsn = dsn
        self._sql = Sql(schema, layout_of(RELEASE))

    def numbers(self) -> Numbers:
        """Return the numbers of the schema, and change nothing."""
        with self._connection() as connection:
            return self._numbers(connection)

    def _numbers(self, connection: StoreConnection) -> Numbers:
        active = read_active(connection)
        if active is None:
            return Numbers(0, 0, tuple(creating(connection)))
        check_active(active, f"schema {self._sql.schema!r}", oldest=1)
        found = read_catalogue(connection)
        missing = tuple(lacking(self._sql, found, self._sql.layout))
        schema = schema_number(lambda layout: not lacking(self._sql, found, layout))
        return Numbers(schema, active, missing)

    def migrate(self, report: Callable[[str], None]) -> None:
        """Add what is missing, one statement in each transaction, under an advisory lock (SCHEMA-6)."""
        with self._connection() as connection:
            if read_active(connection) is None:
                _create(connection)
        with self._connection() as connection, self._locked():
            while missing := self._numbers(connection).missing:
                report(missing[0])
                self._add(connection, missing[0])

    def activate(self) -> None:
        """Make this release active (SCHEMA-7).  Raises NotMigrated."""
        where = f"schema {self._sql.schema!r}"
        with self._connection() as connection, self._locked():
            numbers = self._numbers(connection)
            if numbers.missing:
                raise NotMigrated(where, numbers.missing)
            table = self._sql.name(NUMBER)
            connection.run(
                [(f"UPDATE {table} SET version = {RELEASE} WHERE version < {RELEASE}", ())]
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the advisory lock, by a transaction of its own that does nothing: so a pooler cannot keep the lock.

        It is tried again and again: a statement that waits holds a snapshot, for which CREATE INDEX CONCURRENTLY would
        wait in turn.  So does a SELECT until the next statement, and so SET comes last.
        """
        opening: list[Statement] = [
            (BEGIN, ()),
            (f"SELECT pg_try_advisory_xact_lock({LOCK_KEY})::int", (self._sql.schema,)),
            ("SET LOCAL idle_in_transaction_session_timeout = 0", ()),
        ]
        told = False
        with self._connection() as holder:
            while not holder.run(opening)[1][0][0][0]:
                holder.roll_back()
                if not told:
                    log.warning("schema %r: another process migrates it; waiting", self._sql.schema)
                told = True
                time.sleep(PAUSE_S)
            try:
                yield
            finally:
                holder.roll_back()

    def _add(self, connection: StoreConnection, statement: str) -> None:
        alone: list[Statement] = [(statement, ())]  # CONCURRENTLY is not allowed in a transaction
        briefly: list[Statement] = [
            *((BEGIN, ()), (f"SET LOCAL lock_timeout = {LOCK_MS}", ()), *alone, ("COMMIT", ()))
        ]
        for attempt in range(TRIES):
            if attempt:
                log.warning("a table is in use; trying again: %s", statement)
                time.sleep(PAUSE_S)
            try:
                connection.run(alone if "CONCURRENTLY" in statement else briefly)
                return
            except (errors.LockNotAvailable, errors.DeadlockDetected):
                connection.roll_back()
        raise Unavailable(f"schema {self._sql.schema!r}: a table stays in use: {statement}")

    @contextmanager
    def _connection(self) -> Iterator[StoreConnection]:
        connection = StoreConnection(self._dsn, self._sql, prepare=False)
        try:
            yield connection
        except psycopg.Error as error:
            raise translated(error, self._sql.schema) from error
        finally:
            connection.close()
