"""`tenure submit`, `tenure ask` and `tenure steer`: give one input to a session that other processes work on."""

from __future__ import annotations

import sys
from typing import Any, Final, get_args

import click

from tenure.commands import IfIdle, NewProfile

from ..runtime.client import Client
from ..runtime.errors import NotAnswered, StillRunning, SubmissionRefused
from ..runtime.receipts import Receipt
from ..runtime.strategies import BusyStrategy
from ..runtime.wait_text import waits_for
from .exit import CliExit, Exit, usage_error
from .invoke import invoke_async
from .options import STORE_HELP, Seconds
from .options import label as label_of
from .output import log, write_lines, write_text
from .retrying_store import opened
from .run.validation import why

__all__ = ["ask", "steer", "submit"]


STORE: Final = click.option("--store", required=True, metavar="URL", help=STORE_HELP)
KEY: Final = click.option(
    "--key",
    metavar="KEY",
    help="Idempotency key: with the same key and text, it is the same input.",
)
WAIT: Final = click.option(
    "--wait",
    "wait_s",
    type=Seconds(min=0),
    metavar="SECONDS",
    help="Wait until the input has ended, at most this long, and print the answer too.",
)
SESSION: Final = click.argument("session")
TEXT: Final = click.argument("text", default="-", metavar="[TEXT|-]")


@click.command()
@STORE
@click.option("--kind", default="prompt", show_default=True, help="Kind of the input.")
@click.option("--name", metavar="NAME", help="Name of the session, if it is created.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    type=label_of,
    metavar="NAME=VALUE",
    help="A label of it; may be repeated.",
)
@click.option(
    "--priority",
    type=int,
    metavar="NUMBER",
    help="0 (first) to 1000000 (last); default: that of the kind, 128 for a prompt.",
)
@click.option(
    "--available-at-ms",
    type=int,
    metavar="MS",
    help="Earliest time to start, in milliseconds since 1970.",
)
@click.option(
    "--busy",
    default="enqueue",
    type=click.Choice(get_args(BusyStrategy)),
    show_default=True,
    help="What happens if a turn of the session is running.",
)
@click.option(
    "--within",
    "within_s",
    type=Seconds(min=0),
    metavar="SECONDS",
    help="With --busy replace: how long to wait until no turn is running.",
)
@KEY
@WAIT
@SESSION
@TEXT
def submit(
    store: str,
    session: str,
    text: str,
    wait_s: float | None,
    name: str | None,
    labels: tuple[tuple[str, str], ...],
    **options: Any,
) -> None:
    """Submit one input to a session, which is created if it does not exist.

    TEXT defaults to standard input.  The input waits in the store for a worker, such as one of tenure run.

    \b
    Prints one JSON line: {"session", "input_id", "how", "run_id"}
    how              queued, delayed, addressed, or known: the store has an input with this key
    With --wait also: {"ended", "termination", "checkpoint", "text"}; ended is null if it has not ended

    \b
    --busy, while a turn of the session is running:
      enqueue    the input waits in the queue
      reject     nothing is stored; also if another input is ready or waits for a retry
      interrupt  the inputs of the user that wait are superseded, and the running turn is asked to stop
      rollback   likewise, and the turn leaves nothing in the transcript, unless it has started a once step
      replace    each running turn is asked to stop; when none runs, the inputs of the user that wait are
                 superseded and the input is admitted; if that takes longer than --within, nothing is stored

    \b
    Examples:
      tenure submit --store sqlite:agent.db ann 'hello'
      tenure submit --store sqlite:agent.db --busy reject bob 'only if you are idle'

    \b
    Exit codes:
      0  submitted; with --wait: and its run has finished
      1  refused or busy; with --wait: it was not consumed, or its run did not finish
      2  invalid arguments
      3  with --wait: it has not ended yet
      4  store unavailable, unreadable, or of a newer release
    """
    if (options["busy"] == "replace") is (options["within_s"] is None):
        raise usage_error("--busy replace needs --within SECONDS, and only it has that option")
    if name is not None or labels:
        options["profile"] = NewProfile(name, labels)
    invoke_async(_submit(store, session, text, wait_s, options))


