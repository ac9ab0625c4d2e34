"""The turn whose agent is running: for code that gets no turn, such as the tools of a chat agent."""

from __future__ import annotations

from contextvars import ContextVar

from .turn import Turn

__all__ = ["CURRENT_TURN", "current_turn"]


CURRENT_TURN: ContextVar[Turn | None] = ContextVar("tenure_turn", default=None)


def current_turn() -> Turn:
    """Return the turn of the agent that is running here.  Raises LookupError outside of one."""
    found = CURRENT_TURN.get()
    if found is None:
        raise LookupError("no turn is running here")
    return found
