"""Commands that are known by their id: their repetition is answered from the row that they left.  Spec: specs/store.md."""

from __future__ import annotations

from typing import TypeVar

from ..outcome import Decided, Refusal, Refused
from ..records import ExecutedCommand
from .validation import validate_id

__all__ = ["check_command_id", "replay"]


O = TypeVar("O")


def check_command_id(
    name: str, command_id: str, executed: ExecutedCommand | None
) -> Refused | None:
    """STORE-18, STORE-19: refuse an id of another kind of command, or one that is not a valid id."""
    if executed is not None and executed.command != name:
        return Refused(Refusal.KEY_CONFLICT, "STORE-18", executed.command)
    if executed is None and (problem := validate_id("command_id", command_id)):
        return Refused(Refusal.ILLEGAL, "STORE-19", problem)
    return None


def replay(executed: ExecutedCommand, outcome: type[O], clause: str) -> Decided[O]:
    """Return the outcome that was stored when this command was executed."""
    assert isinstance(executed.outcome, outcome), executed
    return Decided(executed.outcome, clause, replayed=True)