@click.command()
@STORE
@click.option(
    "--within",
    "within_s",
    default=600.0,
    show_default=True,
    type=Seconds(min=0),
    metavar="SECONDS",
    help="How long to wait for the answer.",
)
@KEY
@SESSION
@TEXT
def ask(store: str, session: str, text: str, within_s: float, key: str | None) -> None:
    """Submit a prompt, wait for its answer, and print the answer.

    TEXT defaults to standard input.  Another process must work on the store, such as one of tenure run.  If the time is
    over and no run works on the prompt, it is withdrawn.

    \b
    Example:
      tenure ask --store sqlite:agent.db ann 'hello'

    \b
    Exit codes:
      0  answered
      1  refused, or ended without an answer
      2  invalid arguments
      3  the time is over: withdrawn, or a run works on it
      4  store unavailable, unreadable, or of a newer release
    """
    invoke_async(_ask(store, session, text, within_s, key))


async def _ask(url: str, session: str, text: str, within_s: float, key: str | None) -> int:
    if text == "-":
        text = _standard_input()
    async with opened(url, log_line=log) as store:
        client = Client(store)
        try:
            answer = await client.run(session, text, within_s, key=key)
        except SubmissionRefused as error:
            raise CliExit(Exit.UNFINISHED, why(error.refused)) from error
        except NotAnswered as error:
            raise CliExit(Exit.UNFINISHED, str(error)) from error
        except StillRunning as error:
            status = await client.receipt(session, error.input_id).status()
            wait = None if status is None else status.wait
            now = (
                ""
                if wait is None
                else f", which is {waits_for(wait.reason, wait.tickets, wait.awaits)}"
            )
            raise CliExit(Exit.DELAYED, f"{error}{now}") from error
        except TimeoutError as error:
            raise CliExit(Exit.DELAYED, str(error)) from error
    write_text([] if answer is None else [answer])
    return Exit.OK


@click.command()
@STORE
@click.option(
    "--follow-up",
    is_flag=True,
    help="Take it where the turn would end; the turn then continues.",
)
@click.option("--run", "target", metavar="RUN", help="Run that gets it; default: the running one.")
@click.option(
    "--if-idle",
    default=IfIdle.QUEUE.value,
    type=click.Choice([choice.value for choice in IfIdle]),
    show_default=True,
    help="What happens if no turn is running.",
)
@KEY
@WAIT
@SESSION
@TEXT
def steer(
    store: str,
    session: str,
    text: str,
    wait_s: float | None,
    follow_up: bool,
    target: str | None,
    if_idle: str,
    key: str | None,
) -> None:
    """Give an input to the running turn of a session.

    It enters before the next call of the model.  If the turn ends first, the input is processed on its own.

    \b
    Prints a JSON line, waits and exits as tenure submit.  The input is
    addressed        to the run run_id, or
    queued           because no turn is running

    \b
    Example:
      tenure steer --store sqlite:agent.db ann 'use the other file'
    """
    options = {
        "kind": "follow_up" if follow_up else "steering",
        "target": target,
        "if_idle": IfIdle(if_idle),
        "key": key,
    }
    invoke_async(_submit(store, session, text, wait_s, options))


async def _submit(
    url: str, session: str, text: str, wait_s: float | None, options: dict[str, Any]
) -> int:
    if text == "-":
        text = _standard_input()
    async with opened(url, log_line=log) as store:
        client = Client(store)
        try:
            receipt = await client.submit(session, text, **options)
        except SubmissionRefused as error:
            raise CliExit(Exit.UNFINISHED, why(error.refused)) from error
        line = {
            "session": session,
            "input_id": receipt.input_id,
            "how": receipt.how,
            "run_id": receipt.run_id,
        }
        if wait_s is None:
            write_lines([line])
            return Exit.OK
        code, end = await _end(receipt, wait_s)
        write_lines([line | end])
        return code


async def _end(receipt: Receipt, wait_s: float) -> tuple[int, dict[str, Any]]:
    """Wait for the end of an input.  Return the exit code and what to print."""
    try:
        status = await receipt.ended(wait_s)
    except TimeoutError:
        return Exit.DELAYED, {"ended": None}
    end = {
        "run_id": status.run_id,
        "ended": status.status,
        "termination": status.termination,
        "checkpoint": status.checkpoint,
        "text": status.answer,
    }
    return Exit.OK if status.succeeded else Exit.UNFINISHED, end


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise usage_error(f"standard input is not UTF-8: {error}") from error
