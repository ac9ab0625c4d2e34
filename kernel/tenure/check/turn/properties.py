"""Properties of the turn model: those that hold in every state, and those that hold in some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from ...machines import run as run_
from ...machines import ticket as ticket_
from ...messages.types import Message
from ...records import EntryKind, JournalEntry, Node, Run, Session, Ticket, Usage
from ...transcript import Form, Role
from ...turn import protocol
from ...turn.chat_policy import messages_of_node
from ...turn.ending import UNKNOWN
from ...world import World
from .settings import ModelConfig
from .state import State

__all__ = ["ALWAYS", "SOMETIMES", "broken", "seen", "unanswered"]


def path(world: World) -> list[Node]:
    """Return the visible nodes, then those that the run has written so far."""
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
    """Return the messages of the path."""
    return [message for node in path(world) for message in messages_of_node(node)]


def unanswered(found: list[Message]) -> Iterator[str]:
    """Yield calls without a result, and results without a call or in excess."""
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
    """Return the texts of the results by call id."""
    found = messages(world)
    return {m.call_id: m.text for m in found if m.call_id is not None}


def call_of(key: str, world: World) -> str | None:
    """Return the id of the call that an effect key names."""
    _, _, iteration, _, index = key.split(":")
    replies = [m for m in messages(world) if m.calls]
    at = int(iteration) - 1
    return replies[at].calls[int(index)].call_id if at < len(replies) else None


# -- always


def has_all_results(config: ModelConfig, s: State) -> bool:
    """Every call has exactly one result when the run has ended."""
    return not s.done or not list(unanswered(messages(s.world)))


def has_single_results(config: ModelConfig, s: State) -> bool:
    """No call has two results."""
    answers = [m.call_id for m in messages(s.world) if m.call_id is not None]
    return len(set(answers)) == len(answers)


def runs_once(config: ModelConfig, s: State) -> bool:
    """A once call takes effect at most once."""
    return max(Counter(s.took).values(), default=0) <= 1


def is_not_requested_again(config: ModelConfig, s: State) -> bool:
    """No effect is in progress whose report is recorded."""
    entries = {e.effect_id for e in s.world.all(JournalEntry) if e.kind is not EntryKind.START}
    answered = results(s.world)
    for effect in s.in_progress:
        if getattr(effect, "key", "") in s.aborted:
            continue  # it began earlier, and its report is ignored
        if isinstance(effect, protocol.CallModel | protocol.RunTool | protocol.Probe):
            if effect.key.split(":", 2)[2] in entries:
                return False
        if (
            isinstance(effect, protocol.RunTool | protocol.Probe)
            and effect.call.call_id in answered
        ):
            return False
    return True


def has_no_fault(config: ModelConfig, s: State) -> bool:
    """No command and no report was refused without a cancel."""
    return not s.fault


def has_true_results(config: ModelConfig, s: State) -> bool:
    """No call that took effect has a result that denies it, and no call has the result "paid" without effect."""
    if not s.done:
        return True
    found = results(s.world)
    took = {call_of(key, s.world) for key in s.took}
    paid = {call_id for call_id, text in found.items() if text == "paid"}
    denied = {
        call_id
        for call_id, text in found.items()
        if text.endswith("before it ran") or text.startswith("not carried out")
    }
    return paid <= took and not took & denied


def ends_with_answer(config: ModelConfig, s: State) -> bool:
    """A finished run ends with the answer of the model."""
    if not s.done or termination(s) is not run_.Termination.FINISHED:
        return True
    last = messages(s.world)[-1]
    return last.role is Role.ASSISTANT and last.text.startswith("answer")


def counts_usage_once(config: ModelConfig, s: State) -> bool:
    """Each request is counted once; a request that is not in the transcript has failed, or was stopped."""
    replies = sum(m.role is Role.ASSISTANT and not m.stopped for m in messages(s.world))
    requests = sum(usage.requests for usage in s.world.all(Usage))
    return replies <= requests <= replies + s.down


def is_marked(config: ModelConfig, s: State) -> bool:
    """No once call takes effect before its mark is in the journal."""
    starts = {e.effect_id for e in s.world.all(JournalEntry) if e.kind is EntryKind.START}
    return all(key.split(":", 2)[2] in starts for key in s.took)


def is_in_order(config: ModelConfig, s: State) -> bool:
    """Results are in the order of their calls, unless calls wait for decisions."""
    calls = [call.call_id for m in messages(s.world) for call in m.calls]
    answers = [m.call_id for m in messages(s.world) if m.call_id is not None]
    return s.asked or answers == calls[: len(answers)]


def _needs_approval(config: ModelConfig, call_id: str | None) -> bool:
    return any([(call_id or "").startswith(name) for name in config.asks if name != "find"])


def is_approved(config: ModelConfig, s: State) -> bool:
    """No call that needs an approval runs, or has run, before it was approved."""
    running = [e.key for e in s.in_progress if isinstance(e, protocol.RunTool) and e.tool.approval]
    needing = {key for key in (*s.took, *running) if _needs_approval(config, call_of(key, s.world))}
    if not needing:
        return True
    approved = {
        each.call_id
        for each in s.world.all(Ticket)
        if isinstance(each.state, ticket_.Settled)
        and each.state.how in (ticket_.Action.APPROVE, ticket_.Action.EDIT)
    }
    return (
        bool(approved)
        if config.remembers
        else {call_of(key, s.world) for key in needing} <= approved
    )


def tells_once(config: ModelConfig, s: State) -> bool:
    """A request contains each input that was taken once, and none that was not."""
    if s.begun is None:
        return True
    taken = sorted(x.input_id for x in s.run.contributors if x.checkpoint is not None)
    for effect in s.in_progress:
        if isinstance(effect, protocol.CallModel) and effect.key not in s.aborted:
            texts = [m.text for m in effect.request.messages]
            found = [text.removeprefix("steer: ") for text in texts if text.startswith("steer: ")]
            if sorted(found) != taken:
                return False
    return True


def holds_nothing_back(config: ModelConfig, s: State) -> bool:
    """A run that waits has the results of all calls that were not asked about."""
    if not s.waits:
        return True
    calls = {call.call_id for message in messages(s.world) for call in message.calls}
    return calls <= {*results(s.world), *[each.call_id for each in s.world.all(Ticket)]}


PROPERTIES: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "a request tells each input that was taken once": tells_once,
    "every call has one result when the run has ended": has_all_results,
    "no call has two results": has_single_results,
    "results are in the order of their calls": is_in_order,
    "a once call takes effect at most once": runs_once,
    "a once call takes effect after its mark": is_marked,
    "a call runs after its approval": is_approved,
    "a run that waits has the results of all calls that were not asked about": holds_nothing_back,
    "an effect whose report is recorded is not requested again": is_not_requested_again,
    "only a cancel causes refusals": has_no_fault,
    "results agree with the effects": has_true_results,
    "a finished run ends with the model's answer": ends_with_answer,
    "usage is counted once": counts_usage_once,
}
ALWAYS: Final = tuple(PROPERTIES)


def broken(config: ModelConfig, state: State) -> list[str]:
    """Return the names of the properties that a state breaks."""
    return [name for name, holds in PROPERTIES.items() if not holds(config, state)]


# -- sometimes


def termination(s: State) -> run_.Termination | None:
    """Return how the run has ended, or None."""
    state = s.run.state
    return state.termination if isinstance(state, run_.Done) else None


def ends_as(how: run_.Termination) -> Callable[[State], bool]:
    """Return a predicate: the run has ended like this."""
    return lambda s: s.done and termination(s) is how


def text_occurs(text: str) -> Callable[[State], bool]:
    """Return a predicate: the run has ended, and a result contains this text."""
    return lambda s: s.done and any(text in each for each in results(s.world).values())


def closed_by_kernel(s: State) -> bool:
    """The kernel has answered calls that the turn left open."""
    return s.done and any(n.role is Role.TOOL and n.form is Form.TEXT for n in path(s.world))


def is_half_done(s: State) -> bool:
    """A worker resumes in the middle of a batch."""
    return s.begun is not None and s.begun.resumed and 0 < len(s.run.open_calls) and bool(s.took)


def is_probing(s: State) -> bool:
    """A probe is in progress."""
    return any(isinstance(effect, protocol.Probe) for effect in s.in_progress)


def is_retrying(s: State) -> bool:
    """A resumed turn runs a second attempt."""
    again = any(isinstance(e, protocol.RunTool) and e.attempt > 1 for e in s.in_progress)
    return again and s.begun is not None and s.begun.resumed


def has_note(s: State) -> bool:
    """A changed request is noted."""
    return any(e.kind is EntryKind.NOTE for e in s.world.all(JournalEntry))


def crashed_and_finished(s: State) -> bool:
    """The run has finished after two crashes."""
    return s.crashes == 2 and ends_as(run_.Termination.FINISHED)(s)


def takes(s: State) -> bool:
    """The run has finished with an input that a checkpoint has taken after a crash or before it."""
    taken = s.done and any(x.checkpoint is not None for x in s.run.contributors)
    return taken and s.crashes > 0


def is_behind(s: State) -> bool:
    """A run waits, and a call behind one that waits has its result."""
    return s.waits and bool(results(s.world))


def is_shared(s: State) -> bool:
    """The last call was decided like an earlier one, without a ticket."""
    return (
        s.done
        and len(s.world.all(Ticket)) < 3
        and list(results(s.world).values()).count("paid") == 3
    )


SOMETIMES: Final[dict[str, tuple[Callable[[Any], bool], Callable[[Any], bool]]]] = {
    "a turn that was steered crashes and finishes": (lambda c: c.steers, takes),
    "a run waits for a decision": (lambda c: c.asks, lambda s: s.waits),
    "a run waits for a decision, and later calls have results": (
        lambda c: c.asks and c.has("find"),
        is_behind,
    ),
    "what a turn would wait for has come": (
        lambda c: {"pay", "send"} <= set(c.asks),
        lambda s: s.went_on,
    ),
    "a call is rejected": (
        lambda c: c.asks and ticket_.Action.REJECT in c.decides,
        text_occurs("not carried out: rejected"),
    ),
    "nobody decides": (lambda c: c.prompts, text_occurs("not carried out: nobody decided")),
    "a later call shares a decision": (lambda c: c.remembers, is_shared),
    "a run finishes": (lambda c: c.limits.iterations_max > 2, ends_as(run_.Termination.FINISHED)),
    "a run finishes after two crashes": (lambda c: c.crashes > 1, crashed_and_finished),
    "a run is cancelled": (lambda c: c.cancel, ends_as(run_.Termination.CANCELLED)),
    "a deadline stops a run": (lambda c: c.deadline, ends_as(run_.Termination.STOPPED)),
    "the outcome of a call is unknown": (
        lambda c: c.has("send") and c.crashes,
        text_occurs(UNKNOWN),
    ),
    "a call is paid": (lambda c: c.has("pay"), text_occurs("paid")),
    "a call is probed": (lambda c: c.probed and c.crashes, is_probing),
    "another worker retries a failed attempt": (
        lambda c: c.has("look") and c.crashes,
        is_retrying,
    ),
    "a worker resumes in the middle of a batch": (
        lambda c: c.has("pay") and c.crashes,
        is_half_done,
    ),
    "the kernel closes calls": (lambda c: c.cancel and c.crashes, closed_by_kernel),
    "a call is cancelled before it ran": (
        lambda c: c.cancel,
        text_occurs("cancelled before it ran"),
    ),
    "a changed prompt is noted": (lambda c: c.change and c.crashes, has_note),
    "a call of an unknown tool is refused": (
        lambda c: c.has("sing"),
        text_occurs("unknown tool"),
    ),
}


def seen(state: State) -> list[str]:
    """Return the names of the `sometimes` properties that hold in a state."""
    return [name for name, (_, happens) in SOMETIMES.items() if happens(state)]
