"""`tenure store reseal`: write all texts of users again, sealed by the present payload hook.  Spec: specs/state.md, STATE-24."""

from __future__ import annotations

import click

from tenure.commands.reseal import Reseal
from tenure.outcome import Refused
from tenure.questions.sealable import SealableRows, SealedUpTo

from ..exit import CliExit, Exit, UnreadableSession, usage_error
from ..invoke import invoke_async
from ..output import log
from ..retrying_store import RetryingStore
from ..session_pages import session_ids
from .checking import counted
from .shared import existing, store_option

__all__ = ["reseal"]


@click.command()
@store_option
@click.option(
    "--after",
    default="",
    metavar="SESSION",
    help="Continue an interrupted call after this session, which it printed last.",
)
def reseal(store: str, after: str) -> None:
    """Write all texts of users again, so that the present payload hook seals them.

    Use it after you gave a store a hook, or a new key: the hook must unseal with the old keys until this is done.  The
    variable TENURE_PAYLOADS names the hook, as module:name.  Without it, texts are written as they are read.  Workers may
    be running.  At most 256 rows are written in one transaction.

    \b
    Example:
      tenure store reseal --store sqlite:agent.db

    \b
    Exit codes:
      0  done
      2  no such store, or no such hook
      4  the store is unavailable, a newer release is active, or some sessions cannot be read: all others are done
    """
    invoke_async(_reseal(store, after))


async def _reseal(url: str, after: str) -> int:
    rows = count = 0
    unreadable: list[UnreadableSession] = []
    async with existing(url) as found:
        async for session in session_ids(found, (), unreadable):
            if session <= after:
                continue
            try:
                rows += await _session(found, session)
            except UnreadableSession as error:
                unreadable.append(error)
                continue
            count += 1
            if count % 100 == 0:
                log(f"--after {session}")
    log(f"{counted(count, 'session')}, {counted(rows, 'row')} written again")
    if unreadable:
        lines = [f"not written: session {e.session_id}: {e}" for e in unreadable]
        raise CliExit(Exit.LOST, *lines)
    return Exit.OK


async def _session(store: RetryingStore, session: str) -> int:
    """Write the rows of a session, page by page, and return how many."""
    at: SealedUpTo | None = SealedUpTo()
    count = 0
    while at is not None:
        page = await store.ask(SealableRows(session, at))
        if page.rows:
            answer = await store.execute(Reseal(session, page.rows))
            if isinstance(answer, Refused):
                raise usage_error(f"refused: {answer}")
            count += answer
        at = page.next
    return count
