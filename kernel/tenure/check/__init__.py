"""Explore small systems: every reachable state of a small session or turn.

`check` explores the systems that `tenure check` lists, and returns a report.  `explore` explores any system that is
written as a `Model`; the guide *Test your agent* shows how to write one.

Nothing here prints, sleeps or reads a clock.  A search allocates many objects and no reference cycles.  `gc.disable()`
during a search saves about a third of its time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

from attrs import field, frozen

from .attachments import ATTACH, ATTACH_TWO_RUNS, AttachConfig, AttachModel
from .explorer import CAN_FINISH, LIMIT_DEFAULT, Explored, Model, Progress, explore
from .jobs import JOB_SYSTEMS, JOB_SYSTEMS_DEEP, JobModel, JobSystem
from .outbound import OUTBOUND_DEEP, OUTBOUND_SYSTEM, OutboundModel, OutboundSystem
from .pruning import SYSTEMS as PRUNING
from .pruning import PruneModel, PruneSystem
from .session.configs import DEFAULT
from .session.configs_deep import DEEP
from .session.hiding_model import HidingModel
from .session.model import SessionModel
from .session.resealing_model import ResealModel
from .session.states import ModelConfig
from .trace import Line, Trace
from .triggers import TRIGGER_SYSTEMS, TriggerModel, TriggerSystem
from .turn.model import CONFIGS as TURNS
from .turn.model import TurnModel

__all__ = [
    "Explored",
    "Line",
    "Model",
    "ModelConfig",
    "ModelResult",
    "Progress",
    "Report",
    "SessionModel",
    "Trace",
    "check",
    "descriptions",
    "explore",
    "names",
    "search",
]


@frozen
class ModelResult:
    """The result of one system.  `clauses` counts how often each clause was the answer."""

    description: str
    explored: Explored
    decisions: int = 0
    clauses: Mapping[str, int] = field(factory=dict)

    def line(self) -> str:
        """Return the line of the report."""
        e = self.explored
        verdict = "ok" if e.good else ("VIOLATED" if e.complete or e.broken else "INCOMPLETE")
        return (
            f"{verdict:10} {e.name:14} {e.states:>9,} states {e.transitions:>11,} transitions  "
            f"depth {e.depth:>2}  {self.description}"
        )


@frozen
class Report:
    """The results of all systems that `check` has explored."""

    results: tuple[ModelResult, ...]

    @property
    def good(self) -> bool:
        """True if the result of every system is good."""
        return all(result.explored.good for result in self.results)

    @property
    def explored(self) -> tuple[Explored, ...]:
        """The searches, in the order of the systems."""
        return tuple(result.explored for result in self.results)

    @property
    def clauses(self) -> Counter[str]:
        """How often each clause was the answer in all systems."""
        total: Counter[str] = Counter()
        for result in self.results:
            total.update(result.clauses)
        return total

    def traces(self) -> tuple[Trace, ...]:
        """Return the traces of all systems."""
        return tuple(trace for explored in self.explored for trace in explored.traces())

    def shortest(self) -> Trace | None:
        """Return the shortest trace of all; None if no property is violated."""
        return min(self.traces(), key=lambda trace: len(trace.lines), default=None)

    def text(self) -> str:
        """Return a line for each system, then the properties that hold or the shortest counterexample."""
        lines = [result.line() for result in self.results]
        for e in self.explored:
            lines += [e.message] if e.message else []
            lines += [
                f"{e.name}: must hold in some state, but holds in none: {p}" for p in e.unseen
            ]
        trace = self.shortest()
        if trace is not None:
            return "\n".join([*lines, "", trace.text()]) + "\n"
        names = dict.fromkeys(name for explored in self.explored for name in explored.always)
        states = sum(explored.states for explored in self.explored)
        lines += ["", f"No property is violated in {states:,} states.  The properties are:"]
        lines += [f"  - {name}" for name in (*names, CAN_FINISH)]
        return "\n".join(lines) + "\n"

    def mermaid(self) -> str:
        """Return the shortest counterexample as a sequence diagram; empty if there is none."""
        trace = self.shortest()
        return "" if trace is None else trace.mermaid()


def search(
    config: ModelConfig,
    progress: Callable[[Progress], object] | None = None,
    limit: int = LIMIT_DEFAULT,
    first_only: bool = False,
) -> ModelResult:
    """Explore a small system of one session."""
    model = SessionModel(config)
    explored = explore(model, limit, progress, first_only)
    return ModelResult(
        config.description, explored, model.transitions.decisions, model.transitions.clauses
    )


def search_turn(
    config: Any,
    progress: Callable[[Progress], object] | None = None,
    limit: int = LIMIT_DEFAULT,
) -> ModelResult:
    """Explore a small system of one turn."""
    explored = explore(TurnModel(config), limit, progress)
    return ModelResult(config.description, explored)


def search_pruning(
    system: PruneSystem,
    progress: Callable[[Progress], object] | None = None,
    limit: int = LIMIT_DEFAULT,
    first_only: bool = False,
) -> ModelResult:
    """Explore a small system of one session that is pruned."""
    model = PruneModel(system)
    explored = explore(model, limit, progress, first_only)
    return ModelResult(system.description, explored, model.clauses.total(), model.clauses)


def search_attachments(
    config: AttachConfig,
    progress: Callable[[Progress], object] | None = None,
    limit: int = LIMIT_DEFAULT,
) -> ModelResult:
    """Explore a small system of attachments."""
    model = AttachModel(config)
    explored = explore(model, limit, progress)
    return ModelResult(config.description, explored, model.decisions, model.clauses)


def search_triggers(
    system: TriggerSystem,
    progress: Callable[[Progress], object] | None = None,
    limit: int = LIMIT_DEFAULT,
) -> ModelResult:
    """Explore a small system of a trigger."""
    model = TriggerModel(system)
    explored = explore(model, limit, progress)
    return ModelResult(system.description, explored, model.clauses.total(), model.clauses)


def search_outbound(
    system: OutboundSystem,
    progress: Callable[[Progress], object] | None = None,
    limit: int = LIMIT_DEFAULT,
) -> ModelResult:
    """Explore a small system of a session that sends to others."""
    model = OutboundModel(system)
    explored = explore(model, limit, progress)
    return ModelResult(system.description, explored, model.decisions, model.clauses)


def search_job(
    system: JobSystem,
    progress: Callable[[Progress], object] | None = None,
    limit: int = LIMIT_DEFAULT,
) -> ModelResult:
    """Explore a small system of a job."""
    model = JobModel(system)
    explored = explore(model, limit, progress)
    return ModelResult(system.description, explored, model.decisions, model.clauses)


def search_hiding(
    progress: Callable[[Progress], object] | None = None, limit: int = LIMIT_DEFAULT
) -> ModelResult:
    """Explore the small system of a transcript at rest."""
    return ModelResult(HidingModel.description, explore(HidingModel(), limit, progress))


def search_resealing(
    progress: Callable[[Progress], object] | None = None, limit: int = LIMIT_DEFAULT
) -> ModelResult:
    """Explore the small system of texts that are sealed again."""
    return ModelResult(ResealModel.description, explore(ResealModel(), limit, progress))


SearchModel: TypeAlias = Callable[..., ModelResult]
SMALL: Final[dict[str, SearchModel]] = {
    **{config.name: partial(search, config) for config in DEFAULT},
    **{system.name: partial(search_pruning, system) for system in PRUNING},
    HidingModel.name: search_hiding,
    ResealModel.name: search_resealing,
    ATTACH.name: partial(search_attachments, ATTACH),
    **{system.name: partial(search_triggers, system) for system in TRIGGER_SYSTEMS},
    OUTBOUND_SYSTEM.name: partial(search_outbound, OUTBOUND_SYSTEM),
    **{system.name: partial(search_job, system) for system in JOB_SYSTEMS},
    **{f"turn-{config.name}": partial(search_turn, config) for config in TURNS},
}
LARGE: Final[dict[str, SearchModel]] = {
    **{config.name: partial(search, config) for config in DEEP},
    ATTACH_TWO_RUNS.name: partial(search_attachments, ATTACH_TWO_RUNS),
    OUTBOUND_DEEP.name: partial(search_outbound, OUTBOUND_DEEP),
    **{system.name: partial(search_job, system) for system in JOB_SYSTEMS_DEEP},
}


def names(deep: bool = False) -> tuple[str, ...]:
    """Return the names of the systems; `deep` adds the larger ones."""
    return tuple(SMALL | LARGE if deep else SMALL)


def descriptions(deep: bool = False) -> dict[str, str]:
    """Return the description of each system by its name; `deep` adds the larger systems."""
    others = {system.name: system.description for system in PRUNING}
    own = (HidingModel, ResealModel, ATTACH, *TRIGGER_SYSTEMS, OUTBOUND_SYSTEM, *JOB_SYSTEMS)
    others |= {system.name: system.description for system in own}
    others |= {f"turn-{config.name}": config.description for config in TURNS}
    small = {config.name: config.description for config in DEFAULT} | others
    large = {
        config.name: config.description
        for config in (*DEEP, ATTACH_TWO_RUNS, OUTBOUND_DEEP, *JOB_SYSTEMS_DEEP)
    }
    return small | large if deep else small


def check(
    names: Iterable[str] = (),
    progress: Callable[[Progress], object] | None = None,
    deep: bool = False,
    limit: int = LIMIT_DEFAULT,
) -> Report:
    """Explore the systems with these names.  Without names: the small ones; `deep` adds the larger ones.

    Raises ValueError for an unknown name.
    """
    known = SMALL | LARGE
    chosen = list(names) or list(known if deep else SMALL)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ValueError(f"unknown system {', '.join(unknown)}; expected {', '.join(known)}")
    return Report(tuple(known[name](progress, limit) for name in chosen))
