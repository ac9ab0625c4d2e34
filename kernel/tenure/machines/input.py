"""The input machine: the states of a queue entry, from admission to its end.  Spec: specs/inbox.md.

The table has a row for every step of a queue entry.  Commands decide when a step is taken.
"""

from __future__ import annotations

import enum
from typing import ClassVar, TypeAlias

from attrs import frozen

from ..failure import RetryLimits
from ..outcome import Refusal, Refused, Stepped
from ..policy import Delivery, IfOver, WhileWaiting
from ..rules import Row, Table, always

__all__ = [
    "RULES",
    "Apply",
    "Bind",
    "Bound",
    "Delayed",
    "End",
    "Ended",
    "How",
    "Promote",
    "Readmit",
    "Ready",
    "Return",
    "State",
    "step",
]


# -- states


@frozen
class Delayed:
    """Not ready before `until_ms`."""

    added: ClassVar = {
        "slot": 2,
        "delivery": 2,
        "barrier": 2,
        "target_run": 2,
        "if_over": 2,
        "while_waiting": 2,
        "resolution": 2,
        "retry": 2,
    }
    ignorable: ClassVar = ("slot", "delivery", "while_waiting")
    mark: int
    until_ms: int
    group: str | None
    hold: bool
    size: int  # of the payload, bytes
    open_key: str | None = None
    slot: str | None = None  # of a delayed input; it leaves it when it becomes ready
    delivery: Delivery | None = None  # None: AFTER_COMMIT
    barrier: bool | None = None  # None: no
    target_run: str | None = None  # the run that it names
    if_over: IfOver | None = None  # None: QUEUE
    while_waiting: WhileWaiting | None = None  # None: as the wait says
    resolution: str | None = None  # the version of the agent that it asks for
    retry: RetryLimits | None = None  # None: the usual ones


@frozen
class Ready:
    """Ready to be bound to a run, in the order of `ready_rank`."""

    added: ClassVar = {
        "delivery": 2,
        "barrier": 2,
        "target_run": 2,
        "if_over": 2,
        "while_waiting": 2,
        "resolution": 2,
        "retry": 2,
    }
    ignorable: ClassVar = ("delivery", "while_waiting")
    mark: int
    ready_rank: int
    group: str | None
    hold: bool
    size: int
    open_key: str | None = None
    slot: str | None = None  # lane, kind and supersession key, while it can be superseded
    delivery: Delivery | None = None  # None: AFTER_COMMIT
    barrier: bool | None = None  # None: no
    target_run: str | None = None  # the run that it names
    if_over: IfOver | None = None  # None: QUEUE
    while_waiting: WhileWaiting | None = None  # None: as the wait says
    resolution: str | None = None  # the version of the agent that it asks for
    retry: RetryLimits | None = None  # None: the usual ones


@frozen
class Bound:
    """Bound to a run."""

    added: ClassVar = {"checkpoint": 2}
    mark: int
    run_id: str
    position: int
    rank: int
    open_key: str | None = None
    checkpoint: int | None = None  # that has taken it; None: the run began with it


class How(enum.StrEnum):
    """How an input ended."""

    CONSUMED = "consumed"
    SUPERSEDED = "superseded"
    COALESCED = "coalesced"
    WITHDRAWN = "withdrawn"
    ABANDONED = "abandoned"
    DEAD_LETTERED = "dead_lettered"


@frozen
class Ended:
    """Ended.  `by`: the run, input or command that ended it, or the reason."""

    added: ClassVar = {"readmitted_as": 2}
    how: How
    by: str
    run_id: str | None = None  # the run that it was bound to
    readmitted_as: str | None = None  # the new input with the content of a dead letter


State: TypeAlias = Delayed | Ready | Bound | Ended


# -- commands


@frozen
class Promote:
    """Make a delayed input ready."""

    rank: int
    now_ms: int


@frozen
class Bind:
    """Bind a ready input to a run."""

    run_id: str
    position: int
    mark: int  # the current mark of the lane


@frozen
class Apply:
    """Bind a ready input to a run that is at work, by its checkpoint of this number."""

    run_id: str
    position: int
    mark: int  # the current mark of the lane
    checkpoint: int


@frozen
class Return:
    """Make a bound input ready again, because its run is split or rolled back: the only ways back."""

    hold: bool
    size: int
    delivery: Delivery | None = None
    barrier: bool | None = None
    while_waiting: WhileWaiting | None = None
    resolution: str | None = None
    retry: RetryLimits | None = None


