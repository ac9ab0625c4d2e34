"""`tenure check`: search the worlds of the rules, and print what was shown or the shortest counterexample."""

from __future__ import annotations

import gc
import time

import click

from tenure import check as check_models
from tenure.check.explorer import Progress

from .exit import Exit, usage_error
from .invoke import invoke
from .output import Bar, write_bytes


class Rate:
    """States a second: the kernel has no clock."""

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
    known = check_models.names(deep=True)  # the small ones too
    strange = [name for name in wanted if name not in known]
    if strange:
        raise usage_error(f"no world {', '.join(strange)}; there are {', '.join(known)}")
    bar = Bar("states", None)
    gc.disable()  # a world is kept until it is done: to walk it all again and again takes a fifth
    try:
        report = check_models.check(wanted or (known if deep else ()), Rate(bar).show)
    finally:
        gc.enable()
        bar.close()
    text = report.mermaid() if mermaid and not report.good else report.text()
    write_bytes(text.encode())
    return Exit.OK if report.good else Exit.UNFINISHED


@click.command()
@click.argument("names", nargs=-1, metavar="[NAMES]")
@click.option("--list", "listed", is_flag=True, help="Print the names of the worlds.")
@click.option("--deep", is_flag=True, help="The larger worlds too; takes minutes.")
@click.option("--mermaid", is_flag=True, help="A counterexample as a Mermaid sequence diagram.")
def check(names: tuple[str, ...], listed: bool, deep: bool, mermaid: bool) -> None:
    """Search everything that can happen in small worlds, and show that the rules hold.

    \b
    Each world is a session with two or three workers that pause, crash and return, inputs, withdrawals,
    failures, lost answers and stale writers. Every state that can be reached is visited; what is
    printed was true in all of them. If something is broken, the shortest way there is printed instead.
    NAMES are the worlds to search; without one, all of them.

    \b
    Example:
      tenure check
      tenure check --list
      tenure check journal --mermaid

    \b
    Exit codes: 0 everything was shown, 1 something is broken, 2 no such world, 130 Ctrl-C.
    """
    if listed:
        for name in check_models.names(deep):
            click.echo(name)
        return
    invoke(lambda: search(names, deep, mermaid))
