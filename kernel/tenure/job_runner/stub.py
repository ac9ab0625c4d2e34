"""Commands that come with signals."""

from typing import Any

from attrs import frozen

from ..machines.lease import Fence
from ..queries import Command

__all__ = ["Emit", "JobWaits", "SignalFound", "SignalMissing", "Wait"]


@frozen
class Emit(Command[Any, Any]):
    session_id: str
    fence: Fence
    type: str
    body: str
    key: str | None = None
    wake: bool = False


@frozen
class Wait(Command[Any, Any]):
    session_id: str
    fence: Fence
    name: str
    n: int


@frozen
class SignalFound:
    body: str


@frozen
class SignalMissing:
    """Kept the lease."""


@frozen
class JobWaits:
    """Let go."""
