"""Inputs that end their process: they are given up, and what runs beside them is answered (RUN-22, RUN-23)."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from simulated_fleet import POISON, Fleet

from tenure.failure import LOSSES_MAX
from tenure.machines.input import How
from tenure.records import Run

HOURS_6 = 6 * 3_600_000


def short(chance: random.Random) -> int:
    return 1_000


def mixed(chance: random.Random) -> int:
    return chance.choice((50, 1_000, 5_000, 20_000))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("inputs", "poison", "processes", "slots"),
    [(30, 4, 3, 32), (30, 4, 1, 32), (40, 10, 2, 8), (12, 6, 3, 2), (5, 5, 1, 1)],
)
def test_all_but_the_poison_inputs_are_answered(
    inputs: int, poison: int, processes: int, slots: int, seed: int
) -> None:
    payloads = [POISON] * poison + ["x"] * (inputs - poison)
    random.Random(seed).shuffle(payloads)
    fleet = Fleet(seed, slots, mixed if seed % 2 else short)
    fleet.submit(payloads)

    fleet.run(processes, fleet.all_ended, HOURS_6)

    assert Counter(fleet.ends()) == Counter(
        {(POISON, How.DEAD_LETTERED): poison, ("x", How.CONSUMED): inputs - poison}
    )
    assert fleet.crashes <= poison * LOSSES_MAX
    lost = [run.retry.losses for run in fleet.world.all(Run) if run.tip is not None]
    assert max(lost, default=0) <= 4  # after four losses a run is alone
    for losses, beside in fleet.most_beside.items():
        assert beside <= {0: slots, 1: slots, 2: 7, 3: 1}.get(losses, 0)
