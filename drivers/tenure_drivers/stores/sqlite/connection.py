"""Connections to an SQLite file: pragmas, schema version, and the translation of errors."""

from __future__ import annotations

import os
import sqlite3
from functools import cache
from pathlib import Path
from urllib.parse import quote

from tenure.indexes import INDEXES
from tenure.records import RECORDS

from ..base import Corrupt, OutcomeUnknown, SchemaTooNew, Unavailable, Unusable
from .sql import schema

APPLICATION_ID = 0x74_6E_75_72  # "tnur"
SCHEMA_VERSION = 1
WAL_KEPT_BYTES = 64 * 1024 * 1024
CACHE_KIB = 65_536

BUSY, LOCKED, READONLY, IOERR, CORRUPT = 5, 6, 8, 10, 11
FULL, CANTOPEN, PROTOCOL, NOTADB = 13, 14, 15, 26

NO_PERMISSION = ": no permission"

QUARANTINE = (
    "CREATE TABLE quarantine (session_id TEXT NOT NULL, reason TEXT NOT NULL, at_ms INTEGER NOT NULL, "
    "PRIMARY KEY (session_id)) STRICT, WITHOUT ROWID"
)


def primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code, such as BUSY."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def translated(error: Exception, path: Path) -> Exception:
    """Translate an error of the engine into a store error; return any other error unchanged."""
    if not isinstance(error, sqlite3.Error):
        return error
    found: Exception
    match primary_code(error):
        case 5 | 6 | 13 | 15:
            found = Unavailable(f"{path}: {error}")
        case 8 | 14:
            found = not_opened(f"{path}: {error}", path)
        case 10:
            found = Unavailable(f"{path}: {error} ({getattr(error, 'sqlite_errorname', '')})")
        case 1 | 11 | 26:  # 1: a table, an index or a column is missing
            found = Corrupt(str(path), (), error)
        case 19 if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_CONSTRAINT_TRIGGER:
            found = Unusable(f"{path}: a trigger refuses a write: {error}")
        case _:
            return error
    found.__cause__ = error
    return found


def not_opened(message: str, path: Path) -> Unavailable:
    """Return the error with its reason; Unusable if the permission is missing, which only a person can give."""
    obstacle = write_obstacle(path)
    kind = Unusable if obstacle.startswith(NO_PERMISSION) else Unavailable
    return kind(message + obstacle)


def write_obstacle(path: Path) -> str:
    """Return why the file cannot be written, if that can be found out; SQLite only reports that it cannot."""
    folder = path.absolute().parent
    if not folder.is_dir():
        return f": folder {folder} does not exist"
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return f": the file system of {folder} is mounted read-only"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{NO_PERMISSION} to write to folder {folder}, where the log is kept"
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        return f"{NO_PERMISSION} to read and write the file"
    return ""


def identity(path: str | Path) -> tuple[int, int] | None:
    """Return device and inode of a path; None if it does not exist."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def holds_store(path: Path) -> bool:
    """Return True if a file has tenure's schema, False if it is missing or empty.  Changes and creates nothing.

    Raises Corrupt for a file of something else, SchemaTooNew or Unavailable.  Only SQLite opens the file: if this process
    closed a descriptor of its own, the system would end the locks of all its connections to the file.
    """
    if not path.is_file() or not path.stat().st_size:
        return False
    if not has_log(path):  # a connection that locks would create a log beside a file in WAL mode
        try:
            return _look(path, "mode=ro&immutable=1")
        except sqlite3.Error:
            pass  # another process may be writing: look again with locks
    try:
        return _look(path, "mode=ro")
    except sqlite3.Error as error:
        raise translated(error, path) from error


def has_log(path: Path) -> bool:
    """Return True if there is a log beside the file with anything in it."""
    log = Path(f"{os.path.realpath(path)}-wal")
    return log.exists() and log.stat().st_size > 0


def _look(path: Path, mode: str) -> bool:
    connection = connect_with(path, mode)
    try:
        connection.execute("BEGIN")
        return _has_schema(connection, path)
    finally:
        connection.close()


def connect_with(path: Path, mode: str) -> sqlite3.Connection:
    """Open a connection with the parameters `mode` of SQLite's URI.  Raises sqlite3.Error."""
    uri = f"file:{quote(str(path.absolute()))}?{mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def connect(path: Path, checkpoint_pages: int) -> sqlite3.Connection:
    """Open a connection in autocommit mode, and the file if it does not exist.  Raises a store error."""
    try:
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, cached_statements=512
        )
    except sqlite3.Error as error:
        raise not_opened(f"{path} cannot be opened: {error}", path) from error
    try:
        for pragma in (
            "busy_timeout=5000",
            "journal_mode=WAL",
            "synchronous=FULL",
            f"wal_autocheckpoint={checkpoint_pages}",
            f"journal_size_limit={WAL_KEPT_BYTES}",
            f"cache_size=-{CACHE_KIB}",
            "trusted_schema=OFF",
            "fullfsync=ON",  # macOS: fsync alone leaves data in the drive's cache; no effect elsewhere
            "checkpoint_fullfsync=ON",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except sqlite3.Error as error:
        connection.close()
        raise translated(error, path) from error
    return connection


@cache
def expected() -> tuple[str, ...]:
    """Return all statements of this release's schema."""
    return (*schema(RECORDS, INDEXES), QUARANTINE)


def prepare(connection: sqlite3.Connection, path: Path, busy_timeout_ms: int) -> None:
    """Create the schema in an empty file, or check it.  Raises SchemaTooNew, Corrupt or Unavailable."""
    try:
        connection.execute(f"PRAGMA busy_timeout={busy_timeout_ms}")
        if not _has_schema(connection, path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                if not _has_schema(connection, path):  # another process may have created it
                    for statement in expected():
                        connection.execute(statement)
                    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
    except sqlite3.Error as error:
        raise translated(error, path) from error


def check_schema(connection: sqlite3.Connection, path: Path, busy_timeout_ms: int) -> None:
    """Check the schema and create nothing.  Raises SchemaTooNew, Corrupt or Unavailable; ValueError for an empty file."""
    try:
        connection.execute(f"PRAGMA busy_timeout={busy_timeout_ms}")
        if not _has_schema(connection, path):
            raise no_store(path)
    except sqlite3.Error as error:
        raise translated(error, path) from error


def no_store(path: Path) -> ValueError:
    """Return the error for a file without tables."""
    return ValueError(f"{path} holds no store: the file is empty")


def _has_schema(connection: sqlite3.Connection, path: Path) -> bool:
    """Return True if the file has tenure's schema, False if it is empty.  Raises Corrupt or SchemaTooNew."""
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    found = {
        row[0] for row in connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
    }
    if not found and not application_id:
        return False
    if application_id != APPLICATION_ID:
        raise Corrupt(str(path), (), f"not a tenure database (application_id {application_id:#x})")
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(str(path), version, SCHEMA_VERSION)
    missing = [statement for statement in expected() if statement not in found]
    if missing:
        raise Corrupt(str(path), (), f"schema {version} lacks {missing[0]}")
    return True


__all__ = [
    "BUSY",
    "FULL",
    "SCHEMA_VERSION",
    "OutcomeUnknown",
    "check_schema",
    "connect",
    "connect_with",
    "expected",
    "has_log",
    "holds_store",
    "identity",
    "no_store",
    "prepare",
    "primary_code",
    "translated",
]
