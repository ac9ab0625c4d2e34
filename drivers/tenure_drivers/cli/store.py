"""`tenure store`: check, migrate, activate, export, import and fence a whole store."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import click

from tenure.check.invariants import Rows, violations
from tenure.commands.fence import BY_MAX, FenceOff
from tenure.commands.restore import Restore, restoring
from tenure.outcome import Refused
from tenure.queries import Record
from tenure.release import RELEASE
from tenure.world import key_of

from ..stores.base import Corrupt, Quarantined, SchemaTooNew, Unavailable
from ..stores.export import InvalidExport, exported, imported
from ..stores.files.disk import NO_ROOM
from ..stores.migration import Migrator, NotMigrated, Numbers
from ..stores.registry import find_migrator
from ..stores.row_codec import table_of
from ..stores.url import is_server, redact, stored_path
from .exit import CliExit, Exit, UnreadableSession, no_session, store_lost, usage_error
from .input_file import text_lines
from .invoke import invoke_async
from .open_store import Reader, open_read_only
from .output import log, write_text
from .retrying_store import RetryingStore, opened, stop_if_unusable
from .session_pages import session_ids

__all__ = ["store"]


T = TypeVar("T")


AT_ONCE: Final = 64
URL_HELP: Final = "sqlite:PATH, files:FOLDER or postgresql://HOST/DATABASE."
BY_DEFAULT: Final = 1_000_000

store_option = click.option("--store", required=True, metavar="URL", help=URL_HELP)


@click.group()
def store() -> None:
    """Check, migrate, activate or copy a store, or end all its leases.

    \b
    After you restored a backup, or made an asynchronous standby server the primary:
      tenure store check --store postgresql://db/agents
      tenure store fence-all --store postgresql://db/agents
    Move from a file to a server, after stopping all workers:
      tenure store export --store sqlite:agent.db > agent.jsonl
      tenure store import --store postgresql://db/agents agent.jsonl
    """


# -- check


@store.command()
@store_option
@click.argument("sessions", nargs=-1)
def check(store: str, sessions: tuple[str, ...]) -> None:
    """Check the stored rows of all or some sessions.

    Read-only and safe while workers are running: each session is read in one snapshot.  Prints one line for each
    violated property, and one for each session that is quarantined because a row cannot be read.

    \b
    The properties are those that `tenure check` explores, and these: due_at_ms agrees with the rows, event
    numbers have no gaps, ranks are unique, every input has a queue entry.

    \b
    Exit codes:
      0  no violation
      1  at least one violation
      2  no such store or session
      4  the store is unavailable or unreadable, or a newer release is active
    """
    invoke_async(_check(store, sessions))


async def _check(url: str, names: tuple[str, ...]) -> int:
    broken = checked = missing = 0
    unreadable: list[UnreadableSession] = []
    async with open_read_only(url, log_line=log) as found:
        for aside in await _quarantined(url, found):
            broken += 1
            report(f"{aside.session_id}: quarantined: {aside.reason}")
        async for name in session_ids(found, names, unreadable):
            try:
                rows = await found.ask(Rows(name))
                if not rows:
                    missing += 1
                    log(no_session(name, url))
                    continue
                checked += 1
                wrong = list(violations(rows))
            except UnreadableSession as error:
                checked += 1
                wrong = [str(error)]
            broken += len(wrong)
            for violation in wrong:
                report(f"{name}: {violation}")
    for each in unreadable:
        checked += 1
        broken += 1
        report(f"{each.session_id}: {each}")
    log(f"{counted(checked, 'session')} checked, {counted(broken, 'violation')}")
    if broken:
        return Exit.UNFINISHED
    return Exit.UNUSABLE if missing else Exit.OK


def counted(count: int, noun: str) -> str:
    """Return a number with a noun in the singular or plural."""
    return f"{count} {noun}{'s' * (count != 1)}"


async def _quarantined(url: str, found: Reader) -> tuple[Quarantined, ...]:
    try:
        return await found.store.quarantined()
    except (Corrupt, Unavailable) as error:
        raise store_lost(redact(url), error) from error


# -- fence-all


@store.command("fence-all")
@store_option
@click.option(
    "--by",
    default=BY_DEFAULT,
    show_default=True,
    type=click.IntRange(1, BY_MAX),
    help="How much to add to each generation: more than the number of leases that any session may have lost.",
)
@click.option(
    "--id",
    "name",
    metavar="ID",
    help="Continue an interrupted call that printed this id.  Default: a new id, which is printed.",
)
def fence_all(store: str, by: int, name: str | None) -> None:  # fmt: skip
    """End every lease, and raise the generation of every session.

    Use it after you restored a backup, or made an asynchronous standby server the primary.  Each lease has a number,
    its generation.  Such a store may have lost its last transactions, and would use the lost generations again.
    Another system that compares generations (a lock service, a bucket, another database) would then take two workers
    for one.
    After this command every new generation is larger than all lost ones.

    Workers may be running.  The lease of a turn in progress ends; the turn resumes at once, and its retry budget is not
    charged.

    If it is interrupted, call it again with the --id that it printed.  Finished sessions are skipped.

    \b
    Example:
      tenure store fence-all --store postgresql://db/agents

    \b
    Exit codes:
      0  done
      2  no such store
      4  the store is unavailable (call it again with --id), a newer release is active, or some sessions cannot be read:
         all others are fenced
    """
    invoke_async(_fence_all(store, by, name or f"fence-{secrets.token_hex(8)}"))


async def _fence_all(url: str, by: int, name: str) -> int:
    ended = count = 0
    unreadable: list[UnreadableSession] = []
    async with existing(url) as found:
        log(f"--id {name}")
        async for batch in batched(session_ids(found, (), unreadable)):
            commands = [found.execute(FenceOff(session, name, by)) for session in batch]
            for answer in await asyncio.gather(*commands, return_exceptions=True):
                if isinstance(answer, UnreadableSession):
                    unreadable.append(answer)
                    continue
                if isinstance(answer, BaseException):
                    raise answer
                if isinstance(answer, Refused):
                    raise usage_error(f"refused: {answer}")
                count += 1
                ended += answer.run_id is not None
    log(f"{count} sessions fenced, {ended} runs continue under the next generation")
    if unreadable:
        lines = [f"not fenced: session {e.session_id}: {e}" for e in unreadable]
        raise CliExit(Exit.LOST, *lines)
    return Exit.OK


# -- migrate, activate


@store.command()
@store_option
@click.option("--dry-run", is_flag=True, help="Print the SQL and change nothing.")
def migrate(store: str, dry_run: bool) -> None:
    """Create the tables of a store, or add what this release needs.

    Prints the SQL statements first.  They only add tables, columns and indexes, so processes of the release before may
    be working meanwhile.  If it is interrupted, call it again.  What is added is used after `tenure store activate`.

    Opening a store creates its tables too.  Use this command if workers may not create tables in the database: run it
    once as a user who may.  Then grant the workers SELECT, INSERT, UPDATE and DELETE on the tables, and USAGE on the
    schema.

    \b
    Example:
      tenure store migrate --store 'postgresql://owner@db/agents?tenure_schema=agents' --dry-run

    \b
    Exit codes:
      0  done, or nothing to do
      2  invalid store URL
      4  the store is unavailable or unreadable, or a newer release is active
    """
    invoke_async(_migrate(store, dry_run))


async def _migrate(url: str, dry_run: bool) -> int:
    migrator = migrator_of(url)
    numbers = await changing(url, migrator.numbers) if migrator is not None else Numbers(0, 0, ())
    for line in numbers.missing:
        report(f"{line};")
    if migrator is None or not numbers.missing:
        log("nothing to do")
    elif dry_run:
        log("dry run: nothing changed")
    elif numbers.active:
        await changing(url, lambda: migrator.migrate(lambda line: log(f"adding: {line}")))
        log("done")
    else:
        async with opened(url):
            log("done")
    if 0 < numbers.active < RELEASE:
        log(
            f"release {numbers.active} is active, this is release {RELEASE}: "
            "run `tenure store activate` when all processes have been upgraded"
        )
    return Exit.OK


@store.command()
@store_option
def activate(store: str) -> None:
    """Make this release active in a store, after `tenure store migrate`.

    From then on this release may write what earlier releases cannot read.  A process of an earlier release that is
    still working is told so by its next transaction, which writes nothing; its turn is resumed by another process.

    This cannot be undone: to go back, restore a backup.

    \b
    Example, when all workers have been upgraded:
      tenure store migrate --store postgresql://db/agents
      tenure store activate --store postgresql://db/agents

    \b
    Exit codes:
      0  this release is active
      1  the tables lack something: run `tenure store migrate` first
      2  no such store
      4  the store is unavailable or unreadable, or a newer release is active
    """
    invoke_async(_activate(store))


async def _activate(url: str) -> int:
    migrator = migrator_of(url)
    if migrator is None:
        raise usage_error(f"--store {redact(url)}: this kind of store has nothing to activate")
    numbers = await changing(url, migrator.numbers)
    if not numbers.active:
        raise usage_error(f"--store {redact(url)}: there is no store yet")
    if numbers.active < RELEASE:
        await changing(url, migrator.activate)
    log(f"release {RELEASE} is active")
    return Exit.OK


def migrator_of(url: str) -> Migrator | None:
    """Return what migrates the store of a URL; None if its kind has no schema.  Raises CliExit."""
    stop_if_unusable(url)
    try:
        return find_migrator(url)
    except ValueError as error:
        raise usage_error(f"--store: {error}") from error


async def changing(url: str, step: Callable[[], T]) -> T:
    """Run one step of a migration on a thread.  Raises CliExit."""
    try:
        return await asyncio.to_thread(step)
    except NotMigrated as error:
        raise CliExit(Exit.UNFINISHED, str(error)) from error
    except ValueError as error:
        raise usage_error(f"--store: {error}") from error
    except (Corrupt, SchemaTooNew, Unavailable, OSError) as error:
        raise store_lost(redact(url), error) from error


# -- export, import


@store.command("export")
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
        except (Corrupt, Unavailable) as error:
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
    into = path if path.exists() and not path.is_file() else Path(f"{path}.part")
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
@click.argument("file", default="-", type=click.File("rb"))
def import_(store: str, file: BinaryIO) -> None:
    """Read an export into a store.

    Reads FILE (default: standard input) and creates the store if needed.

    A session that the store already holds must have equal rows; it is then skipped.  If an import is interrupted, repeat it.
    Leases are imported too: run fence-all afterwards if their holders may still be alive.

    \b
    Exit codes:
      0  the store holds all sessions of the export
      1  the store holds a session with different rows
      2  invalid input
      4  the store is unavailable or unreadable, or a newer release is active
    """
    invoke_async(_import(store, file))


async def _import(url: str, file: BinaryIO) -> int:
    written = refused = 0
    lines = text_lines(file)
    try:
        records = list(imported(lines))  # first: an incomplete file must not be imported in part
    except (InvalidExport, UnicodeDecodeError) as error:
        raise usage_error(f"{file.name}: {error}") from error
    except OSError as error:
        raise usage_error(f"{file.name}: {error.strerror or error}") from error
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


# -- parts


@asynccontextmanager
async def existing(url: str) -> AsyncIterator[RetryingStore]:
    """Open a store that exists; never create one.  Raises CliExit."""
    if stored_path(url) is not None:
        async with open_read_only(url, log_line=log):
            pass  # raises for an empty file or folder, in which opening would create a store
    options: dict[str, Any] = {"create": False} if is_server(url) else {}
    async with opened(url, log_line=log, **options) as found:
        yield found


async def batched(names: AsyncIterator[str]) -> AsyncIterator[list[str]]:
    """Yield lists of up to AT_ONCE names."""
    batch: list[str] = []
    async for name in names:
        batch.append(name)
        if len(batch) == AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def report(line: str) -> None:
    """Write one line to standard output."""
    write_text([line])
