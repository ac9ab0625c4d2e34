"""The calls of one reply: which may begin, and what is recorded when.  Spec: specs/turn.md, TURN-30 to TURN-39."""

from __future__ import annotations

from typing import Final

from ..commands import NewEntry
from ..messages.codec import to_json
from ..messages.types import Disposition, Message, RetryPolicy, ToolCall
from ..policy import Boundary
from ..records import EntryKind
from ..replace import replace
from ..transcript import NewNode
from ..turn_end import Record, Take
from .approvals import begin_approval, call_to_run, decide, remember
from .ending import UNKNOWN, result_message
from .protocol import Effect, Ending, HandedOff, Probe, RunTool, ToolResult, Value, WriteRecord
from .replay import RecordedReport, report_body
from .states import (
    IN_PROGRESS,
    Asked,
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

__all__ = [
    "after_record",
    "backoff_ms",
    "ended_by",
    "extra_entry",
    "is_once",
    "launch",
    "next_record",
    "open_batch",
    "policy_of",
    "probes",
    "run",
    "take_inputs",
    "unknown_outcome",
    "write_record",
]


FAILED_MAX: Final = 32  # attempts in one record
TEXT_MAX: Final = 2_000  # of a failed attempt, in the journal


def is_once(core: Core, call: ToolCall) -> bool:
    """True if the tool of a call is never run twice."""
    tool = core.environment.tool(call.name)
    return tool is not None and tool.disposition is Disposition.ONCE


def policy_of(core: Core, call: ToolCall) -> RetryPolicy:
    """Return the retry policy of a call's tool."""
    tool = core.environment.tool(call.name)
    return RetryPolicy() if tool is None else tool.retry


def backoff_ms(policy: RetryPolicy, attempt: int, result: ToolResult) -> int:
    """Return the delay before `attempt`, the second or a later one (TURN-37)."""
    delay = min(policy.base_ms * 2 ** min(attempt - 2, 20), policy.cap_ms)
    return int(max(delay, result.retry_after_ms))


# -- the batch of a reply


def open_batch(core: Core) -> tuple[Core, Batch] | str:
    """Return the batch of the reply at the end of the chain, with what the journal holds of its calls.

    The messages of written results are appended to the chain.  Returns a text if the journal contradicts the reply.
    """
    assert core.chain is not None
    calls, at = core.chain.message.calls, core.iteration
    results, asked = core.replay.results.get(at, {}), core.replay.tickets
    if unasked := results.keys() - {call.call_id for call in calls}:
        return f"iteration {at}: results of unknown calls {sorted(unasked)}"
    if core.replay.highest.get(at, -1) >= len(calls):
        return f"iteration {at}: a report of call {core.replay.highest[at]} of {len(calls)}"
    slots: list[Slot] = []
    gap = False
    for index, call in enumerate(calls):
        if (ticket := asked.get((at, index))) is not None and ticket.settled is not None:
            core = remember(core, call, ticket.settled)
        slot = _slot(core, index, call, len(calls), results.get(call.call_id))
        slots.append(slot)
        if not isinstance(slot.stage, Written):
            gap = gap or ticket is None  # a call that waits for a decision holds nothing back
        elif gap:
            return f"iteration {at}: call {index} has a result, but an earlier call has none"
    for message in results.values():  # in the order in which they were written
        core, _ = core.append_message(message)
    return core, Batch(tuple(slots))


def _slot(core: Core, index: int, call: ToolCall, calls: int, written: Message | None) -> Slot:
    """Return the slot of a call by the journal, with the decision on it (TURN-94)."""
    stage = _stage(core, index, call, calls, written)
    ticket = core.replay.tickets.get((core.iteration, index))
    if ticket is None or not isinstance(stage, Waiting):
        return Slot(call, stage)
    if ticket.settled is None:
        return Slot(call, Asked(ticket.ticket_id))
    return decide(core, call, calls, ticket.settled, stage.attempt)


def _stage(core: Core, index: int, call: ToolCall, calls: int, written: Message | None) -> Stage:
    """Return the stage of a call by the journal (TURN-6, TURN-34 to TURN-36) and the policy (TURN-38)."""
    replay, at = core.replay, (core.iteration, index)
    report = replay.reports.get(at, RecordedReport(None, None))
    if written is not None:
        return Written(
            ToolResult(
                written.text, written.is_error, attachments=written.attachments,
                hand_off=report.hand_off,
            )
        )  # fmt: skip
    if report.result is not None:
        return Reported(report.result, recorded=True, unknown=report.unknown)
    if at in replay.starts:
        tool = core.environment.tool(call.name)
        return Probing() if tool is not None and tool.probed else unknown_outcome()
    problem = core.setup.policy.reject_reason(call, calls, core.environment.tools)
    if problem is not None:
        return Reported(ToolResult(problem, is_error=True))
    return Waiting(replay.attempts.get(at, 0) + 1)


def unknown_outcome() -> Reported:
    """Return the final report of a once call whose outcome cannot be found out (TURN-35)."""
    return Reported(ToolResult(UNKNOWN, is_error=True), unknown=True)


def probes(core: Core, batch: Batch) -> tuple[Effect, ...]:
    """Return the probes of the calls that need one."""
    found: list[Effect] = []
    for index, slot in enumerate(batch.slots):
        tool = core.environment.tool(slot.call.name)
        if isinstance(slot.stage, Probing) and tool is not None:
            found.append(Probe(core.key("tool", index), slot.call, tool))
    return tuple(found)


# -- beginning calls


def launch(core: Core, batch: Batch) -> tuple[Batch, tuple[Effect, ...]]:
    """Begin calls in order up to the concurrency limit; a once call is marked first (TURN-30, TURN-32).

    Nothing is marked before its approval (TURN-90).
    """
    free = core.setup.limits.concurrency
    free -= sum([isinstance(slot.stage, IN_PROGRESS) for slot in batch.slots])
    effects: list[Effect] = []
    for index in range(len(batch.slots)):
        if free <= 0:
            break
        batch, begun = begin_approval(core, batch, index)
        effects += begun
        free -= len(begun)
        slot = batch.slots[index]
        if isinstance(slot.stage, Waiting):
            free -= 1
            if is_once(core, slot.call):
                batch = batch.put(index, Marking())
            else:
                batch = batch.put(index, Running(slot.stage.attempt))
                effects.append(run(core, index, slot, slot.stage.attempt))
    return batch, tuple(effects)


def run(core: Core, index: int, slot: Slot, attempt: int) -> RunTool:
    """Return the effect that runs an attempt of a call."""
    tool = core.environment.tool(slot.call.name)
    assert tool is not None
    call, decision = call_to_run(core, slot)
    return RunTool(core.key("tool", index), call, tool, attempt, decision)


# -- recording


def next_record(core: Core, batch: Batch) -> tuple[Core, Batch, WriteRecord | None]:
    """Return the next record, if there is anything to record and no record is in progress.

    It contains failed attempts, results whose turn it is (TURN-31) and urgent reports without a node (TURN-33).  Start
    marks are recorded if there is nothing else.
    """
    if batch.pending is not None:
        return core, batch, None
    written = _writable(batch)
    urgent = tuple(
        [i for i in range(len(batch.slots)) if i not in written and _urgent(core, batch, i)]
    )
    if not written and not urgent and not batch.failed:
        return _mark(core, batch)
    entries, nodes = _failed(core, batch), []
    for index in urgent:
        entries.append(_entry(core, index, batch.slots[index], whole=True))
    for index in written:
        slot = batch.slots[index]
        assert isinstance(slot.stage, Reported)
        core, node = core.append_message(result_message(slot.call, slot.stage.result))
        nodes.append(node)
        entries += extra_entry(core, index, slot)
    batch = replace(batch, failed=batch.failed[FAILED_MAX:])
    pending = PendingRecord("", (), urgent, written)
    take = _take_after(core, batch, written)
    return _issue(core, batch, pending, tuple(entries), tuple(nodes), take)


def _writable(batch: Batch) -> tuple[int, ...]:
    """Return the reported calls before which every call has its node, or gets it in the same record."""
    found = []
    for index, slot in enumerate(batch.slots):
        if isinstance(slot.stage, Reported):
            found.append(index)
        elif not isinstance(slot.stage, Written):
            break
    return tuple(found)


def _urgent(core: Core, batch: Batch, index: int) -> bool:
    slot = batch.slots[index]
    if not isinstance(slot.stage, Reported) or slot.stage.recorded:
        return False
    return slot.stage.unknown or is_once(core, slot.call)


def _mark(core: Core, batch: Batch) -> tuple[Core, Batch, WriteRecord | None]:
    marks = tuple([i for i, slot in enumerate(batch.slots) if isinstance(slot.stage, Marking)])
    if not marks:
        return core, batch, None
    entries = tuple([NewEntry(EntryKind.START, core.effect_id("tool", i)) for i in marks])
    return _issue(core, batch, PendingRecord("", marks), entries, ())


def take_inputs(core: Core, boundary: Boundary) -> Take:
    """Return what a record takes at the end of this iteration.  There is one such record in an iteration."""
    return Take(boundary, core.effect_id("inputs"), core.setup.limits.take_max)


def _take_after(core: Core, batch: Batch, written: tuple[int, ...]) -> Take | None:
    """TURN-82: take inputs with the record that completes a batch, unless the batch ends the turn."""
    for index in written:
        stage = batch.slots[index].stage
        assert isinstance(stage, Reported)
        batch = batch.put(index, Written(stage.result))
    if not batch.complete or ended_by(core, batch) is not None:
        return None
    return take_inputs(core, Boundary.AFTER_WORK)


def ended_by(core: Core, batch: Batch) -> Ending | None:
    """Return how the first call that ends the turn ends it (TURN-40, TURN-41).  The batch is complete."""
    for slot in batch.slots:
        stage = slot.stage
        assert isinstance(stage, Written)
        if stage.result.hand_off is not None:
            return HandedOff(stage.result.hand_off)
        if _is_final(core, slot.call, stage.result):
            return Value(slot.call.call_id)
    return None


def _is_final(core: Core, call: ToolCall, result: ToolResult) -> bool:
    tool = core.environment.tool(call.name)
    return tool is not None and tool.finishes and not result.is_error


def _issue(
    core: Core,
    batch: Batch,
    pending: PendingRecord,
    entries: tuple[NewEntry, ...],
    nodes: tuple[NewNode, ...],
    take: Take | None = None,
) -> tuple[Core, Batch, WriteRecord]:
    core, effect = write_record(core, Record(entries, nodes, take=take))
    return core, replace(batch, pending=replace(pending, key=effect.key)), effect


def write_record(core: Core, record: Record) -> tuple[Core, WriteRecord]:
    """Return the effect that writes a record, together with the usage so far (TURN-56)."""
    effect = WriteRecord(core.key("record", core.records), replace(record, usage=core.usage))
    return replace(core, records=core.records + 1, usage=()), effect


def _failed(core: Core, batch: Batch) -> list[NewEntry]:
    return [
        NewEntry(
            EntryKind.REPORT,
            core.effect_id("attempt", f"{i}.{attempt}"),
            to_json({"error": text[:TEXT_MAX]}),
        )
        for i, attempt, text in batch.failed[:FAILED_MAX]
    ]


def extra_entry(core: Core, index: int, slot: Slot) -> tuple[NewEntry, ...]:
    """Return the entry with what the node of a result does not hold, if there is such a thing."""
    assert isinstance(slot.stage, Reported)
    extra = slot.stage.unknown or slot.stage.result.hand_off is not None
    if not extra or slot.stage.recorded:
        return ()
    return (_entry(core, index, slot, whole=False),)


def _entry(core: Core, index: int, slot: Slot, *, whole: bool) -> NewEntry:
    assert isinstance(slot.stage, Reported)
    kind = EntryKind.UNKNOWN if slot.stage.unknown else EntryKind.REPORT
    return NewEntry(
        kind, core.effect_id("tool", index), report_body(slot.stage.result, whole=whole)
    )


def after_record(core: Core, batch: Batch, *, go: bool) -> tuple[Batch, tuple[Effect, ...]]:
    """Apply the record that is now durable to the batch.  With `go` the marked calls begin."""
    pending = batch.pending
    assert pending is not None
    effects: list[Effect] = []
    batch = replace(batch, pending=None)
    for index in (*pending.reports, *pending.written):
        stage = batch.slots[index].stage
        assert isinstance(stage, Reported)
        written = index in pending.written
        batch = batch.put(
            index, Written(stage.result) if written else replace(stage, recorded=True)
        )
    for index in pending.marks if go else ():
        batch = batch.put(index, Running())
        effects.append(run(core, index, batch.slots[index], 1))
    return batch, tuple(effects)
