"""Work begins within a hint's time after it can begin, also under leases that are shorter than what is waited for."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from simulated_fleet import Fleet

from tenure.commands import NewInput
from tenure.event import EventKind
from tenure.records import EventBatch

TTL_MS = 1_000
SESSIONS = 6
HINT_MS = 30  # a hint, a look, a few commands; a poll would take up to 5,000
HORIZON_MS = 30_000


def turn_ms(chance: random.Random) -> int:
    return chance.randrange(50, TTL_MS)


def submit_at(fleet: Fleet, at_ms: int, session_id: str, input_id: str, waits_ms: int) -> int:
    """Submit an input later, to begin after a wait; return when it may begin."""
    available_ms = fleet.now_ms + at_ms + waits_ms
    new = NewInput(input_id, "wake", "x", available_at_ms=available_ms)
    fleet.at(at_ms, lambda: fleet.submit_to(session_id, new))
    return available_ms


def starts(fleet: Fleet, session_id: str) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Each run of a session: when the session was free for it, when it began, and its inputs."""
    free_ms = 0
    for batch in sorted(fleet.world.all(EventBatch), key=lambda b: b.seq):
        for event in batch.events if batch.session_id == session_id else ():
            if event.kind is EventKind.RUN_STARTED:
                yield free_ms, batch.at_ms, event.input_ids
            elif event.kind is EventKind.RUN_FINISHED:
                free_ms = batch.at_ms


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("processes", [1, 2])
def test_work_begins_within_a_hints_time(processes: int, seed: int) -> None:
    chance = random.Random(seed)
    fleet = Fleet(seed, SESSIONS, turn_ms, TTL_MS)
    available = {}
    for n in range(8 * SESSIONS):
        at_ms, waits_ms = chance.randrange(20_000), chance.choice((0, 0, 500, 2_000, 4_500))
        available[f"i{n}"] = submit_at(fleet, at_ms, f"s{n % SESSIONS}", f"i{n}", waits_ms)

    fleet.run(
        processes,
        lambda: fleet.now_ms > 25_000 and len(fleet.ends()) == len(available) and fleet.all_ended(),
        HORIZON_MS,
    )

    late = {}
    for s in range(SESSIONS):
        for free_ms, began_ms, inputs in starts(fleet, f"s{s}"):
            possible_ms = max(free_ms, min(available[i] for i in inputs))
            if began_ms - possible_ms > HINT_MS:
                late[inputs] = began_ms - possible_ms
    assert late == {}
