"""Actions of the model loop: replay the journal, ask the model, run its calls, repeat.  Spec: specs/turn.md.

An action takes a state, an event and a clause, and returns the outcome.  The table in machine.py selects the action.
Replay and normal execution share `open_batch` and `advance_batch`.
"""

from __future__ import annotations

from attrs import frozen

from ..commands import NewEntry
from ..failure import Failure
from ..messages.codec import node_of, to_json
from ..messages.types import Message, ToolCall
from ..outcome import Stepped
from ..policy import Boundary
from ..records import EntryKind, Input
from ..replace import replace
from ..turn_end import Record
from .approvals import take_settlements
from .chat_policy import Answer, CallTools, InvalidReply, StopTurn
from .ending import abort_calls, answer_calls, closings, finish, mismatch
from .environment import note_id
from .parking import can_park, park
from .protocol import (
    ApprovalChecked,
    Begin,
    CallModel,
    CommitSteered,
    Completed,
    Effect,
    Ending,
    EnvironmentFailed,
    Failed,
    ModelFailed,
    PrepareEnvironment,
    Probed,
    Recorded,
    RetryDue,
    SetDeadline,
    Sleep,
    Stopped,
    TicketsSettled,
    ToolReported,
)
from .replay import EMPTY
from .shortening import limit_results, size_of
from .states import (
    Asking,
    AwaitingCheckpoint,
    AwaitingEnvironment,
    AwaitingModel,
    AwaitingTools,
    Batch,
    Checking,
    Core,
    Finished,
    NextStep,
    Outcome,
    Preparing,
    Reported,
    Running,
    StopReason,
    Waiting,
    WaitingForRetry,
    add_usage,
)
from .tool_calls import (
    after_record,
    backoff_ms,
    ended_by,
    launch,
    next_record,
    open_batch,
    policy_of,
    probes,
    run,
    take_inputs,
    unknown_outcome,
    write_record,
)

__all__ = [
    "EnvironmentChanged",
    "EnvironmentUnchanged",
    "RequestOverflowed",
    "advance_batch",
    "ask_shortened",
    "clear",
    "commit_answer",
    "commit_stopped",
    "continue_after_checkpoint",
    "continue_after_record",
    "fail_environment",
    "fail_model",
    "fail_overflow",
    "note_changes",
    "note_question",
    "record_answer",
    "record_reply",
    "refuse_changes",
    "refuse_journal",
    "replay_journal",
    "request_environment",
    "retry_later",
    "retry_now",
    "take_decisions",
    "take_result",
    "take_unknown",
    "withhold_calls",
]


WITHHELD = "not carried out: the steps of this turn are used up"


@frozen
class EnvironmentUnchanged:
    """The environment is ready, and recorded requests would be made again as they were."""


@frozen
class EnvironmentChanged:
    """The environment is ready, and recorded requests differ: the name and the text of each change."""

    changes: tuple[tuple[str, str], ...]


@frozen
class RequestOverflowed:
    """The request did not fit the context of the model."""

    failure: Failure


# -- beginning


def request_environment(s: Preparing, e: Begin, clause: str) -> Outcome:
    """Set the deadline and ask for the environment."""
    core = s.core
    deadline = SetDeadline(core.setup.limits.deadline_ms)
    effect = PrepareEnvironment(core.key("environment"), core.setup.frame)
    return Stepped(AwaitingEnvironment(core), clause, (deadline, effect))


def refuse_journal(s: Preparing, e: Begin, clause: str) -> Outcome:
    """Fail the turn: its journal cannot be read."""
    return mismatch(s.core, clause, s.core.replay.invalid or "")


def fail_environment(s: AwaitingEnvironment, e: EnvironmentFailed, clause: str) -> Outcome:
    """Fail the turn with the reported failure."""
    return finish(s.core, Failed(e.failure), clause)


def replay_journal(s: AwaitingEnvironment, e: EnvironmentUnchanged, clause: str) -> Outcome:
    """Replay the journal, then continue."""
    return advance(s.core, clause)


