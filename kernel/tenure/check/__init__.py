"""Checking: worlds that are searched, and what was shown of them.  `tenure check` prints it.

`check()` searches the bounded worlds of a session and answers with a report; nothing here prints, sleeps or looks at
a clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from attrs import field, frozen

from .explorer import LIMIT_DEFAULT, Explored, Progress, explore
from .session_state import Setting
from .session_world import SessionWorld
from .trace import Line, Trace
from .worlds import BY_NAME, DEEP, DEFAULT

__all__ = [
    "Explored",
    "Line",
    "Progress",
    "Report",
    "SessionWorld",
    "Setting",
    "Shown",
    "Trace",
    "check",
    "explore",
    "names",
    "search",
]


@frozen
class Shown:
    """One world: what it is for, what was found, and how often each clause was the answer."""

    says: str
    explored: Explored
    decisions: int
    clauses: Mapping[str, int] = field(factory=dict)

    def line(self) -> str:
        e = self.explored
        verdict = "ok" if e.good else ("BROKEN" if e.complete else "INCOMPLETE")
        return (
            f"{verdict:10} {e.name:22} {e.states:>9,} states {e.transitions:>11,} steps "
            f"{self.decisions:>9,} decisions, {e.depth} deep: {self.says}"
        )


@frozen
class Report:
    worlds: tuple[Shown, ...]

    @property
    def good(self) -> bool:
        return all(shown.explored.good for shown in self.worlds)

    @property
    def clauses(self) -> Counter[str]:
        """How often each clause was answered, over all worlds."""
        total: Counter[str] = Counter()
        for shown in self.worlds:
            total.update(shown.clauses)
        return total

    def traces(self) -> tuple[Trace, ...]:
        return tuple(trace for shown in self.worlds for trace in shown.explored.traces())

    def shortest(self) -> Trace | None:
        return min(self.traces(), key=lambda trace: len(trace.lines), default=None)

    def text(self) -> str:
        """What was shown; or how it is broken, in the fewest steps."""
        lines = [shown.line() for shown in self.worlds]
        for shown in self.worlds:
            e = shown.explored
            lines += [e.message] if e.message else []
            lines += [f"{e.name}: never seen: {sentence}" for sentence in e.unseen]
        trace = self.shortest()
        if trace is not None:
            return "\n".join([*lines, "", trace.text()]) + "\n"
        sentences = dict.fromkeys(s for shown in self.worlds for s in shown.explored.always)
        states = sum(shown.explored.states for shown in self.worlds)
        lines += ["", f"In all of {states:,} states:", *(f"  - {s}" for s in sentences)]
        lines.append("  - from every state with work left everything can still be finished")
        return "\n".join(lines) + "\n"

    def mermaid(self) -> str:
        """The shortest counterexample as a sequence diagram; empty if there is none."""
        trace = self.shortest()
        return "" if trace is None else trace.mermaid()


def names(deep: bool = False) -> tuple[str, ...]:
    return tuple(setting.name for setting in (DEEP if deep else DEFAULT))


def search(
    setting: Setting,
    progress: Callable[[Progress], object] | None = None,
    limit: int = LIMIT_DEFAULT,
    first_only: bool = False,
) -> Shown:
    """Search one world of a session."""
    world = SessionWorld(setting)
    explored = explore(world, limit, progress, first_only)
    return Shown(setting.says, explored, world.docket.decisions, world.docket.clauses)


def check(
    names: Iterable[str] = (),
    progress: Callable[[Progress], object] | None = None,
    limit: int = LIMIT_DEFAULT,
) -> Report:
    """Search the worlds of these names; without any, the default ones.  KeyError: no such world."""
    settings = [BY_NAME[name] for name in names] or list(DEFAULT)
    return Report(tuple(search(setting, progress, limit) for setting in settings))
