"""`tenure check`: search the worlds of the rules, and print what was shown or the shortest counterexample."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

import click

from tenure.check.explorer import Explored, Progress

from .output import Bar, say, write_bytes
from .trouble import Exit, Stop, unusable


def find_check() -> Callable[..., Any]:
    """`check(names, progress, deep=...)` of the kernel: a report with `good` and `explored`."""
    found = getattr(importlib.import_module("tenure.check"), "check", None)
    if not callable(found):
        raise unusable("the kernel that is installed has no worlds to search")
    return found  # type: ignore[no-any-return]


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
        self._now = progress
        states = self._before + progress.states
        rate = states / max(time.monotonic() - self._started, 0.001)
        note = f"{progress.name}: depth {progress.depth}, {progress.frontier:,} left, {rate:,.0f}/s"
        self._bar.show(states, note)


def told(one: Explored, mermaid: bool) -> list[str]:
    if one.message:
        return [one.message]
    lines = []
    if one.good:
        counted = f"{one.states:,} states, {one.transitions:,} transitions, depth {one.depth}"
        lines = [f"{one.name}: shown, {counted}", *[f"     {sentence}" for sentence in one.always]]
    lines += [f"{one.name}: never seen: {sentence}" for sentence in one.unseen]
    for trace in one.traces():
        lines += (trace.mermaid() if mermaid else trace.text()).splitlines()
    return lines


def search(names: tuple[str, ...], deep: bool, mermaid: bool) -> int:
    bar = Bar("states", None)
    try:
        report = find_check()(names, Rate(bar).show, deep=deep)
    except ValueError as error:
        raise unusable(str(error)) from error
    finally:
        bar.close()
    lines = [line for one in report.explored for line in told(one, mermaid)]
    write_bytes("".join(f"{line}\n" for line in lines).encode())
    return Exit.OK if report.good else Exit.UNFINISHED


@click.command()
@click.argument("names", nargs=-1, metavar="[NAMES]")
@click.option("--deep", is_flag=True, help="Larger worlds; takes minutes.")
@click.option("--mermaid", is_flag=True, help="Counterexamples as Mermaid sequence diagrams.")
def check(names: tuple[str, ...], deep: bool, mermaid: bool) -> None:
    """Search everything that can happen in small worlds, and show that the rules hold.

    \b
    Each world is a session with two or three workers that pause, crash and return, inputs, withdrawals,
    failures, lost answers and stale writers. Every state that can be reached is visited; what is
    printed was true in all of them. If something is broken, the shortest way there is printed instead.
    NAMES are the worlds to search; without one, all of them.

    \b
    Example:
      tenure check
      tenure check lease --mermaid

    \b
    Exit codes: 0 everything was shown, 1 something is broken, 2 no such world, 130 Ctrl-C.
    """
    try:
        code = search(names, deep, mermaid)
    except Stop as stop:
        for line in stop.lines:
            say(f"tenure check: {line}")
        code = stop.code
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    raise SystemExit(int(code))
