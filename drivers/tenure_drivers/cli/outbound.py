"""`tenure outbound`: what sessions have sent to others and has not arrived, and sending it again."""

from __future__ import annotations

from typing import Any

import click

from tenure.commands.encoding import UnreadableCommand
from tenure.commands.sent_commands import command_of
from tenure.outbound_records import Due, Outbound, Undeliverable
from tenure.questions import SessionOutbound, UndeliverableOutbound
from tenure.questions.core import PAGE

from ..redaction import without_secrets
from ..runtime.client import Client
from ..runtime.errors import CommandRefused
from .exit import CliExit, Exit
from .invoke import invoke_async
from .open_store import existing_path, open_read_only
from .options import STORE_HELP
from .output import log, write_lines
from .retrying_store import opened

__all__ = ["outbound"]


@click.command()
@click.option("--store", required=True, metavar="URL", help=STORE_HELP)
@click.option(
    "--retry",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="Send the command with this number of SESSION again.  If it waits for its next attempt, it is sent at once.",
)
@click.argument("session", required=False)
def outbound(store: str, session: str | None, retry: int | None) -> None:
    """List what SESSION has sent to others and has not arrived yet; without SESSION, what no target accepts.

    A command is undeliverable if its target has refused it, and waiting would not help: for example, the target is
    retired.  Remove the cause, then send it again with --retry.  It then gets a new number, behind the other commands of
    its session.  If the refusal is "pruned", the target may have executed the command before.

    \b
    Prints a JSON line for each: {"session", "number", "to", "peer", "command", "status",
    "due_at_ms", "refusal", "detail", "attempts", "error", "at_ms"}, at most 256, the oldest
    first.  With --retry: {"session", "number"}, the number it has now
    status   due (sent now, or at due_at_ms), behind (waits for an earlier command to the same target) or undeliverable

    \b
    Examples:
      tenure outbound --store sqlite:agent.db
      tenure outbound --store sqlite:agent.db ann

    \b
    Exit codes:
      0  listed, or sent again
      1  refused: there is no such command
      2  invalid arguments, or no such store
      4  store unavailable, unreadable, or of a newer release
    """
    if retry is not None and session is None:
        raise click.UsageError("--retry needs SESSION: tenure outbound SESSION --retry NUMBER")
    if retry is not None and session is not None:
        invoke_async(_retry(store, session, retry))
    invoke_async(_list(store, session))


async def _list(url: str, session: str | None) -> int:
    async with open_read_only(url, log_line=log) as store:
        if session is None:
            found = (await store.ask(UndeliverableOutbound())).items
        else:
            found = await store.ask(SessionOutbound(session))
    write_lines([_line(each) for each in found])
    if len(found) == PAGE:
        log(f"tenure outbound: the first {PAGE} are listed")
    return Exit.OK


async def _retry(url: str, session: str, number: int) -> int:
    existing_path(url)
    async with opened(url, log_line=log) as store:
        try:
            again = await Client(store).resend(session, number)
        except CommandRefused as error:
            raise CliExit(
                Exit.UNFINISHED,
                f"no. {number}: {error.refused}; tenure outbound SESSION lists the numbers",
            ) from error
    write_lines([{"session": session, "number": again}])
    return Exit.OK


def _line(row: Outbound) -> dict[str, Any]:
    state = row.state
    refusal = detail = None
    if isinstance(state, Undeliverable):
        refusal, detail = f"{state.refusal} ({state.clause})", without_secrets(state.detail)
    return {
        "session": row.session_id,
        "number": row.number,
        "to": row.to,
        "peer": row.peer or None,
        "command": _name(row),
        "status": state.__class__.__name__.lower(),
        "due_at_ms": state.due_at_ms if isinstance(state, Due) else None,
        "refusal": refusal,
        "detail": detail,
        "attempts": row.attempts,
        "error": None if row.error is None else without_secrets(row.error),
        "at_ms": row.at_ms,
    }


def _name(row: Outbound) -> str | None:
    """Return the name of the command; None if this release cannot read it, or if its text was erased."""
    try:
        return type(command_of(row)).__name__
    except UnreadableCommand:
        return None