def note_changes(s: AwaitingEnvironment, e: EnvironmentChanged, clause: str) -> Outcome:
    """Record the changes, then replay the journal."""
    entries = [NewEntry(EntryKind.NOTE, note_id(name), text) for name, text in e.changes]
    return record(s.core, NextStep.REPLAY, clause, Record(tuple(entries)))


def refuse_changes(s: AwaitingEnvironment, e: EnvironmentChanged, clause: str) -> Outcome:
    """Fail a strict turn: its environment has changed."""
    return mismatch(s.core, clause, "; ".join([text for _, text in e.changes]))


# -- replay


def advance(core: Core, clause: str) -> Outcome:
    """Replay recorded iterations one after the other, then continue after the last one (TURN-3, TURN-6)."""
    while True:
        core = _repeat_warning(core)
        recorded = core.replay.replies.get(core.iteration)
        if recorded is None:
            if core.replay.last >= core.iteration:
                text = f"iteration {core.iteration} has no reply, but iteration {core.replay.last} has reports"
                return mismatch(core, "TURN-8", text)
            return ask(replace(core, replay=EMPTY), clause)
        core, _ = core.append_message(recorded.message)
        opened = open_batch(core)
        if isinstance(opened, str):
            return mismatch(core, "TURN-8", opened)
        core, batch = opened
        if not batch.complete:
            if core.replay.last > core.iteration:
                text = f"iteration {core.iteration} has open calls, but iteration {core.replay.last} has reports"
                return mismatch(core, "TURN-8", text)
            core = replace(core, replay=EMPTY)
            return advance_batch(core, batch, None, clause, probes(core, batch))
        ending = ended_by(core, batch)
        if ending is not None:
            return finish(core, ending, clause)
        taken = taken_before(core)
        if not batch.slots and not taken:  # the reply was recorded, and nothing was taken
            return finish(replace(core, replay=EMPTY), Completed(), clause)
        core = next_iteration(core.append_inputs(taken))


def taken_before(core: Core) -> tuple[Input, ...]:
    """Return the inputs that a record of this iteration has taken before a crash (TURN-81)."""
    known = {entered.input_id: entered for entered in core.setup.taken}
    return tuple([known[i] for i in core.replay.taken.get(core.iteration, ())])


def next_iteration(core: Core) -> Core:
    """Return the core at the beginning of the next iteration."""
    return replace(core, iteration=core.iteration + 1, records=0)


def _repeat_warning(core: Core) -> Core:
    """Append the warning that was recorded after the previous iteration, if there is one."""
    warning = core.replay.warnings.get(core.iteration - 1)
    if warning is None:
        return core
    core, _ = core.append_message(warning)
    return replace(core, warned=True)


# -- the model


def ask(core: Core, clause: str) -> Outcome:
    """Send the next request (TURN-10).

    Before the grace iteration a warning is recorded; its request has no tools (TURN-50, CHAT-8).
    """
    policy = core.setup.policy
    if core.grace and not core.warned:
        core, node = replace(core, warned=True).append_message(policy.warning())
        return record(core, NextStep.ASK_MODEL, clause, Record(nodes=(node,)))
    env = core.environment
    tools = () if core.grace else env.tools
    messages = limit_results(core.messages, env.tools, core.setup.limits.result_max)
    request = policy.request(env.model, env.system, messages, tools, env.parameters)
    return Stepped(AwaitingModel(core), clause, (CallModel(core.model_key, request, core.budget),))


