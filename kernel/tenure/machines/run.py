"""The run machine: work on inputs over any number of leases, crashes and retries.  Spec: specs/run.md."""

from __future__ import annotations

import enum
from typing import TypeAlias

from attrs import frozen

from ..outcome import Refused, Stepped
from ..rules import Row, Table, always
from .input import How

__all__ = [
    "RULES",
    "Done",
    "Finish",
    "Record",
    "Reschedule",
    "Rescheduled",
    "Running",
    "TakeUp",
    "Termination",
    "settle",
    "step",
]


# -- states


@frozen
class Running:
    """Running under the lease of the session."""

    generation: int
    recorded: bool = False  # a checkpoint was written under this lease


@frozen
class Rescheduled:
    """Waiting for the next Begin, at once or from `due_at_ms` on."""

    due_at_ms: int | None = None
    hold_all: bool = False  # the provider failed: everything after it waits


class Termination(enum.StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    STOPPED = "stopped"
    CANCELLED = "cancelled"
    BLOCKED = "blocked"
    ERROR = "error"
    SPLIT = "split"
    SUPERSEDED = "superseded"
    ROLLED_BACK = "rolled_back"  # as if it had not begun
    added = enum.nonmember({"ROLLED_BACK": 2})


@frozen
class Done:
    """The run has ended."""

    termination: Termination
    reason: str = ""  # a code, an error's kind and message, or the id of a command


State: TypeAlias = Running | Rescheduled | Done

# -- commands


@frozen
class TakeUp:
    """Continue the run under a new lease."""

    generation: int


@frozen
class Record:
    """Note that a checkpoint was written."""


@frozen
class Reschedule:
    """Make the run wait."""

    due_at_ms: int | None
    hold_all: bool = False


@frozen
class Finish:
    """End the run."""

    termination: Termination
    reason: str = ""


Outcome: TypeAlias = Stepped[State, None] | Refused

# -- actions


def take_up(s: Rescheduled, c: TakeUp, clause: str) -> Outcome:
    return Stepped(Running(c.generation), clause)


def record(s: Running, c: Record, clause: str) -> Outcome:
    return Stepped(Running(s.generation, True), clause)


def reschedule(s: Running | Rescheduled, c: Reschedule, clause: str) -> Outcome:
    return Stepped(Rescheduled(c.due_at_ms, c.hold_all), clause)


def finish(s: Running | Rescheduled, c: Finish, clause: str) -> Outcome:
    return Stepped(Done(c.termination, c.reason), clause)


RULES: Table[Outcome] = Table(
    (
        Row("RUN-1", Rescheduled, TakeUp, always, take_up),
        Row("RUN-2", Running, Record, always, record),
        Row("RUN-3", Running, Reschedule, always, reschedule),
        Row("RUN-4", Rescheduled, Reschedule, always, reschedule),  # a cancel makes it due at once
        Row("RUN-5", Running, Finish, always, finish),
        Row("RUN-6", Rescheduled, Finish, always, finish),
    )
)
step = RULES.step


def settle(termination: Termination, in_transcript: bool) -> How:
    """Return how the inputs of a run end with it.  AssertionError: a split, which makes them ready again."""
    match termination:
        case Termination.FINISHED:
            return How.CONSUMED  # RUN-10
        case Termination.STOPPED | Termination.CANCELLED | Termination.BLOCKED:
            return How.CONSUMED if in_transcript else How.ABANDONED  # RUN-11, RUN-12
        case Termination.ERROR:
            return How.CONSUMED if in_transcript else How.DEAD_LETTERED  # RUN-13, RUN-14
        case Termination.SUPERSEDED:
            return How.SUPERSEDED  # RUN-15
        case Termination.ROLLED_BACK:
            return How.SUPERSEDED  # RUN-24; inputs of lane SYSTEM become ready again
        case Termination.SPLIT:
            raise AssertionError("a split ends no input")
