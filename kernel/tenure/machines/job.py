"""The job machine: work that outlives turns, taken, started and ended.  Spec: specs/job.md.

Ended is absorbing: an equal end is a replay, another one is refused.
"""

from __future__ import annotations

import enum
from typing import ClassVar, TypeAlias

from attrs import frozen

from ..failure import backoff_from_ms, backoff_is_over
from ..outcome import Refusal, Refused, Stepped
from ..rules import Row, Table, always
from .lease import Owner

__all__ = [
    "RULES",
    "AbandonEvidence",
    "Disposition",
    "End",
    "Ended",
    "Held",
    "How",
    "LetGo",
    "Record",
    "Start",
    "Started",
    "State",
    "Take",
    "Waiting",
    "Writer",
    "step",
]


class Disposition(enum.StrEnum):
    """Who may execute a job, and how often."""

    RERUNNABLE = "rerunnable"  # any worker, again after a crash
    OWNER_BOUND = "owner_bound"  # any worker, started at most once
    EXTERNAL = "external"  # executed elsewhere, ended by who registered it
    since = enum.nonmember(2)


class How(enum.StrEnum):
    """How a job ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"  # its owner was lost or gave up: what it did is unknown
    since = enum.nonmember(2)


class Writer(enum.StrEnum):
    """Why a job was abandoned."""

    SWEEP = "sweep"  # a worker has evidence that an owner is dead
    DRAIN = "drain"  # the owner ended its own work
    REQUEST = "request"  # somebody asked for it
    since = enum.nonmember(2)


@frozen
class AbandonEvidence:
    """The reason of an abandoned job, and the owners that it was about."""

    since: ClassVar = 2
    writer: Writer
    owners: tuple[Owner, ...] = ()


# -- states


@frozen
class Waiting:
    """Nobody has it.  `due_at_ms`: not before this time; None: at once, or when its signal comes.

    `since_ms`: when its retry was scheduled; None: it is not retried.
    """

    since: ClassVar = 2
    due_at_ms: int | None = None
    since_ms: int | None = None

    @property
    def from_ms(self) -> int | None:
        """JOB-59: before this time its retry is due at once; None: it is not."""
        return backoff_from_ms(self.since_ms, self.due_at_ms)

    def is_due(self, now_ms: int) -> bool:
        """Return whether its time has come, or the clock was set back by more than its backoff."""
        return backoff_is_over(self.since_ms, self.due_at_ms, now_ms)


@frozen
class Held:
    """A worker has taken it under the lease of this generation, and has not started it."""

    since: ClassVar = 2
    generation: int


@frozen
class Started:
    """It was started under the lease of this generation.  `recorded`: its journal has grown since."""

    since: ClassVar = 2
    generation: int
    recorded: bool = False


@frozen
class Ended:
    """It has ended, for ever.  `end_digest` recognises a repetition of its end."""

    since: ClassVar = 2
    how: How
    end_digest: str
    ended_at_ms: int
    reason: str = ""
    evidence: AbandonEvidence | None = None


State: TypeAlias = Waiting | Held | Started | Ended


# -- commands


@frozen
class Take:
    """A worker takes the job under a new lease."""

    generation: int


@frozen
class Start:
    """Its holder starts it."""

    generation: int


@frozen
class Record:
    """Its holder has recorded progress."""


@frozen
class LetGo:
    """Its lease has ended, and it may be taken again from `due_at_ms` on.  `since_ms`: from now on, if it waits for a time."""

    due_at_ms: int | None
    since_ms: int | None = None


@frozen
class End:
    """It ends."""

    ended: Ended


Outcome: TypeAlias = Stepped[State, None] | Refused


# -- guards


def same_generation(s: Held | Started, c: Start) -> bool:
    return s.generation == c.generation


def other_generation(s: Held | Started, c: Start) -> bool:
    return s.generation != c.generation


def same_end(s: Ended, c: End) -> bool:
    return s.end_digest == c.ended.end_digest


def other_end(s: Ended, c: End) -> bool:
    return s.end_digest != c.ended.end_digest


# -- actions


def hold(s: Waiting, c: Take, clause: str) -> Outcome:
    return Stepped(Held(c.generation), clause)


def begin(s: Held, c: Start, clause: str) -> Outcome:
    return Stepped(Started(c.generation), clause)


def no_change(s: State, c: object, clause: str) -> Outcome:
    return Stepped(s, clause)


def note(s: Started, c: Record, clause: str) -> Outcome:
    return Stepped(Started(s.generation, True), clause)


def wait(s: Held | Started, c: LetGo, clause: str) -> Outcome:
    return Stepped(Waiting(c.due_at_ms, c.since_ms), clause)


def finish(s: State, c: End, clause: str) -> Outcome:
    return Stepped(c.ended, clause)


def refuse_held(s: Held | Started, c: object, clause: str) -> Outcome:
    return Refused(Refusal.HELD, clause, s.generation)


def refuse_fenced(s: State, c: object, clause: str) -> Outcome:
    return Refused(Refusal.FENCED, clause, getattr(s, "generation", None))


def refuse_unstarted(s: State, c: object, clause: str) -> Outcome:
    return Refused(Refusal.ILLEGAL, clause, "the job was not started")


def refuse_ended(s: Ended, c: object, clause: str) -> Outcome:
    return Refused(Refusal.ENDED, clause, s.how.value)


RULES: Table[Outcome] = Table(
    (
        Row("JOB-10", Waiting, Take, always, hold),
        Row("JOB-11", Held, Take, always, refuse_held),
        Row("JOB-11", Started, Take, always, refuse_held),
        Row("JOB-12", Held, Start, same_generation, begin),
        Row("JOB-13", Started, Start, same_generation, no_change),
        Row("JOB-14", Held, Start, other_generation, refuse_fenced),
        Row("JOB-14", Started, Start, other_generation, refuse_fenced),
        Row("JOB-14", Waiting, Start, always, refuse_fenced),
        Row("JOB-15", Started, Record, always, note),
        Row("JOB-16", Waiting, Record, always, refuse_unstarted),
        Row("JOB-16", Held, Record, always, refuse_unstarted),
        Row("JOB-17", Held, LetGo, always, wait),
        Row("JOB-17", Started, LetGo, always, wait),
        Row("JOB-18", Waiting, LetGo, always, refuse_fenced),
        Row("JOB-19", Waiting, End, always, finish),
        Row("JOB-19", Held, End, always, finish),
        Row("JOB-19", Started, End, always, finish),
        Row("JOB-20", Ended, End, same_end, no_change),
        Row("JOB-21", Ended, End, other_end, refuse_ended),
        Row("JOB-21", Ended, Take, always, refuse_ended),
        Row("JOB-21", Ended, Start, always, refuse_ended),
        Row("JOB-21", Ended, Record, always, refuse_ended),
        Row("JOB-21", Ended, LetGo, always, refuse_ended),
    )
)
step = RULES.step
