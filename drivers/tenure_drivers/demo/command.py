"""`tenure demo`: process prompts while workers are killed and paused, then report from the database."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import shlex
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from tenure.replace import replace

from ..cli.exit import CliExit, Exit, usage_error
from ..cli.invoke import first_error, invoke
from ..cli.output import Bar, log
from ..console.timeline.page import Figure, Timeline, TooLate, page
from ..stores.base import Unavailable
from ..stores.url import is_server, redact
from .chat import FAULT_PLACES
from .driver import DemoRun, run_demo
from .plan import Plan, draw
from .report import GROUPS, MEANINGS, MUST_BE_ZERO, Report, report_on
from .transcript_report import TRANSCRIPT_MEANINGS, ZERO, TranscriptReport

__all__ = []


SEEDS: Final = 1_000_000
ELSEWHERE: Final = "The demo works in a temporary folder: set TMPDIR to another place"
AGENTS: Final = ("ledger", "without-once", "script")


def known_agent(ctx: click.Context, parameter: click.Parameter, name: str) -> str:
    """Validate --agent."""
    if name in AGENTS:
        return name
    if not name.startswith("openai"):
        raise click.BadParameter(
            f"unknown agent {name!r}; expected {', '.join(AGENTS)} or openai:MODEL"
        )
    from ..agents.openai import openai_model

    try:
        openai_model(name)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return name


def known_server(ctx: click.Context, parameter: click.Parameter, url: str | None) -> str | None:
    """Validate --store."""
    if url is not None and (not is_server(url) or "tenure_schema=" in url):
        raise click.BadParameter(
            f"{redact(url)!r}: expected postgresql://HOST/DATABASE without tenure_schema; the demo creates a schema"
        )
    return url


@click.command(short_help="Kill workers during turns; check the results.")
@click.option(
    "--seed",
    type=int,
    help="Repeat the plan of this seed.  Default: a random seed, which is printed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page with the timeline of every session.",
)  # fmt: skip
@click.option(
    "--inputs",
    type=click.IntRange(1, 5000),
    default=200,
    show_default=True,
    help="Number of prompts.",
)
@click.option(
    "--sessions",
    type=click.IntRange(1, 500),
    default=20,
    show_default=True,
    help="Number of sessions.",
)
@click.option(
    "--workers",
    type=click.IntRange(2, 16),
    default=3,
    show_default=True,
    help="Number of worker processes.",
)
@click.option(
    "--agent", default=AGENTS[0], show_default=True, metavar="AGENT", callback=known_agent,
    help="ledger | without-once: no once step, so the report shows repeated work | script: a scripted model "
    "with tools, no server needed | openai:MODEL: a real model with tools.",
)  # fmt: skip
@click.option(
    "--store",
    "server",
    metavar="URL",
    callback=known_server,
    help="postgresql://HOST/DATABASE: use this server, in a new schema that is dropped at the end.",
)
def demo(
    seed: int | None, as_json: bool, html: Path | None,
    inputs: int, sessions: int, workers: int, agent: str, server: str | None,
) -> None:  # fmt: skip
    """Process prompts with several workers, kill and pause the workers during turns, and check the results.

    The store is a temporary SQLite file, or a schema on a server.  For each prompt a worker appends a line to a ledger
    file, in a once step, and then commits an answer.  Meanwhile the demo kills workers with SIGKILL and restarts them.
    It also pauses workers for longer than their lease.  When they continue, another worker has their sessions.

    With --agent script or openai:MODEL, a model answers and calls tools; one once tool writes to the ledger.
    Worker processes then also kill themselves at exact points: during a model call, before a tool that the model has
    called, during a once tool, and before a result is recorded.

    The numbers of the report are read from the database and the ledger.  Only kills, pauses and refused writes are
    counted by the processes.  The demo takes less than half a minute.

    The seed determines the plan: the prompts, the sessions, which workers are killed or paused, and after how many
    answers.  The speed differs from run to run, so the same seed can hit another turn.

    \b
    Exit codes:
      0        nothing was lost, repeated or answered out of order; each tool call has exactly one result
      1        at least one of these checks failed, or the page cannot be written
      2        invalid arguments, the server is unavailable, or the temporary folder is full
      130 143  Ctrl-C or SIGTERM
    """
    if html is not None:
        check_writable(html)
    seed = random.randrange(SEEDS) if seed is None else seed
    plan = draw(seed, inputs, min(sessions, inputs), workers)
    invoke(lambda: play(plan, agent, server, html, as_json))


def check_writable(path: Path) -> None:
    """Raise an error for a page that cannot be written, before the demo runs."""
    try:
        path.touch()
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", param_hint="--html") from error


# -- running


def play(plan: Plan, agent: str, server: str | None, html: Path | None, as_json: bool) -> Exit:
    """Run a plan and print its report.  Raises CliExit."""
    demo_run = run_plan(plan, agent, server)
    report, transcripts = report_on(demo_run.evidence), demo_run.transcripts
    if transcripts is not None and agent != "script":  # a real model may skip the tool call
        report = replace(report, missing=0)
    if as_json:
        extra = {} if transcripts is None else {"transcripts": transcripts.as_json()}
        click.echo(json.dumps({"seed": plan.seed, **report.as_json(), **extra}))
    else:
        show(plan, report, transcripts)
        again = repeat_command(plan, agent, server)
        click.secho(f"Repeat: {again}\nTimeline: {html or 'add --html demo.html'}", dim=True)
    if html is not None:
        write_page(html, page(timeline_of(plan, demo_run, report)))
    holds = report.holds and (transcripts is None or transcripts.holds)
    return Exit.OK if holds else Exit.UNFINISHED


def write_page(path: Path, text: str) -> None:
    """Write the page.  Raises CliExit, after the report was printed."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CliExit(Exit.UNFINISHED, f"--html {path}: {error.strerror or error}") from error


