"""`tenure demo`: 200 prompts, workers killed and paused in the middle of turns, and what the database says afterwards."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
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
from ..cli.invoke import invoke
from ..cli.output import Bar, log
from ..console.timeline.page import Figure, Timeline, TooLate, page
from ..stores.base import Unavailable
from ..stores.url import is_server, redact
from .chat import FAULT_PLACES
from .driver import DemoRun, run_demo
from .plan import Plan, draw
from .report import GROUPS, MEANINGS, MUST_BE_ZERO, Report, report_on
from .transcript_report import TRANSCRIPT_MEANINGS, ZERO, TranscriptReport

SEEDS: Final = 1_000_000
AGENTS: Final = ("ledger", "careless", "script")


def known_agent(ctx: click.Context, parameter: click.Parameter, name: str) -> str:
    if name in AGENTS:
        return name
    if not name.startswith("openai"):
        raise click.BadParameter(f"{name!r}: known are {', '.join(AGENTS)}, openai:MODEL")
    from ..agents.openai import openai_model

    try:
        openai_model(name)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return name


def known_server(ctx: click.Context, parameter: click.Parameter, url: str | None) -> str | None:
    if url is not None and (not is_server(url) or "tenure_schema=" in url):
        raise click.BadParameter(
            f"{redact(url)!r}: known is postgresql://HOST/DATABASE, without a schema: it makes its own"
        )
    return url


@click.command(short_help="See sessions survive kills and pauses, in half a minute.")
@click.option("--seed", type=int, help="Play the same plan again; drawn and printed otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page with the timeline of every session.",
)  # fmt: skip
@click.option("--inputs", type=click.IntRange(1, 5000), default=200, show_default=True)
@click.option("--sessions", type=click.IntRange(1, 500), default=20, show_default=True)
@click.option("--workers", type=click.IntRange(2, 16), default=3, show_default=True)
@click.option(
    "--agent", default=AGENTS[0], show_default=True, metavar="AGENT", callback=known_agent,
    help="ledger | careless: without a once-step, to see the report turn red | script: a model and "
    "its tools, without a server | openai:MODEL: the same with one.",
)  # fmt: skip
@click.option(
    "--store",
    "server",
    metavar="URL",
    callback=known_server,
    help="postgresql://HOST/DATABASE: there, in a schema of its own that is dropped in the end.",
)
def demo(
    seed: int | None, as_json: bool, html: Path | None,
    inputs: int, sessions: int, workers: int, agent: str, server: str | None,
) -> None:  # fmt: skip
    """Prompts are put to sessions on a temporary SQLite file, or on a server, and worker processes answer them.

    For each prompt a worker appends a line to a ledger file, in a step that must happen once, then commits an
    answer.  Meanwhile workers are killed with SIGKILL in the middle of turns and started again, or stopped for
    longer than their leases last and woken, so that they come back as somebody who has lost everything.

    With --agent script or openai:MODEL a model answers instead, and uses tools: one of them writes to the ledger,
    once.  Processes then also die of themselves at instants that nobody could aim at: inside a model call, between a
    call and its tool, inside a once tool, between a report and its checkpoint.

    What is reported is read from the database and the ledger.  The exit code is 1 unless nothing was lost,
    repeated, or answered out of order, and each tool call has exactly one result.

    The seed decides the plan: prompts, sessions, and after how many answers who is killed or paused in which part
    of a turn.  It does not decide how fast your machine is, hence which turn is hit and how many are taken over.
    """
    if html is not None:
        check_writable(html)
    seed = random.randrange(SEEDS) if seed is None else seed
    plan = draw(seed, inputs, min(sessions, inputs), workers)
    invoke(lambda: play(plan, agent, server, html, as_json))


def check_writable(path: Path) -> None:
    """Before anything is played, not after."""
    try:
        path.touch()
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", param_hint="--html") from error


# -- playing


def play(plan: Plan, agent: str, server: str | None, html: Path | None, as_json: bool) -> Exit:
    demo_run = run_plan(plan, agent, server)
    report, transcripts = report_on(demo_run.evidence), demo_run.transcripts
    if transcripts is not None and agent != "script":  # a model may not do as it is told
        report = replace(report, missing=0)
    if html is not None:
        html.write_text(page(timeline_of(plan, demo_run, report)), encoding="utf-8")
    if as_json:
        extra = {} if transcripts is None else {"transcripts": transcripts.as_json()}
        click.echo(json.dumps({"seed": plan.seed, **report.as_json(), **extra}))
    else:
        show(plan, report, html, transcripts, agent)
    holds = report.holds and (transcripts is None or transcripts.holds)
    return Exit.OK if holds else Exit.UNFINISHED


def run_plan(plan: Plan, agent: str, server: str | None = None) -> DemoRun:
    """Leaves no process, no file and no schema behind, also when it is interrupted."""
    folder = Path(tempfile.mkdtemp(prefix="tenure-demo-"))
    schema = f"tenure_demo_{secrets.token_hex(6)}"
    own = (
        None if server is None else f"{server}{'&' if '?' in server else '?'}tenure_schema={schema}"
    )
    try:
        return asyncio.run(_until_signal(plan, agent, folder, own))
    except (Unavailable, ValueError) as error:
        raise usage_error(str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if own is not None:
            drop(own, schema)


def drop(url: str, schema: str) -> None:
    from ..stores.postgres.store import drop_schema

    try:
        drop_schema(url)
    except (Unavailable, ValueError) as error:  # what was wrong before this is said already
        log(f"tenure demo: if schema {schema} was made, it is still there: {error}")


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


# -- telling


def sentence(plan: Plan, report: Report, transcripts: TranscriptReport | None = None) -> str:
    done = (
        f"{report.inputs} prompts to {report.sessions} sessions were answered by "
        f"{len(plan.workers)} worker processes, which were killed {report.kills} times in the middle of "
        f"turns and stopped {report.pauses} times until others had taken over"
    )
    if report.holds and transcripts is not None and transcripts.holds:
        return f"{done}.  Every prompt was answered, each tool call has one result, and no once tool ran twice."
    if report.holds and transcripts is None:
        return f"{done}.  Every prompt was answered once, in order within its session, and no work was done twice."
    return f"{done}.  Something went wrong: see the red numbers."


def show(
    plan: Plan, report: Report, html: Path | None, transcripts: TranscriptReport | None, agent: str
) -> None:
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
    chosen = "" if agent == AGENTS[0] else f" --agent {agent}"
    again = f"Again: tenure demo --seed {plan.seed}{chosen}"
    console.print(
        f"{again}  Timeline: {html}" if html else f"{again} --html demo.html", style="dim"
    )


def _transcript_figures(transcripts: TranscriptReport) -> Iterator[tuple[str, int, str, str]]:
    for name, meaning in TRANSCRIPT_MEANINGS.items():
        value = getattr(transcripts, name)
        style = "" if name not in ZERO else ("bold red" if value else "green")
        yield name.replace("_", " "), value, meaning, style
    for place, value in transcripts.died.items():
        yield "died", value, FAULT_PLACES[place], ""


def timeline_of(plan: Plan, demo_run: DemoRun, report: Report) -> Timeline:
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
