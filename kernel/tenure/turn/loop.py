"""Running forward: through the journal, then to the model, its calls, and the next iteration.  Spec: specs/turn.md."""

from __future__ import annotations

from ..commands import NewEntry
from ..messages.codec import node_of, to_json
from ..messages.types import Message, Reply
from ..outcome import Stepped
from ..records import EntryKind
from ..replace import replace
from ..transcript import NewNode, hash_text
from .chat_policy import Answer, CallTools, InvalidReply, ReplyKind, StopTurn
from .ending import abort, closings, finish, mismatch, unanswered
from .environment import describe, differences
from .protocol import (
    Broken,
    CallModel,
    Completed,
    Effect,
    Environment,
    Halted,
    HandedOff,
    Record,
    Value,
)
from .protocol import Outcome as TurnOutcome
from .replay import EMPTY
from .states import (
    AwaitingCheckpoint,
    AwaitingModel,
    AwaitingTools,
    Batch,
    Core,
    Outcome,
    Slot,
    Stop,
    Then,
    Written,
    add_usage,
    path_before_turn,
)
from .tool_calls import launch, next_record, open_batch, probes

DIFFERENCES_MAX = 8
WITHHELD = "not carried out: the steps of this turn are used up"

# -- what was asked before and would be asked otherwise now


def with_environment(core: Core, environment: Environment) -> Core:
    described = describe(environment)
    return replace(
        core, environment=environment, described=described, digest=hash_text(described),
        stored_environment_digest=core.replay.stored_environment_digest,
    )  # fmt: skip


def environment_changes(core: Core) -> tuple[tuple[str, str], ...]:
    """TURN-7: recorded requests that would be others now, each once: the name of the note and what it says."""
    replay, found = core.replay, dict[str, str]()
    kept = replay.stored_environment_digest
    for iteration in sorted(replay.replies):
        asked = replay.replies[iteration]
        if asked.environment != core.digest:
            name = f"{asked.environment[:16]}-{core.digest[:16]}"
            known = replay.environment if asked.environment == kept else None
            paths = ("environment",) if known is None else differences(known, core.described)
            found.setdefault(name, f"iteration {iteration}: {', '.join(paths)}")
        if asked.path != (asked.stands or path_before_turn(core.setup)):
            found.setdefault(f"path-{iteration}", f"iteration {iteration}: transcript")
    noted = frozenset() if core.setup.strict else replay.noted
    fresh = [(name, text) for name, text in found.items() if f"0:request:{name}" not in noted]
    return tuple(fresh[:DIFFERENCES_MAX])


def record_changes(core: Core, clause: str) -> Outcome:
    entries = [
        NewEntry(EntryKind.NOTE, f"0:request:{name}", text)
        for name, text in environment_changes(core)
    ]
    return record(core, Then.FOLD, clause, tuple(entries))


# -- records that are awaited


def record(
    core: Core,
    then: Then,
    clause: str,
    entries: tuple[NewEntry, ...] = (),
    nodes: tuple[NewNode, ...] = (),
    environment: str | None = None,
) -> Outcome:
    key = core.key("record", core.records)
    effect = Record(key, entries, nodes, core.usage, environment)
    core = replace(core, records=core.records + 1, usage=())
    return Stepped(AwaitingCheckpoint(core, key, then), clause, (effect,))


def continue_after(core: Core, then: Then, clause: str) -> Outcome:
    """What a record was made for."""
    match then:
        case Then.FOLD:
            return advance(core, clause)
        case Then.MODEL:
            return ask(core, clause)
        case Then.TOOLS:
            opened = open_batch(core)
            assert not isinstance(opened, str), opened
            return advance_batch(*opened, None, clause)


# -- the fold


def advance(core: Core, clause: str) -> Outcome:
    """TURN-3, TURN-6: through what is recorded, one iteration after the other; then live."""
    while True:
        core = warn_again(core)
        asked = core.replay.replies.get(core.iteration)
        if asked is None:
            if core.replay.last >= core.iteration:
                text = (
                    f"iteration {core.iteration} has no reply, iteration {core.replay.last} reports"
                )
                return mismatch(core, "TURN-8", text)
            return ask(replace(core, replay=EMPTY), clause)
        core, _ = core.append_message(asked.message)
        opened = open_batch(core)
        if isinstance(opened, str):
            return mismatch(core, "TURN-8", opened)
        core, batch = opened
        if not batch.complete:
            if core.replay.last > core.iteration:
                text = f"iteration {core.iteration} has open calls, iteration {core.replay.last} reports"
                return mismatch(core, "TURN-8", text)
            core = replace(core, replay=EMPTY)
            return advance_batch(core, batch, None, clause, probes(core, batch))
        ending = ended_by(core, batch)
        if ending is not None:
            return finish(core, ending, clause)
        core = replace(core, iteration=core.iteration + 1, records=0)


