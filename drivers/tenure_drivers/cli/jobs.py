"""`tenure ps`, `job`, `signal`, `cancel-job`, `abandon` and `drain`: work that outlives turns, as operators see it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import click

from tenure.commands import Drain
from tenure.machines.job import Ended
from tenure.machines.lease import LocalProcess, Owner
from tenure.outcome import Refusal, Refused
from tenure.questions.core import PAGE
from tenure.questions.jobs import Emissions, JobItem, Jobs, LoadJob, StartedBy
from tenure.questions.sessions import position_of
from tenure.records import Job
from tenure.replace import replace

from ..redaction import without_secrets
from ..runtime.client import Client
from ..runtime.errors import CommandRefused, IllegalResult
from ..runtime.process import evidence, local_process
from .exit import CliExit, Exit
from .invoke import invoke_async
from .open_store import Reader, existing_path, open_read_only
from .options import READ_HELP, STORE_HELP
from .output import log, write_lines
from .retrying_store import opened

__all__ = ["abandon", "cancel_job", "drain", "job", "ps", "signal"]


SHOWN_MAX: Final = 10_000  # characters of an input or an output
BY: Final = click.option(
    "--by", default="cli", metavar="NAME", help="Who asks; stored with the job."
)
STORE: Final = click.option("--store", required=True, metavar="URL", help=STORE_HELP)
READ: Final = click.option("--store", required=True, metavar="URL", help=READ_HELP)
CODES: Final = """

    \b
    Exit codes:
      0  done
      1  refused: standard error says why
      2  invalid arguments, or no such store
      4  store unavailable, unreadable, or of a newer release
