"""`python -m tests.bench`: a table a part, as soon as it is measured.  Ratios count; absolute figures are this machine's."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import click
from attrs import evolve, frozen
from rich.console import Console

from tenure.check.session.configs import FAILURE

from . import growth, history, machine, page, shares, stores, wake
from .children import WARM_S
from .environment import Environment, environment, own_versions
from .measure import Failed, Figure
from .report import Part, Report, machine_facts, show
from .servers import databases
from .stores import Bench, Section

SPECS = Path(__file__).resolve().parent.parent.parent / "specs"


@frozen
class Size:
    """How much is measured."""

    deepest: int
    reopened: int
    wakes: int


def kernel(bench: Bench, size: Size) -> Section:
    return each(
        {
            "rows": machine.rows,
            "steps": lambda: machine.steps(bench),
            "decisions": lambda: machine.decisions(bench),
            "explorer": lambda: machine.explored(bench, FAILURE),
        }
    )


def growing(bench: Bench, size: Size) -> Section:
    unfinished = max(1, size.reopened // 100)
    return each(
        growth.curves(bench, size.deepest)
        | {
            "burst": lambda: growth.burst(bench, min(size.deepest, 100_000)),
            "reopening": lambda: growth.reopening(bench, size.reopened, unfinished),
            "waiting": lambda: growth.waiting_sessions(bench, size.reopened),
        }
    )


def each(sections: Mapping[str, Callable[[], Section]]) -> Section:
    """What one of them cannot do is no reason to leave out the others."""
    found: list[Figure] = []
    failed: list[Failed] = []
    for name, section in sections.items():
        try:
            figures, missing = section()
        except Exception as error:
            failed.append(Failed(name, f"{type(error).__name__}: {error}"))
        else:
            found += figures
            failed += missing
    return found, failed


PARTS: dict[str, Callable[[Bench, Size], Section]] = {
    "kernel": kernel,
    "memory": lambda bench, size: stores.memory(bench),
    "files": lambda bench, size: stores.files(bench),
    "sqlite": lambda bench, size: stores.sqlite(bench),
    "postgres": lambda bench, size: stores.postgres(bench),
    "growth": growing,
    "history": lambda bench, size: history.section(bench),
    "wake": lambda bench, size: wake.section(bench, size.wakes),
    "shares": lambda bench, size: shares.section(bench),
}
SERVED = {"postgres", "growth", "history", "wake"}  # these have rows on a server


def measure(report: Report, name: str, bench: Bench, size: Size, server: str) -> Part:
    """Whatever goes wrong is a row of its table; what other parts have measured stays."""
    part = Part(name)
    report.parts.append(part)
    if name in SERVED and bench.databases is None:
        part.failed.append(Failed("everything on PostgreSQL", server))
        if name == "postgres":
            return part
    figures, failed = each({name: lambda: PARTS[name](bench, size)})
    part.figures += figures
    part.failed += failed
    return part


def run(
    report: Report, bench: Bench, size: Size, wanted: tuple[str, ...], dsn: str | None,
    keep: Callable[[Part], None],
) -> None:  # fmt: skip
    """Measure part after part; `keep` is told of each as soon as it is over."""
    server = ""
    with contextlib.ExitStack() as stack:
        if SERVED & set(wanted):
            try:
                bench = evolve(bench, databases=stack.enter_context(databases(dsn)))
            except Exception as error:
                server = f"no server: {error}"
        if bench.databases is not None:
            report.facts["postgres"] = {
                "version": bench.databases.version(), **bench.databases.settings()
            }  # fmt: skip
        for name in wanted:
            part = measure(report, name, bench, size, server)
            if bench.environment is not None:
                report.facts["versions"] = own_versions() | bench.environment.versions()
            keep(part)


def picture(report: Report, json_file: Path, env: Environment, console: Console) -> None:
    """The page, and its picture if what draws it can be had."""
    why = page.draw(json_file, SPECS / "figures.svg", env)
    (SPECS / "figures.md").write_text(page.text(report, drawn=why is None), encoding="utf-8")
    console.print(f"written: {SPECS.name}/figures.md" + ("" if why else ", figures.svg"))
    if why:
        console.print(f"[red]no picture: {why}[/]")


@click.command()
@click.option(
    "--part", "parts", multiple=True, type=click.Choice(list(PARTS)), help="Default: all."
)
@click.option("--rounds", default=5, show_default=True, help="Each case once a round.")
@click.option("--seconds", default=1.0, show_default=True, help="A case, a round.")
@click.option(
    "--quick", is_flag=True, help="Two short rounds, a shorter ladder: under ten minutes."
)
@click.option(
    "--deepest", default=1_000_000, show_default=True, help="Inputs in the deepest inbox."
)
@click.option(
    "--postgres", "dsn", help="A server with nothing else to do; default: one of our own."
)
@click.option(
    "--no-peers", is_flag=True, help="Install nothing, measure tenure and the floors alone."
)
@click.option(
    "--keep-env", type=click.Path(path_type=Path), help="Keep what peers are installed in here."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures too.")
@click.option("--page", "paged", is_flag=True, help="Write specs/figures.md and its picture.")
@click.option(
    "--read",
    type=click.Path(path_type=Path, exists=True),
    help="Measure nothing: figures of --json.",
)
def main(
    parts: tuple[str, ...], rounds: int, seconds: float, quick: bool, deepest: int,
    dsn: str | None, no_peers: bool, keep_env: Path | None, json_file: Path | None, paged: bool,
    read: Path | None,
) -> None:  # fmt: skip
    """Measure tenure beside raw floors and beside peers, in the same run."""
    console, began = Console(width=190), time.monotonic()
    size = Size(deepest, 100_000, 100)
    if quick:
        rounds, seconds = min(rounds, 2), min(seconds, 0.5)
        size = Size(min(deepest, 100_000), 10_000, 30)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        env = stack.enter_context(environment(keep_env))
        kept = json_file or folder / "figures.json"
        report = Report() if read is None else Report.read(read)
        if read is None:
            status = stack.enter_context(Console(stderr=True).status("starting"))
            bench = Bench(
                folder, rounds, seconds, lambda text: status.update(text),
                environment=None if no_peers else env,
            )  # fmt: skip
            report.facts = {
                "machine": machine_facts(folder),
                "how": {"rounds": rounds, "seconds": seconds, "warm_s": WARM_S, "quick": quick},
                "versions": own_versions(),
            }

            def keep(part: Part) -> None:
                report.facts["how"]["minutes"] = round((time.monotonic() - began) / 60, 1)
                report.write(kept)
                show(console, part)

            run(report, bench, size, parts or tuple(PARTS), dsn, keep)
            status.stop()
        else:
            report.write(kept)
            for part in report.parts:
                show(console, part)
        if paged:
            picture(report, kept, env, console)
    if not report.whole:
        failed = [f"{p.name}: {f.name}: {f.why}" for p in report.parts for f in p.failed]
        console.print("not measured:\n" + "\n".join(failed), markup=False, style="red")
        sys.exit(1)


if __name__ == "__main__":
    main()
