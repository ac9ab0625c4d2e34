"""`tenure store check` and `readmit`: the rows of sessions, and the end of a quarantine."""

from __future__ import annotations

import click

from tenure.check.invariants import Rows, violations

from ...stores.base import Corrupt, Quarantined, SchemaMismatch, Unavailable
from ...stores.url import redact
from ..exit import (
    Exit,
    UnreadableSession,
    no_session,
    store_lost,
    unreadable_if_it_fails,
    usage_error,
)
from ..invoke import invoke_async
from ..open_store import Reader, open_read_only
from ..output import log
from ..session_pages import session_ids
from .blob_checking import opened_blobs
from .shared import existing, report, store_option

__all__ = ["check", "counted", "readmit"]


@click.command()
@store_option
@click.option("--blobs", metavar="URL", help="Also compare attachments with this store of bytes.")
@click.argument("sessions", nargs=-1)
def check(store: str, blobs: str | None, sessions: tuple[str, ...]) -> None:
    """Check the stored rows of all or some sessions.

    Read-only and safe while workers are running: each session is read in one snapshot.  Prints one line for each
    violated property, and one for each session that is quarantined because a row cannot be read.

    \b
    The properties are those that `tenure check` explores, and these: due_at_ms agrees with the rows, event
    numbers have no gaps, ranks are unique, every input has a queue entry.

    \b
    With --blobs: every attachment has its bytes, and all bytes belong to an attachment.  URL is folder:PATH,
    rows: (in the store), or s3://BUCKET/PREFIX.

    \b
    Exit codes:
      0  no violation
      1  at least one violation
      2  no such store or session
      4  the store is unavailable or unreadable, or a newer release is active
    """
    invoke_async(_check(store, sessions, blobs))


async def _check(url: str, names: tuple[str, ...], blobs_url: str | None) -> int:
    broken = checked = missing = 0
    unreadable: list[UnreadableSession] = []
    async with (
        open_read_only(url, log_line=log) as found,
        opened_blobs(blobs_url, url) as blobs,
    ):
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
                wrong += [] if blobs is None else await blobs.session(found, name)
            except UnreadableSession as error:
                checked += 1
                wrong = [str(error)]
            broken += len(wrong)
            for violation in wrong:
                report(f"{name}: {violation}")
        if blobs is not None and not names:
            others = await blobs.others()
            broken += len(others)
            for violation in others:
                report(violation)
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
    except (Corrupt, SchemaMismatch, Unavailable) as error:
        raise store_lost(redact(url), error) from error


@click.command()
@store_option
@click.argument("session")
def readmit(store: str, session: str) -> None:
    """End the quarantine of a session whose rows were repaired.

    A session is put into quarantine when its rows cannot be read, or do not fit together.  `tenure store check` lists
    such sessions with the reason.  No worker takes them until they are readmitted.

    The rows are checked first: a session with a violated property stays in quarantine.

    \b
    Example:
      tenure store readmit --store sqlite:agent.db ann

    \b
    Exit codes:
      0  readmitted, or not in quarantine: workers take the session
      1  at least one violation: nothing was changed
      2  no such store or session
      4  the store is unavailable or unreadable, the rows of the session cannot be read, or a newer release is active
    """
    invoke_async(_readmit(store, session))


async def _readmit(url: str, session_id: str) -> int:
    async with existing(url) as found:
        aside = session_id in {each.session_id for each in await found.quarantined()}
        rows = await found.ask(Rows(session_id))
        if not (rows or aside):
            raise usage_error(no_session(session_id, url))
        if not aside:
            log(f"session {session_id} is not in quarantine: nothing to do")
            return Exit.OK
        with unreadable_if_it_fails(session_id):
            wrong = list(violations(rows))
        for violation in wrong:
            report(f"{session_id}: {violation}")
        if wrong:
            return Exit.UNFINISHED
        await found.readmit(session_id)
    log(f"session {session_id} readmitted")
    return Exit.OK
