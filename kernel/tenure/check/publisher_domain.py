"""States of a publisher and events in which every row of its table fires (see machine_domains)."""

from __future__ import annotations

import itertools
from typing import Any, Final

from ..publisher.protocol import (
    LOOK_MAX,
    Adopted,
    AdoptFailed,
    Cooling,
    Drain,
    Draining,
    Finished,
    Found,
    GiveFailed,
    Given,
    Looked,
    LookFailed,
    Noticed,
    Publishing,
    ReadFailed,
    Recorded,
    Started,
    State,
    TimerFired,
)
from ..questions.feed import FROM_THE_BEGINNING, FeedPosition

__all__ = ["EVENTS", "STATES", "ends"]


GIVING: Final[tuple[frozenset[str], ...]] = (frozenset(), frozenset("a"), frozenset("ab"))
BACKLOGS: Final[tuple[tuple[str, ...], ...]] = (
    (),
    ("c", "d"),
    tuple([f"s{n}" for n in range(LOOK_MAX)]),
)
COOLING: Final[tuple[tuple[Cooling, ...], ...]] = (
    (),
    (Cooling("e", 500, 1), Cooling("a", 100, 9)),
)
SINKS: Final = ((0, 0), (1, 600), (30, 90_000))  # failures, the end of the rest
MIDDLE: Final = FeedPosition(70, (70, "m"), False, 3)
FEEDS: Final = (FROM_THE_BEGINNING, MIDDLE)


def _publishing() -> list[State]:
    parts = itertools.product(
        (0, 5), (False, True), BACKLOGS, GIVING, COOLING, SINKS, (None, (7, "x")), FEEDS
    )
    return [
        Publishing(2, 4, looking, noticed, backlog, giving, cooling, *sink, 0, after, feed, 9)
        for looking, noticed, backlog, giving, cooling, sink, after, feed in parts
    ]


STATES: Final[tuple[State, ...]] = (
    Finished(),
    *[Draining(giving) for giving in GIVING if giving],
    *_publishing(),
    Publishing(2, 4, look_from_ms=900),
)
NOW: Final = (0, 1_000)
IDS: Final = (4, 5)
FOUND: Final = tuple(
    itertools.starmap(
        Found,
        itertools.product(((), ("a", "c", "e", "f")), (None, (7, "x")), ((), ("g", "h")), FEEDS),
    )
)
EVENTS: Final[tuple[Any, ...]] = (
    *[Started(now) for now in NOW],
    *[Noticed(now) for now in NOW],
    *[Drain(now) for now in NOW],
    *itertools.starmap(TimerFired, itertools.product(NOW, IDS)),
    *itertools.starmap(Looked, itertools.product(NOW, IDS, FOUND)),
    *itertools.starmap(LookFailed, itertools.product(NOW, IDS)),
    *itertools.starmap(Adopted, itertools.product(NOW, IDS, (("g", "h"),), FEEDS)),
    *itertools.starmap(AdoptFailed, itertools.product(NOW, IDS)),
)


def ends(state: State) -> tuple[Any, ...]:
    """Return how the giving of events of this state may end."""
    giving = ("a",) if isinstance(state, Finished) else tuple(sorted(state.giving))
    bools = (False, True)
    return (
        *itertools.starmap(Given, itertools.product(NOW, giving, (None, 3), bools)),
        *itertools.starmap(GiveFailed, itertools.product(NOW, giving)),
        *itertools.starmap(ReadFailed, itertools.product(NOW, giving)),
        *itertools.starmap(Recorded, itertools.product(NOW, giving, bools)),
    )
