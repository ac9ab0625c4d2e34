"""A connection to PostgreSQL that reconnects, and the translation of its errors."""

from __future__ import annotations

import re
import select
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import errors, pq
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import tuple_row

from tenure.release import OLDEST

from ..base import Corrupt, OutcomeUnknown, Unavailable, Unusable
from ..layout import check_active
from .pipeline import Pipeline, Rows, Statement
from .sql import Sql

__all__ = [
    "BEGIN",
    "Connection",
    "ConnectionLost",
    "StoreConnection",
    "connect",
    "parse_dsn",
    "translated",
]


VERSION_MIN = 14
DEFAULTS = {  # without these, a connection to a dead machine waits for hours
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "tenure",
}

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"  # reads after a lock must be newer than the lock (STORE-34)
NOT_NOW = (errors.ReadOnlySqlTransaction, errors.FeatureNotSupported)
ENCODINGS = ("UTF8", "SQL_ASCII")  # of a database: any text is stored as its UTF-8 bytes

# What the server answers to a connection that it will never accept.  The protocol has codes for these, but libpq shows
# only the text, and a server that speaks another language is tried again.
REFUSALS = re.compile(
    "password authentication failed|no password supplied|no pg_hba.conf entry|authentication failed"
    '|(database|role) ".*" does not exist|is not permitted to log in|permission denied'
    "|database .* is not currently accepting connections|SSL is not enabled|does not support SSL"
    "|could not translate host name|invalid .*option",
)


class ConnectionLost(psycopg.OperationalError):
    """Connecting to the server failed."""


class ConnectionRefused(ConnectionLost):
    """The server will never accept this connection."""


def parse_dsn(dsn: str) -> dict[str, Any]:
    """Parse a DSN.  Raises ValueError with a message that contains no part of a password."""
    try:
        given: dict[str, Any] = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        why = str(error).strip()
        if not why.startswith(
            "invalid URI query parameter"
        ):  # that message contains a parameter's name only
            why = re.sub('".*"', '"***"', why, flags=re.DOTALL)
        raise ValueError(f"invalid PostgreSQL URL: {why}") from None
    hosts = str(given.get("host", "")).split(",")  # a host may be a folder, or @ and a name
    if any("@" in host[1:] and not host.startswith("/") for host in hosts):
        raise ValueError("invalid PostgreSQL URL: write @ in a password as %40")
    if not re.fullmatch("[0-9,]*", str(given.get("port", ""))):
        raise ValueError(
            "invalid PostgreSQL URL: the port is not a number. Write / in a password as %2F"
        )
    return given


def connect(dsn: str) -> psycopg.Connection[Any]:
    """Open a connection in autocommit mode.  Raises ConnectionLost or ValueError."""
    given = parse_dsn(dsn)
    more: dict[str, Any] = {name: value for name, value in DEFAULTS.items() if name not in given}
    try:
        connection = psycopg.connect(
            dsn,
            autocommit=True,
            prepare_threshold=None,
            row_factory=tuple_row,
            client_encoding="utf8",  # arrays are sent as UTF-8
            **more,
        )
    except psycopg.OperationalError as error:
        refused = REFUSALS.search(str(error))
        raise (ConnectionRefused if refused else ConnectionLost)(str(error)) from error
    try:
        _check_fit(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_fit(connection: psycopg.Connection[Any]) -> None:
    """STORE-46: raise ConnectionRefused for an old server, and ValueError for a database that is not UTF-8."""
    info = connection.info
    if info.server_version < VERSION_MIN * 10_000:
        raise ConnectionRefused(
            f"PostgreSQL {VERSION_MIN} or newer is required, the server has {info.server_version}"
        )
    encoding = info.parameter_status("server_encoding")
    if encoding not in ENCODINGS:
        raise ValueError(
            f"database {info.dbname!r} has the encoding {encoding}, expected UTF8: "
            "create another one with ENCODING 'UTF8' TEMPLATE template0"
        )


def translated(error: psycopg.Error, where: str) -> Exception:
    """Translate an error of the server or of the connection into a store error."""
    found: Exception
    if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn | errors.DataCorrupted):
        found = Corrupt(where, (), error)
    elif isinstance(error, ConnectionRefused | errors.InsufficientPrivilege):
        found = Unusable(f"{where}: {_first_line(error)}")
    elif isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError, *NOT_NOW)):
        found = Unavailable(f"{where}: {_first_line(error)}")
    elif isinstance(error, errors.InvalidSqlStatementName | errors.DuplicatePreparedStatement):
        found = Unavailable(f"{where}: {_first_line(error)} (with a pooler, use prepare=off)")
    elif isinstance(error, errors.DivisionByZero):
        found = AssertionError("a decision updates a row that does not exist")
    elif isinstance(error, errors.RaiseException):
        found = Unusable(f"{where}: a trigger refuses a write: {_first_line(error)}")
    elif isinstance(error, errors.NumericValueOutOfRange):
        found = AssertionError(
            f"a decision writes a number of more than 64 bits: {_first_line(error)}"
        )
    elif isinstance(error, errors.IntegrityError):
        found = AssertionError(f"a decision violates a constraint: {_first_line(error)}")
    elif isinstance(error, errors.ReservedName):
        found = ValueError(_first_line(error))
    elif isinstance(error, errors.DataError):
        found = ValueError(f"PostgreSQL cannot store a value: {_first_line(error)}")
    else:
        return error
    found.__cause__ = error
    return found


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


