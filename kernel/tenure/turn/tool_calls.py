"""The calls of one reply: which begin, what is written down of them and when.  Spec: specs/turn.md, TURN-30 to TURN-41."""

from __future__ import annotations

from typing import Final

from ..commands import NewEntry
from ..messages.codec import to_json
from ..messages.types import Disposition, Message, RetryPolicy, ToolCall
from ..records import EntryKind
from ..replace import replace
from ..transcript import NewNode
from .ending import UNKNOWN, message_of
from .protocol import Effect, Probe, Record, RunTool, ToolResult
from .replay import RecordedReport, report_body
from .states import (
    UNDER_WAY,
    Batch,
    Core,
    Marking,
    PendingRecord,
    Probing,
    Reported,
    Running,
    Slot,
    Stage,
    Waiting,
    Written,
)

FAILED_MAX: Final = 32  # attempts in one record
TEXT_MAX: Final = 2_000  # of a failed attempt, in the journal


def once(core: Core, call: ToolCall) -> bool:
    tool = core.environment.tool(call.name)
    return tool is not None and tool.disposition is Disposition.ONCE


def policy_of(core: Core, call: ToolCall) -> RetryPolicy:
    tool = core.environment.tool(call.name)
    return RetryPolicy() if tool is None else tool.retry


def backoff_ms(policy: RetryPolicy, attempt: int, result: ToolResult) -> int:
    """TURN-37: before this attempt, the second or a later one."""
    delay = min(policy.base_ms * 2 ** min(attempt - 2, 20), policy.cap_ms)
    return int(max(delay, result.retry_after_ms))


# -- opening


def open_batch(core: Core) -> tuple[Core, Batch] | str:
    """The calls of the reply that the chain ends with, as far as the journal knows; or why it makes no sense."""
    assert core.chain is not None
    calls, at = core.chain.message.calls, core.iteration
    results = core.replay.results.get(at, {})
    if unasked := results.keys() - {call.call_id for call in calls}:
        return f"iteration {at}: results of calls that were never made: {sorted(unasked)}"
    if core.replay.highest.get(at, -1) >= len(calls):
        return f"iteration {at}: a report of call {core.replay.highest[at]} of {len(calls)}"
    slots: list[Slot] = []
    behind = False
    for index, call in enumerate(calls):
        stage = _stage(core, index, call, len(calls), results.get(call.call_id))
        slots.append(Slot(call, stage))
        if not isinstance(stage, Written):
            behind = True
        elif behind:
            return f"iteration {at}: the result of call {index} stands before an earlier one's"
        else:
            core, _ = core.append_message(results[call.call_id])
    return core, Batch(tuple(slots))


def _stage(core: Core, index: int, call: ToolCall, calls: int, written: Message | None) -> Stage:
    """TURN-6, TURN-34..TURN-36, TURN-38: where a call stands; a rerunnable one of which nothing is known runs again."""
    replay, at = core.replay, (core.iteration, index)
    kept = replay.reports.get(at, RecordedReport(None, None))
    if written is not None:
        return Written(
            ToolResult(
                written.text, written.is_error, attachments=written.attachments,
                hand_off=kept.hand_off,
            )
        )  # fmt: skip
    if kept.result is not None:
        return Reported(kept.result, recorded=True, unknown=kept.unknown)
    if at in replay.starts:
        tool = core.environment.tool(call.name)
        return Probing() if tool is not None and tool.probed else Reported(unknown(), unknown=True)
    objection = core.setup.policy.reject_reason(call, calls, core.environment.tools)
    if objection is not None:
        return Reported(ToolResult(objection, is_error=True))
    return Waiting(replay.attempts.get(at, 0) + 1)


def unknown() -> ToolResult:
    """TURN-35."""
    return ToolResult(UNKNOWN, is_error=True)


def probes(core: Core, batch: Batch) -> tuple[Effect, ...]:
    found: list[Effect] = []
    for index, slot in enumerate(batch.slots):
        tool = core.environment.tool(slot.call.name)
        if isinstance(slot.stage, Probing) and tool is not None:
            found.append(Probe(core.key("tool", index), slot.call, tool))
    return tuple(found)


# -- beginning


def launch(core: Core, batch: Batch) -> tuple[Batch, tuple[Effect, ...]]:
    """TURN-30, TURN-32: as many as may be under way, in order; a once call is marked first."""
    free = core.setup.limits.concurrency
    free -= sum([isinstance(slot.stage, UNDER_WAY) for slot in batch.slots])
    effects: list[Effect] = []
    for index, slot in enumerate(batch.slots):
        if free > 0 and isinstance(slot.stage, Waiting):
            free -= 1
            if once(core, slot.call):
                batch = batch.put(index, Marking())
            else:
                batch = batch.put(index, Running(slot.stage.attempt))
                effects.append(run(core, index, slot.call, slot.stage.attempt))
    return batch, tuple(effects)


