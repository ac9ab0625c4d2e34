"""What every agent is, and the error for a name that is none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from ..runtime.turn import Turn

Agent: TypeAlias = Callable[[Turn], Awaitable[Any]]


class UnknownAgent(ValueError):
    """The name names no usable agent; the message contains the name and the reason."""
