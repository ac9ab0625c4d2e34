"""The run machine: work on inputs over any number of leases, crashes and retries.  Spec: specs/run.md."""

from __future__ import annotations

import enum
from typing import ClassVar, TypeAlias

from attrs import frozen

from ..failure import backoff_from_ms, backoff_is_over
from ..outcome import Refused, Stepped
from ..policy import WhileWaiting
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
    "Settle",
    "TakeUp",
    "Termination",
    "Wait",
    "WaitReason",
    "Waiting",
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
    """Waiting for the next Begin, at once or from `due_at_ms` on.  `since_ms`: when it was scheduled."""

    added: ClassVar = {"since_ms": 2}
    ignorable: ClassVar = ("since_ms",)
    due_at_ms: int | None = None
    hold_all: bool = False  # the provider failed: everything after it waits
    since_ms: int | None = None

    @property
    def from_ms(self) -> int | None:
        """RUN-25: before this time it is due at once; None: it is not."""
        return backoff_from_ms(self.since_ms, self.due_at_ms)

    def is_due(self, now_ms: int) -> bool:
        """Return whether its time has come, or the clock was set back by more than its backoff."""
        return backoff_is_over(self.since_ms, self.due_at_ms, now_ms)


class WaitReason(enum.StrEnum):
    """Why a run waits."""

    APPROVAL = "approval"
    TOOL = "tool"
    PAUSE = "pause"
    WORK = "work"  # what others do: the runs of other sessions, jobs
    USER_INPUT = "user_input"  # what the user says next enters the run
    BACKGROUND = "background"  # what comes in next enters the run, a wake too
    since = enum.nonmember(2)


@frozen
class Waiting:
    """Waiting for tickets or for inputs, without a lease.

    `tickets`: those that are still open.  `needs`: how many of them must be settled before it goes on; 0 if there are
    none.  `on_input`: what an input of lane USER does to it, unless the input says so itself; None: what the reason
    says.  `effect_id`: of the wait, in the journal.
    """

    since: ClassVar = 2
    cause: WaitReason
    tickets: tuple[str, ...]
    needs: int
    on_input: WhileWaiting | None
    effect_id: str


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


State: TypeAlias = Running | Rescheduled | Waiting | Done

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
    """Make the run wait.  `since_ms`: from now on, if it waits for a time."""

    due_at_ms: int | None
    hold_all: bool = False
    since_ms: int | None = None


@frozen
class Wait:
    """Make the run wait for tickets or inputs."""

    waiting: Waiting


@frozen
class Settle:
    """Note that a ticket of the run was settled."""

    ticket_id: str


@frozen
class Finish:
    """End the run."""

    termination: Termination
    reason: str = ""


Outcome: TypeAlias = Stepped[State, None] | Refused

# -- actions


def waits_for(s: Waiting, c: Settle) -> bool:
    return c.ticket_id in s.tickets


def waits_for_others(s: Waiting, c: Settle) -> bool:
    return not waits_for(s, c)


def needs_more(s: Waiting, c: Settle) -> bool:
    return waits_for(s, c) and s.needs > 1


def has_enough(s: Waiting, c: Settle) -> bool:
    return waits_for(s, c) and not needs_more(s, c)


def take_up(s: Rescheduled | Waiting, c: TakeUp, clause: str) -> Outcome:
    return Stepped(Running(c.generation), clause)


def record(s: Running, c: Record, clause: str) -> Outcome:
    return Stepped(Running(s.generation, True), clause)


def reschedule(s: Running | Rescheduled, c: Reschedule, clause: str) -> Outcome:
    return Stepped(Rescheduled(c.due_at_ms, c.hold_all, c.since_ms), clause)


def wait(s: Running, c: Wait, clause: str) -> Outcome:
    return Stepped(c.waiting, clause)


def drop_ticket(s: Waiting, c: Settle, clause: str) -> Outcome:
    left = tuple([each for each in s.tickets if each != c.ticket_id])
    return Stepped(Waiting(s.cause, left, s.needs - 1, s.on_input, s.effect_id), clause)


def become_due(s: Waiting, c: Settle, clause: str) -> Outcome:
    return Stepped(Rescheduled(), clause)


def keep(s: Running | Rescheduled | Waiting, c: Settle, clause: str) -> Outcome:
    return Stepped(s, clause)


def finish(s: Running | Rescheduled | Waiting, c: Finish, clause: str) -> Outcome:
    return Stepped(Done(c.termination, c.reason), clause)


RULES: Table[Outcome] = Table(
    (
        Row("RUN-1", Rescheduled, TakeUp, always, take_up),
        Row("RUN-2", Running, Record, always, record),
        Row("RUN-3", Running, Reschedule, always, reschedule),
        Row("RUN-4", Rescheduled, Reschedule, always, reschedule),  # a cancel makes it due at once
        Row("RUN-5", Running, Finish, always, finish),
        Row("RUN-6", Rescheduled, Finish, always, finish),
        Row("RUN-60", Running, Wait, always, wait),
        Row("RUN-61", Waiting, Settle, needs_more, drop_ticket),
        Row("RUN-62", Waiting, Settle, has_enough, become_due),
        Row("RUN-63", Running, Settle, always, keep),
        Row("RUN-63", Rescheduled, Settle, always, keep),
        Row("RUN-63", Waiting, Settle, waits_for_others, keep),
        Row("RUN-64", Waiting, TakeUp, always, take_up),
        Row("RUN-65", Waiting, Finish, always, finish),
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
