"""`tenure tickets` and `tenure decide`: who waits for a person, and what the person decides."""

from __future__ import annotations

import json
from typing import Any

import click

from tenure.machines.ticket import ACTIONS, Settled
from tenure.outcome import Refusal, Refused
from tenure.questions import AllOpenTickets, OpenTickets
from tenure.questions.core import PAGE
from tenure.records import Ticket

from ..redaction import without_secrets
from ..runtime.client import Client
from ..runtime.errors import CommandRefused
from ..runtime.wait_text import work_of
from .exit import CliExit, Exit, UnreadableSession
from .invoke import invoke_async
from .open_store import Reader, existing_path, open_read_only
from .options import READ_HELP, STORE_HELP
from .output import log, write_lines
from .retrying_store import opened

__all__ = ["decide", "tickets"]


@click.command()
@click.option("--store", required=True, metavar="URL", help=READ_HELP)
@click.argument("session", required=False)
def tickets(store: str, session: str | None) -> None:
    """List the open tickets of a session, or of all sessions that wait for people.

    With SESSION, the pauses of its run and the work that it awaits are listed too (kind "timer" and
    "work", no offers).

    \b
    Prints a JSON line for each: {"session", "ticket", "run", "kind", "prompt", "offers",
    "deadline_ms", "opened_at_ms", "awaits"}, at most 256, the sessions that wait longest first; what looks
    like a secret is removed from the prompt

    \b
    Example:
      tenure tickets --store sqlite:agent.db

    \b
    Exit codes:
      0  listed
      1  listed, without the sessions that cannot be read
      2  invalid arguments, or no such store
      4  store unavailable, unreadable, or of a newer release
    """
    invoke_async(_tickets(store, session))


async def _tickets(url: str, session: str | None) -> int:
    async with open_read_only(url, log_line=log) as store:
        if session is not None:
            found, unreadable = await store.ask(OpenTickets(session)), list[UnreadableSession]()
        else:
            found, unreadable = await _all(store)
    write_lines([_line(each) for each in found])
    if len(found) == PAGE:
        log(f"tenure tickets: the first {PAGE} are listed; name a session to see all of it")
    if unreadable:
        raise CliExit(Exit.UNFINISHED, *[f"session {e.session_id}: {e}" for e in unreadable])
    return Exit.OK


async def _all(store: Reader) -> tuple[tuple[Ticket, ...], list[UnreadableSession]]:
    """Return the tickets of all sessions that can be read, and the sessions that cannot."""
    unreadable: list[UnreadableSession] = []
    while True:
        without = frozenset([each.session_id for each in unreadable])
        try:
            return await store.ask(AllOpenTickets(without=without)), unreadable
        except UnreadableSession as error:
            if not error.session_id or error.session_id in without:
                raise
            unreadable.append(error)


def _line(ticket: Ticket) -> dict[str, Any]:
    return {
        "session": ticket.session_id,
        "ticket": ticket.ticket_id,
        "run": ticket.run_id,
        "kind": ticket.kind.value,
        "prompt": without_secrets(ticket.prompt),
        "offers": [each.value for each in ticket.offers],
        "deadline_ms": ticket.deadline_ms,
        "opened_at_ms": ticket.opened_at_ms,
        "awaits": None if ticket.awaits is None else work_of(ticket.awaits),
    }


@click.command()
@click.option("--store", required=True, metavar="URL", help=STORE_HELP)
@click.option("--by", default="", metavar="NAME", help="Who decides; stored with the ticket.")
@click.option(
    "--id",
    "decision_id",
    metavar="ID",
    help="Idempotency key: the same id and decision has no further effect.",
)
@click.argument("session")
@click.argument("ticket")
@click.argument("action", type=click.Choice([each.value for each in ACTIONS]))
@click.argument("text", default="")
def decide(
    store: str, session: str, ticket: str, action: str, text: str, by: str, decision_id: str | None
) -> None:
    """Decide on a ticket: approve, edit, reject or answer it.  Its run then continues, in any process that works on the
    store.

    TEXT: the answer, the reason of a rejection, or the arguments of an edit (a JSON object).

    \b
    Prints one JSON line: {"session", "ticket", "run", "action"}

    \b
    Example:
      tenure decide --store sqlite:agent.db ann 0f3c approve --by ada

    \b
    Exit codes:
      0  decided
      1  refused: unknown, decided already (by whom is printed), or not offered
      2  invalid arguments, or no such store
      4  store unavailable, unreadable, or of a newer release
    """
    invoke_async(_decide(store, session, ticket, action, text, by, decision_id))


async def _decide(
    url: str, session: str, ticket: str, action: str, text: str, by: str, decision_id: str | None
) -> int:
    existing_path(url)
    async with opened(url, log_line=log) as store:
        try:
            taken = await Client(store).decide(
                session, ticket, action, text, by=by, decision_id=decision_id
            )
        except CommandRefused as error:
            raise CliExit(Exit.UNFINISHED, why(error.refused, ticket)) from error
    line = {"session": session, "ticket": ticket, "run": taken.run_id, "action": action}
    write_lines([line])
    return Exit.OK


def why(refused: Refused, ticket: str) -> str:
    """Return why a decision was refused, in words, with the clause."""
    detail, clause = refused.detail, refused.clause
    if refused.reason is Refusal.ENDED and isinstance(detail, Settled):
        by = f" by {detail.by}" if detail.by else ""
        body = f": {json.dumps(detail.body, ensure_ascii=False)}" if detail.body else ""
        return f"ticket {ticket} is settled already ({clause}): {detail.how.value}{by}{body}"
    if refused.reason is Refusal.UNKNOWN_TICKET:
        return f"there is no ticket {ticket} in this session ({clause})"
    return f"{refused.reason.value} ({clause}): {detail}"
