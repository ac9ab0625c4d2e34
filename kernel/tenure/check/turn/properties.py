"""What holds in every state of the world of a turn, and what must be true in some.  See turn_world.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from ...machines import run as run_
from ...messages.types import Message
from ...records import EntryKind, JournalEntry, Node, Run, Session, Usage
from ...transcript import Form, Role
from ...turn import protocol
from ...turn.chat_policy import messages_of_node
from ...turn.ending import UNKNOWN
from ...world import World
from .settings import ModelConfig
from .state import State


def path(world: World) -> list[Node]:
    """What is visible, and behind it what the run has written so far."""
    session = next(iter(world.all(Session)))
    run = next(iter(world.all(Run)), None)
    tip = session.leaf if run is None or run.tip is None else run.tip
    nodes = {node.node_id: node for node in world.all(Node)}
    found = []
    at = None if tip is None else tip.node_id
    while at is not None:
        found.append(nodes[at])
        at = nodes[at].parent
    found.reverse()
    return found


def messages(world: World) -> list[Message]:
    return [message for node in path(world) for message in messages_of_node(node)]


def unanswered(found: list[Message]) -> Iterator[str]:
    """Calls without a result, results without a call, and results that are too many."""
    open_calls: list[str] = []
    for message in found:
        if message.role is Role.TOOL:
            if message.call_id not in open_calls:
                yield f"a result of {message.call_id}, open are {open_calls}"
            else:
                open_calls.remove(message.call_id)
            continue
        if open_calls:
            yield f"{open_calls} without a result"
        open_calls = [call.call_id for call in message.calls]
    if open_calls:
        yield f"{open_calls} without a result at the end"


def results(world: World) -> dict[str, str]:
    found = messages(world)
    return {m.call_id: m.text for m in found if m.call_id is not None}


def call_of(key: str, world: World) -> str | None:
    """The call id that a tool's key names."""
    _, _, iteration, _, index = key.split(":")
    replies = [m for m in messages(world) if m.calls]
    at = int(iteration) - 1
    return replies[at].calls[int(index)].call_id if at < len(replies) else None


# -- always


def legal(config: ModelConfig, s: State) -> bool:
    return not s.done or not list(unanswered(messages(s.world)))


def undoubled(config: ModelConfig, s: State) -> bool:
    answers = [m.call_id for m in messages(s.world) if m.call_id is not None]
    return len(set(answers)) == len(answers)


def once(config: ModelConfig, s: State) -> bool:
    return max(Counter(s.took).values(), default=0) <= 1


def not_asked_again(config: ModelConfig, s: State) -> bool:
    entries = {e.effect_id for e in s.world.all(JournalEntry) if e.kind is not EntryKind.START}
    answered = results(s.world)
    for effect in s.under_way:
        if getattr(effect, "key", "") in s.aborted:
            continue  # it was begun before, and nobody waits for it
        if isinstance(effect, protocol.CallModel | protocol.RunTool | protocol.Probe):
            if effect.key.split(":", 2)[2] in entries:
                return False
        if (
            isinstance(effect, protocol.RunTool | protocol.Probe)
            and effect.call.call_id in answered
        ):
            return False
    return True


def unrefused(config: ModelConfig, s: State) -> bool:
    return not s.fault


def honest(config: ModelConfig, s: State) -> bool:
    """What took effect is not said to have never run, and what is said to be done was done."""
    if not s.done:
        return True
    found = results(s.world)
    took = {call_of(key, s.world) for key in s.took}
    text = {call_id for call_id, text in found.items() if text == "paid"}
    denied = {call_id for call_id, text in found.items() if text.endswith("before it ran")}
    return text <= took and not took & denied


def answered(config: ModelConfig, s: State) -> bool:
    if not s.done or termination(s) is not run_.Termination.FINISHED:
        return True
    last = messages(s.world)[-1]
    return last.role is Role.ASSISTANT and last.text.startswith("answer")


def counted(config: ModelConfig, s: State) -> bool:
    replies = sum(m.role is Role.ASSISTANT for m in messages(s.world))
    requests = sum(usage.requests for usage in s.world.all(Usage))
    return replies <= requests <= replies + s.down


