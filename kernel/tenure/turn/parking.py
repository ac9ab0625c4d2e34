"""The Park of a turn whose calls wait for decisions.  Spec: specs/turn.md, TURN-93."""

from __future__ import annotations

from ..commands import NewEntry, NewTicket
from ..machines.run import WaitReason
from ..machines.ticket import TicketKind
from ..replace import replace
from ..transcript import NewNode
from ..turn_end import Record, TurnWait
from .approvals import approval_of, is_undecided, on_input
from .ending import result_message
from .protocol import Park
from .states import IN_PROGRESS, Asked, Asking, Batch, Core, PendingRecord, Reported, Slot, Waiting
from .tool_calls import extra_entry

__all__ = ["can_park", "park"]


def can_park(batch: Batch) -> bool:
    """True if nothing of the batch is in progress, and a call waits for a decision."""
    if batch.pending is not None:
        return False
    stages = [slot.stage for slot in batch.slots]
    busy = any([isinstance(stage, (Waiting, *IN_PROGRESS)) for stage in stages])
    return not busy and any([is_undecided(stage) for stage in stages])


def park(core: Core, batch: Batch) -> tuple[Core, Batch, Park]:
    """Return the Park: it waits for any of the open decisions.

    It also writes the results behind calls that wait, so that no result waits for a person.  If it is not needed, it has
    written nothing: the chain and the usage stay as they are.
    """
    entries: list[NewEntry] = []
    nodes: list[NewNode] = []
    written = core
    for index, slot in enumerate(batch.slots):
        if isinstance(slot.stage, Reported):
            entries += extra_entry(core, index, slot)
            written, node = written.append_message(result_message(slot.call, slot.stage.result))
            nodes.append(node)
    wait = TurnWait(
        core.effect_id("wait", core.records),
        WaitReason.APPROVAL,
        tuple([s.stage.ticket_id for s in batch.slots if isinstance(s.stage, Asked)]),
        1,
        on_input(core, batch),
        tuple([_ticket(core, index, slot) for index, slot in _asking(batch)]),
        Record(tuple(entries), tuple(nodes), core.usage),
    )
    effect = Park(core.key("record", core.records), wait)
    pending = PendingRecord(effect.key, parks=True)
    return replace(core, records=core.records + 1), replace(batch, pending=pending), effect


def _asking(batch: Batch) -> list[tuple[int, Slot]]:
    return [(i, slot) for i, slot in enumerate(batch.slots) if isinstance(slot.stage, Asking)]


def _ticket(core: Core, index: int, slot: Slot) -> NewTicket:
    assert isinstance(slot.stage, Asking)
    approval = approval_of(core, slot.call)
    assert approval is not None
    return NewTicket(
        slot.stage.ticket_id, core.effect_id("approval", index), TicketKind.APPROVAL,
        slot.stage.prompt, approval.offers, approval.within_ms, slot.call.call_id,
    )  # fmt: skip
