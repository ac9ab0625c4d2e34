"""The type of an agent, and the error for an invalid agent name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from ..runtime.turn import Turn

__all__ = ["Agent", "UnknownAgent"]


# A str that it returns is committed.  An agent that is not async runs in a thread.
Agent: TypeAlias = Callable[[Turn], Any]


class UnknownAgent(ValueError):
    """No agent has this name, or it cannot be used.  The message contains the name and the reason."""
