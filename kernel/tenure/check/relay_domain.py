"""States of a relay and events in which every row of its table fires (see machine_domains)."""

from __future__ import annotations

import itertools
from typing import Any, Final

from ..relay.protocol import (
    LOOK_MAX,
    Delivered,
    Drain,
    Draining,
    Failed,
    Finished,
    Found,
    Looked,
    LookFailed,
    NotDue,
    Nothing,
    Noticed,
    ReadFailed,
    Recorded,
    RefusedForGood,
    Relaying,
    Route,
    Sending,
    Started,
    State,
    TimerFired,
)

__all__ = ["EVENTS", "STATES", "ends"]


A, B, C = Route("a", "t"), Route("a", "u"), Route("c", "t", "far")
SENDING: Final[tuple[tuple[Sending, ...], ...]] = (
    (),
    (Sending(A, (1, 2)),),
    (Sending(A, ()), Sending(B, (3,))),
)
BACKLOGS: Final[tuple[tuple[Sending, ...], ...]] = (
    (),
    (Sending(C, (1,)),),
    tuple([Sending(Route(f"s{n}", "t"), (1,)) for n in range(LOOK_MAX)]),
)


def _relaying() -> list[State]:
    parts = itertools.product(
        (0, 5), (False, True), BACKLOGS, SENDING, (0, 1), (None, (7, "x", 1)), ((0, 0), (3, 900))
    )
    return [
        Relaying(("", "far"), 2, 4, 500, looking, noticed, backlog, sending, peer, after, *rest, 9)
        for looking, noticed, backlog, sending, peer, after, rest in parts
    ]


STATES: Final[tuple[State, ...]] = (
    Finished(),
    *[Draining(sending) for sending in SENDING if sending],
    *_relaying(),
)
NOW: Final = (0, 1_000)
IDS: Final = (4, 5)
FOUND: Final = (
    Found(()),
    Found((), None, 300),
    Found(((A, 4), (C, 1), (C, 2))),
    Found(((B, 3),), (7, "y", 2)),
)
EVENTS: Final[tuple[Any, ...]] = (
    *[Started(now) for now in NOW],
    *[Noticed(now) for now in NOW],
    *[Drain(now) for now in NOW],
    *itertools.starmap(TimerFired, itertools.product(NOW, IDS)),
    *itertools.starmap(Looked, itertools.product(NOW, IDS, FOUND)),
    *itertools.starmap(LookFailed, itertools.product(NOW, IDS)),
)


def ends(state: State) -> tuple[Any, ...]:
    """Return what may come of the rows that this state sends."""
    routes = (A,) if isinstance(state, Finished) else tuple([each.route for each in state.sending])
    bools = (False, True)
    return (
        *itertools.starmap(Nothing, itertools.product(NOW, routes)),
        *itertools.starmap(NotDue, itertools.product(NOW, routes)),
        *itertools.starmap(Delivered, itertools.product(NOW, routes, (1,), bools)),
        *[RefusedForGood(now, r, 1, "phase", "INBOX-6", "", False) for now in NOW for r in routes],
        *itertools.starmap(Failed, itertools.product(NOW, routes, (1,), (0, 3), ("no",))),
        *itertools.starmap(ReadFailed, itertools.product(NOW, routes)),
        *itertools.starmap(Recorded, itertools.product(NOW, routes, bools, (None, 700))),
    )
