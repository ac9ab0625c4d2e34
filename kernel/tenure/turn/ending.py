"""How a turn ends: its last effect, and the results of calls that are still open.  Spec: specs/turn.md, TURN-40 to 52."""

from __future__ import annotations

import hashlib

from ..commands import NewInput
from ..commands.nodes import UNDECIDED
from ..failure import ErrorKind, Failure
from ..frame import Switch
from ..limits import ID_CHARACTERS_MAX
from ..machines.run import Termination
from ..messages.types import Disposition, Message, ToolCall
from ..outcome import Stepped
from ..replace import replace
from ..transcript import NewNode, Role
from ..turn_end import TurnEnd
from .protocol import (
    Abort,
    Cancelled,
    Completed,
    Effect,
    Ending,
    Fail,
    Failed,
    HandedOff,
    HandOff,
    Stopped,
    ToolResult,
)
from .states import (
    Asked,
    Asking,
    Batch,
    Checking,
    Core,
    Finished,
    Marking,
    Outcome,
    Probing,
    Reported,
    Running,
    Settling,
    Slot,
    StopReason,
    Waiting,
    WaitingForRetry,
    Written,
)

__all__ = [
    "UNKNOWN",
    "abort_calls",
    "answer_calls",
    "closings",
    "finish",
    "mismatch",
    "result_message",
    "stop_text",
]


UNKNOWN = (
    "interrupted: this call was started by an earlier attempt and its outcome is unknown; "
    "it is not run again"
)


def finish(
    core: Core,
    outcome: Ending,
    clause: str,
    nodes: tuple[NewNode, ...] = (),
    effects: tuple[Effect, ...] = (),
    answer: Message | None = None,
) -> Outcome:
    """End the turn: its last effect is a commit or a failure, after `effects`.

    `answer`: the message of `nodes`, if the turn can go on after it.
    """
    if isinstance(outcome, HandedOff) and core.setup.hand_offs >= core.setup.limits.hand_offs_max:
        outcome = Stopped("hand_off_limit")
    last = _last_effect(core, outcome, nodes)
    finished = Finished(replace(core, usage=()), outcome, last, answer)
    return Stepped(finished, clause, (*effects, last))


def _last_effect(core: Core, outcome: Ending, nodes: tuple[NewNode, ...]) -> TurnEnd | Fail:
    match outcome:
        case Failed(failure):
            return Fail(failure, core.usage)
        case Stopped(code):
            return TurnEnd(Termination.STOPPED, code, nodes, core.usage)
        case Cancelled():
            return TurnEnd(Termination.CANCELLED, "", nodes, core.usage)
        case Completed():
            return TurnEnd(nodes=nodes, usage=core.usage, yields=True)
        case HandedOff(hand_off):
            new = _hand_off_input(core, hand_off)
            end = TurnEnd(nodes=nodes, usage=core.usage, hand_off=new)
            if isinstance(hand_off.frame, Switch):
                return replace(end, switch=hand_off.frame)
            return replace(end, frame=hand_off.frame)
        case _:
            return TurnEnd(nodes=nodes, usage=core.usage)


def _hand_off_input(core: Core, hand_off: HandOff) -> NewInput:
    """Return the input of the next agent (TURN-41).  Its id is derived from the turn, so it is admitted once."""
    setup = core.setup
    input_id = f"{setup.run_id}:{setup.turn}:hand_off"
    if len(input_id) > ID_CHARACTERS_MAX:
        input_id = "hand_off:" + hashlib.sha256(input_id.encode()).hexdigest()
    return NewInput(input_id, "hand_off", hand_off.text, f"hand_off:{setup.hand_offs + 1}")


def mismatch(core: Core, clause: str, message: str) -> Outcome:
    """Fail the turn with `replay_mismatch` (TURN-4, TURN-7, TURN-8)."""
    return finish(core, Failed(Failure(ErrorKind.REPLAY_MISMATCH, message[:500])), clause)


# -- open calls


def abort_calls(core: Core, batch: Batch) -> tuple[Effect, ...]:
    """Return the effect that cancels the calls in progress, if there are any."""
    keys = tuple(
        [
            core.key("tool", index)
            for index, slot in enumerate(batch.slots)
            if isinstance(slot.stage, Running | WaitingForRetry | Probing | Checking | Settling)
        ]
    )
    return (Abort(keys),) if keys else ()


def closings(core: Core, batch: Batch, stop: StopReason) -> tuple[NewNode, ...]:
    """Return a node for each open call, with the result that is known of it."""
    nodes = []
    for slot in batch.slots:
        if not isinstance(slot.stage, Written):
            core, node = core.append_message(result_message(slot.call, _known(core, slot, stop)))
            nodes.append(node)
    return tuple(nodes)


def answer_calls(core: Core, calls: tuple[ToolCall, ...], text: str) -> tuple[NewNode, ...]:
    """Return nodes that answer all these calls with one error text."""
    nodes = []
    for call in calls:
        core, node = core.append_message(result_message(call, ToolResult(text, is_error=True)))
        nodes.append(node)
    return tuple(nodes)


def stop_text(stop: StopReason) -> str:
    """Return the beginning of the results of open calls."""
    return "cancelled" if isinstance(stop, Cancelled) else "interrupted by the deadline of the turn"


def _known(core: Core, slot: Slot, stop: StopReason) -> ToolResult:
    text = stop_text(stop)
    tool = core.environment.tool(slot.call.name)
    once = tool is None or tool.disposition is Disposition.ONCE
    match slot.stage:
        case Reported(result):
            return result
        case Running() if once:
            return ToolResult(f"{text} while it ran; its outcome is unknown", is_error=True)
        case Running() | WaitingForRetry():
            return ToolResult(f"{text} while it ran", is_error=True)
        case Probing():
            return ToolResult(UNKNOWN, is_error=True)
        case Asked() | Settling():
            return ToolResult(UNDECIDED, is_error=True)
        case Waiting() | Checking() | Asking() | Marking() | Written():
            return ToolResult(f"{text} before it ran", is_error=True)


def result_message(call: ToolCall, result: ToolResult) -> Message:
    """Return the message that answers a call."""
    return Message(
        Role.TOOL, result.text, call_id=call.call_id,
        attachments=result.attachments, is_error=result.is_error,
    )  # fmt: skip
