"""Checking: worlds that are searched, and what was shown of them.  `tenure check` prints it.

`check()` searches the bounded worlds of a session and of a turn and answers with a report; nothing here prints,
sleeps or looks at a clock.  A long search allocates much and leaves no garbage: whoever runs one may switch the
collection of cycles off meanwhile and save a third of the time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from attrs import field, frozen

from ..replace import replace
from .explorer import LIMIT_DEFAULT, Explored, Progress, explore
from .session.configs import DEFAULT
from .session.configs_deep import DEEP
from .session.model import SessionModel
from .session.states import ModelConfig
from .trace import Line, Trace
from .turn.model import CONFIGS as TURNS
from .turn.model import TurnModel

__all__ = [
    "Explored",
    "Line",
    "Progress",
    "Report",
    "SessionModel",
    "ModelConfig",
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

    description: str
    explored: Explored
    decisions: int = 0
    clauses: Mapping[str, int] = field(factory=dict)

    def line(self) -> str:
        """One line for the report."""
        e = self.explored
        verdict = "ok" if e.good else ("BROKEN" if e.complete else "INCOMPLETE")
        return (
            f"{verdict:10} {e.name:16} {e.states:>9,} states {e.transitions:>11,} steps, "
            f"{e.depth} deep: {self.description}"
        )


@frozen
class Report:
    """What `check` has shown of every model that it searched."""

    worlds: tuple[Shown, ...]

    @property
    def good(self) -> bool:
        """True if the result of every model is good."""
        return all(shown.explored.good for shown in self.worlds)

    @property
    def explored(self) -> tuple[Explored, ...]:
        """The results of the models, in the order searched."""
        return tuple(shown.explored for shown in self.worlds)

    @property
    def clauses(self) -> Counter[str]:
        """How often each clause was answered, over all worlds."""
        total: Counter[str] = Counter()
        for shown in self.worlds:
            total.update(shown.clauses)
        return total

    def traces(self) -> tuple[Trace, ...]:
        """The traces of all models."""
        return tuple(trace for explored in self.explored for trace in explored.traces())

    def shortest(self) -> Trace | None:
        """The shortest trace of all; None if nothing was violated."""
        return min(self.traces(), key=lambda trace: len(trace.lines), default=None)

    def text(self) -> str:
        """What was shown; or how it is broken, in the fewest steps."""
        lines = [shown.line() for shown in self.worlds]
        for e in self.explored:
            lines += [e.message] if e.message else []
            lines += [f"{e.name}: never seen: {sentence}" for sentence in e.unseen]
        trace = self.shortest()
        if trace is not None:
            return "\n".join([*lines, "", trace.text()]) + "\n"
        sentences = dict.fromkeys(s for explored in self.explored for s in explored.always)
        states = sum(explored.states for explored in self.explored)
        lines += ["", f"In all of {states:,} states:", *(f"  - {s}" for s in sentences)]
        lines.append("  - from every state with work left everything can still be finished")
        return "\n".join(lines) + "\n"

    def mermaid(self) -> str:
        """The shortest counterexample as a sequence diagram; empty if there is none."""
        trace = self.shortest()
        return "" if trace is None else trace.mermaid()


def search(
    setting: ModelConfig,
    progress: Callable[[Progress], object] | None = None,
    limit: int = LIMIT_DEFAULT,
    first_only: bool = False,
) -> Shown:
    """Search one world of a session."""
    world = SessionModel(setting)
    explored = explore(world, limit, progress, first_only)
    return Shown(
        setting.description, explored, world.transitions.decisions, world.transitions.clauses
    )


def search_turn(
    setting: Any,
    progress: Callable[[Progress], object] | None = None,
    limit: int = LIMIT_DEFAULT,
) -> Shown:
    """Search one world of a turn."""
    explored = explore(TurnModel(setting), limit, progress)
    return Shown(setting.description, replace(explored, name=f"turn-{setting.name}"))


Search = Callable[..., Shown]
SESSIONS: Final[dict[str, Search]] = {s.name: partial(search, s) for s in DEFAULT}
LARGE: Final[dict[str, Search]] = {s.name: partial(search, s) for s in DEEP}
SMALL: Final[dict[str, Search]] = SESSIONS | {
    f"turn-{s.name}": partial(search_turn, s) for s in TURNS
}


def names(deep: bool = False) -> tuple[str, ...]:
    """The names of the models; `deep` adds the larger ones."""
    return tuple(SMALL | LARGE if deep else SMALL)


def check(
    names: Iterable[str] = (),
    progress: Callable[[Progress], object] | None = None,
    deep: bool = False,
    limit: int = LIMIT_DEFAULT,
) -> Report:
    """Search the worlds of these names; without any, the small ones, `deep`: the large ones too.

    ValueError: no such world.
    """
    known = SMALL | LARGE
    chosen = list(names) or list(known if deep else SMALL)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ValueError(f"no such world: {', '.join(unknown)}; there are {', '.join(known)}")
    return Report(tuple(known[name](progress, limit) for name in chosen))
