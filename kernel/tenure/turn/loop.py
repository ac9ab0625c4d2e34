"""Running forward: through the journal, then to the model, its calls, and the next iteration.  Spec: specs/turn.md."""

from __future__ import annotations

from ..commands import NewEntry
from ..messages.codec import node_of, to_json
from ..messages.types import Message, Reply
from ..outcome import Stepped
from ..records import EntryKind
from ..replace import replace
from ..transcript import NewNode, hash_text
from .chat_policy import Act, Fault, Halt, Judgement, Say
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
from .protocol import Outcome as Ending
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
    spend,
    standing,
)
from .tool_calls import flush, launch, open_batch, probes

DIFFERENCES_MAX = 8
WITHHELD = "not carried out: the steps of this turn are used up"

# -- what was asked before and would be asked otherwise now


def settle_in(core: Core, environment: Environment) -> Core:
    described = describe(environment)
    return replace(
        core, environment=environment, described=described, digest=hash_text(described),
        kept=core.past.kept_digest,
    )  # fmt: skip


def changes(core: Core) -> tuple[tuple[str, str], ...]:
    """TURN-7: recorded requests that would be others now, each once: the name of the note and what it says."""
    past, found = core.past, dict[str, str]()
    kept = past.kept_digest
    for iteration in sorted(past.replies):
        asked = past.replies[iteration]
        if asked.environment != core.digest:
            name = f"{asked.environment[:16]}-{core.digest[:16]}"
            known = past.environment if asked.environment == kept else None
            paths = ("environment",) if known is None else differences(known, core.described)
            found.setdefault(name, f"iteration {iteration}: {', '.join(paths)}")
        if asked.path != (asked.stands or standing(core.brief)):
            found.setdefault(f"path-{iteration}", f"iteration {iteration}: transcript")
    noted = frozenset() if core.brief.strict else past.noted
    fresh = [(name, said) for name, said in found.items() if f"0:request:{name}" not in noted]
    return tuple(fresh[:DIFFERENCES_MAX])


def note(core: Core, clause: str) -> Outcome:
    entries = [NewEntry(EntryKind.NOTE, f"0:request:{name}", said) for name, said in changes(core)]
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


def follow(core: Core, then: Then, clause: str) -> Outcome:
    """What a record was made for."""
    match then:
        case Then.FOLD:
            return advance(core, clause)
        case Then.MODEL:
            return ask(core, clause)
        case Then.TOOLS:
            opened = open_batch(core)
            assert not isinstance(opened, str), opened
            return pump(*opened, None, clause)


# -- the fold


def advance(core: Core, clause: str) -> Outcome:
    """TURN-3, TURN-6: through what is recorded, one iteration after the other; then live."""
    while True:
        core = warn_again(core)
        asked = core.past.replies.get(core.iteration)
        if asked is None:
            if core.past.last >= core.iteration:
                said = (
                    f"iteration {core.iteration} has no reply, iteration {core.past.last} reports"
                )
                return mismatch(core, "TURN-8", said)
            return ask(replace(core, past=EMPTY), clause)
        core, _ = core.say(asked.message)
        opened = open_batch(core)
        if isinstance(opened, str):
            return mismatch(core, "TURN-8", opened)
        core, batch = opened
        if not batch.complete:
            if core.past.last > core.iteration:
                said = (
                    f"iteration {core.iteration} has open calls, iteration {core.past.last} reports"
                )
                return mismatch(core, "TURN-8", said)
            core = replace(core, past=EMPTY)
            return pump(core, batch, None, clause, probes(core, batch))
        ending = ended_by(core, batch)
        if ending is not None:
            return finish(core, ending, clause)
        core = replace(core, iteration=core.iteration + 1, records=0)


def warn_again(core: Core) -> Core:
    """The warning that was recorded behind the iteration before."""
    warning = core.past.warnings.get(core.iteration - 1)
    if warning is None:
        return core
    core, _ = core.say(warning)
    return replace(core, warned=True)


# -- the model


def ask(core: Core, clause: str) -> Outcome:
    """TURN-10, TURN-50, CHAT-8: the next request, behind a warning and without tools if it is the last one."""
    dialect = core.brief.dialect
    if core.grace and not core.warned:
        core, node = replace(core, warned=True).say(dialect.warning())
        return record(core, Then.MODEL, clause, (), (node,))
    env = core.environment
    tools = () if core.grace else env.tools
    request = dialect.request(env.model, env.system, core.messages, tools, env.parameters)
    return Stepped(AwaitingModel(core), clause, (CallModel(core.key("model"), request),))


def meaning(core: Core, reply: Reply) -> Judgement:
    return core.brief.dialect.judge(reply, core.environment.window, core.iteration)


def hear(core: Core, reply: Reply, clause: str) -> Outcome:
    """TURN-20..TURN-24: what becomes of a reply."""
    judgement = meaning(core, reply)
    core = spend(core, reply.usage)
    match judgement:
        case Fault(failure):
            return finish(core, Broken(failure), clause)
        case Halt(message, code):
            return finish(core, Halted(code), clause, spoken(core, message))
        case Say(message):
            over: Ending = Halted("max_iterations") if core.grace else Completed()
            return finish(core, over, clause, spoken(core, message))
        case Act(message) if core.grace:
            after, node = core.say(message)
            nodes = (node, *unanswered(after, message.calls, WITHHELD))
            return finish(core, Halted("max_iterations"), clause, nodes)
        case Act(message):
            return act(core, message, clause)


def spoken(core: Core, message: Message | None) -> tuple[NewNode, ...]:
    return () if message is None else (node_of(message),)


def act(core: Core, message: Message, clause: str) -> Outcome:
    """TURN-11, TURN-21: the reply is written down before its calls are carried out."""
    body = to_json({"environment": core.digest, "path": core.path})
    entry = NewEntry(EntryKind.REPORT, core.effect_id("model"), body)
    fresh = core.digest != core.kept
    core, node = core.say(message)
    described = core.described if fresh else None
    core = replace(core, kept=core.digest)
    return record(core, Then.TOOLS, clause, (entry,), (node,), described)


# -- the tools


def pump(
    core: Core, batch: Batch, stop: Stop | None, clause: str, effects: tuple[Effect, ...] = ()
) -> Outcome:
    """TURN-39: begin what may begin, write down what can be; when all is written, the next iteration."""
    if stop is not None:
        if batch.flight is not None:
            return Stepped(AwaitingTools(core, batch, stop), clause, effects)
        nodes = closings(core, batch, stop)
        return finish(core, stop, clause, nodes, (*effects, *abort(core, batch)))
    batch, begun = launch(core, batch)
    core, batch, written = flush(core, batch)
    effects = (*effects, *begun, *(() if written is None else (written,)))
    if not batch.complete:
        return Stepped(AwaitingTools(core, batch), clause, effects)
    ending = ended_by(core, batch)
    if ending is not None:
        return finish(core, ending, clause, (), effects)
    assert not effects
    return ask(replace(core, iteration=core.iteration + 1, records=0), clause)


def ended_by(core: Core, batch: Batch) -> Ending | None:
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