def warn_again(core: Core) -> Core:
    """The warning that was recorded behind the iteration before."""
    warning = core.replay.warnings.get(core.iteration - 1)
    if warning is None:
        return core
    core, _ = core.append_message(warning)
    return replace(core, warned=True)


# -- the model


def ask(core: Core, clause: str) -> Outcome:
    """TURN-10, TURN-50, CHAT-8: the next request, behind a warning and without tools if it is the last one."""
    policy = core.setup.policy
    if core.grace and not core.warned:
        core, node = replace(core, warned=True).append_message(policy.warning())
        return record(core, Then.MODEL, clause, (), (node,))
    env = core.environment
    tools = () if core.grace else env.tools
    request = policy.request(env.model, env.system, core.messages, tools, env.parameters)
    return Stepped(AwaitingModel(core), clause, (CallModel(core.key("model"), request),))


def reply_kind(core: Core, reply: Reply) -> ReplyKind:
    return core.setup.policy.classify(reply, core.environment.window, core.iteration)


def handle_reply(core: Core, reply: Reply, clause: str) -> Outcome:
    """TURN-20..TURN-24: what becomes of a reply."""
    judgement = reply_kind(core, reply)
    core = add_usage(core, reply.usage)
    match judgement:
        case InvalidReply(failure):
            return finish(core, Broken(failure), clause)
        case StopTurn(message, code):
            return finish(core, Halted(code), clause, append_reply(core, message))
        case Answer(message):
            over: TurnOutcome = Halted("max_iterations") if core.grace else Completed()
            return finish(core, over, clause, append_reply(core, message))
        case CallTools(message) if core.grace:
            after, node = core.append_message(message)
            nodes = (node, *unanswered(after, message.calls, WITHHELD))
            return finish(core, Halted("max_iterations"), clause, nodes)
        case CallTools(message):
            return record_calls(core, message, clause)


def append_reply(core: Core, message: Message | None) -> tuple[NewNode, ...]:
    return () if message is None else (node_of(message),)


def record_calls(core: Core, message: Message, clause: str) -> Outcome:
    """TURN-11, TURN-21: the reply is written down before its calls are carried out."""
    body = to_json({"environment": core.digest, "path": core.path})
    entry = NewEntry(EntryKind.REPORT, core.effect_id("model"), body)
    fresh = core.digest != core.stored_environment_digest
    core, node = core.append_message(message)
    described = core.described if fresh else None
    core = replace(core, stored_environment_digest=core.digest)
    return record(core, Then.TOOLS, clause, (entry,), (node,), described)


# -- the tools


def advance_batch(
    core: Core, batch: Batch, stop: Stop | None, clause: str, effects: tuple[Effect, ...] = ()
) -> Outcome:
    """TURN-39: begin what may begin, write down what can be; when all is written, the next iteration."""
    if stop is not None:
        if batch.pending is not None:
            return Stepped(AwaitingTools(core, batch, stop), clause, effects)
        nodes = closings(core, batch, stop)
        return finish(core, stop, clause, nodes, (*effects, *abort(core, batch)))
    batch, begun = launch(core, batch)
    core, batch, written = next_record(core, batch)
    effects = (*effects, *begun, *(() if written is None else (written,)))
    if not batch.complete:
        return Stepped(AwaitingTools(core, batch), clause, effects)
    ending = ended_by(core, batch)
    if ending is not None:
        return finish(core, ending, clause, (), effects)
    assert not effects
    return ask(replace(core, iteration=core.iteration + 1, records=0), clause)


def ended_by(core: Core, batch: Batch) -> TurnOutcome | None:
    """TURN-40, TURN-41: the first call in order that ends the turn."""
    for slot in batch.slots:
        stage = slot.stage
        assert isinstance(stage, Written)
        if stage.result.hand_off is not None:
            return HandedOff(stage.result.hand_off)
        if final(core, slot):
            return Value(slot.call.call_id)
    return None


def final(core: Core, slot: Slot) -> bool:
    tool = core.environment.tool(slot.call.name)
    stage = slot.stage
    return (
        tool is not None
        and tool.finishes
        and not (isinstance(stage, Written) and stage.result.is_error)
    )
