"""Commands that act on what they find leave a record under their id, and are known by it.  Spec: specs/store.md."""

from __future__ import annotations

from ..outcome import Refusal, Refused
from ..records import ExecutedCommand
from .validation import validate_id


def check_command_id(
    name: str, command_id: str, executed: ExecutedCommand | None
) -> Refused | None:
    """STORE-18: an id that another kind of command was carried out under, or that no store could keep."""
    if executed is not None and executed.command != name:
        return Refused(Refusal.KEY_CONFLICT, "STORE-18", executed.command)
    if executed is None and (problem := validate_id("command_id", command_id)):
        return Refused(Refusal.ILLEGAL, "STORE-19", problem)
    return None
