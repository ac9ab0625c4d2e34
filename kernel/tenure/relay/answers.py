"""What the answer of a target means for the row that was sent: a table by the reason of the refusal.

Spec: specs/relay.md.
"""

from __future__ import annotations

from typing import Any, Final

from ..outcome import Decided, Refusal, Refused
from ..phase import Phase
from .protocol import Delivered, Failed, Head, RefusedForGood, Route

__all__ = ["PASSING", "report_of"]


# Refusals that end by themselves: by the end of a lease or a turn, of deleting or importing, or by an upgrade (RELAY-11).
PASSING: Final = frozenset(
    (
        Refusal.HELD,
        Refusal.RUN_ACTIVE,
        Refusal.BUSY,
        Refusal.FULL,
        Refusal.DELETING,
        Refusal.NOT_ACTIVE,
        Refusal.OPEN_TURN,
    )
)


def report_of(
    now_ms: int, route: Route, head: Head, answer: Decided[Any] | Refused
) -> Delivered | RefusedForGood | Failed:
    """RELAY-9 to RELAY-11: return the event for the answer of a target."""
    number = head.number
    if isinstance(answer, Decided):
        return Delivered(now_ms, route, number, head.more)
    assert head.command is not None, head
    if answer.reason in head.command.moot:
        return Delivered(now_ms, route, number, head.more)
    imports = answer.reason is Refusal.PHASE and answer.detail == Phase.IMPORTING.value
    if answer.reason in PASSING or imports:
        return Failed(now_ms, route, number, head.attempts, str(answer))
    detail = "" if answer.detail is None else str(answer.detail)
    words = (answer.reason.value, answer.clause, detail)
    return RefusedForGood(now_ms, route, number, *words, head.more)