def run(core: Core, index: int, call: ToolCall, attempt: int) -> RunTool:
    tool = core.environment.tool(call.name)
    assert tool is not None
    return RunTool(core.key("tool", index), call, tool, attempt)


# -- writing down


def next_record(core: Core, batch: Batch) -> tuple[Core, Batch, Record | None]:
    """TURN-9, TURN-31, TURN-33: the next record, if there is anything to write and none is under way."""
    if batch.pending is not None:
        return core, batch, None
    written = _writable(batch)
    kept = tuple(
        [i for i in range(len(batch.slots)) if i not in written and _urgent(core, batch, i)]
    )
    if not written and not kept and not batch.failed:
        return _mark(core, batch)
    entries, nodes = _failed(core, batch), []
    for index in kept:
        entries.append(_entry(core, index, batch.slots[index], whole=True))
    for index in written:
        slot = batch.slots[index]
        assert isinstance(slot.stage, Reported)
        core, node = core.append_message(message_of(slot.call, slot.stage.result))
        nodes.append(node)
        extra = slot.stage.unknown or slot.stage.result.hand_off is not None
        if extra and not slot.stage.recorded:
            entries.append(_entry(core, index, slot, whole=False))
    batch = replace(batch, failed=batch.failed[FAILED_MAX:])
    return _issue(core, batch, PendingRecord("", (), kept, written), tuple(entries), tuple(nodes))


def _writable(batch: Batch) -> tuple[int, ...]:
    """The reported calls before which all have their node."""
    found = []
    for index, slot in enumerate(batch.slots):
        if isinstance(slot.stage, Reported):
            found.append(index)
        elif not isinstance(slot.stage, Written):
            break
    return tuple(found)


def _urgent(core: Core, batch: Batch, index: int) -> bool:
    slot = batch.slots[index]
    reported = isinstance(slot.stage, Reported) and not slot.stage.recorded
    return reported and (once(core, slot.call) or getattr(slot.stage, "unknown", False))


def _mark(core: Core, batch: Batch) -> tuple[Core, Batch, Record | None]:
    marks = tuple([i for i, slot in enumerate(batch.slots) if isinstance(slot.stage, Marking)])
    if not marks:
        return core, batch, None
    entries = tuple([NewEntry(EntryKind.START, core.effect_id("tool", i)) for i in marks])
    return _issue(core, batch, PendingRecord("", marks), entries, ())


def _issue(
    core: Core,
    batch: Batch,
    pending: PendingRecord,
    entries: tuple[NewEntry, ...],
    nodes: tuple[NewNode, ...],
) -> tuple[Core, Batch, Record]:
    key = core.key("record", core.records)
    record = Record(key, entries, nodes, core.usage)
    core = replace(core, records=core.records + 1, usage=())
    return core, replace(batch, pending=replace(pending, key=key)), record


def _failed(core: Core, batch: Batch) -> list[NewEntry]:
    return [
        NewEntry(
            EntryKind.REPORT,
            core.effect_id("attempt", f"{i}.{attempt}"),
            to_json({"error": text[:TEXT_MAX]}),
        )
        for i, attempt, text in batch.failed[:FAILED_MAX]
    ]


def _entry(core: Core, index: int, slot: Slot, *, whole: bool) -> NewEntry:
    assert isinstance(slot.stage, Reported)
    kind = EntryKind.UNKNOWN if slot.stage.unknown else EntryKind.REPORT
    return NewEntry(
        kind, core.effect_id("tool", index), report_body(slot.stage.result, whole=whole)
    )


def after_record(core: Core, batch: Batch, *, go: bool) -> tuple[Batch, tuple[Effect, ...]]:
    """The record under way was answered: what was marked begins, what was written is."""
    pending = batch.pending
    assert pending is not None
    effects: list[Effect] = []
    batch = replace(batch, pending=None)
    for index in (*pending.reports, *pending.written):
        stage = batch.slots[index].stage
        assert isinstance(stage, Reported)
        done = index in pending.written
        batch = batch.put(index, Written(stage.result) if done else replace(stage, recorded=True))
    for index in pending.marks if go else ():
        batch = batch.put(index, Running())
        effects.append(run(core, index, batch.slots[index].call, 1))
    return batch, tuple(effects)
