"""`tenure store export` and `import`: copy a whole store."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import click

from tenure.commands.restore import Restore, restoring
from tenure.outcome import Refused
from tenure.queries import Record
from tenure.release import RELEASE
from tenure.world import key_of

from ...stores.base import Corrupt, SchemaMismatch, Unavailable
from ...stores.export import InvalidExport, exported, imported
from ...stores.files.disk import NO_ROOM
from ...stores.row_codec import table_of
from ...stores.url import redact, stored_path
from ..exit import (
    CliExit,
    Exit,
    store_lost,
    usage_error,
)
from ..input_file import text_lines
from ..invoke import invoke, invoke_async
from ..open_store import open_read_only
from ..output import log
from ..retrying_store import RetryingStore, opened
from .shared import report, store_option

__all__ = ["export_", "import_"]


@click.command("export")
@store_option
@click.argument("file", default="-", type=click.Path(dir_okay=False, allow_dash=True))
def export_(store: str, file: str) -> None:
    """Write all rows as JSON lines.

    The rows are read from one snapshot and written to FILE (default: standard output).

    Changes made during the export are not included: stop the workers first for a complete copy.
    An existing FILE is replaced only after the new export is complete.  The export is held in memory.

    \b
    Exit codes:
      0  written
      1  the disk of FILE is full, or standard output cannot be written
      2  no such store, or FILE cannot be opened
      4  the store is unavailable or unreadable, or a newer release is active
    """
    invoke_async(_export(store, file))


async def _export(url: str, file: str) -> int:
    stop_if_its_own(url, file)
    async with open_read_only(url, log_line=log) as found:
        try:
            records = await found.store.dump()
            release = getattr(found.store, "active", RELEASE)  # no member of the protocol
        except (Corrupt, SchemaMismatch, Unavailable) as error:
            raise store_lost(redact(url), error) from error
    try:
        if file == "-":
            for line in exported(records, release):
                report(line)
        else:
            write_whole(Path(file).resolve(), exported(records, release))
    except OSError as error:
        code = Exit.UNFINISHED if error.errno in NO_ROOM else Exit.UNUSABLE
        raise CliExit(code, f"{file}: {error.strerror or error}") from error
    log(f"{len(records)} rows exported")
    return Exit.OK


def stop_if_its_own(url: str, file: str) -> None:
    """Raise CliExit if FILE is a file of the store that is exported."""
    there = stored_path(url)
    if there is None or file == "-":
        return
    named, its = Path(file).resolve(), there.resolve()
    if its in named.parents or named in (its, *(Path(f"{its}-{end}") for end in ("wal", "shm"))):
        raise usage_error(f"{file} belongs to the store that is exported.  Choose another file")


def write_whole(path: Path, lines: Iterable[str]) -> None:
    """Write a file and replace the old one only when the new one is on the disk: the old may be the only copy.

    A path that is no regular file, such as a pipe, is written directly.
    """
    direct = path.exists() and not path.is_file()
    into = path if direct else Path(f"{path}.{secrets.token_hex(4)}.part")  # two may export at once
    try:
        with into.open("w" if direct else "x", encoding="utf-8") as out:
            out.writelines(f"{line}\n" for line in lines)
            if into != path:
                out.flush()
                os.fsync(out.fileno())
                into.replace(path)
    except BaseException:
        if into != path:
            into.unlink(missing_ok=True)
        raise


@click.command("import")
@store_option
@click.argument("file", default="-", type=click.Path(dir_okay=False, allow_dash=True))
def import_(store: str, file: str) -> None:
    """Read an export into a store.

    Reads FILE (default: standard input), which tenure store export has written, and creates the store if needed.  A
    conversation of another system is read by tenure import.

    A session that the store already holds must have equal rows; it is then skipped.  If an import is interrupted, repeat it.
    Leases are imported too: run fence-all afterwards if their holders may still be alive.

    \b
    Exit codes:
      0  the store holds all sessions of the export
      1  the store holds a session with different rows
      2  invalid input
      4  the store is unavailable or unreadable, or a newer release is active
    """
    # All is read first, since an incomplete file must not be imported in part; outside an event loop, for Ctrl-C.
    invoke(lambda: asyncio.run(_import(store, _records(file))))


def _records(name: str) -> list[Record]:
    shown = "<stdin>" if name == "-" else name
    try:
        with click.open_file(name, "rb") as file:
            return list(imported(text_lines(cast(BinaryIO, file))))
    except (InvalidExport, UnicodeDecodeError) as error:
        raise usage_error(f"{shown}: {error}") from error
    except OSError as error:
        raise usage_error(f"{shown}: {error.strerror or error}") from error


async def _import(url: str, records: list[Record]) -> int:
    written = refused = 0
    async with opened(url) as found:
        for name, rows in sessions_of(records):
            for command in restoring(rows):
                answer = await execute(found, command)
                if isinstance(answer, Refused):
                    refused += 1
                    report(f"{name}: {reason_of(answer)}")
                    break
                written += answer
    log(f"{written} of {len(records)} rows written")
    return Exit.UNFINISHED if refused else Exit.OK


def reason_of(refused: Refused) -> str:
    """Return in words why rows were not restored."""
    row = refused.detail
    if not isinstance(row, Record):
        return str(refused)
    return f"the store holds a different {table_of(row.__class__)} {key_of(row.__class__)(row)}"


async def execute(found: RetryingStore, command: Restore) -> int | Refused:
    """Execute one Restore.  Raises CliExit if the store rejects the rows as invalid."""
    try:
        return await found.execute(command)
    except ValueError as error:
        raise usage_error(f"session {command.session_id}: {error}") from error


def sessions_of(records: Iterable[Record]) -> Iterator[tuple[str, list[Record]]]:
    """Yield each session id with its records.  The records must be ordered by session."""
    grouped = itertools.groupby(records, key=lambda r: r.session_id)  # type: ignore[attr-defined]
    return ((name, list(rows)) for name, rows in grouped)
