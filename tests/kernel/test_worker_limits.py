"""Limits of workers in virtual time: they hold, everything ends, and other sessions do not wait (WORKER-21 to WORKER-24)."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from simulated_fleet import POISON, Fleet

from tenure.commands import NewInput
from tenure.machines.input import How
from tenure.worker.limits import Rule

DAY_MS = 24 * 3_600_000


def quick(chance: random.Random) -> int:
    return chance.choice((50, 300, 1_000))


def fleet_of(seed: int, slots: int, *rules: Rule) -> Fleet:
    return Fleet(seed, slots, quick, rules=rules, key_of=lambda session_id: session_id[0])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("slots", [2, 8])
def test_a_tenant_with_many_sessions_holds_up_no_other(slots: int, seed: int) -> None:
    fleet = fleet_of(seed, slots, Rule(at_once=1))
    for n in range(300):
        fleet.submit_to(f"a{n}", NewInput(f"a{n}", "prompt", "x"))
    for n in range(3):
        fleet.submit_to(f"b{n}", NewInput(f"b{n}", "prompt", "x"))

    fleet.run(1, fleet.all_ended, DAY_MS)

    assert fleet.most_at_once == {"a": 1, "b": 1}
    begun = [session_id for _, _, session_id in fleet.begun]
    assert len(begun) == 303 and fleet.in_vain == 0
    first = [begun.index(f"b{n}") for n in range(3)]
    assert max(first) < 100, "found among 300 that are put aside"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("processes", [1, 2])
def test_a_process_begins_no_more_in_a_minute_than_it_may(processes: int, seed: int) -> None:
    fleet = fleet_of(seed, 8, Rule(per_minute=10))
    for n in range(60):
        fleet.submit_to(f"a{n}", NewInput(f"a{n}", "prompt", "x"))

    fleet.run(processes, fleet.all_ended, DAY_MS)

    for name in {name for _, name, _ in fleet.begun}:
        times = [at_ms for at_ms, process, _ in fleet.begun if process == name]
        late_ms = 5  # a Begin follows its Take within so long
        over = zip(times, times[10:], strict=False)
        assert all(later - earlier >= 60_000 - late_ms for earlier, later in over)
    if processes == 1:
        assert fleet.now_ms < 6 * 61_000 + 1_000, "as soon as it may"


@pytest.mark.parametrize("seed", range(3))
def test_poison_inputs_within_limits_are_given_up(seed: int) -> None:
    fleet = fleet_of(seed, 8, Rule(at_once=3, per_minute=100))
    fleet.submit([POISON] * 2 + ["x"] * 10)

    fleet.run(2, fleet.all_ended, DAY_MS)

    assert Counter(fleet.ends()) == Counter(
        {(POISON, How.DEAD_LETTERED): 2, ("x", How.CONSUMED): 10}
    )
    assert fleet.most_at_once["s"] <= 3
