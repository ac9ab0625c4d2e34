"""Cases taken in turns, round after round: rates are medians, ratios medians of those to a floor measured next to it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from attrs import field, frozen

Say: TypeAlias = Callable[[str], None]
NEAR = 10  # cases measured before their floors are measured again


@frozen
class Sample:
    """What one case did in one round."""

    items: int
    seconds: float
    taken_ms: tuple[float, ...] = ()  # of each item
    written_per_item: float | None = None  # bytes
    commits_per_item: float | None = None

    @property
    def rate(self) -> float:
        return self.items / self.seconds


@frozen
class Case:
    """`run` works for so many seconds.  `facts` are told with the figure and mean nothing here."""

    name: str
    run: Callable[[float], Sample]
    floors: tuple[str, ...] = ()  # the cases it is compared with
    facts: Mapping[str, Any] = field(factory=dict)


@frozen
class Figure:
    """One line of a table."""

    name: str
    value: float
    unit: str
    low: float
    high: float
    ratios: dict[str, float] = field(factory=dict)  # to each floor
    budgets: dict[str, bool] = field(factory=dict)  # what must be reached, and whether it was
    p50_ms: float | None = None
    p99_ms: float | None = None
    written_per_item: float | None = None
    commits_per_item: float | None = None
    facts: dict[str, Any] = field(factory=dict)


@frozen
class Failed:
    """What could not be measured, and why."""

    name: str
    why: str


@frozen
class Budget:
    case: str
    floor: str
    least: float


class Missing(Exception):
    """What a case needs is not there; its text says what."""


def exactly(name: str, value: float, unit: str, budget: str = "", reached: bool = False) -> Figure:
    budgets = {budget: reached} if budget else {}
    return Figure(name, value, unit, value, value, {}, budgets)


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@frozen
class Taken:
    """A sample, and what was measured next to it: a machine is not the same a minute later."""

    case: str
    round: int
    near: int
    sample: Sample


def interleave(
    cases: Sequence[Case], rounds: int, seconds: float, say: Say
) -> tuple[list[Taken], list[Failed]]:
    """Each case once a round, in an order that rotates; the floors of others once for every few of these.

    A case that fails is named and left out from then on.
    """
    floors = {floor for case in cases for floor in case.floors}
    bases = [case for case in cases if case.name in floors]
    others = [case for case in cases if case.name not in floors]
    done: list[Taken] = []
    failed: dict[str, Failed] = {}
    for number in range(rounds):
        at = number * len(others) // rounds
        order = [*others[at:], *others[:at]]
        for near in range(0, max(1, len(order)), NEAR):
            for case in [*bases, *order[near : near + NEAR]]:
                if case.name in failed:
                    continue
                say(f"round {number + 1}/{rounds}: {case.name}")
                try:
                    done.append(Taken(case.name, number, near, case.run(seconds)))
                except Exception as error:
                    failed[case.name] = Failed(case.name, str(error) or type(error).__name__)
    return done, list(failed.values())


def ratio(done: Sequence[Taken], case: str, floor: str) -> float | None:
    """The median of ratios to the floor that was measured next to each sample, or in its round."""
    found = []
    for mine in done:
        if mine.case == case:
            bases = [
                t for t in done if t.case == floor and t.round == mine.round and t.sample.items
            ]
            beside = [t for t in bases if t.near == mine.near] or bases
            if beside:
                found.append(mine.sample.rate / beside[0].sample.rate)
    return statistics.median(found) if found else None


def figures(
    cases: Sequence[Case],
    done: Sequence[Taken],
    budgets: Sequence[Budget] = (),
    unit: str = "items/s",
) -> list[Figure]:
    out = []
    for case in cases:
        samples = [taken.sample for taken in done if taken.case == case.name]
        if not samples:
            continue
        rates = [sample.rate for sample in samples]
        ratios = {}
        mine = [b for b in budgets if b.case == case.name]
        for floor in dict.fromkeys([*case.floors, *[b.floor for b in mine]]):
            if (found := ratio(done, case.name, floor)) is not None:
                ratios[floor] = found
        taken = [ms for sample in samples for ms in sample.taken_ms]
        written = [s.written_per_item for s in samples if s.written_per_item is not None]
        commits = [s.commits_per_item for s in samples if s.commits_per_item is not None]
        out.append(
            Figure(
                case.name,
                statistics.median(rates),
                unit,
                min(rates),
                max(rates),
                ratios,
                {
                    f">= {b.least:g} x {b.floor}": ratios[b.floor] >= b.least
                    for b in mine
                    if b.floor in ratios
                },
                quantile(taken, 0.5) if taken else None,
                quantile(taken, 0.99) if taken else None,
                statistics.median(written) if written else None,
                statistics.median(commits) if commits else None,
                dict(case.facts),
            )
        )
    return out


def in_process(name: str, work: Callable[[float], tuple[int, float]], *floors: str) -> Case:
    """A case that needs no process of its own: seconds -> (operations, seconds taken)."""
    return Case(name, lambda seconds: Sample(*work(seconds)), floors)
