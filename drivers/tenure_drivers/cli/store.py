"""`tenure store`: look after a store as a whole: check, migrate, export, import, fence-all."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TextIO

import click

from tenure.check.invariants import Rows, violations
from tenure.commands import FencedOff
from tenure.commands.fence import BY_MAX, FenceOff
from tenure.commands.restore import Restore, restoring
from tenure.outcome import Refused
from tenure.queries import Record
from tenure.questions.core import Sessions
from tenure.world import key_of

from ..stores.base import Corrupt, SchemaTooNew, Unavailable
from ..stores.export import InvalidExport, exported, imported
from ..stores.row_codec import table_of
from ..stores.url import is_server, path_of, redact, sqlite_path
from .exit import Exit, store_lost, usage_error
from .invoke import invoke_async
from .output import log, write_bytes
from .retrying_store import RetryingStore, opened

AT_ONCE: Final = 64
URL_HELP: Final = "sqlite:PATH, files:FOLDER or postgresql://HOST/DATABASE."
BY_DEFAULT: Final = 1_000_000

store_option = click.option("--store", required=True, metavar="URL", help=URL_HELP)


@click.group()
def store() -> None:
    """Look after a store as a whole: its schema, its rows, a copy of it, its history.

    \b
    After a restored backup, or an asynchronous standby that was promoted:
      tenure store check --store postgresql://db/agents
      tenure store fence-all --store postgresql://db/agents
    Move from a file to a server, with no worker at either:
      tenure store export --store sqlite:agent.db > agent.jsonl
      tenure store import --store postgresql://db/agents agent.jsonl
    """


# -- check


@store.command()
@store_option
@click.argument("sessions", nargs=-1)
def check(store: str, sessions: tuple[str, ...]) -> None:
    """Check every session's rows against the laws that hold of them, or those of SESSIONS.

    Each session is read in one snapshot, while others work; nothing is written.  What is broken is named, a line each,
    and so is every session that was set aside because a row of it cannot be read.

    \b
    The laws are those that `tenure check` explores, and: due_at_ms is what the rows make it, events are numbered
    without a gap, ranks are unique, every input has a place.

    \b
    Exit codes: 0 all is well, 1 something is broken, 2 no such store, 4 the store was lost or is newer.
    """
    invoke_async(_check(store, sessions))


async def _check(url: str, names: tuple[str, ...]) -> int:
    broken = checked = 0
    async with existing(url) as found:
        for aside in await found.store.quarantined():
            broken += 1
            report(f"{aside.session_id}: set aside: {aside.reason}")
        async for name in named(found, names):
            checked += 1
            try:
                rows = await found.store.ask(Rows(name))
                wrong = list(violations(rows)) if rows else ["there is no such session"]
            except Corrupt as error:
                wrong = [str(error)]
            broken += len(wrong)
            for law in wrong:
                report(f"{name}: {law}")
    log(f"{checked} sessions, {broken} faults")
    return Exit.UNFINISHED if broken else Exit.OK


# -- fence-all


@store.command("fence-all")
@store_option
@click.option(
    "--by",
    default=BY_DEFAULT,
    show_default=True,
    type=click.IntRange(1, BY_MAX),
    help="More than any session may have been granted in what was lost.",
)
@click.option(
    "--id",
    "name",
    metavar="ID",
    help="Of an earlier call, to go on with it; made and printed otherwise.",
)
def fence_all(store: str, by: int, name: str | None) -> None:  # fmt: skip
    """End every lease and raise every session's generation.

    For a store that may have lost its last transactions: a backup was restored, or an asynchronous standby promoted.
    In the history that was lost, generations were granted that will be granted again, so whoever is told a bare
    generation (a lock service, a bucket, another database) cannot tell two holders apart.  Afterwards every generation
    is new.  Workers may be running: a turn under way is fenced, counts nothing, and is resumed at once.

    Interrupted, it is called again with the --id that it printed: sessions that are done are not done twice.

    \b
    Example:
      tenure store fence-all --store postgresql://db/agents

    \b
    Exit codes: 0 done, 2 no such store, 4 the store was lost (call it again with --id) or is newer.
    """
    invoke_async(_fence_all(store, by, name or f"fence-{secrets.token_hex(8)}"))


async def _fence_all(url: str, by: int, name: str) -> int:
    ended = count = 0
    async with existing(url) as found:
        log(f"--id {name}")
        async for batch in batched(named(found, ())):
            commands = [FenceOff(session, name, by) for session in batch]
            for answer in await asyncio.gather(*[found.execute(c) for c in commands]):
                if isinstance(answer, Refused):
                    raise usage_error(str(answer))
                assert isinstance(answer, FencedOff)
                count += 1
                ended += answer.run_id is not None
    log(f"{count} sessions fenced off, {ended} runs go on under the next generation")
    return Exit.OK


# -- migrate


@store.command()
@store_option
@click.option("--dry-run", is_flag=True, help="Show the SQL, change nothing.")
def migrate(store: str, dry_run: bool) -> None:
    """Make the tables of a store, or bring them to this release; show the SQL first.

    Opening a store does the same.  This is for a database in which workers may not make tables: run it once as
    somebody who may, then give the workers SELECT, INSERT, UPDATE and DELETE on the tables and USAGE on the schema.

    \b
    Example:
      tenure store migrate --store 'postgresql://owner@db/agents?tenure_schema=agents' --dry-run

    \b
    Exit codes: 0 done or nothing to do, 2 no such store, 4 the store cannot be reached or is newer.
    """
    invoke_async(_migrate(store, dry_run))


async def _migrate(url: str, dry_run: bool) -> int:
    try:
        lines = await asyncio.to_thread(missing_sql, url)
    except ValueError as error:
        raise usage_error(f"--store {error}") from error
    except (Corrupt, SchemaTooNew, Unavailable) as error:
        raise store_lost(redact(url), error) from error
    for line in lines:
        report(f"{line};")
    if not lines:
        log("nothing to do")
    elif dry_run:
        log("dry run: nothing was changed")
    else:
        async with opened(url):
            log("done")
    return Exit.OK


def missing_sql(url: str) -> list[str]:
    """What opening the store would execute."""
    if is_server(url):
        from ..stores.postgres.store import missing_sql as of_server

        return of_server(url)
    path = sqlite_path(url)
    if path is not None and (not path.exists() or path.stat().st_size == 0):
        from ..stores.sqlite.connection import expected

        return list(expected())
    return []


# -- export, import


@store.command("export")
@store_option
@click.argument("file", default="-", type=click.Path(dir_okay=False, allow_dash=True))
def export_(store: str, file: str) -> None:
    """Write all rows as lines of JSON, from one snapshot, to FILE or standard output.

    It is held in memory once.  Stop the workers first if nothing that is done afterwards may be missing.
    A FILE that is there is replaced when the new one is whole.

    \b
    Exit codes: 0 written, 2 no such store or FILE cannot be written, 4 the store was lost or is newer.
    """
    invoke_async(_export(store, file))


async def _export(url: str, file: str) -> int:
    stop_if_its_own(url, file)
    async with existing(url) as found:
        records = await found.store.dump()
    try:
        if file == "-":
            for line in exported(records):
                report(line)
        else:
            write_whole(Path(file).resolve(), exported(records))
    except OSError as error:
        raise usage_error(f"{file}: {error.strerror or error}") from error
    log(f"{len(records)} rows")
    return Exit.OK


def stop_if_its_own(url: str, file: str) -> None:
    there = path_of(url)
    if there is None or file == "-":
        return
    named, its = Path(file).resolve(), there.resolve()
    if its in named.parents or named in (its, *(Path(f"{its}-{end}") for end in ("wal", "shm"))):
        raise usage_error(f"{file} belongs to the store that is to be exported")


def write_whole(path: Path, lines: Iterable[str]) -> None:
    """What stood there before may be the only copy: it stays until the new one is on the disk."""
    into = path if path.exists() and not path.is_file() else Path(f"{path}.part")  # or a pipe
    try:
        with into.open("w", encoding="utf-8") as out:
            out.writelines(f"{line}\n" for line in lines)
            if into != path:
                out.flush()
                os.fsync(out.fileno())
                into.replace(path)
    except BaseException:
        if into != path:
            into.unlink(missing_ok=True)
        raise


@store.command("import")
@store_option
@click.argument("file", default="-", type=click.File("r", encoding="utf-8"))
def import_(store: str, file: TextIO) -> None:
    """Read what `export` wrote from FILE or standard input into a store, which is made if it is not there.

    Sessions that are there already must be the same, row by row; then nothing is done to them, so an import that was
    interrupted is repeated.  Leases come along: call fence-all if their holders may still be alive.

    \b
    Exit codes: 0 all is there, 1 a session is there with other rows, 2 unusable input, 4 the store was lost
    or is newer.
    """
    invoke_async(_import(store, file))


async def _import(url: str, file: TextIO) -> int:
    written = refused = 0
    try:
        records = list(imported(file))  # nothing is written of a file that is not whole
    except (InvalidExport, UnicodeDecodeError) as error:
        raise usage_error(f"{file.name}: {error}") from error
    async with opened(url) as found:
        for name, rows in sessions_of(records):
            for command in restoring(rows):
                answer = await execute(found, command)
                if isinstance(answer, Refused):
                    refused += 1
                    row = answer.detail
                    where = f"{table_of(row.__class__)} {key_of(row.__class__)(row)}"
                    report(f"{name}: the store holds another {where}")
                    break
                written += answer
    log(f"{written} of {len(records)} rows written")
    return Exit.UNFINISHED if refused else Exit.OK


async def execute(found: RetryingStore, command: Restore) -> int | Refused:
    try:
        return await found.execute(command)
    except ValueError as error:
        raise usage_error(f"session {command.session_id}: {error}") from error


def sessions_of(records: Iterable[Record]) -> Iterator[tuple[str, list[Record]]]:
    grouped = itertools.groupby(records, key=lambda r: r.session_id)  # type: ignore[attr-defined]
    return ((name, list(rows)) for name, rows in grouped)


# -- parts


@asynccontextmanager
async def existing(url: str) -> AsyncIterator[RetryingStore]:
    """A store that is there: none is made by looking after it."""
    path = path_of(url)
    if path is not None and not path.exists():
        raise usage_error(f"--store {url}: there is no {path}")
    options: dict[str, Any] = {"create": False} if is_server(url) else {}
    async with opened(url, log_line=log, **options) as found:
        yield found


async def named(found: RetryingStore, names: tuple[str, ...]) -> AsyncIterator[str]:
    """These sessions, or all of them."""
    for name in names:
        yield name
    after = ""
    while not names and (page := await found.ask(Sessions(after))):
        for session in page:
            yield session.session_id
        after = page[-1].session_id


async def batched(names: AsyncIterator[str]) -> AsyncIterator[list[str]]:
    batch: list[str] = []
    async for name in names:
        batch.append(name)
        if len(batch) == AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def report(line: str) -> None:
    write_bytes(f"{line}\n".encode("utf-8", "backslashreplace"))
