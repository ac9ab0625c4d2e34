"""Cases taken in turns, round after round: rates are medians, ratios are medians of ratios within a round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

from attrs import field, frozen

Case: TypeAlias = Callable[[float], tuple[int, float]]  # seconds -> (operations, seconds taken)


@frozen
class Figure:
    """One line of the table."""

    name: str
    value: float
    unit: str
    low: float
    high: float
    ratios: dict[str, float] = field(factory=dict)  # to each floor
    budget: str = ""
    reached: bool | None = None


def interleave(
    cases: Mapping[str, Case], rounds: int, seconds: float, say: Callable[[str], None]
) -> dict[str, list[float]]:
    """Rates by case, one a round; the order is rotated so that nobody is always first."""
    names = list(cases)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        at = number % len(names)
        for name in names[at:] + names[:at]:
            say(f"round {number + 1}/{rounds}: {name}")
            operations, taken = cases[name](seconds)
            rates[name].append(operations / taken)
    return rates


def figures(
    rates: Mapping[str, list[float]],
    floors: tuple[str, ...],
    budgets: Mapping[str, tuple[str, float]],
    unit: str = "items/s",
) -> list[Figure]:
    """`budgets`: for a case, the floor and the least ratio to it."""
    out = []
    for name, values in rates.items():
        ratios = {
            floor: statistics.median(
                value / base for value, base in zip(values, rates[floor], strict=True)
            )
            for floor in floors
            if floor in rates and floor != name
        }
        floor, least = budgets.get(name, ("", 0.0))
        reached = ratios[floor] >= least if floor in ratios else None
        budget = f">= {least:g} x {floor}" if floor in ratios else ""
        out.append(
            Figure(
                name,
                statistics.median(values),
                unit,
                min(values),
                max(values),
                ratios,
                budget,
                reached,
            )
        )
    return out


def median_us(call: Callable[[], object], times: int) -> float:
    """The median of single calls, in microseconds."""
    now = time.perf_counter_ns
    taken = []
    for _ in range(times):
        begun = now()
        call()
        taken.append(now() - begun)
    return statistics.median(taken) / 1_000
