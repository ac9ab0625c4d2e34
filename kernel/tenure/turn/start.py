"""Until the turn knows what it works with.  Spec: specs/turn.md, TURN-1 to TURN-8."""

from __future__ import annotations

from typing import Any

from ..outcome import Stepped
from ..rules import Row
from .ending import finish, mismatch
from .loop import advance, environment_changes, record_changes, with_environment
from .protocol import (
    Begin,
    Broken,
    EnvironmentFailed,
    EnvironmentReady,
    PrepareEnvironment,
    SetDeadline,
)
from .states import AwaitingEnvironment, Outcome, Preparing


def readable(s: Preparing, e: Begin) -> bool:
    return s.core.replay.broken is None


def unreadable(s: Preparing, e: Begin) -> bool:
    return s.core.replay.broken is not None


def prepare(s: Preparing, e: Begin, clause: str) -> Outcome:
    core = s.core
    deadline = SetDeadline(core.setup.limits.deadline_ms)
    effect = PrepareEnvironment(core.key("environment"), core.setup.frame)
    return Stepped(AwaitingEnvironment(core), clause, (deadline, effect))


def refuse_journal(s: Preparing, e: Begin, clause: str) -> Outcome:
    return mismatch(s.core, clause, s.core.replay.broken or "")


def own(s: AwaitingEnvironment, e: EnvironmentReady | EnvironmentFailed) -> bool:
    return e.key == s.core.key("environment")


def differing(s: AwaitingEnvironment, e: EnvironmentReady) -> bool:
    return own(s, e) and bool(environment_changes(with_environment(s.core, e.environment)))


def alike(s: AwaitingEnvironment, e: EnvironmentReady) -> bool:
    return own(s, e) and not environment_changes(with_environment(s.core, e.environment))


def go_on(s: AwaitingEnvironment, e: EnvironmentReady, clause: str) -> Outcome:
    return advance(with_environment(s.core, e.environment), clause)


def compare(s: AwaitingEnvironment, e: EnvironmentReady, clause: str) -> Outcome:
    core = with_environment(s.core, e.environment)
    if core.setup.strict:
        return mismatch(core, clause, "; ".join([text for _, text in environment_changes(core)]))
    return record_changes(core, clause)


def give_up(s: AwaitingEnvironment, e: EnvironmentFailed, clause: str) -> Outcome:
    return finish(s.core, Broken(e.failure), clause)


BEGIN_ROWS: tuple[Row[Any, Any, Outcome], ...] = (
    Row("TURN-1", Preparing, Begin, readable, prepare),
    Row("TURN-4", Preparing, Begin, unreadable, refuse_journal),
    Row("TURN-2", AwaitingEnvironment, EnvironmentFailed, own, give_up),
    Row("TURN-3", AwaitingEnvironment, EnvironmentReady, alike, go_on),
    Row("TURN-7", AwaitingEnvironment, EnvironmentReady, differing, compare),
)
