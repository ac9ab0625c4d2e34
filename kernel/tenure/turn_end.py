"""What a turn writes: a record while it runs, and its end.

The turn machine makes these values, the runner turns them into commands.  Neither imports the other.
"""

from __future__ import annotations

from attrs import field, frozen

from .commands import NewEntry, NewInput, NewOutbound, NewTicket
from .frame import NewState, Switch
from .limits import RUN_INPUTS_MAX
from .machines.run import Termination, WaitReason
from .machines.ticket import Rest
from .policy import Boundary, WhileWaiting
from .records import EntryKind
from .transcript import NewNode, UsageDelta

__all__ = ["Record", "Take", "TurnEnd", "TurnWait"]


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

    `environment` describes what a model was asked with.  `take`: the checkpoint also takes inputs.  `tickets`: it also
    opens these.  `attach`, `outbound`: it also attaches these attachments and sends these commands, beside at least one
    entry or node.
    """

    entries: tuple[NewEntry, ...] = ()
    nodes: tuple[NewNode, ...] = ()
    usage: tuple[UsageDelta, ...] = ()
    environment: str | None = field(default=None, repr=_length)
    take: Take | None = None
    tickets: tuple[NewTicket, ...] = ()
    attach: tuple[str, ...] = ()
    outbound: tuple[NewOutbound, ...] = ()

    @property
    def alone(self) -> bool:
        """True if the record needs a checkpoint of its own."""
        more = self.nodes or self.usage or self.environment or self.take or self.tickets
        return self.starts or bool(more or self.attach or self.outbound)

    @property
    def only_takes(self) -> bool:
        """True if the record has nothing to write, and takes inputs."""
        return self.take is not None and self == Record(take=self.take)

    @property
    def starts(self) -> bool:
        """True if the record marks a once step, which runs after it."""
        return any([e.kind is EntryKind.START for e in self.entries])


@frozen
class TurnWait:
    """What a turn waits for: tickets that it has opened, tickets that it opens with this, or inputs (see Park)."""

    effect_id: str
    reason: WaitReason
    waits_for: tuple[str, ...] = ()
    needs: int | None = None
    on_input: WhileWaiting | None = None
    tickets: tuple[NewTicket, ...] = ()
    record: Record = Record()
    rest: Rest = Rest.KEEP


@frozen
class TurnEnd:
    """How a turn ends, and what its commit contains.

    The commit admits `hand_off` as an input, names the agent that goes on (`frame`) or makes a `switch`, and sets
    `states`, if they are given.  It attaches `attach`, and sends `outbound`.  If it `yields`, it is refused while inputs wait that the turn could take instead
    (COMMIT-43).
    """

    termination: Termination = Termination.FINISHED
    reason: str = ""
    nodes: tuple[NewNode, ...] = ()
    usage: tuple[UsageDelta, ...] = ()
    state: str | None = field(default=None, repr=_length)
    hand_off: NewInput | None = None
    frame: str | None = None
    yields: bool = False
    switch: Switch | None = None
    states: tuple[NewState, ...] = ()
    attach: tuple[str, ...] = ()
    outbound: tuple[NewOutbound, ...] = ()

    @property
    def closes(self) -> bool:
        """True if the turn ends as a cancel request demands."""
        return self.termination is Termination.CANCELLED
