"""Cases taken in turns, round after round: rates are medians, ratios are medians of ratios within a round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from attrs import field, frozen

Say: TypeAlias = Callable[[str], None]


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


def interleave(
    cases: Sequence[Case], rounds: int, seconds: float, say: Say
) -> tuple[list[dict[str, Sample]], list[Failed]]:
    """Samples by case, a dict a round; the order is rotated so that nobody is always first.

    A case that fails is named and left out from then on.
    """
    done: list[dict[str, Sample]] = []
    failed: dict[str, Failed] = {}
    for number in range(rounds):
        samples: dict[str, Sample] = {}
        at = number * len(cases) // rounds
        for case in [*cases[at:], *cases[:at]]:
            if case.name in failed:
                continue
            say(f"round {number + 1}/{rounds}: {case.name}")
            try:
                samples[case.name] = case.run(seconds)
            except Exception as error:
                failed[case.name] = Failed(case.name, str(error) or type(error).__name__)
        done.append(samples)
    return done, list(failed.values())


def figures(
    cases: Sequence[Case],
    rounds: Sequence[Mapping[str, Sample]],
    budgets: Sequence[Budget] = (),
    unit: str = "items/s",
) -> list[Figure]:
    out = []
    for case in cases:
        samples = [samples[case.name] for samples in rounds if case.name in samples]
        if not samples:
            continue
        rates = [sample.rate for sample in samples]
        ratios = {}
        mine = [b for b in budgets if b.case == case.name]
        for floor in dict.fromkeys([*case.floors, *[b.floor for b in mine]]):
            pairs = [
                (r[case.name], r[floor])
                for r in rounds
                if case.name in r and floor in r and r[floor].items
            ]
            if pairs:
                ratios[floor] = statistics.median(a.rate / b.rate for a, b in pairs)
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


def median_us(call: Callable[[], object], times: int) -> float:
    """The median of single calls, in microseconds."""
    now = time.perf_counter_ns
    taken = []
    for _ in range(times):
        begun = now()
        call()
        taken.append(now() - begun)
    return statistics.median(taken) / 1_000