def marked(config: ModelConfig, s: State) -> bool:
    """No once call takes effect before its mark is in the journal."""
    starts = {e.effect_id for e in s.world.all(JournalEntry) if e.kind is EntryKind.START}
    return all(key.split(":", 2)[2] in starts for key in s.took)


def in_order(config: ModelConfig, s: State) -> bool:
    calls = [call.call_id for m in messages(s.world) for call in m.calls]
    answers = [m.call_id for m in messages(s.world) if m.call_id is not None]
    return answers == calls[: len(answers)]


PROPERTIES: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "every call has one result when the run has ended": legal,
    "no call has two results": undoubled,
    "results stand in the order of their calls": in_order,
    "a once call takes effect at most once": once,
    "a once call takes effect behind its mark": marked,
    "nothing is asked for again whose report is recorded": not_asked_again,
    "nothing is refused but what a cancel forbids": unrefused,
    "results say what happened": honest,
    "a finished run ends with the model's answer": answered,
    "usage is counted once": counted,
}
ALWAYS: Final = tuple(PROPERTIES)


def broken(config: ModelConfig, state: State) -> list[str]:
    return [name for name, law in PROPERTIES.items() if not law(config, state)]


# -- sometimes


def termination(s: State) -> run_.Termination | None:
    state = s.run.state
    return state.termination if isinstance(state, run_.Done) else None


def ends_as(how: run_.Termination) -> Callable[[State], bool]:
    return lambda s: s.done and termination(s) is how


def text_occurs(text: str) -> Callable[[State], bool]:
    return lambda s: s.done and any(text in each for each in results(s.world).values())


def closed_by_kernel(s: State) -> bool:
    return s.done and any(n.role is Role.TOOL and n.form is Form.TEXT for n in path(s.world))


def half_done(s: State) -> bool:
    """Somebody goes on in the middle of a batch."""
    return s.begun is not None and s.begun.resumed and 0 < len(s.run.open_calls) and bool(s.took)


def probing(s: State) -> bool:
    return any(isinstance(effect, protocol.Probe) for effect in s.under_way)


def trying_again(s: State) -> bool:
    again = any(isinstance(e, protocol.RunTool) and e.attempt > 1 for e in s.under_way)
    return again and s.begun is not None and s.begun.resumed


def noted(s: State) -> bool:
    return any(e.kind is EntryKind.NOTE for e in s.world.all(JournalEntry))


def crashed_and_finished(s: State) -> bool:
    return s.crashes == 2 and ends_as(run_.Termination.FINISHED)(s)


SOMETIMES: Final[dict[str, tuple[Callable[[Any], bool], Callable[[Any], bool]]]] = {
    "a run finishes": (lambda c: c.limits.iterations_max > 2, ends_as(run_.Termination.FINISHED)),
    "a run finishes after two crashes": (lambda c: c.crashes > 1, crashed_and_finished),
    "a run is cancelled": (lambda c: c.cancel, ends_as(run_.Termination.CANCELLED)),
    "a deadline stops a run": (lambda c: c.deadline, ends_as(run_.Termination.STOPPED)),
    "the outcome of a call is unknown": (
        lambda c: c.has("send") and c.crashes,
        text_occurs(UNKNOWN),
    ),
    "a call is paid": (lambda c: c.has("pay"), text_occurs("paid")),
    "a call is probed": (lambda c: c.probed and c.crashes, probing),
    "a failed attempt is tried again by somebody else": (
        lambda c: c.has("look") and c.crashes,
        trying_again,
    ),
    "a batch is taken up in its middle": (lambda c: c.has("pay") and c.crashes, half_done),
    "the kernel closes calls": (lambda c: c.cancel and c.crashes, closed_by_kernel),
    "a call is cancelled before it ran": (
        lambda c: c.cancel,
        text_occurs("cancelled before it ran"),
    ),
    "a changed prompt is noted": (lambda c: c.change and c.crashes, noted),
    "a tool that there is not is refused": (
        lambda c: c.has("sing"),
        text_occurs("unknown tool"),
    ),
}


def seen(state: State) -> list[str]:
    return [name for name, (_, happens) in SOMETIMES.items() if happens(state)]
