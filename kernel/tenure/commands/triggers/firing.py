"""Which times of a schedule occur, of those that have come.  Spec: specs/trigger.md.

A driver computes the times; the kernel knows no calendar.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import frozen

from ...trigger_records import Missed

__all__ = ["ON_TIME_MS", "Firing", "firing_of"]


ON_TIME_MS: Final = 60_000


@frozen
class Firing:
    """The time that occurs now, if one does, how many are passed over, and the next time of the trigger."""

    at_ms: int | None
    passed_over: int
    next_at_ms: int | None
    clause: str


def firing_of(
    missed: Missed, times_ms: Sequence[int], next_at_ms: int | None, now_ms: int
) -> Firing:
    """TRIGGER-45: return which of some consecutive times occurs.  The first one has come.

    `next_at_ms`: the time after them; None: there is none.
    """
    come = [at_ms for at_ms in times_ms if at_ms <= now_ms]
    if len(come) < len(times_ms):  # TRIGGER-43: who computed them has a clock that is ahead
        next_at_ms = times_ms[len(come)]
    first, last = come[0], come[-1]
    superseded = next_at_ms is not None and next_at_ms <= now_ms  # it was computed a while ago
    match missed:
        case Missed.ALL:
            return Firing(first, 0, come[1] if len(come) > 1 else next_at_ms, "TRIGGER-46")
        case Missed.NONE if superseded or now_ms - last >= ON_TIME_MS:
            return Firing(None, len(come), next_at_ms, "TRIGGER-48")
        case Missed.ONE if superseded:
            return Firing(None, len(come), next_at_ms, "TRIGGER-47")
        case _:
            return Firing(last, len(come) - 1, next_at_ms, "TRIGGER-47")
