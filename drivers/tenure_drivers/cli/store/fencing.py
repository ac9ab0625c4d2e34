"""`tenure store fence-all`: end every lease, and raise every generation."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Final

import click

from tenure.commands.fence import BY_MAX, FenceOff
from tenure.outcome import Refused

from ..exit import (
    CliExit,
    Exit,
    UnreadableSession,
    usage_error,
)
from ..invoke import invoke_async
from ..output import log
from ..session_pages import session_ids
from .shared import existing, store_option

__all__ = ["fence_all"]


AT_ONCE: Final = 64
BY_DEFAULT: Final = 1_000_000


@click.command("fence-all")
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

    Workers may be running.  The lease of a running turn ends; the turn resumes at once, and this does not count
    as a loss.

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