class Connection:
    """A connection that is opened when it is first used, and again after it was lost.  For one thread at a time."""

    def __init__(self, dsn: str, prepare: bool = True) -> None:
        self._dsn, self._prepare = dsn, prepare
        self._connection: psycopg.Connection[Any] | None = None
        self._pipe: Pipeline | None = None
        self._unconfirmed = ""

    @property
    def raw(self) -> psycopg.Connection[Any]:
        """The open psycopg connection."""
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._dsn)
            self._connection.add_notice_handler(self._notice)
            self._pipe = Pipeline(self._connection, self._prepare)
        return self._connection

    def run(self, statements: Sequence[Statement]) -> list[Rows]:
        """Run statements in one round trip; return the rows and count of each.

        Raises psycopg.Error for the first that fails.
        """
        if not (self.raw and self._pipe):
            raise AssertionError("unreachable")
        try:
            return self._pipe.run(statements)
        except errors.FeatureNotSupported:
            # "cached plan must not change result type": after a column changed its type, a prepared statement fails
            # for the rest of its connection.
            self.close_for_reuse()
            raise

    def alive(self) -> bool:
        """Return False if the server has sent an unsolicited message or closed the connection."""
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
        coming = select.poll()  # not `select`, which is limited to file descriptors below 1,024
        coming.register(self._connection.pgconn.socket, select.POLLIN)
        return bool(coming.poll(0))

    def commit(self, statements: Sequence[Statement]) -> None:
        """Run the last statements of a transaction and COMMIT.  Raises OutcomeUnknown if a standby did not confirm."""
        self._unconfirmed = ""
        self.run([*statements, ("COMMIT", ())])
        if self._unconfirmed:
            raise OutcomeUnknown(self._unconfirmed)

    def _notice(self, notice: psycopg.errors.Diagnostic) -> None:
        """Remember the warning that the server no longer waits for a standby: the commit may exist only there."""
        if notice.source_function == "SyncRepWaitForLSN":
            self._unconfirmed = f"{notice.message_primary}: {notice.message_detail}"

    def roll_back(self) -> bool:
        """Roll back any transaction.  Return True if the connection is lost."""
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

    def close_for_reuse(self) -> None:
        """Close the connection as if it was lost: the next statement opens another one."""
        if self._connection is not None:
            self._connection.close()

    def close(self) -> None:
        """Close the connection, if it is open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class StoreConnection(Connection):
    """A connection with the statements for the active number that was read last, `sql`.

    `oldest` is the lowest active number that is accepted (SCHEMA-1).
    """

    def __init__(self, dsn: str, sql: Sql, prepare: bool = True, oldest: int = OLDEST) -> None:
        super().__init__(dsn, prepare)
        self.sql = sql
        self.oldest = oldest

    def work_at(self, active: int) -> None:
        """Use the statements for another active number.  Raises SchemaTooNew or SchemaTooOld."""
        where = f"schema {self.sql.schema!r}"
        self.sql = self.sql.at(check_active(active, where, self.oldest))
