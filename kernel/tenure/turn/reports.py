"""The model and its tools at work.  Spec: specs/turn.md, TURN-9 and TURN-20 to TURN-41."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..replace import replace
from ..rules import Row
from .chat_policy import Answer, CallTools, InvalidReply, StopTurn
from .ending import finish
from .loop import advance_batch, continue_after, handle_reply, reply_kind
from .protocol import (
    Broken,
    Effect,
    ModelFailed,
    ModelReplied,
    Probed,
    Recorded,
    RetryDue,
    Sleep,
    ToolReported,
)
from .states import (
    AwaitingCheckpoint,
    AwaitingModel,
    AwaitingTools,
    Outcome,
    Probing,
    Reported,
    Running,
    Stage,
    WaitingForRetry,
    add_usage,
)
from .tool_calls import after_record, backoff_ms, once, policy_of, run, unknown

# -- the model


def asked(s: AwaitingModel, e: ModelReplied | ModelFailed) -> bool:
    return e.key == s.core.key("model")


def means(kind: type, *, grace: bool | None = None) -> Callable[[Any, Any], bool]:
    def guard(s: AwaitingModel, e: ModelReplied) -> bool:
        fitting = grace is None or s.core.grace is grace
        return asked(s, e) and fitting and isinstance(reply_kind(s.core, e.reply), kind)

    return guard


def take_reply(s: AwaitingModel, e: ModelReplied, clause: str) -> Outcome:
    return handle_reply(s.core, e.reply, clause)


def give_back(s: AwaitingModel, e: ModelFailed, clause: str) -> Outcome:
    return finish(add_usage(s.core, e.usage), Broken(e.failure), clause)


# -- which call


def _place(s: AwaitingTools, key: str) -> int | None:
    """The call that a key names."""
    head, _, index = key.rpartition(":")
    if head != s.core.key("tool", "")[:-1] or not index.isdigit():
        return None
    at = int(index)
    return at if at < len(s.batch.slots) and str(at) == index else None


def _is(s: AwaitingTools, key: str, stage: Stage) -> bool:
    at = _place(s, key)
    return at is not None and s.batch.slots[at].stage == stage


def _at(s: AwaitingTools, key: str) -> int:
    at = _place(s, key)
    assert at is not None
    return at


# -- reports of calls


def running(s: AwaitingTools, e: ToolReported) -> bool:
    return _is(s, e.key, Running(e.attempt))


def _of_once(s: AwaitingTools, e: ToolReported) -> bool:
    return once(s.core, s.batch.slots[_at(s, e.key)].call)


def _again(s: AwaitingTools, e: ToolReported) -> bool:
    policy = policy_of(s.core, s.batch.slots[_at(s, e.key)].call)
    failed = e.result.is_error and e.result.retryable
    return failed and s.stop is None and not _of_once(s, e) and e.attempt < policy.attempts_max


def fails(s: AwaitingTools, e: ToolReported) -> bool:
    return running(s, e) and _again(s, e)


def ends(s: AwaitingTools, e: ToolReported) -> bool:
    return running(s, e) and s.stop is None and not _again(s, e) and not _of_once(s, e)


def ends_once(s: AwaitingTools, e: ToolReported) -> bool:
    return running(s, e) and s.stop is None and _of_once(s, e)


def ends_late(s: AwaitingTools, e: ToolReported) -> bool:
    return running(s, e) and s.stop is not None


def wait_for_retry(s: AwaitingTools, e: ToolReported, clause: str) -> Outcome:
    at = _at(s, e.key)
    policy = policy_of(s.core, s.batch.slots[at].call)
    batch = s.batch.put(at, WaitingForRetry(e.attempt + 1))
    batch = replace(batch, failed=(*batch.failed, (at, e.attempt, e.result.text)))
    pause = Sleep(e.key, e.attempt + 1, backoff_ms(policy, e.attempt + 1, e.result))
    return advance_batch(s.core, batch, s.stop, clause, (pause,))


def take_report(s: AwaitingTools, e: ToolReported, clause: str) -> Outcome:
    return advance_batch(s.core, s.batch.put(_at(s, e.key), Reported(e.result)), s.stop, clause)


def waits_for_retry(s: AwaitingTools, e: RetryDue) -> bool:
    return _is(s, e.key, WaitingForRetry(e.attempt)) and s.stop is None


def try_again(s: AwaitingTools, e: RetryDue, clause: str) -> Outcome:
    at = _at(s, e.key)
    effect = run(s.core, at, s.batch.slots[at].call, e.attempt)
    return advance_batch(s.core, s.batch.put(at, Running(e.attempt)), s.stop, clause, (effect,))


def known(s: AwaitingTools, e: Probed) -> bool:
    return _is(s, e.key, Probing()) and e.result is not None


def unknowable(s: AwaitingTools, e: Probed) -> bool:
    return _is(s, e.key, Probing()) and e.result is None


def take_proof(s: AwaitingTools, e: Probed, clause: str) -> Outcome:
    assert e.result is not None
    return advance_batch(s.core, s.batch.put(_at(s, e.key), Reported(e.result)), s.stop, clause)


def give_up_call(s: AwaitingTools, e: Probed, clause: str) -> Outcome:
    batch = s.batch.put(_at(s, e.key), Reported(unknown(), unknown=True))
    return advance_batch(s.core, batch, s.stop, clause)


# -- records


def lands(s: AwaitingTools, e: Recorded) -> bool:
    return s.batch.pending is not None and s.batch.pending.key == e.key


def arrives(s: AwaitingCheckpoint, e: Recorded) -> bool:
    return s.key == e.key and s.stop is None


def land(s: AwaitingTools, e: Recorded, clause: str) -> Outcome:
    batch, begun = after_record(s.core, s.batch, go=s.stop is None)
    effects: tuple[Effect, ...] = begun
    return advance_batch(s.core, batch, s.stop, clause, effects)


def arrive(s: AwaitingCheckpoint, e: Recorded, clause: str) -> Outcome:
    return continue_after(s.core, s.then, clause)


WORK_ROWS: tuple[Row[Any, Any, Outcome], ...] = (
    Row("TURN-20", AwaitingModel, ModelReplied, means(Answer), take_reply),
    Row("TURN-21", AwaitingModel, ModelReplied, means(CallTools, grace=False), take_reply),
    Row("TURN-22", AwaitingModel, ModelReplied, means(StopTurn), take_reply),
    Row("TURN-23", AwaitingModel, ModelReplied, means(InvalidReply), take_reply),
    Row("TURN-24", AwaitingModel, ModelReplied, means(CallTools, grace=True), take_reply),
    Row("TURN-23", AwaitingModel, ModelFailed, asked, give_back),
    Row("TURN-37", AwaitingTools, ToolReported, fails, wait_for_retry),
    Row("TURN-31", AwaitingTools, ToolReported, ends, take_report),
    Row("TURN-33", AwaitingTools, ToolReported, ends_once, take_report),
    Row("TURN-55", AwaitingTools, ToolReported, ends_late, take_report),
    Row("TURN-37", AwaitingTools, RetryDue, waits_for_retry, try_again),
    Row("TURN-34", AwaitingTools, Probed, known, take_proof),
    Row("TURN-35", AwaitingTools, Probed, unknowable, give_up_call),
    Row("TURN-9", AwaitingTools, Recorded, lands, land),
    Row("TURN-9", AwaitingCheckpoint, Recorded, arrives, arrive),
)