def ask_shortened(s: AwaitingModel, e: RequestOverflowed, clause: str) -> Outcome:
    """Send the request once more, with half of its characters."""
    core = s.core
    if core.budget is None:
        limit = core.setup.limits.result_max
        size = size_of(limit_results(core.messages, core.environment.tools, limit))
    else:
        size = core.budget
    return ask(replace(core, overflowed=core.iteration, budget=size // 2), clause)


def fail_overflow(s: AwaitingModel, e: RequestOverflowed, clause: str) -> Outcome:
    """Fail the turn: its request does not fit the context."""
    core, failure = s.core, e.failure
    if core.overflowed == core.iteration:
        text = f"the request does not fit the context, also shortened to {core.budget} characters"
        failure = replace(failure, message=f"{text}: {failure.message}")
    return finish(core, Failed(failure), clause)


def commit_answer(s: AwaitingModel, e: Answer, clause: str) -> Outcome:
    """Commit the reply; in the grace iteration the turn counts as stopped."""
    outcome: Ending = Stopped("max_iterations") if s.core.grace else Completed()
    return finish(s.core, outcome, clause, (node_of(e.message),), answer=e.message)


def commit_stopped(s: AwaitingModel, e: StopTurn, clause: str) -> Outcome:
    """Commit what the reply contains, as stopped."""
    nodes = () if e.message is None else (node_of(e.message),)
    return finish(s.core, Stopped(e.code), clause, nodes)


def withhold_calls(s: AwaitingModel, e: CallTools, clause: str) -> Outcome:
    """Commit the reply of the grace iteration and answer its calls with error results (TURN-24)."""
    core, node = s.core.append_message(e.message)
    nodes = (node, *answer_calls(core, e.message.calls, WITHHELD))
    return finish(core, Stopped("max_iterations"), clause, nodes)


def record_reply(s: AwaitingModel, e: CallTools, clause: str) -> Outcome:
    """Record the reply before its calls begin (TURN-21)."""
    core, reply = recorded_reply(s.core, e.message)
    return record(core, NextStep.RUN_TOOLS, clause, reply)


def record_answer(s: Finished, e: CommitSteered, clause: str) -> Outcome:
    """Record the answer instead of committing it, and take the inputs that wait (TURN-83)."""
    core, reply = replace(s.core, usage=s.last.usage), Record()
    if s.answer is not None:
        core, reply = recorded_reply(core, s.answer)
    take = take_inputs(core, Boundary.BEFORE_COMPLETION)
    return record(core, NextStep.TAKE_INPUTS, clause, replace(reply, take=take))


def recorded_reply(core: Core, message: Message) -> tuple[Core, Record]:
    """Return the core with a reply, and the record of it, with the environment if it is new (TURN-11)."""
    body = to_json({"environment": core.digest, "path": core.path})
    entry = NewEntry(EntryKind.REPORT, core.effect_id("model"), body)
    described = None if core.digest == core.stored_environment_digest else core.described
    core, node = core.append_message(message)
    core = replace(core, stored_environment_digest=core.digest)
    return core, Record((entry,), (node,), (), described)


def fail_model(s: AwaitingModel, e: InvalidReply | ModelFailed, clause: str) -> Outcome:
    """Fail the turn with the failure of the model call."""
    core = add_usage(s.core, e.usage) if isinstance(e, ModelFailed) else s.core
    return finish(core, Failed(e.failure), clause)


# -- records that nothing else accompanies


def record(core: Core, next_step: NextStep, clause: str, record: Record) -> Outcome:
    """Write a record and wait for it."""
    core, effect = write_record(core, record)
    return Stepped(AwaitingCheckpoint(core, effect.key, next_step), clause, (effect,))


def continue_after_checkpoint(s: AwaitingCheckpoint, e: Recorded, clause: str) -> Outcome:
    """Do what the record was made for."""
    match s.next_step:
        case NextStep.REPLAY:
            return advance(s.core, clause)
        case NextStep.ASK_MODEL:
            return ask(s.core, clause)
        case NextStep.RUN_TOOLS:
            opened = open_batch(s.core)
            assert not isinstance(opened, str), opened
            return advance_batch(*opened, None, clause)
        case NextStep.TAKE_INPUTS if not e.inputs:  # somebody has withdrawn them meanwhile
            return finish(s.core, Completed(), clause)
        case NextStep.TAKE_INPUTS:
            return ask(next_iteration(s.core.append_inputs(e.inputs)), clause)


# -- the tools


def retry_later(s: AwaitingTools, e: ToolReported, clause: str) -> Outcome:
    """Note the failed attempt and wait for the next one."""
    at, call = _called(s, e.key)
    batch = s.batch.put(at, WaitingForRetry(e.attempt + 1))
    batch = replace(batch, failed=(*batch.failed, (at, e.attempt, e.result.text)))
    delay_ms = backoff_ms(policy_of(s.core, call), e.attempt + 1, e.result)
    return advance_batch(s.core, batch, s.stop, clause, (Sleep(e.key, e.attempt + 1, delay_ms),))


def retry_now(s: AwaitingTools, e: RetryDue, clause: str) -> Outcome:
    """Run the next attempt."""
    at, _ = _called(s, e.key)
    effect = run(s.core, at, s.batch.slots[at], e.attempt)
    return advance_batch(s.core, s.batch.put(at, Running(e.attempt)), s.stop, clause, (effect,))


def take_result(s: AwaitingTools, e: ToolReported | Probed, clause: str) -> Outcome:
    """Take the result of a call."""
    at, _ = _called(s, e.key)
    assert e.result is not None
    return advance_batch(s.core, s.batch.put(at, Reported(e.result)), s.stop, clause)


def take_unknown(s: AwaitingTools, e: Probed, clause: str) -> Outcome:
    """Answer a call whose outcome cannot be found out."""
    at, _ = _called(s, e.key)
    return advance_batch(s.core, s.batch.put(at, unknown_outcome()), s.stop, clause)


def clear(s: AwaitingTools, e: ApprovalChecked, clause: str) -> Outcome:
    """Let a call begin that needs nobody."""
    at, _ = _called(s, e.key)
    stage = s.batch.slots[at].stage
    assert isinstance(stage, Checking)
    batch = s.batch.put(at, Waiting(stage.attempt, cleared=True))
    return advance_batch(s.core, batch, s.stop, clause)


def note_question(s: AwaitingTools, e: ApprovalChecked, clause: str) -> Outcome:
    """Keep the question until the turn parks."""
    at, _ = _called(s, e.key)
    assert e.prompt is not None
    batch = s.batch.put(at, Asking(e.ticket_id, e.prompt))
    return advance_batch(s.core, batch, s.stop, clause)


def take_decisions(s: AwaitingTools, e: TicketsSettled, clause: str) -> Outcome:
    """Go on with what was decided.  A Park that was not needed has written nothing."""
    pending = s.batch.pending
    batch = s.batch
    if pending is not None and pending.key == e.key:
        batch = replace(batch, pending=None)
    core, batch = take_settlements(s.core, batch, e.settled)
    return advance_batch(core, batch, s.stop, clause)


def continue_after_record(s: AwaitingTools, e: Recorded, clause: str) -> Outcome:
    """Begin the calls that were marked, and continue the batch.  The record that completes it may have taken inputs."""
    batch, begun = after_record(s.core, s.batch, go=s.stop is None)
    core = s.core.append_inputs(e.inputs)
    return advance_batch(core, batch, s.stop, clause, begun)


def _called(s: AwaitingTools, key: str) -> tuple[int, ToolCall]:
    at = s.index_of(key)
    assert at is not None, key
    return at, s.batch.slots[at].call


def advance_batch(
    core: Core,
    batch: Batch,
    stop: StopReason | None,
    clause: str,
    effects: tuple[Effect, ...] = (),
) -> Outcome:
    """Begin calls and record results as far as possible; after the last one begin the next iteration (TURN-39).

    With `stop` nothing begins, and the turn ends unless a record is in progress.
    """
    if stop is not None:
        if batch.pending is not None:
            return Stepped(AwaitingTools(core, batch, stop), clause, effects)
        nodes = closings(core, batch, stop)
        return finish(core, stop, clause, nodes, (*effects, *abort_calls(core, batch)))
    batch, begun = launch(core, batch)
    core, batch, written = next_record(core, batch)
    effects = (*effects, *begun, *(() if written is None else (written,)))
    if can_park(batch):
        core, batch, parked = park(core, batch)
        effects = (*effects, parked)
    if not batch.complete:
        return Stepped(AwaitingTools(core, batch), clause, effects)
    ending = ended_by(core, batch)
    if ending is not None:
        return finish(core, ending, clause, (), effects)
    assert not effects
    return ask(next_iteration(core), clause)
