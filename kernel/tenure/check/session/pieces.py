"""Inputs, and moves of workers, of which the systems of the session model are made."""

from __future__ import annotations

from typing import Final

from ... import commands as c
from ...failure import RetryLimits
from ...policy import IfOver, KeyScope, Lane, OnOtherContent, Policy
from ...records import TicketName
from .snapshot import LATER
from .states import Moves

__all__ = [
    "ABANDON",
    "AT_REST",
    "DELAYED",
    "DELAYED_DIRECTIVE",
    "DIRECTIVE",
    "EDITED",
    "FAILURES",
    "FIRST",
    "FOLLOW_UP",
    "GUARD",
    "KEYED_1",
    "KEYED_2",
    "LATER_EDIT",
    "ONCE",
    "OPEN_KEY",
    "PLAIN",
    "PROMPT",
    "QUEUED",
    "REPLACEMENT",
    "REPORT_1",
    "REPORT_2",
    "REPORT_3",
    "REPORT_4",
    "SECOND",
    "SHORT",
    "SLOT_1",
    "SLOT_2",
    "STEER",
    "WAKE_1",
    "WAKE_2",
    "WAKE_3",
    "CHILD_1",
    "clauses",
    "extended",
]


PROMPT: Final = (c.NewInput("p", "prompt", "p"),)
DIRECTIVE: Final = (c.NewInput("d", "directive", "d"),)
SECOND: Final = (c.NewInput("q", "prompt", "q", supersession_key="one"),)
FIRST: Final = (c.NewInput("q", "prompt", "q", priority=0),)
DELAYED: Final = (c.NewInput("r", "prompt", "r", available_at_ms=LATER),)
DELAYED_DIRECTIVE: Final = (c.NewInput("e", "directive", "e", available_at_ms=LATER),)
SHORT: Final = (
    c.NewInput(
        "p",
        "order",
        "p",
        policy=Policy(Lane.USER, retry=RetryLimits(failures=2, losses=2, give_up_after_ms=1_000)),
    ),
)
WAKE_1: Final = c.NewInput("v", "wake", "v")
WAKE_2: Final = c.NewInput("w", "wake", "w")
WAKE_3: Final = c.NewInput("x", "wake", "x")
REPLACEMENT: Final = c.NewInput("n", "prompt", "n")
OPEN_KEY: Final = Policy(
    Lane.USER, on_other_content=OnOtherContent.ORIGINAL, key_scope=KeyScope.OPEN
)
KEYED_1: Final = (c.NewInput("k", "order", "k", key="one", policy=OPEN_KEY),)
KEYED_2: Final = (c.NewInput("l", "order", "l", key="one", policy=OPEN_KEY),)
GUARD: Final = (c.NewInput("g", "guard", "g", policy=Policy(Lane.USER, barrier=True)),)
EDITED: Final = c.NewInput("n", "prompt", "n")
AT_REST: Final = c.NewInput("o", "prompt", "o")
LATER_EDIT: Final = c.NewInput("m", "prompt", "m", available_at_ms=LATER)
REPORT_1: Final = (c.NewInput("s", "peer_progress", "s", supersession_key="one"),)
REPORT_2: Final = (c.NewInput("t", "peer_progress", "t", supersession_key="one"),)
REPORT_3: Final = (
    c.NewInput("u", "peer_progress", "u", supersession_key="one", available_at_ms=LATER),
)
REPORT_4: Final = (
    c.NewInput("v", "peer_progress", "v", supersession_key="one", available_at_ms=LATER),
)
SLOT_1: Final = (c.NewInput("s", "wake", "s", supersession_key="one"),)
SLOT_2: Final = (c.NewInput("t", "wake", "t", supersession_key="one"),)

CHILD_1: Final = (c.NewInput("p", "prompt", "p", settles=TicketName("parent", "t1")),)

QUEUED: Final = (c.NewInput("q", "prompt", "q"),)
STEER: Final = (c.NewInput("s", "steering", "s"),)
FOLLOW_UP: Final = (c.NewInput("f", "follow_up", "f"),)
ABANDON: Final = (c.NewInput("s", "steering", "s", if_over=IfOver.ABANDON),)

ONCE: Final[Moves] = {
    "idle": ("begin",),
    "begun": ("mark", "commit"),
    "ran": ("report",),
    "started": ("record unknown",),
    "reported": ("commit",),
    "closing": ("commit as cancelled",),
}
PLAIN: Final[Moves] = {
    "idle": ("begin",),
    "begun": ("commit",),
    "closing": ("commit as cancelled",),
}
FAILURES: Final = ("fail", "fail for good", "fail at the provider")


def extended(moves: Moves, **more: tuple[str, ...]) -> Moves:
    """Return the moves with more commands in some steps."""
    steps = moves.keys() | more.keys()
    return {step: (*moves.get(step, ()), *more.get(step, ())) for step in sorted(steps)}


def clauses(text: str) -> tuple[str, ...]:
    """Return the clauses of a short text: `LEASE-1,2 RUN-3` is LEASE-1, LEASE-2 and RUN-3."""
    families = [part.split("-") for part in text.split()]
    return tuple(f"{family}-{n}" for family, numbers in families for n in numbers.split(","))