@frozen
class End:
    """End the input."""

    how: How
    by: str


@frozen
class Readmit:
    """Note that a dead letter was admitted again."""

    new_id: str


Outcome: TypeAlias = Stepped[State, None] | Refused


# -- guards

WITHOUT_RUN = frozenset((How.SUPERSEDED, How.WITHDRAWN, How.ABANDONED, How.COALESCED))
BY_RUN = frozenset((How.CONSUMED, How.DEAD_LETTERED))


def due(s: Delayed, c: Promote) -> bool:
    return s.until_ms <= c.now_ms


def early(s: Delayed, c: Promote) -> bool:
    return s.until_ms > c.now_ms


def current(s: Ready, c: Bind | Apply) -> bool:
    return s.mark >= c.mark


def outdated(s: Ready, c: Bind | Apply) -> bool:
    return s.mark < c.mark


def ends_without_run(s: Delayed | Ready, c: End) -> bool:
    return c.how in WITHOUT_RUN


def ends_by_run(s: Delayed | Ready, c: End) -> bool:
    """Only a run consumes or dead-letters inputs, and only those bound to it."""
    return c.how in BY_RUN


def dead_letter(s: Ended, c: Readmit) -> bool:
    return s.how is How.DEAD_LETTERED and s.readmitted_as is None


def no_dead_letter(s: Ended, c: Readmit) -> bool:
    return s.how is not How.DEAD_LETTERED or s.readmitted_as is not None


# -- actions


def promote(s: Delayed, c: Promote, clause: str) -> Outcome:
    ready = Ready(
        s.mark, c.rank, s.group, s.hold, s.size, s.open_key,
        delivery=s.delivery, barrier=s.barrier, target_run=s.target_run, if_over=s.if_over,
        while_waiting=s.while_waiting, resolution=s.resolution, retry=s.retry,
    )  # fmt: skip
    return Stepped(ready, clause)


def bind(s: Ready, c: Bind, clause: str) -> Outcome:
    return Stepped(Bound(s.mark, c.run_id, c.position, s.ready_rank, s.open_key), clause)


def apply(s: Ready, c: Apply, clause: str) -> Outcome:
    bound = Bound(s.mark, c.run_id, c.position, s.ready_rank, s.open_key, c.checkpoint)
    return Stepped(bound, clause)


def give_back(s: Bound, c: Return, clause: str) -> Outcome:
    ready = Ready(
        s.mark, s.rank, None, c.hold, c.size, s.open_key, delivery=c.delivery, barrier=c.barrier,
        while_waiting=c.while_waiting, resolution=c.resolution, retry=c.retry,
    )  # fmt: skip
    return Stepped(ready, clause)


def end(s: Delayed | Ready, c: End, clause: str) -> Outcome:
    return Stepped(Ended(c.how, c.by), clause)


def end_bound(s: Bound, c: End, clause: str) -> Outcome:
    return Stepped(Ended(c.how, c.by, s.run_id), clause)


def readmit(s: Ended, c: Readmit, clause: str) -> Outcome:
    return Stepped(Ended(s.how, s.by, s.run_id, c.new_id), clause)


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
        Row("PLACE-30", Ready, Apply, current, apply),
        Row("PLACE-4", Ready, Apply, outdated, refuse_bound),
        Row("PLACE-5", Delayed, End, ends_without_run, end),
        Row("PLACE-5", Ready, End, ends_without_run, end),
        Row("PLACE-6", Delayed, End, ends_by_run, refuse_bound),
        Row("PLACE-6", Ready, End, ends_by_run, refuse_bound),
        Row("PLACE-7", Bound, End, always, end_bound),
        Row("PLACE-8", Bound, Return, always, give_back),
        Row("PLACE-10", Ended, End, always, refuse_ended),
        Row("PLACE-10", Ended, Promote, always, refuse_ended),
        Row("PLACE-10", Ended, Bind, always, refuse_ended),
        Row("PLACE-10", Ended, Apply, always, refuse_ended),
        Row("PLACE-10", Ended, Return, always, refuse_ended),
        Row("PLACE-31", Ended, Readmit, dead_letter, readmit),
        Row("PLACE-10", Ended, Readmit, no_dead_letter, refuse_ended),
    )
)
step = RULES.step
