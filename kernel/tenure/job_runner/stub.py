from typing import Any

from attrs import frozen

from ..commands import NewEntry
from ..machines.lease import Fence, Owner
from ..queries import Command


@frozen
class Drain(Command[Any, Any]):
    session_id: str
    owner: Owner
    lease_id: str


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
class JobCheckpoint(Command[Any, Any]):
    session_id: str
    fence: Fence
    n: int
    entries: tuple[NewEntry, ...] = ()


@frozen
class SignalFound:
    body: str


@frozen
class SignalMissing:
    """Kept the lease."""


@frozen
class JobWaits:
    """Let go."""
