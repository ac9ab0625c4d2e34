"""Actions that stop a turn: cancel, deadline, refused records.  Spec: specs/turn.md, TURN-51 to TURN-61."""

from __future__ import annotations

from typing import TypeAlias

from ..failure import ErrorKind, Failure
from ..messages.codec import node_of
from ..messages.types import Message
from ..outcome import Refusal, Stepped
from ..replace import replace
from ..transcript import NewNode, Role
from .ending import abort_calls, answer_calls, closings, finish, stop_text
from .loop import advance_batch
from .protocol import (
    DEADLINE,
    Abort,
    Cancelled,
    CancelSeen,
    DeadlinePassed,
    Failed,
    NotRecorded,
    Recorded,
)
from .states import (
    AwaitingCheckpoint,
    AwaitingEnvironment,
    AwaitingModel,
    AwaitingTools,
    Finished,
    NextStep,
    Outcome,
    Preparing,
    State,
    StopReason,
)

__all__ = [
    "commit_as_cancelled",
    "end_after_checkpoint",
    "end_unrecorded_checkpoint",
    "end_unrecorded_tools",
    "fail_refused",
    "keep_state",
    "stop_after_checkpoint",
    "stop_after_record",
    "stop_before_effects",
    "stop_environment",
    "stop_model",
    "stop_tools",
]


Signal: TypeAlias = CancelSeen | DeadlinePassed


def _reason(e: Signal) -> StopReason:
    return Cancelled() if isinstance(e, CancelSeen) else DEADLINE


# -- a cancel or the deadline


def stop_before_effects(s: Preparing, e: Signal, clause: str) -> Outcome:
    """End the turn: nothing is in progress."""
    return finish(s.core, _reason(e), clause)


def stop_environment(s: AwaitingEnvironment, e: Signal, clause: str) -> Outcome:
    """Cancel the preparation and end the turn."""
    return finish(s.core, _reason(e), clause, (), (Abort((s.core.key("environment"),)),))


def stop_model(s: AwaitingModel, e: Signal, clause: str) -> Outcome:
    """Cancel the model call and end the turn.  What was shown of the reply stays, and so does the prompt (TURN-57)."""
    nodes: tuple[NewNode, ...] = ()
    if e.shown or s.core.chain is None:
        nodes = (node_of(Message(Role.ASSISTANT, e.shown, stopped=True)),)
    return finish(s.core, _reason(e), clause, nodes, (Abort((s.core.model_key,)),))


def stop_after_checkpoint(s: AwaitingCheckpoint, e: Signal, clause: str) -> Outcome:
    """Wait for the record in progress, then end the turn."""
    return Stepped(replace(s, stop=_reason(e)), clause)


def stop_after_record(s: AwaitingTools, e: Signal, clause: str) -> Outcome:
    """Cancel the calls in progress and wait for the record, then end the turn."""
    return Stepped(replace(s, stop=_reason(e)), clause, abort_calls(s.core, s.batch))


def stop_tools(s: AwaitingTools, e: Signal, clause: str) -> Outcome:
    """Cancel the calls in progress and end the turn."""
    stop = _reason(e)
    nodes = closings(s.core, s.batch, stop)
    return finish(s.core, stop, clause, nodes, abort_calls(s.core, s.batch))


def keep_state(s: State, e: Signal, clause: str) -> Outcome:
    """Change nothing: the turn ends or has ended."""
    return Stepped(s, clause)


def commit_as_cancelled(s: Finished, e: CancelSeen, clause: str) -> Outcome:
    """Commit the same content as cancelled (TURN-53)."""
    nodes = getattr(s.last, "nodes", ())
    return finish(replace(s.core, usage=s.last.usage), Cancelled(), clause, nodes)


# -- the answer to the record that was in progress


def end_after_checkpoint(s: AwaitingCheckpoint, e: Recorded, clause: str) -> Outcome:
    """End the turn; the calls of a reply that was just recorded have not begun."""
    assert s.stop is not None
    nodes: tuple[NewNode, ...] = ()
    if s.next_step is NextStep.RUN_TOOLS and s.core.chain is not None:
        calls = s.core.chain.message.calls
        nodes = answer_calls(s.core, calls, f"{stop_text(s.stop)} before it ran")
    return finish(s.core, s.stop, clause, nodes)


def end_unrecorded_checkpoint(s: AwaitingCheckpoint, e: NotRecorded, clause: str) -> Outcome:
    """End the turn without what was not recorded: the kernel refuses records of a cancelled run."""
    return finish(s.core, s.stop or Cancelled(), clause)


def end_unrecorded_tools(s: AwaitingTools, e: NotRecorded, clause: str) -> Outcome:
    """End the turn; the commit contains the results that were not recorded."""
    batch = replace(s.batch, pending=None)
    return advance_batch(s.core, batch, s.stop or Cancelled(), clause)


def fail_refused(s: AwaitingCheckpoint | AwaitingTools, e: NotRecorded, clause: str) -> Outcome:
    """Fail the turn: its record was refused for another reason than a cancel."""
    kind = ErrorKind.INVALID_REQUEST if e.refused.reason is Refusal.ILLEGAL else ErrorKind.TRANSIENT
    failure = Failure(kind, f"the record was refused: {e.refused}"[:500])
    effects = abort_calls(s.core, s.batch) if isinstance(s, AwaitingTools) else ()
    return finish(s.core, Failed(failure), clause, (), effects)
