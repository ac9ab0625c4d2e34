"""The outbound machine: a row that is to be sent, waits behind another one, or cannot be delivered.

Spec: specs/outbound.md.  A row that was sent is removed.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import frozen

from ..outbound_records import Behind, Due, OutboundState, Undeliverable
from ..outcome import Stepped
from ..rules import Row, Table, always

__all__ = ["RULES", "Delay", "Line", "Promote", "Refuse", "step"]


@frozen
class Delay:
    """Its target did not answer: try again at `until_ms`."""

    until_ms: int


@frozen
class Line:
    """An earlier row of its route waits for its time."""


@frozen
class Promote:
    """No row of its route is before it any more."""


@frozen
class Refuse:
    """Its target has refused it for good."""

    how: Undeliverable


Outcome: TypeAlias = Stepped[OutboundState, None]


def delay(s: Due, c: Delay, clause: str) -> Outcome:
    return Stepped(Due(c.until_ms), clause)


def line(s: Due | Behind, c: Line, clause: str) -> Outcome:
    return Stepped(Behind(), clause)


def promote(s: Due | Behind, c: Promote, clause: str) -> Outcome:
    return Stepped(Due(0), clause)


def refuse(s: Due | Behind, c: Refuse, clause: str) -> Outcome:
    return Stepped(c.how, clause)


RULES: Table[Outcome] = Table(
    (
        Row("OUTBOUND-10", Due, Delay, always, delay),
        Row("OUTBOUND-11", Due, Line, always, line),
        Row("OUTBOUND-12", Behind, Promote, always, promote),
        Row("OUTBOUND-12", Due, Promote, always, promote),
        Row("OUTBOUND-13", Due, Refuse, always, refuse),
    )
)
step = RULES.step
