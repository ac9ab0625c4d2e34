"""A turn that is asked to stop, whose time is over, or whose record was refused.  Spec: specs/turn.md, TURN-51 to TURN-54."""

from __future__ import annotations

from typing import Any

from ..failure import ErrorKind, Failure
from ..outcome import Refusal, Stepped
from ..replace import replace
from ..rules import Row
from ..transcript import NewNode
from .ending import abort, finish, stop, text_for, unanswered
from .loop import advance_batch
from .protocol import (
    DEADLINE,
    Broken,
    Cancelled,
    CancelSeen,
    DeadlinePassed,
    NotRecorded,
    Recorded,
)
from .protocol import Outcome as TurnOutcome
from .states import (
    AwaitingCheckpoint,
    AwaitingEnvironment,
    AwaitingModel,
    AwaitingTools,
    Finished,
    Outcome,
    PendingRecord,
    Preparing,
    Stop,
    Then,
)

AWAITING = (Preparing, AwaitingEnvironment, AwaitingModel)
RECORDING = (AwaitingCheckpoint, AwaitingTools)


def any_time(s: Any, e: Any) -> bool:
    return True


def why_of(e: CancelSeen | DeadlinePassed) -> Stop:
    return Cancelled() if isinstance(e, CancelSeen) else DEADLINE


# -- asked to stop


def stop_now(s: Any, e: Any, clause: str) -> Outcome:
    return stop(s, why_of(e), clause)


def free(s: Any, e: Any) -> bool:
    return bool(s.stop is None)


def turned(s: Any, e: CancelSeen) -> bool:
    """Its time was over, and now it is asked to stop besides."""
    return bool(s.stop == DEADLINE)


def stopping(s: Any, e: CancelSeen) -> bool:
    return bool(s.stop == Cancelled())


def stopping_anyhow(s: Any, e: DeadlinePassed) -> bool:
    return bool(s.stop is not None)


def stop_soon(s: Any, e: Any, clause: str) -> Outcome:
    why = why_of(e)
    if isinstance(s, AwaitingCheckpoint):
        return Stepped(replace(s, stop=why), clause)
    if s.batch.pending is None:
        return stop(s, why, clause)
    return Stepped(replace(s, stop=why), clause, abort(s.core, s.batch))


def no_change(s: Any, e: Any, clause: str) -> Outcome:
    return Stepped(s, clause)


# -- its record was answered


def arrives(s: AwaitingCheckpoint, e: Recorded) -> bool:
    return s.key == e.key and s.stop is not None


def stop_written(s: AwaitingCheckpoint, e: Recorded, clause: str) -> Outcome:
    assert s.stop is not None
    nodes: tuple[NewNode, ...] = ()
    if s.then is Then.TOOLS and s.core.chain is not None:
        calls = s.core.chain.message.calls
        nodes = unanswered(s.core, calls, f"{text_for(s.stop)} before it ran")
    return finish(s.core, s.stop, clause, nodes)


def own_record(s: Any, e: NotRecorded) -> bool:
    if isinstance(s, AwaitingCheckpoint):
        return s.key == e.key
    pending: PendingRecord | None = s.batch.pending
    return pending is not None and pending.key == e.key


def stop_requested(s: Any, e: NotRecorded) -> bool:
    return own_record(s, e) and e.refused.reason is Refusal.CANCELLED


def declined(s: Any, e: NotRecorded) -> bool:
    return own_record(s, e) and e.refused.reason is not Refusal.CANCELLED


def stop_unwritten(s: Any, e: NotRecorded, clause: str) -> Outcome:
    """What was not written is in the commit: results that are known, and those that are missing."""
    if isinstance(s, AwaitingTools):
        batch = replace(s.batch, pending=None)
        return advance_batch(s.core, batch, s.stop or Cancelled(), clause)
    return finish(s.core, s.stop or Cancelled(), clause)


def fail(s: Any, e: NotRecorded, clause: str) -> Outcome:
    illegal = e.refused.reason is Refusal.ILLEGAL
    kind = ErrorKind.INVALID_REQUEST if illegal else ErrorKind.TRANSIENT
    failure = Failure(kind, f"the record was refused: {e.refused}"[:500])
    effects = abort(s.core, s.batch) if isinstance(s, AwaitingTools) else ()
    return finish(s.core, Broken(failure), clause, (), effects)


# -- ended already


def committing(s: Finished, e: CancelSeen) -> bool:
    return not isinstance(s.outcome, Cancelled | Broken)


def ended(s: Finished, e: CancelSeen) -> bool:
    return isinstance(s.outcome, Cancelled | Broken)


def commit_cancelled(s: Finished, e: CancelSeen, clause: str) -> Outcome:
    nodes, usage = getattr(s.last, "nodes", ()), s.last.usage
    ending: TurnOutcome = Cancelled()
    return finish(replace(s.core, usage=usage), ending, clause, nodes)


STOPPING_ROWS: tuple[Row[Any, Any, Outcome], ...] = (
    *[Row("TURN-51", state, CancelSeen, any_time, stop_now) for state in AWAITING],
    *[Row("TURN-52", state, DeadlinePassed, any_time, stop_now) for state in AWAITING],
    *[Row("TURN-51", state, CancelSeen, free, stop_soon) for state in RECORDING],
    *[Row("TURN-51", state, CancelSeen, turned, stop_soon) for state in RECORDING],
    *[Row("TURN-52", state, DeadlinePassed, free, stop_soon) for state in RECORDING],
    *[Row("TURN-61", state, CancelSeen, stopping, no_change) for state in RECORDING],
    *[Row("TURN-61", state, DeadlinePassed, stopping_anyhow, no_change) for state in RECORDING],
    Row("TURN-51", AwaitingCheckpoint, Recorded, arrives, stop_written),
    *[Row("TURN-54", state, NotRecorded, stop_requested, stop_unwritten) for state in RECORDING],
    *[Row("TURN-54", state, NotRecorded, declined, fail) for state in RECORDING],
    Row("TURN-53", Finished, CancelSeen, committing, commit_cancelled),
    Row("TURN-61", Finished, CancelSeen, ended, no_change),
    Row("TURN-61", Finished, DeadlinePassed, any_time, no_change),
)
