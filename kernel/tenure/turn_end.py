"""What a turn writes: a record while it runs, and its end.

The turn machine makes these values, the runner turns them into commands.  Neither imports the other.
"""

from __future__ import annotations

from attrs import field, frozen

from .commands import NewEntry, NewInput
from .machines.run import Termination
from .records import EntryKind
from .transcript import NewNode, UsageDelta

__all__ = ["Record", "TurnEnd"]


def _length(text: str | None) -> str:
    return "None" if text is None else f"<{len(text)}>"


@frozen
class Record:
    """Journal entries, nodes and usage that become durable in one checkpoint.

    `environment` describes what a model was asked with.
    """

    entries: tuple[NewEntry, ...] = ()
    nodes: tuple[NewNode, ...] = ()
    usage: tuple[UsageDelta, ...] = ()
    environment: str | None = field(default=None, repr=_length)

    @property
    def alone(self) -> bool:
        """True if the record needs a checkpoint of its own."""
        return self.starts or bool(self.nodes or self.usage or self.environment)

    @property
    def starts(self) -> bool:
        """True if the record marks a once step, which runs after it."""
        return any([e.kind is EntryKind.START for e in self.entries])


@frozen
class TurnEnd:
    """How a turn ends, and what its commit contains.

    The commit admits `hand_off` as an input and sets the session's `frame`, if they are given.
    """

    termination: Termination = Termination.FINISHED
    reason: str = ""
    nodes: tuple[NewNode, ...] = ()
    usage: tuple[UsageDelta, ...] = ()
    state: str | None = field(default=None, repr=_length)
    hand_off: NewInput | None = None
    frame: str | None = None

    @property
    def closes(self) -> bool:
        """True if the turn ends as a cancel request demands."""
        return self.termination is Termination.CANCELLED
