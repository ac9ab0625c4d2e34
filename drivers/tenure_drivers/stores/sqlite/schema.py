"""The schema of an SQLite file: what its tables have and lack, creation, migration and activation.

The active number is the file's `user_version`.  Spec: specs/schema.md.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from tenure.release import OLDEST, RELEASE

from ..base import Corrupt
from ..layout import Layout, check_active, layout_of
from ..migration import NotMigrated, Numbers, columns_lacking, incomplete, schema_number
from .connection import BUSY, LOCKED, connect_with, has_log, primary_code, translated
from .sql import Tables, create_index, create_table, is_invalid_text

__all__ = [
    "SqliteMigrator",
    "check_schema",
    "no_store",
    "prepare",
    "read_active",
    "tables_at",
    "upgrade_alone",
    "user_version",
]


APPLICATION_ID = 0x74_6E_75_72  # "tnur"
BUSY_TIMEOUT_MS = 30_000
QUARANTINE = (
    "CREATE TABLE quarantine (session_id TEXT NOT NULL, reason TEXT NOT NULL, at_ms INTEGER NOT NULL, "
    "PRIMARY KEY (session_id)) STRICT, WITHOUT ROWID"
)
COLUMNS = (
    'SELECT m.name, p.name, p.type, p."notnull" FROM sqlite_schema m, pragma_table_info(m.name) p '
    "WHERE m.type = 'table'"
)

log = logging.getLogger("tenure")


# -- what a file has


def read_active(path: Path) -> int | None:
    """Return the active number of a file, None if it is missing or empty.  Changes and creates nothing.

    Raises Corrupt for a file of something else, or Unavailable.  Only SQLite opens the file: if this process closed a
    descriptor of its own, the system would end the locks of all its connections to the file.
    """
    if not path.is_file() or not path.stat().st_size:
        return None
    if not has_log(path):  # a connection that locks would create a log beside a file in WAL mode
        try:
            return _look(path, "mode=ro&immutable=1")
        except sqlite3.Error:
            pass  # another process may be writing: look again with locks
    try:
        return _look(path, "mode=ro")
    except sqlite3.Error as error:
        raise translated(error, path) from error


def _look(path: Path, mode: str) -> int | None:
    with closing(connect_with(path, mode)) as connection:
        connection.execute("BEGIN")
        return _active_of(connection, path)


def _active_of(connection: sqlite3.Connection, path: Path) -> int | None:
    """Return the active number, None if the file is empty.  Raises Corrupt for a file of something else."""
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    if application_id == APPLICATION_ID:
        return user_version(connection)
    if not application_id and not connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
        return None
    raise Corrupt(str(path), (), f"not a tenure database (application_id {application_id:#x})")


def user_version(connection: sqlite3.Connection) -> int:
    """Return the active number, which belongs to the snapshot of the transaction."""
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return found


def lacking(connection: sqlite3.Connection, path: Path, layout: Layout) -> list[str]:
    """Return the statements that add what the file lacks.  Raises Corrupt for what cannot be added."""
    found: dict[str, dict[str, tuple[str, bool]]] = {}
    try:
        for table, column, kind, not_null in connection.execute(COLUMNS):
            found.setdefault(table, {})[column] = (kind, bool(not_null))
        indexes = {
            sql
            for (sql,) in connection.execute("SELECT sql FROM sqlite_schema WHERE type = 'index'")
        }
    except sqlite3.OperationalError as error:
        if not is_invalid_text(error):
            raise
        raise Corrupt(str(path), (), f"its schema is damaged: {error}") from error
    return _statements(path, layout, found, indexes)


def _statements(
    path: Path,
    layout: Layout,
    found: Mapping[str, Mapping[str, tuple[str, bool]]],
    indexes: Container[str],
) -> list[str]:
    lines: list[str] = []
    for codec in map(layout.codec, layout.records):
        if codec.table in found:
            for column in columns_lacking(str(path), codec, found[codec.table]):
                lines.append(
                    f'ALTER TABLE "{codec.table}" ADD COLUMN "{column.name}" {column.sql_type}'
                )
        else:
            lines.append(create_table(codec))
    for index in layout.indexes:
        line = create_index(index, layout.codec(index.record))
        if line is not None and line not in indexes:
            lines.append(line)
    return lines if "quarantine" in found else [*lines, QUARANTINE]


# -- opening


def _everything(path: Path) -> tuple[str, ...]:
    return tuple(_statements(path, layout_of(RELEASE), {}, ()))


def prepare(connection: sqlite3.Connection, path: Path, busy_timeout_ms: int) -> int:
    """Create the schema in an empty file, or check it; return the active number.

    Raises SchemaTooNew, SchemaTooOld, Corrupt or Unavailable.
    """
    try:
        connection.execute(f"PRAGMA busy_timeout={busy_timeout_ms}")
        if _active_of(connection, path) is None:
            with _writing(connection):
                if _active_of(connection, path) is None:  # another process may have created it
                    for statement in _everything(path):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                    connection.execute(f"PRAGMA user_version={RELEASE}")
        return _checked(connection, path, OLDEST)
    except sqlite3.Error as error:
        raise translated(error, path) from error


def check_schema(connection: sqlite3.Connection, path: Path, busy_timeout_ms: int) -> int:
    """Check the schema for reading, create nothing, and return the active number, which may be an old one.

    Raises SchemaTooNew, Corrupt or Unavailable; ValueError for an empty file.
    """
    try:
        connection.execute(f"PRAGMA busy_timeout={busy_timeout_ms}")
        if _active_of(connection, path) is None:
            raise no_store(path)
        return _checked(connection, path, 1)
    except sqlite3.Error as error:
        raise translated(error, path) from error


def no_store(path: Path) -> ValueError:
    """Return the error for a file without tables."""
    return ValueError(f"{path} holds no store: the file is empty")


def _checked(connection: sqlite3.Connection, path: Path, oldest: int) -> int:
    """Return the active number if the file has what it needs (SCHEMA-2)."""
    active = check_active(user_version(connection), str(path), oldest)
    missing = lacking(connection, path, layout_of(active))
    if missing:
        raise incomplete(str(path), active, missing)
    return active


def tables_at(
    tables: Tables, connection: sqlite3.Connection, path: Path, oldest: int = OLDEST
) -> Tables:
    """Return the tables for the active number of the transaction (SCHEMA-5).  Raises SchemaTooNew."""
    active = user_version(connection)
    if active == tables.layout.release:
        return tables
    return Tables(connection, tables.layout.at(check_active(active, str(path), oldest)))


# -- migration and activation


@contextmanager
def _writing(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def upgrade_alone(path: Path) -> bool:
    """Migrate and activate if no other connection to the file is open; return whether it was done (SCHEMA-10)."""
    with closing(connect_with(path, "mode=rw")) as connection:
        connection.execute(
            "PRAGMA locking_mode=EXCLUSIVE"
        )  # fails while another connection is open
        connection.execute("PRAGMA busy_timeout=0")
        try:
            with _writing(connection, "BEGIN EXCLUSIVE"):
                active = user_version(connection)
                if active < RELEASE:
                    for statement in lacking(connection, path, layout_of(RELEASE)):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version={RELEASE}")
                    log.warning("%s: migrated from release %d to %d", path, active, RELEASE)
        except sqlite3.Error as error:
            if primary_code(error) in (BUSY, LOCKED):
                return False
            raise translated(error, path) from error
    return True


class SqliteMigrator:
    """Migrates and activates an SQLite file, while others may be using it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def numbers(self) -> Numbers:
        """Return the numbers of the file, without changing it."""
        if read_active(self.path) is None:
            return Numbers(0, 0, _everything(self.path))
        try:
            with closing(connect_with(self.path, "mode=ro")) as connection:
                connection.execute("BEGIN")
                return self._numbers(connection)
        except sqlite3.Error as error:
            raise translated(error, self.path) from error

    def _numbers(self, connection: sqlite3.Connection) -> Numbers:
        active = user_version(connection)
        check_active(active, str(self.path), 1)
        missing = tuple(lacking(connection, self.path, layout_of(RELEASE)))
        schema = schema_number(lambda layout: not lacking(connection, self.path, layout))
        return Numbers(schema, active, missing)

    def migrate(self, report: Callable[[str], None]) -> None:
        """Add what is missing, one statement in each transaction (SCHEMA-6)."""
        with self._connection() as connection:
            while missing := self._numbers(connection).missing:
                report(missing[0])
                with _writing(connection):
                    if missing[0] in self._numbers(connection).missing:  # nobody else was faster
                        connection.execute(missing[0])

    def activate(self) -> None:
        """Make this release active (SCHEMA-7).  Raises NotMigrated."""
        with self._connection() as connection, _writing(connection):
            missing = self._numbers(connection).missing
            if missing:
                raise NotMigrated(str(self.path), missing)
            connection.execute(f"PRAGMA user_version={RELEASE}")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(connect_with(self.path, "mode=rw")) as connection:
                connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
                connection.execute("PRAGMA synchronous=FULL")
                yield connection
        except sqlite3.Error as error:
            raise translated(error, self.path) from error
