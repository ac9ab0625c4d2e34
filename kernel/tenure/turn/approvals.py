"""Approvals of tool calls: what a decision makes of a call.  Spec: specs/turn.md, TURN-90 to 96; specs/chat.md, CHAT-50 to 55."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ..machines.ticket import Action, Settled
from ..messages.types import Approval, ToolCall
from ..policy import WhileWaiting
from ..replace import replace
from .protocol import CheckApproval, Effect, SettleTicket, ToolResult
from .states import Asked, Asking, Batch, Checking, Core, Reported, Settling, Slot, Stage, Waiting

__all__ = [
    "approval_of",
    "begin_approval",
    "call_to_run",
    "decide",
    "is_undecided",
    "on_input",
    "remember",
    "take_settlements",
]


REJECTED: Final = "not carried out: rejected"
NOBODY: Final = "not carried out: nobody decided in time"
REMEMBERED: Final = (Action.APPROVE, Action.REJECT)


def approval_of(core: Core, call: ToolCall) -> Approval | None:
    """Return how the calls of a call's tool are approved; None: they need nobody."""
    tool = core.environment.tool(call.name)
    return None if tool is None else tool.approval


def is_undecided(stage: Stage) -> bool:
    """True if a call waits for a decision."""
    return isinstance(stage, Asking | Asked)


def decide(core: Core, call: ToolCall, calls: int, settled: Settled, attempt: int = 1) -> Slot:
    """CHAT-51, CHAT-52: return the slot of a call on which somebody has decided.  `calls`: how many the reply has."""
    approval, stage = approval_of(core, call), Waiting(attempt, cleared=True)
    if approval is not None and approval.to_tool:
        return Slot(call, stage, settled)
    match settled.how:
        case Action.APPROVE:
            return Slot(call, stage, settled)
        case Action.EDIT:
            edited = replace(call, arguments=settled.body)
            problem = core.setup.policy.reject_reason(edited, calls, core.environment.tools)
            return Slot(call, stage if problem is None else _answer(problem, True), settled)
        case Action.ANSWER:
            return Slot(call, _answer(settled.body, False), settled)
        case Action.REJECT:
            text = f"{REJECTED}: {settled.body}" if settled.body else REJECTED
            return Slot(call, _answer(text, True), settled)
        case _:
            return Slot(call, _answer(NOBODY, True), settled)


def _answer(text: str, is_error: bool) -> Reported:
    """Return a result that a decision gives.  The ticket is its record."""
    return Reported(ToolResult(text, is_error), recorded=True)


def call_to_run(core: Core, slot: Slot) -> tuple[ToolCall, Settled | None]:
    """Return a call with the arguments that were decided, and the decision if its tool is handed it."""
    approval, settled = approval_of(core, slot.call), slot.decision
    if settled is not None and approval is not None and approval.to_tool:
        return slot.call, settled
    if settled is not None and settled.how is Action.EDIT:
        return replace(slot.call, arguments=settled.body), None
    return slot.call, None


def on_input(core: Core, batch: Batch) -> WhileWaiting:
    """CHAT-54: return what an input of the user does to a turn that waits for decisions on these calls."""
    asked = [approval_of(core, each.call) for each in batch.slots if is_undecided(each.stage)]
    others = [each for each in asked if each is not None and each.others]
    return WhileWaiting.HOLD if len(others) == len(asked) else WhileWaiting.SUPERSEDE


# -- decisions that are those of later calls too


def remember(core: Core, call: ToolCall, settled: Settled) -> Core:
    """CHAT-53: return the core with the decision on a call, if later calls of its tool share it."""
    approval = approval_of(core, call)
    if approval is None or not approval.remember or settled.how not in REMEMBERED:
        return core
    if _remembered(core, call) is not None:
        return core
    return replace(core, remembered=(*core.remembered, (call.name, settled)))


def _remembered(core: Core, call: ToolCall) -> Settled | None:
    return next((settled for name, settled in core.remembered if name == call.name), None)


# -- calls that may need an approval


def begin_approval(core: Core, batch: Batch, index: int) -> tuple[Batch, tuple[Effect, ...]]:
    """TURN-90, TURN-95: check a call that may need an approval, or settle it like an earlier one."""
    slot, key = batch.slots[index], core.key("tool", index)
    alike = _remembered(core, slot.call)
    match slot.stage:
        case Waiting(attempt, cleared=False) if approval_of(core, slot.call) is not None:
            tool = core.environment.tool(slot.call.name)
            assert tool is not None
            if alike is None:
                effect = CheckApproval(key, slot.call, tool)
                return batch.put(index, Checking(attempt)), (effect,)
            decided = decide(core, slot.call, len(batch.slots), alike, attempt)
            return batch.put_slot(index, decided), ()
        case Asking() if alike is not None:
            return batch.put_slot(index, decide(core, slot.call, len(batch.slots), alike)), ()
        case Asked(ticket_id) if alike is not None:
            settling = SettleTicket(key, ticket_id, alike)
            return batch.put(index, Settling(ticket_id)), (settling,)
    return batch, ()


def take_settlements(
    core: Core, batch: Batch, settled: Iterable[tuple[str, Settled]]
) -> tuple[Core, Batch]:
    """TURN-94: apply settlements to the calls that need them."""
    found = dict(settled)
    for index, slot in enumerate(batch.slots):
        stage = slot.stage
        if isinstance(stage, Asked | Settling) and stage.ticket_id in found:
            decision = found[stage.ticket_id]
            core = remember(core, slot.call, decision)
            batch = batch.put_slot(index, decide(core, slot.call, len(batch.slots), decision))
    return core, batch
