"""`tenure fork` and `tenure import`: open a session with the transcript of another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click

from tenure.commands import ImportNode, NewProfile
from tenure.messages.foreign import FORMATS, read_conversation

from ..runtime.client import Client
from ..runtime.clock import new_id
from ..runtime.errors import CommandRefused
from ..runtime.importing import Imported
from .exit import CliExit, Exit, usage_error
from .input_file import text_lines
from .invoke import invoke_async
from .open_store import existing_path
from .options import STORE_HELP
from .options import label as label_of
from .output import log, write_lines
from .retrying_store import opened
from .run.validation import why

__all__ = ["fork", "import_"]


STORE: Final = click.option("--store", required=True, metavar="URL", help=STORE_HELP)
NAME: Final = click.option("--name", metavar="NAME", help="Name of the new session.")
LABELS: Final = click.option(
    "--label", "labels", multiple=True, type=label_of, metavar="NAME=VALUE",
    help="A label of it; may be repeated.",
)  # fmt: skip


@click.command()
@STORE
@click.option("--at", metavar="NODE", help="Copy up to this node; default: the last visible one.")
@click.option("--whole", is_flag=True, help="Copy also what a compaction stands for.")
@NAME
@LABELS
@click.argument("session")
@click.argument("new", required=False)
def fork(
    store: str,
    session: str,
    new: str | None,
    at: str | None,
    whole: bool,
    name: str | None,
    labels: tuple[tuple[str, str], ...],
) -> None:
    """Copy what was said in SESSION into the session NEW of the same store.

    Copies the transcript from the last compaction on.  NEW is open when all of it has been copied.  If the command is
    interrupted, run it again with the same NEW.  tenure sessions --parent SESSION lists the forks.

    \b
    Prints one JSON line: {"session", "origin", "node", "nodes", "pages"}

    \b
    Example:
      tenure fork --store sqlite:agent.db ann ann-2

    \b
    Exit codes:
      0  copied
      1  refused: standard error says why
      2  invalid arguments, or no such store
      4  store unavailable, unreadable, or of a newer release
    """
    invoke_async(_fork(store, session, new, at, whole, NewProfile(name, labels)))


async def _fork(
    url: str, session: str, new: str | None, at: str | None, whole: bool, profile: NewProfile
) -> int:
    existing_path(url)
    if new is None:
        new = new_id()
        log(f"tenure fork: the new session is {new}; name it to go on after an interruption")
    async with opened(url, log_line=log) as store:
        try:
            done = await Client(store).fork(session, new, at=at, whole=whole, profile=profile)
        except CommandRefused as error:
            raise CliExit(Exit.UNFINISHED, why(error.refused)) from error
    return _told(done, {"origin": session, "node": done.node})


@click.command("import")
@STORE
@click.option(
    "--from", "format_", required=True, type=click.Choice(list(FORMATS)), help="Format of the file."
)
@NAME
@LABELS
@click.argument("session")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
def import_(
    store: str,
    session: str,
    file: str,
    format_: str,
    name: str | None,
    labels: tuple[tuple[str, str], ...],
) -> None:
    """Open SESSION with a conversation of another system, which is in FILE.

    If the command is interrupted, run it again with the same, unchanged file.  Exports of tenure, which have whole
    sessions with their inputs and runs, are read by tenure store import.

    \b
    FILE is JSON, or has a message on each line:
      messages   a list of {"role", "content", "tool_calls", "tool_call_id"}, as most model APIs have it
      langgraph  the state of a thread, as LangGraph Platform answers it, or its list of messages
    A call without a result gets one that says so.  The messages have the time of the file.

    \b
    Prints one JSON line: {"session", "nodes", "pages"}

    \b
    Example:
      tenure import --store sqlite:agent.db --from messages bob conversation.json

    \b
    Exit codes:
      0  imported
      1  refused: standard error says why
      2  invalid arguments or file
      4  store unavailable, unreadable, or of a newer release
    """
    invoke_async(_import(store, session, Path(file), format_, NewProfile(name, labels)))


async def _import(url: str, session: str, file: Path, format_: str, profile: NewProfile) -> int:
    nodes = _nodes_in(file, format_)
    async with opened(url, log_line=log) as store:
        try:
            done = await Client(store).import_session(
                session, nodes, profile=profile, origin=f"{format_} {file.name}"
            )
        except CommandRefused as error:
            raise CliExit(Exit.UNFINISHED, why(error.refused)) from error
    return _told(done, {})


def _nodes_in(file: Path, format_: str) -> tuple[ImportNode, ...]:
    try:
        with file.open("rb") as opened_file:
            lines = list(text_lines(opened_file))
        at_ms = file.stat().st_mtime_ns // 1_000_000
        return read_conversation(format_, _json_of(lines), at_ms)
    except (OSError, ValueError, RecursionError) as error:
        raise usage_error(f"{file}: {error}") from error


def _json_of(lines: list[str]) -> Any:
    """Return the value of a file: one JSON value, or a list of those of its lines."""
    try:
        return json.loads("".join(lines))
    except ValueError:
        if len(lines) < 2:
            raise
    return [json.loads(line) for line in lines if line.strip()]


def _told(done: Imported, more: dict[str, Any]) -> int:
    write_lines([{"session": done.session_id, **more, "nodes": done.nodes, "pages": done.pages}])
    return Exit.OK