def run_plan(plan: Plan, agent: str, server: str | None = None) -> DemoRun:
    """Run a plan.  Remove all processes, files and schemas at the end, also if it is interrupted.  Raises CliExit."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="tenure-demo-"))
    except OSError as error:
        raise usage_error(f"{error.strerror or error}.  {ELSEWHERE}") from error
    schema = f"tenure_demo_{secrets.token_hex(6)}"
    own = (
        None if server is None else f"{server}{'&' if '?' in server else '?'}tenure_schema={schema}"
    )
    try:
        return asyncio.run(_until_signal(plan, agent, folder, own))
    except (Unavailable, ValueError, OSError, BaseExceptionGroup) as raised:
        first = first_error(raised)
        if not isinstance(first, Unavailable | ValueError | OSError):
            raise
        local = own is None or isinstance(first, OSError)
        raise usage_error(f"{first}.  {ELSEWHERE}" if local else str(first)) from raised
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if own is not None:
            drop(own, schema)


def drop(url: str, schema: str) -> None:
    """Drop the schema of the demo."""
    from ..stores.postgres.store import drop_schema

    try:
        drop_schema(url)
    except (
        Unavailable,
        ValueError,
    ) as error:  # log only: the run may have failed for the same reason
        log(f"tenure demo: cannot drop schema {schema}: {error}.  Drop it by hand if it exists")


async def _until_signal(plan: Plan, agent: str, folder: Path, server: str | None) -> DemoRun:
    playing = asyncio.current_task()
    assert playing is not None
    terminated = []

    def stop() -> None:
        terminated.append(signal.SIGTERM)
        playing.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    bar = Bar("answered", len(plan.prompts))
    try:
        return await run_demo(plan, agent, folder, bar.show, server)
    except asyncio.CancelledError:
        if terminated:
            raise CliExit(Exit.TERMINATED) from None
        raise
    finally:
        bar.close()


# -- reporting


def sentence(plan: Plan, report: Report, transcripts: TranscriptReport | None = None) -> str:
    """Return the result in words."""
    done = (
        f"{len(plan.workers)} worker processes answered {report.inputs} prompts in {report.sessions} sessions.  "
        f"During turns they were killed {times(report.kills)}, and paused {times(report.pauses)} until another "
        f"worker had taken over"
    )
    if report.holds and transcripts is not None and transcripts.holds:
        return f"{done}.  Every prompt was answered, each tool call has one result, and no once tool ran twice."
    if report.holds and transcripts is None:
        return f"{done}.  Every prompt was answered once, in order within its session, and no work was done twice."
    return f"{done}.  A check failed: see the red numbers."


def times(number: int) -> str:
    """Return a number of times in words."""
    return "once" if number == 1 else f"{number} times"


def repeat_command(plan: Plan, agent: str, server: str | None) -> str:
    """Return the command that runs this plan again, with every option that is not the default.

    A password in the URL of the server is replaced by `***`.
    """
    chosen = {
        "inputs": len(plan.prompts),
        "sessions": len({prompt.session_id for prompt in plan.prompts}),
        "workers": len(plan.workers),
        "agent": agent,
        "server": None if server is None else redact(server),
    }
    words = ["tenure", "demo", "--seed", str(plan.seed)]
    for option in demo.params:
        value = chosen.get(option.name or "")
        if value is not None and value != option.default:
            words += [option.opts[0], str(value)]
    return shlex.join(words)


def show(plan: Plan, report: Report, transcripts: TranscriptReport | None) -> None:
    """Print the report as a table."""
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right")
    table.add_column()
    table.add_column(style="dim")
    for name, meaning in MEANINGS.items():
        value = getattr(report, name)
        style = "" if name not in MUST_BE_ZERO else ("bold red" if value else "green")
        table.add_row(str(value), name.replace("_", " "), meaning, style=style)
    for name, value, meaning, style in (
        () if transcripts is None else _transcript_figures(transcripts)
    ):
        table.add_row(str(value), name, meaning, style=style)
    console.print(table)
    console.print()
    console.print(sentence(plan, report, transcripts))


def _transcript_figures(transcripts: TranscriptReport) -> Iterator[tuple[str, int, str, str]]:
    for name, meaning in TRANSCRIPT_MEANINGS.items():
        value = getattr(transcripts, name)
        style = "" if name not in ZERO else ("bold red" if value else "green")
        yield name.replace("_", " "), value, meaning, style
    for place, value in transcripts.died.items():
        yield "crashes", value, FAULT_PLACES[place], ""


def timeline_of(plan: Plan, demo_run: DemoRun, report: Report) -> Timeline:
    """Return what the HTML page shows."""
    return Timeline(
        title=f"tenure demo, seed {plan.seed}",
        sentence=sentence(plan, report),
        figures=tuple(_figures(report)),
        histories=demo_run.evidence.histories,
        holders=demo_run.holders,
        lives=demo_run.lives,
        pauses=demo_run.pauses,
        refused=tuple(
            TooLate(r.at_ms, r.worker, r.session_id, r.command, r.generation)
            for r in demo_run.evidence.refusals
        ),
    )


def _figures(report: Report) -> list[Figure]:
    return [
        Figure(
            name.replace("_", " "), getattr(report, name), meaning,
            getattr(report, name) == 0 if name in MUST_BE_ZERO else None, group,
        )
        for group, names in GROUPS.items()
        for name, meaning in MEANINGS.items()
        if name in names
    ]  # fmt: skip
