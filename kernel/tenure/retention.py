"""What a session may forget: the policy, how far pruning is, and ids that carry their time.  Spec: specs/retention.md."""

from __future__ import annotations

import enum
from typing import ClassVar, Final

from attrs import frozen

from .limits import COMMANDS_FOR_MS_MIN, TIME_MS_MAX
from .queries import Record

__all__ = [
    "KEYS_FOR_MS",
    "Keep",
    "PruneKind",
    "PruneProgress",
    "Retention",
    "Walk",
    "is_older",
    "time_of",
]


DAY_MS: Final = 86_400_000
KEYS_FOR_MS: Final = 30 * DAY_MS
HEX: Final = frozenset("0123456789abcdefABCDEF")
DASHES: Final = (8, 13, 18, 23)


class PruneKind(enum.StrEnum):
    """What one step of Prune removes."""

    JOURNALS = "journals"  # of runs that have ended
    TICKETS = "tickets"  # likewise
    STAMPS = "stamps"  # likewise: what only a repeated Commit, Fail or Release is compared with
    INPUTS = "inputs"  # that have ended and are not in the transcript
    COMMANDS = "commands"  # the rows by which repeated commands are recognised
    EVENTS = "events"
    FRAMES = "frames"  # that were left: all but the row that says so
    HIDDEN = "hidden"  # nodes that an Amend has hidden: their bodies
    OCCURRENCES = "occurrences"  # of a trigger
    SESSION = "session"  # all rows of a destroyed session but its own
    ERASE = "erase"  # the texts of a destroyed session
    DONE = "done"  # nothing: it notes when to look again
    since = enum.nonmember(2)


@frozen
class Keep:
    """How long something is kept after the event that ended it, or a frame after it was left.

    `last`: it is kept longer while that event is among so many latest events of its session, or the frame among those
    that were left last.
    """

    since: ClassVar = 2
    for_ms: int
    last: int = 0


@frozen
class Retention:
    """RETENTION-2: what is kept, and for how long.  None: for ever.

    `commands_for_ms`: the rows and stamps by which repetitions are recognised.  `keys_for_ms`: an input with a retained
    key, after its admission.  `destroyed_for_ms`: the rows of a destroyed session, after its last change.
    `occurrences_for_ms`: what has occurred in a trigger.
    `hidden_for_ms`: the bodies of nodes that an Amend has hidden, after that.  `jobs_for_ms`: a job, after its end; then it is
    destroyed (JOB-94).
    """

    since: ClassVar = 2
    journals: Keep | None = None
    inputs: Keep | None = None
    commands_for_ms: int | None = None
    events: Keep | None = None
    destroyed_for_ms: int | None = None
    keys_for_ms: int = KEYS_FOR_MS
    frames: Keep | None = None
    hidden_for_ms: int | None = None
    occurrences_for_ms: int | None = None
    jobs_for_ms: int | None = None

    @classmethod
    def for_ms(cls, for_ms: int) -> Retention:
        """Return the policy that keeps everything equally long, but keys at least 30 days, and frames and hidden nodes for ever."""
        keep = Keep(for_ms)
        keys_for_ms = max(for_ms, KEYS_FOR_MS)
        return cls(
            *(keep, keep, for_ms, keep, for_ms, keys_for_ms),
            occurrences_for_ms=for_ms,
            jobs_for_ms=for_ms,
        )

    @property
    def stamps(self) -> Keep | None:
        """How long the stamps of runs are kept."""
        return None if self.commands_for_ms is None else Keep(self.commands_for_ms)

    def problem(self) -> str | None:
        """Return what is wrong with it, or None."""
        kept = {
            "journals": self.journals,
            "inputs": self.inputs,
            "events": self.events,
            "frames": self.frames,
        }
        times = {f"{name}.for_ms": keep.for_ms for name, keep in kept.items() if keep is not None}
        times |= {f"{name}.last": keep.last for name, keep in kept.items() if keep is not None}
        times |= {name: value for name in TIMES if (value := getattr(self, name)) is not None}
        for name, value in times.items():
            least = COMMANDS_FOR_MS_MIN if name in RECOGNISING else 0
            if not least <= value <= TIME_MS_MAX:
                return f"{name} {value}: expected {least} to {TIME_MS_MAX}"
        return None if self.events is None else self._events_last(self.events)

    def _events_last(self, events: Keep) -> str | None:
        """RETENTION-9: what has ended is found by the events, so they go last."""
        for name in ("journals", "inputs", "stamps"):
            keep: Keep | None = getattr(self, name)
            shown = "commands_for_ms" if name == "stamps" else name
            if keep is None:
                return f"events without {shown}: what they lead to would never be found; give both"
            if keep.for_ms > events.for_ms or keep.last > events.last:
                return f"{shown} {keep}: longer than events {events}, by which it is found"
        return None


TIMES: Final = (
    *("commands_for_ms", "destroyed_for_ms", "keys_for_ms", "hidden_for_ms"),
    *("occurrences_for_ms", "jobs_for_ms"),
)
RECOGNISING: Final = (
    "inputs.for_ms",
    "commands_for_ms",
    "keys_for_ms",
    "occurrences_for_ms",
    "jobs_for_ms",
)


@frozen
class Walk:
    """The walk of a kind along the events of a session has done those up to number `through`."""

    since: ClassVar = 2
    kind: PruneKind
    through: int


@frozen
class PruneProgress(Record):
    """How far the pruning of a session is.  `events_through`: those up to this number were removed.

    `commands_at_ms`, `commands_id`: the last row of a command that was looked at.  `erasing`: the table that is erased
    next, and the key after which.  `hidden_at_ms`, `hidden_id`: the last hidden node that was looked at.
    """

    since: ClassVar = 2
    key: ClassVar = ("session_id",)
    session_id: str
    walks: tuple[Walk, ...] = ()
    commands_at_ms: int = 0
    commands_id: str = ""
    events_through: int = 0
    erasing: str = ""
    hidden_at_ms: int = 0
    hidden_id: str = ""

    def through(self, kind: PruneKind) -> int:
        """Return the number of the last event that the walk of a kind has done."""
        return next((walk.through for walk in self.walks if walk.kind is kind), 0)

    def walked(self, kind: PruneKind, through: int) -> tuple[Walk, ...]:
        """Return the walks after one of them has gone on."""
        others = [walk for walk in self.walks if walk.kind is not kind]
        return tuple(sorted([*others, Walk(kind, through)], key=lambda walk: walk.kind.value))


# -- ids


def time_of(id_: str) -> int | None:
    """Return the time in an id that is a UUID of version 7 (RFC 9562), in ms since 1970; None for any other id."""
    if len(id_) != 36 or id_[14] != "7" or id_[19] not in "89abAB":
        return None
    if any(id_[at] != "-" for at in DASHES):
        return None
    digits = id_.replace("-", "")
    if len(digits) != 32 or not HEX.issuperset(digits):
        return None
    return int(digits[:12], 16)


def is_older(id_: str, before_ms: int | None) -> bool:
    """RETENTION-4: return whether an id was made before a time."""
    if before_ms is None:
        return False
    made_ms = time_of(id_)
    return made_ms is not None and made_ms < before_ms
