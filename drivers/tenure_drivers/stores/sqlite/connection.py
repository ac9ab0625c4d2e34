"""Connections to an SQLite file: pragmas, and the translation of errors."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from ..base import Corrupt, OutcomeUnknown, Unavailable, Unusable

WAL_KEPT_BYTES = 64 * 1024 * 1024
CACHE_KIB = 65_536

BUSY, LOCKED, READONLY, IOERR, CORRUPT = 5, 6, 8, 10, 11
FULL, CANTOPEN, PROTOCOL, NOTADB = 13, 14, 15, 26

NO_PERMISSION = ": no permission"


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


def has_log(path: Path) -> bool:
    """Return True if there is a log beside the file with anything in it."""
    log = Path(f"{os.path.realpath(path)}-wal")
    return log.exists() and log.stat().st_size > 0


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


__all__ = [
    "BUSY",
    "FULL",
    "LOCKED",
    "OutcomeUnknown",
    "connect",
    "connect_with",
    "has_log",
    "identity",
    "primary_code",
    "translated",
]
