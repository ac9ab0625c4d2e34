"""The watch over the code of a turn: telling it, interrupting it, and losing the lease under it.  Spec: specs/runner.md."""

from __future__ import annotations

from typing import Any

from ..outcome import Stepped
from ..records import Cancel
from ..replace import replace
from .protocol import Effect, InterruptTurn, NotifyTurn, Reply, SetTimer, Stop, TurnReply
from .states import (
    Core,
    LeaseLost,
    Outcome,
    Request,
    Stopped,
    SupervisionStage,
    TurnRunning,
    TurnStopReason,
    TurnSupervision,
    number,
)

# -- the watch over the code


def warn(
    core: Core, supervision: TurnSupervision, at_ms: int
) -> tuple[Core, TurnSupervision, tuple[Effect, ...]]:
    """RUNNER-41: it has until then to end by itself."""
    if supervision.stage is SupervisionStage.INTERRUPTED:
        return core, supervision, ()
    id, core = number(core)
    return (
        core,
        replace(supervision, timer=id, stage=SupervisionStage.NOTIFIED),
        (SetTimer(id, at_ms),),
    )


def cut(
    core: Core, supervision: TurnSupervision, now_ms: int
) -> tuple[Core, TurnSupervision, tuple[Effect, ...]]:
    """RUNNER-42: it is interrupted where it stands; if that does not help either, it is given up."""
    id, core = number(core)
    effects = (InterruptTurn(supervision.turn_id), SetTimer(id, now_ms + core.config.grace_ms))
    return core, replace(supervision, timer=id, stage=SupervisionStage.INTERRUPTED), effects


def replies(requests: tuple[Request, ...], answer: Any) -> tuple[Effect, ...]:
    return tuple([Reply(r.id, answer) for r in requests])


def cancel(s: TurnRunning, flag: Cancel, now_ms: int) -> tuple[TurnRunning, tuple[Effect, ...]]:
    """RUNNER-43: the turn is told once that it is to stop."""
    if (
        s.stop_reason is TurnStopReason.CANCELLED
        or s.exit is not None
        or flag.run_id != s.held_run.begun.run_id
    ):
        return s, ()
    core, supervision, effects = warn(s.core, s.supervision, now_ms + s.core.config.grace_ms)
    effects_before = NotifyTurn(supervision.turn_id, TurnReply.CANCELLED)
    parked = tuple([Reply(id, TurnReply.CANCELLED) for id in s.parked])
    s = replace(
        s, core=core, supervision=supervision, stop_reason=TurnStopReason.CANCELLED, parked=()
    )
    return s, (effects_before, *effects, *parked)


def lose(s: TurnRunning, stop: Stop, now_ms: int, clause: str) -> Outcome:
    """RUNNER-44: the lease is another's: nothing more is written."""
    if s.exit is not None:
        return Stepped(Stopped(), clause, (stop,))
    core, supervision, effects = warn(s.core, s.supervision, now_ms + s.core.config.grace_ms)
    lost = replies(s.asked + s.queue, TurnReply.LEASE_LOST) + tuple(
        [Reply(p, TurnReply.LEASE_LOST) for p in s.parked]
    )
    effects_before = NotifyTurn(supervision.turn_id, TurnReply.LEASE_LOST)
    return Stepped(
        LeaseLost(core, supervision, TurnReply.LEASE_LOST, stop),
        clause,
        (effects_before, *lost, *effects),
    )
