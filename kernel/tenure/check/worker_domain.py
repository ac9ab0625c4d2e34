"""States of a worker and events in which every row of its table fires (see machine_domains)."""

from __future__ import annotations

import itertools
from typing import Any, Final

from ..runner.protocol import RunnerStopReason
from ..worker.limits import Held, Keys, Rule, Usage
from ..worker.protocol import (
    Apart,
    Connected,
    Cooling,
    Drain,
    Draining,
    Finished,
    Hinted,
    HolderEnded,
    Looked,
    LookFailed,
    RunnerStopped,
    Serving,
    State,
    TimerFired,
)

__all__ = ["EVENTS", "STATES", "stops"]


RUNNING: Final[tuple[frozenset[str], ...]] = (frozenset(), frozenset("a"), frozenset("ab"))
COOLING: Final[tuple[tuple[Cooling, ...], ...]] = (
    (),
    (Cooling("a", 100, 1),),
    (Cooling("c", 100, 3),),
)
APART: Final[tuple[tuple[Apart, ...], ...]] = (
    (),
    (Apart("a", 1),),
    (Apart("z", 0), Apart("y", 7)),
)
BACKLOGS: Final[tuple[tuple[str, ...], ...]] = ((), ("c", "d"))


def _serving() -> list[State]:
    bools = (False, True)
    parts = itertools.product((0, 5), bools, bools, RUNNING, BACKLOGS, COOLING, APART)
    return [
        Serving(slots, 4, looking, again, more, running, hinted, backlog, cooling, 9, apart)
        for looking, again, more, running, backlog, cooling, apart in parts
        for hinted in (frozenset[str](), running)
        for slots in (1, 2, 3)
        if len(running) <= slots
    ]


def _limited() -> list[State]:
    """Return states with a limit: all sessions have the same key, which may be full or have to wait."""
    keys: dict[str, Keys] = {i: ("t",) for i in "acdepq"}
    return [
        Serving(
            slots, 4, 0, False, True, running, running, backlog, (), 9, (), False,
            Usage((rule,), keys, {i: Held(("t",), 900) for i in running}, {(0, "t"): (900,)}),
            aside, wake_ms, 5_000,
        )
        for rule in (Rule(1), Rule(3), Rule(None, 1))
        for running, backlog in itertools.product(RUNNING[:2], BACKLOGS)
        for aside, wake_ms in (((), None), (("p", "q"), None), (("p", "q"), 1_500))
        for slots in (1, 3)
    ]  # fmt: skip


STATES: Final[tuple[State, ...]] = (
    Finished(),
    *[Draining(running) for running in RUNNING if running],
    *_serving(),
    *_limited(),
)
NOW: Final = (0, 1_000)
EVENTS: Final[tuple[Any, ...]] = (
    *[Connected(now) for now in NOW],
    *[HolderEnded(now) for now in NOW],
    *[Drain(now) for now in NOW],
    *itertools.starmap(LookFailed, itertools.product(NOW, (4, 5, 6))),
    *itertools.starmap(TimerFired, itertools.product(NOW, (4, 5, 6))),
    *itertools.starmap(
        Looked,
        itertools.product(
            NOW, (4, 5, 6), ((), ("a", "c", "c", "e")), (False, True), (None, 0, 77, 10**9)
        ),
    ),
    *itertools.starmap(Hinted, itertools.product(NOW, ("", "a", "c"), (False, True))),
)


def stops(state: State) -> tuple[RunnerStopped, ...]:
    """Return the ends of the runners of this state."""
    running = ("a",) if isinstance(state, Finished) else tuple(sorted(state.running))
    return tuple(
        itertools.starmap(RunnerStopped, itertools.product(NOW, running, RunnerStopReason, (1,)))
    )
