"""A connection to PostgreSQL that comes back, what its errors mean, and the schema behind it."""

from __future__ import annotations

import re
import select
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import errors, pq
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import tuple_row

from tenure.indexes import INDEXES
from tenure.records import RECORDS

from ..base import Corrupt, OutcomeUnknown, SchemaTooNew, Unavailable
from .pipeline import Pipeline, Rows, Statement
from .sql import Sql

SCHEMA_VERSION = 1
VERSION_MIN = 14
DEFAULTS = {  # a machine that is gone says nothing: without these a connection to it waits for hours
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "tenure",
}

BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED"  # what is read behind a lock must be newer than the lock
)
REFUSED = (
    errors.InsufficientPrivilege,
    errors.ReadOnlySqlTransaction,
    errors.FeatureNotSupported,
)


class ConnectionLost(psycopg.OperationalError):
    """There is no connection, and none to be had."""


def address(dsn: str) -> dict[str, Any]:
    """What an address says.  Raises ValueError, in words that hold nothing of what may be a password."""
    try:
        given: dict[str, Any] = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        why = str(error).strip()
        if not why.startswith("invalid URI query parameter"):  # which says a name
            why = re.sub('".*"', '"***"', why, flags=re.DOTALL)
        raise ValueError(f"no address of a server: {why}") from None
    hosts = str(given.get("host", "")).split(",")  # one may be a folder, or @ and a name
    if any("@" in host[1:] and not host.startswith("/") for host in hosts):
        raise ValueError("no address of a server: an @ in the password of a URL is written %40")
    if not re.fullmatch("[0-9,]*", str(given.get("port", ""))):
        raise ValueError(
            "no address of a server: the port is no number; a / in the password of a URL is written %2F"
        )
    return given


def connect(dsn: str) -> psycopg.Connection[Any]:
    given = address(dsn)
    more: dict[str, Any] = {name: value for name, value in DEFAULTS.items() if name not in given}
    try:
        connection = psycopg.connect(
            dsn,
            autocommit=True,
            prepare_threshold=None,
            row_factory=tuple_row,
            client_encoding="utf8",  # arrays go as bytes of it
            **more,
        )
    except psycopg.OperationalError as error:
        raise ConnectionLost(str(error)) from error
    if connection.info.server_version < VERSION_MIN * 10_000:
        connection.close()
        raise ConnectionLost(
            f"server {connection.info.server_version}: needs {VERSION_MIN} or newer"
        )
    return connection


def translated(error: psycopg.Error, where: str) -> Exception:
    """What an error of the server, or of the way to it, means to a caller."""
    found: Exception
    if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn | errors.DataCorrupted):
        found = Corrupt(where, (), error)
    elif isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        found = Unavailable(f"{where}: {_line(error)}")
    elif isinstance(error, REFUSED):
        found = Unavailable(f"{where}: {_line(error)}")
    elif isinstance(error, errors.InvalidSqlStatementName | errors.DuplicatePreparedStatement):
        found = Unavailable(f"{where}: {_line(error)} (behind a pooler: prepare=off)")
    elif isinstance(error, errors.DivisionByZero):
        found = AssertionError("a decision updates what does not exist")
    elif isinstance(error, errors.IntegrityError):
        found = AssertionError(f"a decision writes what cannot be: {_line(error)}")
    elif isinstance(error, errors.ReservedName):
        found = ValueError(_line(error))
    elif isinstance(error, errors.DataError):
        found = ValueError(f"the server cannot store that: {_line(error)}")
    else:
        return error
    found.__cause__ = error
    return found


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


class Connection:
    """Connects when it is needed.  One thread at a time."""

    def __init__(self, dsn: str, prepare: bool = True) -> None:
        self._dsn, self._prepare = dsn, prepare
        self._connection: psycopg.Connection[Any] | None = None
        self._pipe: Pipeline | None = None
        self._doubtful = ""

    @property
    def connection(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._dsn)
            self._connection.add_notice_handler(self._notice)
            self._pipe = Pipeline(self._connection, self._prepare)
        return self._connection

    def run(self, statements: Sequence[Statement]) -> list[Rows]:
        """All in one round trip; rows and counts of each.  Raises psycopg.Error for the first that fails."""
        if self.connection and self._pipe:
            return self._pipe.run(statements)
        raise AssertionError("unreachable")

    def alive(self) -> bool:
        """Nothing has come that nobody asked for: with a last word, servers say that they have hung up."""
        connection = self._connection
        if connection is None or connection.closed:
            return False
        if not self._unsolicited():
            return True
        try:
            connection.pgconn.consume_input()
        except psycopg.Error:
            return False
        return connection.pgconn.status == pq.ConnStatus.OK and not self._unsolicited()

    def _unsolicited(self) -> bool:
        assert self._connection is not None
        coming = select.poll()  # `select` knows the first 1,024 files of a process alone
        coming.register(self._connection.pgconn.socket, select.POLLIN)
        return bool(coming.poll(0))

    def commit(self, statements: Sequence[Statement]) -> None:
        self._doubtful = ""
        self.run([*statements, ("COMMIT", ())])
        if self._doubtful:
            raise OutcomeUnknown(self._doubtful)

    def _notice(self, notice: psycopg.errors.Diagnostic) -> None:
        """A commit that was told to wait for a standby no longer is done here, and maybe nowhere else."""
        if notice.source_function == "SyncRepWaitForLSN":
            self._doubtful = f"{notice.message_primary}: {notice.message_detail}"

    def roll_back(self) -> bool:
        """Leave any transaction.  True: the connection is lost."""
        connection = self._connection
        if connection is None:
            return False
        if connection.closed or connection.broken:
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
            self._connection = None


# -- the schema


def ensure_schema(link: Connection, sql: Sql, create: bool) -> None:
    """Make the schema, or check that it is ours; safe with many starting at once."""
    try:
        version = version_of(link, sql)
        if version is None and not create:
            raise ValueError(f"schema {sql.schema!r} is not there; `tenure store migrate` makes it")
        if version is None:
            link.run([(BEGIN, ())])
            lock = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 7465))"
            link.run([(lock, (sql.schema,))])
            version = version_of(link, sql)
            if version is None:
                link.run([(line, ()) for line in schema_statements(link, sql)])
                version = SCHEMA_VERSION
            link.run([("COMMIT", ())])
    except psycopg.Error as error:
        link.roll_back()
        raise translated(error, sql.schema) from error
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(f"schema {sql.schema!r}", version, SCHEMA_VERSION)


def version_of(link: Connection, sql: Sql) -> int | None:
    """None: there is no schema of ours yet."""
    # Not by to_regclass: that remembers what was not there a moment ago, whoever has made it since.
    there = "SELECT count(*) FROM pg_tables WHERE schemaname = %s AND tablename = 'tenure_schema'"
    if not link.run([(there, (sql.schema,))])[0][0][0][0]:
        return None
    rows = link.run([(f"SELECT version FROM {sql.name('tenure_schema')}", ())])[0][0]
    return int(rows[0][0]) if rows else 0


def schema_statements(link: Connection, sql: Sql) -> list[str]:
    """The statements that make the schema; who may not make schemas finds one made for them."""
    lines = sql.create(RECORDS, INDEXES)
    there = "SELECT count(*) FROM pg_namespace WHERE nspname = %s"
    if link.run([(there, (sql.schema,))])[0][0][0][0]:
        lines = lines[1:]
    stamp = f"INSERT INTO {sql.name('tenure_schema')} (version) VALUES ({SCHEMA_VERSION})"
    return [*lines, stamp]
