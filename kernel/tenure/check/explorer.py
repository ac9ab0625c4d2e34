"""Breadth-first search of a small system: visits every reachable state once.

A `Model` says which actions are possible in a state.  The search checks that

- each property in `always` holds in every state,
- each property in `sometimes` holds in at least one state, so that no `always` property is checked in too few states,
- from every state a finished state is reachable.

Each violation has a trace: a shortest path from an initial state.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

from attrs import define, field, frozen

from .trace import Line, Trace

__all__ = ["CAN_FINISH", "LIMIT_DEFAULT", "Explored", "Model", "Progress", "explore"]


W = TypeVar("W", bound=Hashable)

LIMIT_DEFAULT: Final = 1_000_000
PROGRESS_EVERY: Final = 5_000


class Model(Protocol[W]):
    """A small system that can be explored.

    A subclass defines `always`, `initial`, `actions`, `broken` and `finished`; the rest has defaults.  States are
    compared and hashed.  All methods depend on the state alone.
    """

    @property
    def name(self) -> str:
        """The name in reports."""
        return type(self).__name__

    @property
    def always(self) -> tuple[str, ...]:
        """The names of the properties that must hold in every state."""

    @property
    def sometimes(self) -> tuple[str, ...]:
        """The names of the properties that must hold in at least one state."""
        return ()

    def initial(self) -> Iterable[W]:
        """Return the states that the search starts from."""

    def actions(self, state: W) -> Iterable[tuple[Any, W]]:
        """Return every action that is possible in a state: a label, and the state after it."""

    def describe(self, label: Any) -> Line:
        """Return the line of a trace for a label."""
        return Line("", str(label))

    def broken(self, state: W) -> Collection[str]:
        """Return the `always` properties that a state violates.  Such a state is not explored further."""

    def seen(self, state: W) -> Collection[str]:
        """Return the `sometimes` properties that hold in a state."""
        return ()

    def finished(self, state: W) -> bool:
        """Return True if all work is done.  From every state such a state must be reachable."""

    def canonical(self, state: W) -> W:
        """Return one representative of all states that differ only in names."""
        return state


@frozen
class Progress:
    """How far a search is."""

    name: str
    states: int
    transitions: int
    frontier: int
    depth: int


@frozen
class Explored:
    """The result of a search.  If it stopped at its limit, `complete` is False and `message` says so."""

    name: str
    states: int
    transitions: int
    depth: int
    complete: bool
    message: str
    always: tuple[str, ...]
    broken: Mapping[str, Trace] = field(factory=dict)
    unseen: tuple[str, ...] = ()
    stuck: Trace | None = None
    stuck_states: int = 0

    @property
    def good(self) -> bool:
        """True if the search was complete and found no violation."""
        return self.complete and not self.broken and not self.unseen and self.stuck is None

    def traces(self) -> tuple[Trace, ...]:
        """Return a shortest trace to each violated property, and to a state where work is stuck."""
        return (*self.broken.values(), *(() if self.stuck is None else (self.stuck,)))


CAN_FINISH: Final = "all work can be finished from every state"


@define
class _Search(Generic[W]):
    """A search in progress.  States are numbered in the order in which they are found."""

    model: Model[W]
    limit: int
    number: dict[W, int] = field(factory=dict)
    states: list[W] = field(factory=list)
    parents: list[int] = field(factory=list)
    sources: list[int] = field(factory=list)
    targets: list[int] = field(factory=list)
    broken: dict[str, int] = field(factory=dict)
    halted: set[int] = field(factory=set)
    seen: set[str] = field(factory=set)
    done: list[int] = field(factory=list)
    depth: int = 0

    def visit(self, state: W, parent: int) -> int:
        """Return the number of a state.  Check its properties if it is new."""
        known = self.number.get(state)
        if known is not None:
            return known
        at = self.number[state] = len(self.states)
        self.states.append(state)
        self.parents.append(parent)
        broken = self.model.broken(state)
        for name in broken:
            self.broken.setdefault(name, at)
        if broken:
            self.halted.add(at)
        else:
            self.seen.update(self.model.seen(state))
            if self.model.finished(state):
                self.done.append(at)
        return at

    def run(self, progress: Callable[[Progress], object] | None, first_only: bool) -> bool:
        """Visit every state.  Return False if the search stopped early."""
        for state in self.model.initial():
            self.visit(self.model.canonical(state), -1)
        at, level_end = 0, len(self.states)
        while at < len(self.states):
            if at == level_end:
                self.depth, level_end = self.depth + 1, len(self.states)
            if len(self.states) > self.limit:
                return False
            if progress is not None and at % PROGRESS_EVERY == 0:
                progress(self.report(at))
            if at not in self.halted:
                self.expand(at)
            if first_only and self.broken:
                return False
            at += 1
        if progress is not None:
            progress(self.report(at))
        return True

    def expand(self, at: int) -> None:
        """Visit the states after a state."""
        canonical = self.model.canonical
        own = self.number[self.states[at]]
        for _, after in self.model.actions(self.states[at]):
            target = self.visit(canonical(after), own)
            self.sources.append(own)
            self.targets.append(target)

    def report(self, at: int) -> Progress:
        frontier = len(self.states) - at
        return Progress(self.model.name, len(self.states), len(self.targets), frontier, self.depth)

    def stuck(self) -> list[int]:
        """Return the states from which no finished state is reachable, by a search backwards."""
        back: list[list[int]] = [[] for _ in self.states]
        for source, target in zip(self.sources, self.targets, strict=True):
            back[target].append(source)
        can_finish = bytearray(len(self.states))
        work = list(self.done)
        for at in [*self.done, *self.halted]:  # a violation is reported for itself
            can_finish[at] = 1
        work += self.halted
        while work:
            for source in back[work.pop()]:
                if not can_finish[source]:
                    can_finish[source] = 1
                    work.append(source)
        return [at for at, can in enumerate(can_finish) if not can]

    def trace(self, at: int, name: str) -> Trace:
        """Return a shortest path.  It is replayed without `canonical`, so that names stay the same."""
        path: list[W] = []
        while at >= 0:
            path.append(self.states[at])
            at = self.parents[at]
        path.reverse()
        canonical = self.model.canonical
        state = next(each for each in self.model.initial() if canonical(each) == path[0])
        lines: list[Line] = []
        for goal in path[1:]:
            label, state = next(
                (label, after)
                for label, after in self.model.actions(state)
                if canonical(after) == goal
            )
            lines.append(self.model.describe(label))
        return Trace(self.model.name, name, tuple(lines))


def explore(
    model: Model[W],
    limit: int = LIMIT_DEFAULT,
    progress: Callable[[Progress], object] | None = None,
    first_only: bool = False,
) -> Explored:
    """Search a system.  Stop when it has more than `limit` states.

    `progress` is called every few thousand states.  `first_only`: stop at the first violation.
    """
    search = _Search(model, limit)
    complete = search.run(progress, first_only)
    message = ""
    if not complete and not (first_only and search.broken):
        message = (
            f"{model.name}: stopped at {len(search.states):,} states; "
            "raise the limit or make the system smaller"
        )
    broken = {name: search.trace(at, name) for name, at in sorted(search.broken.items())}
    stuck = search.stuck() if complete else []
    return Explored(
        model.name,
        len(search.states),
        len(search.targets),
        search.depth,
        complete,
        message,
        tuple(model.always),
        broken,
        tuple(s for s in model.sometimes if s not in search.seen) if complete else (),
        search.trace(stuck[0], CAN_FINISH) if stuck else None,
        len(stuck),
    )
