"""The watch over the code of a turn: telling it, interrupting it, and losing the lease under it.  Spec: specs/runner.md."""

from __future__ import annotations

from typing import Any

from ..outcome import Stepped
from ..records import Cancel
from ..replace import replace
from .protocol import CancelTurn, Effect, Reply, Said, SetTimer, Stop, Tell
from .states import (
    Core,
    Outcome,
    Outlived,
    Request,
    Stage,
    Stopped,
    Watch,
    Why,
    Working,
    number,
)

# -- the watch over the code


def warn(core: Core, watch: Watch, at_ms: int) -> tuple[Core, Watch, tuple[Effect, ...]]:
    """RUNNER-41: it has until then to end by itself."""
    if watch.stage is Stage.CUT:
        return core, watch, ()
    id, core = number(core)
    return core, replace(watch, timer=id, stage=Stage.TOLD), (SetTimer(id, at_ms),)


def cut(core: Core, watch: Watch, now_ms: int) -> tuple[Core, Watch, tuple[Effect, ...]]:
    """RUNNER-42: it is interrupted where it stands; if that does not help either, it is given up."""
    id, core = number(core)
    effects = (CancelTurn(watch.turn_id), SetTimer(id, now_ms + core.plan.grace_ms))
    return core, replace(watch, timer=id, stage=Stage.CUT), effects


def replies(requests: tuple[Request, ...], answer: Any) -> tuple[Effect, ...]:
    return tuple([Reply(r.id, answer) for r in requests])


def cancel(s: Working, flag: Cancel, now_ms: int) -> tuple[Working, tuple[Effect, ...]]:
    """RUNNER-43: the turn is told once that it is to stop."""
    if s.why is Why.CANCELLED or s.over is not None or flag.run_id != s.hold.begun.run_id:
        return s, ()
    core, watch, effects = warn(s.core, s.watch, now_ms + s.core.plan.grace_ms)
    told = Tell(watch.turn_id, Said.CANCELLED)
    parked = tuple([Reply(id, Said.CANCELLED) for id in s.parked])
    s = replace(s, core=core, watch=watch, why=Why.CANCELLED, parked=())
    return s, (told, *effects, *parked)


def lose(s: Working, stop: Stop, now_ms: int, clause: str) -> Outcome:
    """RUNNER-44: the lease is another's: nothing more is written."""
    if s.over is not None:
        return Stepped(Stopped(), clause, (stop,))
    core, watch, effects = warn(s.core, s.watch, now_ms + s.core.plan.grace_ms)
    lost = replies(s.asked + s.queue, Said.LOST) + tuple([Reply(p, Said.LOST) for p in s.parked])
    told = Tell(watch.turn_id, Said.LOST)
    return Stepped(Outlived(core, watch, Said.LOST, stop), clause, (told, *lost, *effects))