"""


def changes(command: Callable[..., Any]) -> click.Command:
    """Make a command that changes one job, with the exit codes in its help."""
    command.__doc__ = (command.__doc__ or "").rstrip() + CODES
    return click.command()(STORE(click.argument("job_id", metavar="JOB")(command)))


# -- reading


@click.command()
@READ
@click.option(
    "--session",
    metavar="SESSION",
    help="All jobs that were registered with this session or trigger as origin; also those that ended.",
)
@click.option(
    "--left",
    is_flag=True,
    help="Only jobs that are left: nobody can know whether their worker still works on them.",
)
@click.option(
    "--all", "all_", is_flag=True, help="Also jobs that ended.  The last changed comes first."
)
@click.option("--after", default="", metavar="CURSOR", help="Begin after the end of this page.")
@click.option(
    "--limit", default=PAGE, type=click.IntRange(1), show_default=True, help="Jobs to list."
)
def ps(store: str, session: str | None, left: bool, all_: bool, after: str, limit: int) -> None:
    """List jobs: those that have not ended, unless --session or --all says otherwise.

    \b
    Prints a JSON line for each: {"job", "status", "why", "runner", "disposition", "session",
    "attempts", "owner", "pid", "registered_at_ms", "changed_at_ms"}
    status   waiting (for a worker, a time or a signal), held (a worker has it), started (its work has begun),
             left (nobody can know whether its worker still works on it), external (another system executes it),
             completed, failed, cancelled or abandoned (the four ways to end)
    why      why it does not go on, or why it has ended
    owner    the worker that has the job or started it: NAME/INCARNATION; see tenure drain
    pid      of its child process, if it has one, on the host of its owner
    If there are more, the last line is {"after": CURSOR}.

    \b
    Example:
      tenure ps --store sqlite:agent.db --left

    \b
    Exit codes:
      0  listed
      2  invalid arguments, or no such store
      4  store unavailable, unreadable, or of a newer release
    """
    if sum([session is not None, left, all_]) > 1:
        raise click.UsageError("--session, --left and --all: give at most one of them")
    try:
        position_of(after)
    except ValueError as error:
        raise click.UsageError(f"--{error}") from error
    question = Jobs(session, left, all_, all_, after)
    invoke_async(_ps(store, question, limit))


async def _ps(url: str, question: Jobs, limit: int) -> int:
    lines: list[dict[str, Any]] = []
    async with open_read_only(url, log_line=log) as store:
        while True:
            page = await store.ask(replace(question, limit=min(PAGE, limit - len(lines))))
            lines += [line_of(item) for item in page.items]
            if page.after is None or len(lines) >= limit:
                break
            question = replace(question, after=page.after)
    write_lines(lines + ([] if page.after is None else [{"after": page.after}]))
    return Exit.OK


def line_of(item: JobItem) -> dict[str, Any]:
    """Return a job as a line of `tenure ps`."""
    row = item.job
    return {
        "job": row.session_id,
        "status": item.status,
        "why": without_secrets(item.why),
        "runner": row.runner,
        "disposition": row.disposition.value,
        "session": row.origin,
        "attempts": row.attempts,
        "owner": _owner_name(item.holder or row.starter),
        "pid": None if row.process is None else row.process.pid,
        "registered_at_ms": row.registered_at_ms,
        "changed_at_ms": row.changed_at_ms,
    }


def _owner_name(owner: Owner | None) -> str | None:
    return None if owner is None else f"{owner.owner_id}/{owner.incarnation_id}"


@click.command()
@READ
@click.option("--events", is_flag=True, help="Also list the events that it has emitted.")
@click.argument("job_id", metavar="JOB")
def job(store: str, job_id: str, events: bool) -> None:
    """Print everything about a job as one JSON object.

    \b
    The fields of `tenure ps`, and: "input", "output" (what looks like a secret is removed, and what is longer than
    10,000 characters is cut), "starter" (the worker that started it first),
    "holder" (the worker that has its lease), "process" (its child process), each with what this host knows of it: dead or unknown,
    "evidence" of its end, "started_at_ms", "look_at_ms", "checkpoints", "events" (how many it has emitted)
    With --events a line follows for each event: {"seq", "type", "at_ms", "value"}

    \b
    Example:
      tenure job --store sqlite:agent.db build-7

    \b
    Exit codes:
      0  printed
      1  the store has no such job
      2  invalid arguments, or no such store
      4  store unavailable, unreadable, or of a newer release
    """
    invoke_async(_job(store, job_id, events))


async def _emitted(store: Reader, job_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while page := await store.ask(Emissions(job_id, len(found))):
        found += [
            {"seq": e.seq, "type": e.type, "at_ms": e.at_ms, "value": _json_of(_shown(e.body))}
            for e in page
        ]
    return found


async def _job(url: str, job_id: str, events: bool) -> int:
    async with open_read_only(url, log_line=log) as store:
        loaded = await store.ask(LoadJob(job_id, limit=1))
        emitted = await _emitted(store, job_id) if events else []
    if loaded is None:
        raise CliExit(
            Exit.UNFINISHED, f"the store has no job {job_id}; tenure ps --all lists those it has"
        )
    item, row = loaded.item, loaded.item.job
    state, here = row.state, local_process()
    ends = state.evidence if isinstance(state, Ended) else None
    write_lines(
        [
            line_of(item)
            | {
                "input": _shown(loaded.input),
                "output": None if loaded.output is None else _shown(loaded.output),
                "starter": _owner(row.starter, here),
                "holder": _owner(item.holder, here),
                "process": _process(row.process, here),
                "evidence": None
                if ends is None
                else {"writer": ends.writer.value, "owners": [_owner_name(o) for o in ends.owners]},
                "started_at_ms": row.started_at_ms,
                "look_at_ms": row.look_at_ms,
                "checkpoints": row.next_checkpoint,
                "events": row.emitted,
            },
            *emitted,
        ]
    )
    return Exit.OK


def _shown(text: str) -> str:
    return without_secrets(text[: 2 * SHOWN_MAX])[:SHOWN_MAX]  # no secret is cut before it is seen


def _owner(owner: Owner | None, here: LocalProcess | None) -> dict[str, Any] | None:
    if owner is None:
        return None
    return {"owner": _owner_name(owner), "process": _process(owner.process, here)}


def _process(process: LocalProcess | None, here: LocalProcess | None) -> dict[str, Any] | None:
    if process is None:
        return None
    known = evidence(here, process).value
    return {"host": process.host, "pid": process.pid, "evidence": known}


# -- asking


@changes
@BY
def cancel_job(store: str, job_id: str, by: str) -> None:
    """Ask a job to end as cancelled.

    A job that no worker has ends at once: "ended" is true.  If a worker has it, the worker ends its work first.  A job whose
    worker is lost may never end in this way: use tenure abandon.

    \b
    Prints one JSON line: {"job", "asked", "ended"}

    \b
    Example:
      tenure cancel-job --store sqlite:agent.db build-7 --by ada
    """
    _ask(store, job_id, "cancel", lambda client: client.job(job_id).cancel(by))


@changes
@BY
@click.option("--reason", default="", metavar="TEXT", help="Why; stored with the job.")
def abandon(store: str, job_id: str, by: str, reason: str) -> None:
    """Give up a job whose worker is lost.  It ends as abandoned and never starts again; what it did is unknown.

    If the lease of its worker is still live, the job ends when the lease has expired.  tenure ps --left lists the jobs that
    wait for this decision.

    \b
    Prints one JSON line: {"job", "asked", "ended"}

    \b
    Example:
      tenure abandon --store sqlite:agent.db build-8 --by ada --reason "its host was replaced"
    """
    _ask(store, job_id, "abandon", lambda client: client.job(job_id).abandon(by, reason))


@changes
@click.option(
    "--id",
    "signal_id",
    metavar="ID",
    help="Idempotency key: the same id with the same content is one signal.",
)
@click.argument("name")
@click.argument("value", default="null")
def signal(store: str, job_id: str, name: str, value: str, signal_id: str | None) -> None:
    """Send a signal to a job: VALUE, under a NAME that the job waits for.

    VALUE is JSON.  A VALUE that is not JSON is sent as a text; without VALUE, null is sent.  The n-th wait of the job for
    NAME gets the n-th signal of NAME.  A signal may be sent before the job waits for it.

    \b
    Prints one JSON line: {"job", "signal", "number"}

    \b
    Example:
      tenure signal --store sqlite:agent.db build-9 approve true --id 1
    """

    async def run() -> int:
        existing_path(store)
        async with opened(store, log_line=log) as found:
            handle = Client(found).job(job_id)
            try:
                number = await handle.signal(name, _json_of(value), signal_id=signal_id)
            except IllegalResult as error:
                raise CliExit(Exit.UNUSABLE, str(error)) from error
            except CommandRefused as error:
                raise CliExit(Exit.UNFINISHED, why(job_id, error.refused)) from error
        write_lines([{"job": job_id, "signal": name, "number": number}])
        return Exit.OK

    invoke_async(run())


def _json_of(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or of more levels than can be read
        return text


def _ask(url: str, job_id: str, what: str, body: Callable[[Client], Awaitable[Any]]) -> None:
    async def run() -> int:
        existing_path(url)
        async with opened(url, log_line=log) as store:
            try:
                asked = await body(Client(store))
            except CommandRefused as error:
                raise CliExit(Exit.UNFINISHED, why(job_id, error.refused)) from error
        write_lines([{"job": job_id, "asked": what, "ended": asked.ended}])
        return Exit.OK

    invoke_async(run())


def why(job_id: str, refused: Refused) -> str:
    """Return why a command on a job was refused, in words, with the clause."""
    words = {
        Refusal.UNKNOWN_JOB: "the store has no such job; tenure ps --all lists those it has",
        Refusal.OTHER_KIND: f"this is the id of a {refused.detail}; tenure ps --all lists the ids of jobs",
        Refusal.ENDED: f"it has ended already: {refused.detail}",
        Refusal.KEY_CONFLICT: f"this id is that of another signal; use another --id: {refused.detail}",
        Refusal.HELD: f"its lease is live, so its worker may be at work; try again when the lease has expired: {refused.detail}",
    }
    text = words.get(refused.reason, f"{refused.reason.value}: {refused.detail}")
    return f"job {job_id}: {text} ({refused.clause})"


@click.command()
@STORE
@click.argument("incarnation")
def drain(store: str, incarnation: str) -> None:
    """End the owner-bound jobs that a worker has started, after you know that the worker is gone.

    The jobs end as abandoned.  (An owner-bound job is started at most once, so no other worker runs it again.)
    INCARNATION names one start of a worker: it is what follows the slash in "owner" of tenure ps.  A job whose lease is
    still live is refused, because its worker may be at work: try again when the lease has expired.

    \b
    Prints a JSON line for each job whose end is stored: {"job", "how"}

    \b
    Example:
      tenure drain --store sqlite:agent.db 0f3c

    \b
    Exit codes:
      0  all were ended, or there was none
      1  some were refused: standard error says which and why
      2  invalid arguments, or no such store
      4  store unavailable, unreadable, or of a newer release
    """
    invoke_async(_drain(store, incarnation))


async def _drain(url: str, incarnation: str) -> int:
    existing_path(url)
    refused: list[str] = []
    async with opened(url, log_line=log) as store:
        client, after = Client(store), ""
        while True:
            page = await store.ask(StartedBy(incarnation, after))
            for row in page:
                answer = await _end(client, row)
                if isinstance(answer, Refused):
                    refused.append(why(row.session_id, answer))
                else:
                    write_lines([{"job": row.session_id, "how": answer.how.value}])
            if len(page) < PAGE:
                break
            after = page[-1].session_id
    if refused:
        raise CliExit(Exit.UNFINISHED, *refused)
    return Exit.OK


async def _end(client: Client, row: Job) -> Any:
    assert row.starter is not None
    # The id of its lease is not known here: so only a lease that is over may be on the row.
    return await client.execute(Drain(row.session_id, row.starter, f"drain:{row.session_id}"[:200]))
