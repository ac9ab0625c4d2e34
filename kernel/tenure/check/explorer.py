"""Breadth-first search of a bounded world: every state that can be reached, each visited once.

A `Model` says what can happen next; the search shows that its *always* sentences hold in every state, that its
*sometimes* sentences are true somewhere (so that an always is not true of nothing), and that from every state the
work can still be finished.  What breaks a sentence is shown by a shortest path.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

from attrs import define, field, frozen

from .trace import Line, Trace

__all__ = ["LIMIT_DEFAULT", "STUCK", "Explored", "Progress", "explore"]


W = TypeVar("W", bound=Hashable)

LIMIT_DEFAULT: Final = 1_000_000
PROGRESS_EVERY: Final = 5_000


class Model(Protocol[W]):
    """A world that can be explored.  States are compared and hashed; `actions` must not depend on anything else."""

    @property
    def name(self) -> str: ...
    @property
    def always(self) -> tuple[str, ...]:
        """Sentences that hold in every state."""

    @property
    def sometimes(self) -> tuple[str, ...]:
        """Sentences that are true of at least one state."""

    def initial(self) -> Iterable[W]: ...
    def actions(self, world: W) -> Iterable[tuple[Any, W]]:
        """What can happen next: a label and the state after it."""

    def describe(self, label: Any) -> Line:
        """A label in words: asked only for the steps of a trace."""

    def broken(self, world: W) -> Collection[str]:
        """Those of `always` that this state breaks.  It is not explored further."""

    def seen(self, world: W) -> Collection[str]:
        """Those of `sometimes` that are true here."""

    def finished(self, world: W) -> bool:
        """Is all work done?  From every state one of these must be reachable."""

    def canonical(self, world: W) -> W:
        """The representative of all states that differ from this one in names alone."""


@frozen
class Progress:
    """How far a search is; whoever has a clock can make a rate of it."""

    name: str
    states: int
    transitions: int
    frontier: int
    depth: int


@frozen
class Explored:
    """What a search has shown.  `complete` False: the limit was met, `message` says so."""

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
        """True if the search was complete, every property holds, and every "sometimes" was seen."""
        return self.complete and not self.broken and not self.unseen and self.stuck is None

    def traces(self) -> tuple[Trace, ...]:
        """The shortest trace to each violated property, and to a state where work is stuck."""
        return (*self.broken.values(), *(() if self.stuck is None else (self.stuck,)))


STUCK: Final = "from every state with work left everything can still be finished"


@define
class _Search(Generic[W]):
    """The graph while it grows: states are numbered in the order in which they are found."""

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

    def meet(self, world: W, parent: int) -> int:
        """The number of a state, and its properties when it is met for the first time."""
        known = self.number.get(world)
        if known is not None:
            return known
        at = self.number[world] = len(self.states)
        self.states.append(world)
        self.parents.append(parent)
        broken = self.model.broken(world)
        for sentence in broken:
            self.broken.setdefault(sentence, at)
        if broken:
            self.halted.add(at)
        else:
            self.seen.update(self.model.seen(world))
            if self.model.finished(world):
                self.done.append(at)
        return at

    def run(self, progress: Callable[[Progress], object] | None, first_only: bool) -> bool:
        for world in self.model.initial():
            self.meet(self.model.canonical(world), -1)
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
        canonical = self.model.canonical
        own = self.number[self.states[at]]
        for _, after in self.model.actions(self.states[at]):
            target = self.meet(canonical(after), own)
            self.sources.append(own)
            self.targets.append(target)

    def report(self, at: int) -> Progress:
        frontier = len(self.states) - at
        return Progress(self.model.name, len(self.states), len(self.targets), frontier, self.depth)

    def stuck(self) -> list[int]:
        """States that no path leads from to a finished one: backwards from the finished ones."""
        back: list[list[int]] = [[] for _ in self.states]
        for source, target in zip(self.sources, self.targets, strict=True):
            back[target].append(source)
        alive = bytearray(len(self.states))
        work = list(self.done)
        for at in [*self.done, *self.halted]:  # what is broken is reported as such
            alive[at] = 1
        work += self.halted
        while work:
            for source in back[work.pop()]:
                if not alive[source]:
                    alive[source] = 1
                    work.append(source)
        return [at for at, live in enumerate(alive) if not live]

    def trace(self, at: int, sentence: str) -> Trace:
        """A shortest path, told again from the start without renaming, so that names stay the same."""
        path: list[W] = []
        while at >= 0:
            path.append(self.states[at])
            at = self.parents[at]
        path.reverse()
        canonical = self.model.canonical
        world = next(w for w in self.model.initial() if canonical(w) == path[0])
        lines: list[Line] = []
        for goal in path[1:]:
            label, world = next(
                (label, after)
                for label, after in self.model.actions(world)
                if canonical(after) == goal
            )
            lines.append(self.model.describe(label))
        return Trace(self.model.name, sentence, tuple(lines))


def explore(
    model: Model[W],
    limit: int = LIMIT_DEFAULT,
    progress: Callable[[Progress], object] | None = None,
    first_only: bool = False,
) -> Explored:
    """Visit every state of a model.  At more than `limit` states it gives up and says so.

    `first_only`: stop at the first broken sentence, which is one with a shortest path.
    """
    search = _Search(model, limit)
    complete = search.run(progress, first_only)
    message = ""
    if not complete and not (first_only and search.broken):
        message = (
            f"{model.name}: gave up at {len(search.states):,} states; "
            "raise the limit or make the world smaller"
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
        search.trace(stuck[0], STUCK) if stuck else None,
        len(stuck),
    )
