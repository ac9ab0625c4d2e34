"""What a turn writes: a record while it runs, and its end.

The turn machine makes these values, the runner turns them into commands.  Neither imports the other.
"""

from __future__ import annotations

from attrs import field, frozen

from .commands import NewEntry, NewInput
from .limits import RUN_INPUTS_MAX
from .machines.run import Termination
from .policy import Boundary
from .records import EntryKind
from .transcript import NewNode, UsageDelta

__all__ = ["Record", "Take", "TurnEnd"]


def _length(text: str | None) -> str:
    return "None" if text is None else f"<{len(text)}>"


@frozen
class Take:
    """Take at most `most` inputs at a boundary, under the effect id of who asks (JOURNAL-32)."""

    boundary: Boundary
    effect_id: str
    most: int = RUN_INPUTS_MAX


@frozen
class Record:
    """Journal entries, nodes and usage that become durable in one checkpoint.

    `environment` describes what a model was asked with.  `take`: the checkpoint also takes inputs.
    """

    entries: tuple[NewEntry, ...] = ()
    nodes: tuple[NewNode, ...] = ()
    usage: tuple[UsageDelta, ...] = ()
    environment: str | None = field(default=None, repr=_length)
    take: Take | None = None

    @property
    def alone(self) -> bool:
        """True if the record needs a checkpoint of its own."""
        return self.starts or bool(self.nodes or self.usage or self.environment or self.take)

    @property
    def only_takes(self) -> bool:
        """True if the record has nothing to write, and takes inputs."""
        return self.take is not None and self == Record(take=self.take)

    @property
    def starts(self) -> bool:
        """True if the record marks a once step, which runs after it."""
        return any([e.kind is EntryKind.START for e in self.entries])


@frozen
class TurnEnd:
    """How a turn ends, and what its commit contains.

    The commit admits `hand_off` as an input and sets the session's `frame`, if they are given.  If it `yields`, it is
    refused while inputs wait that the turn could take instead (COMMIT-43).
    """

    termination: Termination = Termination.FINISHED
    reason: str = ""
    nodes: tuple[NewNode, ...] = ()
    usage: tuple[UsageDelta, ...] = ()
    state: str | None = field(default=None, repr=_length)
    hand_off: NewInput | None = None
    frame: str | None = None
    yields: bool = False

    @property
    def closes(self) -> bool:
        """True if the turn ends as a cancel request demands."""
        return self.termination is Termination.CANCELLED
