"""The commands that change one session: its inputs that wait, its run, its phase and its dead letters."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import click

from tenure.commands import NewInput, NotReady
from tenure.machines.input import Ended
from tenure.outcome import Refusal, Refused
from tenure.policy import Lane
from tenure.questions import AllDeadLetters, DeadLetter
from tenure.records import PhaseChanged

from ..runtime.client import Client
from ..runtime.clock import new_id
from ..runtime.errors import CommandRefused
from .exit import CliExit, Exit, usage_error
from .invoke import invoke_async
from .open_store import existing_path, open_read_only
from .options import READ_HELP, STORE_HELP
from .output import log, write_lines, write_text
from .retrying_store import opened
from .run.validation import why

__all__ = [
    "cancel", "dead", "destroy", "interrupt", "reopen", "reorder",
    "replace", "reset", "retire", "retry", "stop", "withdraw",
]  # fmt: skip


Answer = tuple[str, dict[str, Any]]  # a line for people, and what JSON has besides the session
Body = Callable[[Client], Awaitable[Answer]]

CODES: Final = """

    \b
    Exit codes:
      0  done
      1  refused: standard error says why
      2  invalid arguments, or no such store
      4  store unavailable, unreadable, or of a newer release
"""
IN_WORDS: Final[dict[Refusal, str]] = {
    Refusal.UNKNOWN_SESSION: "there is no such session",
    Refusal.UNKNOWN_INPUT: "the session has no input {detail}",
    Refusal.UNKNOWN_RUN: "the session has no run {detail}",
    Refusal.HELD: "a worker holds the session: stop it, or wait until its lease has ended",
    Refusal.BOUND: "run {detail} has the input: cancel that run, or interrupt the session",
    Refusal.ENDED: "it has ended already: {detail}",
    Refusal.NOT_DEAD: "the input is no dead letter: it is {detail}",
    Refusal.NOT_READY: "not all inputs are ready: {detail}",
    Refusal.PHASE: "the session is {detail}",
    Refusal.NOT_ACTIVE: "{detail}",
}

STORE: Final = click.option("--store", required=True, metavar="URL", help=STORE_HELP)
JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
ABANDON: Final = click.option("--abandon", is_flag=True, help="End what is queued as abandoned.")
SESSION: Final = click.argument("session")


def changes(command: Callable[..., Any]) -> click.Command:
    """Make a command that changes a session: with a store, --json, and the exit codes in its help."""
    command.__doc__ = (command.__doc__ or "").rstrip() + CODES
    return click.command()(STORE(JSON(SESSION(command))))


def words_of(refused: Refused) -> str:
    """Return a refusal in words, with its clause."""
    template, detail = IN_WORDS.get(refused.reason), refused.detail
    if template is None:
        return why(refused)
    if isinstance(detail, Ended):
        again = f", readmitted as {detail.readmitted_as}" if detail.readmitted_as else ""
        detail = f"{detail.how.value} by {detail.by}{again}"
    elif isinstance(detail, NotReady):
        detail = f"{detail.input_id} is {detail.status}"
    else:
        detail = getattr(detail, "value", detail)
    return f"refused: {template.format(detail=detail)} ({refused.clause})"


def execute(url: str, session: str, as_json: bool, body: Body) -> None:
    """Execute a command, print its answer and exit."""
    invoke_async(_execute(url, session, as_json, body))


async def _execute(url: str, session: str, as_json: bool, body: Body) -> int:
    existing_path(url)
    async with opened(url, log_line=log) as store:
        try:
            line, more = await body(Client(store))
        except CommandRefused as error:
            raise CliExit(Exit.UNFINISHED, words_of(error.refused)) from error
    if as_json:
        write_lines([{"session": session, **more}])
    else:
        write_text([f"session {session}: {line}"])
    return Exit.OK


# -- the running turn


@changes
@click.option(
    "--rollback",
    is_flag=True,
    help="Leave nothing of the turn in the transcript, if it started no once step.",
)
@click.argument("text", required=False)
def interrupt(store: str, session: str, text: str | None, rollback: bool, as_json: bool) -> None:
    """Supersede the inputs of the user that wait, ask the running turn to stop, and submit TEXT instead.

    \b
    Example:
      tenure interrupt --store sqlite:agent.db ann 'no, the other file'
    """

    async def body(client: Client) -> Answer:
        done = await client.interrupt(session, text, rollback=rollback)
        new = None if done.replacement is None else done.replacement.input_id
        asked = (
            "no turn was running" if done.run_id is None else f"run {done.run_id} was asked to stop"
        )
        told = f"interrupted; {asked}" + (f"; new input {new}" if new else "")
        return told, {"run_id": done.run_id, "input_id": new, "rolled_back": done.rolled_back}

    execute(store, session, as_json, body)


@changes
@click.argument("run_id", metavar="RUN")
def cancel(store: str, session: str, run_id: str, as_json: bool) -> None:
    """Ask one run to stop, in whichever process it runs."""

    async def body(client: Client) -> Answer:
        done = await client.cancel(session, run_id)
        told = "has ended" if done.ended else "was asked to stop"
        return f"run {run_id} {told}", {"run_id": run_id, "ended": done.ended}

    execute(store, session, as_json, body)


# -- inputs that wait


@changes
@click.argument("input_id", metavar="INPUT")
def withdraw(store: str, session: str, input_id: str, as_json: bool) -> None:
    """Withdraw an input that no run has worked on."""

    async def body(client: Client) -> Answer:
        await client.withdraw(session, input_id)
        return f"input {input_id} was withdrawn", {"input_id": input_id}

    execute(store, session, as_json, body)


@changes
@click.option("--kind", default="prompt", show_default=True, help="Kind of the new input.")
@click.argument("input_id", metavar="INPUT")
@click.argument("text", metavar="TEXT")
def replace(store: str, session: str, input_id: str, text: str, kind: str, as_json: bool) -> None:
    """Put a new input with TEXT in the place of one that waits."""

    async def body(client: Client) -> Answer:
        done = await client.replace(session, input_id, NewInput(new_id(), kind, text))
        assert done.replacement is not None
        new = done.replacement
        told = f"input {input_id} was replaced by {new.input_id}, which is {new.how.value}"
        return told, {"input_id": new.input_id, "how": new.how.value, "replaced": input_id}

    execute(store, session, as_json, body)


@changes
@click.option(
    "--lane",
    type=click.Choice([lane.value for lane in Lane]),
    default="user",
    show_default=True,
    help="Lane of the inputs.",
)
@click.argument("input_ids", nargs=-1, required=True, metavar="INPUT...")
def reorder(store: str, session: str, input_ids: tuple[str, ...], lane: str, as_json: bool) -> None:
    """Change the order of ready inputs to the order given."""

    async def body(client: Client) -> Answer:
        await client.reorder(session, input_ids, lane=Lane(lane))
        return f"{len(input_ids)} inputs in this order", {"input_ids": list(input_ids)}

    execute(store, session, as_json, body)


# -- dead letters


@click.command()
@click.option("--store", required=True, metavar="URL", help=READ_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per dead letter.")
@click.argument("session", required=False)
def dead(store: str, session: str | None, as_json: bool) -> None:
    """List the dead letters of all sessions, or of one: inputs whose run was given up.

    Each line has the session, the input, its kind, its text, and the reason.
    Read-only.  `tenure retry` admits one again.

    \b
    Example:
      tenure dead --store sqlite:agent.db

    \b
    Exit codes:
      0  shown
      2  no such store
      4  the store or a session cannot be read, or a newer release is active
    """
    invoke_async(_dead(store, session, as_json))


async def _dead(url: str, session: str | None, as_json: bool) -> None:
    async with open_read_only(url) as store:
        after = ("", 0)
        while page := await store.ask(AllDeadLetters(*after, only=session)):
            if as_json:
                write_lines([_letter_json(letter) for letter in page])
            else:
                write_text([_letter_line(letter) for letter in page])
            after = (page[-1].session_id, page[-1].seq)


def _letter_json(letter: DeadLetter) -> dict[str, Any]:
    return {
        "session": letter.session_id,
        "input_id": letter.input.input_id,
        "kind": letter.input.kind,
        "run_id": letter.status.run_id,
        "reason": letter.status.reason,
        "retry_of": letter.input.retry_of,
        "text": letter.input.payload,
    }


def _letter_line(letter: DeadLetter) -> str:
    text = " ".join(letter.input.payload[:200].split())[:60]
    return f"{letter.session_id} {letter.input.input_id} {letter.input.kind} {text!r}: {letter.status.reason}"


@changes
@click.argument("input_id", metavar="INPUT")
def retry(store: str, session: str, input_id: str, as_json: bool) -> None:
    """Admit the content of a dead letter again, as a new input."""

    async def body(client: Client) -> Answer:
        new = (await client.readmit(session, input_id)).admission.input_id
        return f"input {input_id} is retried as {new}", {"input_id": new, "retry_of": input_id}

    execute(store, session, as_json, body)


# -- phases


def told_phase(done: PhaseChanged) -> Answer:
    """Return the answer of a command that changes the phase."""
    asked = "" if done.run_id is None else f"; run {done.run_id} was asked to stop, or has ended"
    counts = {"ready": done.ready, "delayed": done.delayed, "unfinished": done.unfinished}
    had = ", ".join([f"{count} {what}" for what, count in counts.items()])
    told = f"{done.phase.value} (it had: {had}){asked}"
    return told, {"phase": done.phase.value, "run_id": done.run_id, **counts}


@changes
@ABANDON
def retire(store: str, session: str, abandon: bool, as_json: bool) -> None:
    """Let a session finish what it has, and admit nothing new except what continues earlier work."""

    async def body(client: Client) -> Answer:
        return told_phase(await client.retire(session, abandon_queued=abandon))

    execute(store, session, as_json, body)


@changes
@ABANDON
def stop(store: str, session: str, abandon: bool, as_json: bool) -> None:
    """Admit nothing, ask the running turn to stop, and begin nothing else.  `tenure reopen` undoes it."""

    async def body(client: Client) -> Answer:
        return told_phase(await client.stop_session(session, abandon=abandon))

    execute(store, session, as_json, body)


@changes
def reset(store: str, session: str, as_json: bool) -> None:
    """End the open turn, abandon all inputs, and open the session.  Refused while a worker has its lease."""

    async def body(client: Client) -> Answer:
        return told_phase(await client.reset(session))

    execute(store, session, as_json, body)


@changes
def reopen(store: str, session: str, as_json: bool) -> None:
    """Open a session that was retired or stopped."""

    async def body(client: Client) -> Answer:
        return told_phase(await client.reopen(session))

    execute(store, session, as_json, body)


@changes
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--erase", is_flag=True, help="Also erase all its texts, which cannot be undone.")
def destroy(store: str, session: str, yes: bool, erase: bool, as_json: bool) -> None:
    """End all work of a session for good.  Its transcript stays readable, unless it is erased.

    \b
    Example, erase what a person has written:
      tenure destroy --store sqlite:agent.db ann --erase --yes
    """
    if not yes:
        if not sys.stdin.isatty():
            invoke_async(_refuse_to_ask())
        also = " and erase its texts" if erase else ""
        click.confirm(f"Destroy session {session} for good{also}?", abort=True, err=True)

    async def body(client: Client) -> Answer:
        if erase:
            told, more = told_phase(await client.erase(session))
            return f"{told}; its texts are erased", {**more, "erased": True}
        return told_phase(await client.destroy(session))

    execute(store, session, as_json, body)


async def _refuse_to_ask() -> int:
    raise usage_error("standard input is no terminal: confirm with --yes")
