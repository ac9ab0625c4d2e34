"""`tenure store migrate` and `activate`: bring the tables of a store forward."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import click

from tenure.release import RELEASE

from ...stores.base import Corrupt, SchemaMismatch, Unavailable
from ...stores.migration import Migrator, NotMigrated, Numbers
from ...stores.registry import find_migrator
from ...stores.url import redact
from ..exit import (
    CliExit,
    Exit,
    store_lost,
    usage_error,
)
from ..invoke import invoke_async
from ..output import log
from ..retrying_store import opened, stop_if_unusable
from .shared import report, store_option

__all__ = ["activate", "migrate"]


T = TypeVar("T")


@click.command()
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
    if migrator is None or (numbers.active and not numbers.missing):
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


@click.command()
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
    except (Corrupt, SchemaMismatch, Unavailable, OSError) as error:
        raise store_lost(redact(url), error) from error
