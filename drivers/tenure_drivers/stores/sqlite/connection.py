"""An SQLite file: opening, schema version, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
from functools import cache
from pathlib import Path

from tenure.indexes import INDEXES
from tenure.records import RECORDS

from ..base import Corrupt, OutcomeUnknown, SchemaTooNew, Unavailable
from .sql import schema

APPLICATION_ID = 0x74_6E_75_72  # "tnur"
SCHEMA_VERSION = 1
WAL_KEPT_BYTES = 64 * 1024 * 1024
CACHE_KIB = 65_536

BUSY, LOCKED, READONLY, IOERR, CORRUPT = 5, 6, 8, 10, 11
FULL, CANTOPEN, PROTOCOL, NOTADB = 13, 14, 15, 26

QUARANTINE = (
    "CREATE TABLE quarantine (session_id TEXT NOT NULL, reason TEXT NOT NULL, at_ms INTEGER NOT NULL, "
    "PRIMARY KEY (session_id)) STRICT, WITHOUT ROWID"
)


def primary_code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def translated(error: Exception, path: Path) -> Exception:
    """What an error of the engine means to a caller; anything else as it is."""
    if not isinstance(error, sqlite3.Error):
        return error
    found: Exception
    match primary_code(error):
        case 5 | 6 | 13 | 15:
            found = Unavailable(f"{path}: {error}")
        case 8 | 14:
            found = Unavailable(f"{path}: {error}{why_not(path)}")
        case 10:
            found = Unavailable(f"{path}: {error} ({getattr(error, 'sqlite_errorname', '')})")
        case 11 | 26:
            found = Corrupt(str(path), (), error)
        case _:
            return error
    found.__cause__ = error
    return found


def why_not(path: Path) -> str:
    """What stands in the way of writing, as far as it can be seen: the engine says no more than that it cannot."""
    folder = path.absolute().parent
    if not folder.is_dir():
        return f": there is no folder {folder}"
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return f": the file system of {folder} is mounted read-only"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f": this user may not write to the folder {folder}, and the log is kept there"
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        return ": this user may not read and write the file"
    return ""


def identity(path: str | Path) -> tuple[int, int] | None:
    """Which file stands under a name; None: none does."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def connect(path: Path, checkpoint_pages: int) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, cached_statements=512
        )
    except sqlite3.Error as error:
        raise Unavailable(f"{path} cannot be opened: {error}{why_not(path)}") from error
    try:
        for pragma in (
            "busy_timeout=5000",
            "journal_mode=WAL",
            "synchronous=FULL",
            f"wal_autocheckpoint={checkpoint_pages}",
            f"journal_size_limit={WAL_KEPT_BYTES}",
            f"cache_size=-{CACHE_KIB}",
            "trusted_schema=OFF",
            "fullfsync=ON",  # macOS: fsync alone leaves it in the drive's cache; elsewhere nothing changes
            "checkpoint_fullfsync=ON",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except sqlite3.Error as error:
        connection.close()
        raise translated(error, path) from error
    return connection


@cache
def expected() -> tuple[str, ...]:
    """All statements of the schema that this release reads and writes."""
    return (*schema(RECORDS, INDEXES), QUARANTINE)


def prepare(connection: sqlite3.Connection, path: Path, busy_timeout_ms: int) -> None:
    """Make the schema, or check that it is ours.  Raises SchemaTooNew, Corrupt, Unavailable."""
    try:
        connection.execute(f"PRAGMA busy_timeout={busy_timeout_ms}")
        if not _known(connection, path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                if not _known(connection, path):  # another process may have been faster
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


def _known(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file has our schema; False if it is empty."""
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    found = {
        row[0] for row in connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
    }
    if not found and not application_id:
        return False
    if application_id != APPLICATION_ID:
        raise Corrupt(str(path), (), f"a database of something else (id {application_id:#x})")
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(str(path), version, SCHEMA_VERSION)
    missing = [statement for statement in expected() if statement not in found]
    if missing:
        raise Corrupt(str(path), (), f"schema {version} without {missing[0]}")
    return True


__all__ = [
    "BUSY",
    "FULL",
    "OutcomeUnknown",
    "connect",
    "expected",
    "identity",
    "prepare",
    "primary_code",
    "translated",
]
