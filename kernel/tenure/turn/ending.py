"""How a turn ends: what is committed, and what becomes of calls that are open.  Spec: specs/turn.md, TURN-50 on."""

from __future__ import annotations

import hashlib

from ..commands import NewInput
from ..failure import ErrorKind, Failure
from ..machines.run import Termination
from ..messages.types import Disposition, Message, Speaker, ToolCall
from ..outcome import Stepped
from ..replace import replace
from ..transcript import NewNode
from .protocol import (
    Abort,
    Broken,
    Cancelled,
    Effect,
    Fail,
    Finish,
    Halted,
    HandedOff,
    HandOff,
    ToolResult,
)
from .protocol import Outcome as TurnOutcome
from .states import (
    AwaitingEnvironment,
    AwaitingModel,
    AwaitingTools,
    Batch,
    Core,
    Finished,
    Marking,
    Outcome,
    Probing,
    Reported,
    Running,
    Slot,
    State,
    Stop,
    Waiting,
    WaitingForRetry,
    Written,
)

ID_MAX = 200
UNKNOWN = "interrupted: this call was started before a crash and its outcome is unknown; it is not run again"


def finish(
    core: Core,
    outcome: TurnOutcome,
    clause: str,
    nodes: tuple[NewNode, ...] = (),
    effects: tuple[Effect, ...] = (),
) -> Outcome:
    """The last effect of a turn, which says it all."""
    if isinstance(outcome, HandedOff) and core.setup.hand_offs >= core.setup.limits.hand_offs_max:
        outcome = Halted("hand_off_limit")
    last = _last(core, outcome, nodes)
    return Stepped(Finished(replace(core, usage=()), outcome, last), clause, (*effects, last))


def _last(core: Core, outcome: TurnOutcome, nodes: tuple[NewNode, ...]) -> Finish | Fail:
    match outcome:
        case Broken(failure):
            return Fail(failure, core.usage)
        case Halted(code):
            return Finish(Termination.STOPPED, code, nodes, core.usage)
        case Cancelled():
            return Finish(Termination.CANCELLED, "", nodes, core.usage)
        case HandedOff(hand_off):
            new, frame = _admitted(core, hand_off), hand_off.frame
            return Finish(Termination.FINISHED, "", nodes, core.usage, new, frame)
        case _:
            return Finish(Termination.FINISHED, "", nodes, core.usage)


def _admitted(core: Core, hand_off: HandOff) -> NewInput:
    """TURN-41: what the next one starts with; its id is the turn's, so that it enters once."""
    setup = core.setup
    input_id = f"{setup.run_id}:{setup.turn}:hand_off"
    if len(input_id) > ID_MAX:
        input_id = "hand_off:" + hashlib.sha256(input_id.encode()).hexdigest()
    return NewInput(input_id, "hand_off", hand_off.text, f"hand_off:{setup.hand_offs + 1}")


def mismatch(core: Core, clause: str, message: str) -> Outcome:
    """TURN-4, TURN-7, TURN-8."""
    return finish(core, Broken(Failure(ErrorKind.REPLAY_MISMATCH, message[:500])), clause)


# -- stopping


def stop(s: State, why: Stop, clause: str) -> Outcome:
    """TURN-51, TURN-52: of a turn that awaits no record."""
    match s:
        case AwaitingTools():
            return finish(
                s.core, why, clause, closings(s.core, s.batch, why), abort(s.core, s.batch)
            )
        case AwaitingModel():
            return finish(s.core, why, clause, (), (Abort((s.core.key("model"),)),))
        case AwaitingEnvironment():
            return finish(s.core, why, clause, (), (Abort((s.core.key("environment"),)),))
        case _:
            return finish(s.core, why, clause)


def abort(core: Core, batch: Batch) -> tuple[Effect, ...]:
    """What is under way is stopped where it stands."""
    keys = tuple(
        [
            core.key("tool", index)
            for index, slot in enumerate(batch.slots)
            if isinstance(slot.stage, Running | WaitingForRetry | Probing)
        ]
    )
    return (Abort(keys),) if keys else ()


def closings(core: Core, batch: Batch, why: Stop) -> tuple[NewNode, ...]:
    """Each open call gets the result that is known of it."""
    nodes = []
    for slot in batch.slots:
        if not isinstance(slot.stage, Written):
            core, node = core.append_message(message_of(slot.call, _known(core, slot, why)))
            nodes.append(node)
    return tuple(nodes)


def unanswered(core: Core, calls: tuple[ToolCall, ...], text: str) -> tuple[NewNode, ...]:
    nodes = []
    for call in calls:
        core, node = core.append_message(message_of(call, ToolResult(text, is_error=True)))
        nodes.append(node)
    return tuple(nodes)


def text_for(why: Stop) -> str:
    return "cancelled" if isinstance(why, Cancelled) else "interrupted by the deadline of the turn"


def _known(core: Core, slot: Slot, why: Stop) -> ToolResult:
    text = text_for(why)
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
        case Waiting() | Marking() | Written():
            return ToolResult(f"{text} before it ran", is_error=True)


def message_of(call: ToolCall, result: ToolResult) -> Message:
    return Message(
        Speaker.TOOL, result.text, call_id=call.call_id,
        attachments=result.attachments, is_error=result.is_error,
    )  # fmt: skip
