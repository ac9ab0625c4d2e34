"""The life of one input: where it is, from admission to its one end.  Spec: specs/inbox.md.

Everything that may happen to the place of an input is a row of this table; who may ask for it is decided elsewhere.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

from attrs import frozen

from ..outcome import Refusal, Refused, Stepped
from ..rules import Row, Table, always

# -- states


@frozen
class Delayed:
    mark: int
    until_ms: int
    group: str | None
    hold: bool
    size: int  # of the payload, bytes
    open_key: str | None = None


@frozen
class Ready:
    mark: int
    ready_rank: int
    group: str | None
    hold: bool
    size: int
    open_key: str | None = None
    slot: str | None = None  # (kind, supersession key), while it can still be superseded


@frozen
class Bound:
    mark: int
    run_id: str
    position: int
    rank: int
    open_key: str | None = None


class How(enum.StrEnum):
    CONSUMED = "consumed"
    SUPERSEDED = "superseded"
    COALESCED = "coalesced"
    WITHDRAWN = "withdrawn"
    ABANDONED = "abandoned"
    DEAD_LETTERED = "dead_lettered"


@frozen
class Ended:
    """`by`: the run, input or command that ended it, or the reason."""

    how: How
    by: str
    run_id: str | None = None  # the run that it was bound to


State: TypeAlias = Delayed | Ready | Bound | Ended


# -- commands


@frozen
class Promote:
    rank: int
    now_ms: int


@frozen
class Bind:
    run_id: str
    position: int
    mark: int  # of the lane, now


@frozen
class Return:
    """Its group is split: the one case in which an input goes back."""

    hold: bool
    size: int


@frozen
class End:
    how: How
    by: str


Outcome: TypeAlias = Stepped[State, None] | Refused


# -- guards

TAKEN_BACK = frozenset((How.SUPERSEDED, How.WITHDRAWN, How.ABANDONED, How.COALESCED))
SETTLED = frozenset((How.CONSUMED, How.DEAD_LETTERED))


def due(s: Delayed, c: Promote) -> bool:
    return s.until_ms <= c.now_ms


def early(s: Delayed, c: Promote) -> bool:
    return s.until_ms > c.now_ms


def current(s: Ready, c: Bind) -> bool:
    return s.mark >= c.mark


def outdated(s: Ready, c: Bind) -> bool:
    return s.mark < c.mark


def taken_back(s: Delayed | Ready, c: End) -> bool:
    return c.how in TAKEN_BACK


def unsettled(s: Delayed | Ready, c: End) -> bool:
    """Only a run consumes or dead-letters, and only what is bound to it."""
    return c.how in SETTLED


# -- actions


def promote(s: Delayed, c: Promote, clause: str) -> Outcome:
    return Stepped(Ready(s.mark, c.rank, s.group, s.hold, s.size, s.open_key), clause)


def bind(s: Ready, c: Bind, clause: str) -> Outcome:
    return Stepped(Bound(s.mark, c.run_id, c.position, s.ready_rank, s.open_key), clause)


def give_back(s: Bound, c: Return, clause: str) -> Outcome:
    return Stepped(Ready(s.mark, s.rank, None, c.hold, c.size, s.open_key), clause)


def end(s: Delayed | Ready, c: End, clause: str) -> Outcome:
    return Stepped(Ended(c.how, c.by), clause)


def end_bound(s: Bound, c: End, clause: str) -> Outcome:
    return Stepped(Ended(c.how, c.by, s.run_id), clause)


def refuse_bound(s: State, c: object, clause: str) -> Outcome:
    return Refused(Refusal.ILLEGAL, clause, s)


def refuse_ended(s: Ended, c: object, clause: str) -> Outcome:
    return Refused(Refusal.ENDED, clause, s)


RULES: Table[Outcome] = Table(
    (
        Row("PLACE-1", Delayed, Promote, due, promote),
        Row("PLACE-2", Delayed, Promote, early, refuse_bound),
        Row("PLACE-3", Ready, Bind, current, bind),
        Row("PLACE-4", Ready, Bind, outdated, refuse_bound),
        Row("PLACE-5", Delayed, End, taken_back, end),
        Row("PLACE-5", Ready, End, taken_back, end),
        Row("PLACE-6", Delayed, End, unsettled, refuse_bound),
        Row("PLACE-6", Ready, End, unsettled, refuse_bound),
        Row("PLACE-7", Bound, End, always, end_bound),
        Row("PLACE-8", Bound, Return, always, give_back),
        Row("PLACE-10", Ended, End, always, refuse_ended),
        Row("PLACE-10", Ended, Promote, always, refuse_ended),
        Row("PLACE-10", Ended, Bind, always, refuse_ended),
        Row("PLACE-10", Ended, Return, always, refuse_ended),
    )
)
step = RULES.step
