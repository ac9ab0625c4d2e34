"""`tenure check`: explore small systems; print the properties or the shortest counterexample."""

from __future__ import annotations

import gc
import time

import click

from tenure import check as check_models
from tenure.check.explorer import Progress

from .exit import Exit, usage_error
from .invoke import invoke
from .output import Bar, write_bytes

__all__ = []


class Rate:
    """Measures states per second and shows the progress; the kernel has no clock."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._started = time.monotonic()
        self._before = 0
        self._now = Progress("", 0, 0, 0, 0)

    def show(self, progress: Progress) -> None:
        if progress.name != self._now.name:
            self._before += self._now.states
            gc.collect()
        self._now = progress
        states = self._before + progress.states
        rate = states / max(time.monotonic() - self._started, 0.001)
        note = f"{progress.name}: depth {progress.depth}, {progress.frontier:,} left, {rate:,.0f}/s"
        self._bar.show(states, note)


def search(wanted: tuple[str, ...], deep: bool, mermaid: bool) -> int:
    known = check_models.names(deep=True)  # a larger system may be named without --deep
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise usage_error(f"unknown system {', '.join(unknown)}; expected {', '.join(known)}")
    bar = Bar("states", None)
    gc.disable()  # all states of a system stay alive until its end; repeated scans cost 20 %
    try:
        report = check_models.check(wanted or (known if deep else ()), Rate(bar).show)
    finally:
        gc.enable()
        bar.close()
    text = (report.mermaid() if mermaid else "") or report.text()
    write_bytes(text.encode())
    return Exit.OK if report.good else Exit.UNFINISHED


@click.command()
@click.argument("names", nargs=-1, metavar="[NAMES]")
@click.option("--list", "listed", is_flag=True, help="List the systems.")
@click.option("--deep", is_flag=True, help="Add the larger systems; takes minutes.")
@click.option(
    "--mermaid", is_flag=True, help="Print the counterexample as a Mermaid sequence diagram."
)
def check(names: tuple[str, ...], listed: bool, deep: bool, mermaid: bool) -> None:
    """Check the rules of tenure in every state of small systems.

    A system is one session or one turn: inputs arrive, and workers run, pause, crash and restart.  Answers are
    lost, leases lapse, runs fail and are cancelled.  Every order of these events is tried.

    \b
    Each system prints one line:
      ok          all properties hold in every state
      VIOLATED    a property is violated; the shortest path to such a state follows
      INCOMPLETE  the system has too many states

    "transitions" is the number of steps between states.  "depth" is the largest number of steps that a state
    needs, by its shortest path.  The properties that were checked are printed at the end.  NAMES are the
    systems to check (default: all that --list prints).

    \b
    Example:
      tenure check
      tenure check --list
      tenure check lease turn-cancel
      tenure check keys --mermaid

    \b
    Exit codes:
      0    all properties hold
      1    a property is violated
      2    no such system
      130  Ctrl-C
    """
    if listed:
        for name, description in check_models.descriptions(deep).items():
            click.echo(f"{name:14} {description}")
        return
    invoke(lambda: search(names, deep, mermaid))
