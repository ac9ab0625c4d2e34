"""How a runner acquires its session: from the Begin to a lease.  Spec: specs/runner.md."""

from __future__ import annotations

from typing import Any

from ..commands import Begin, Reclaim, Sweep
from ..machines.lease import Evidence, Fence, LocalProcess
from ..outcome import Stepped
from ..queries import Command, Question
from ..replace import replace
from .answers import (
    BeginRefused,
    BegunEarlier,
    Cleared,
    CurrentLease,
    Granted,
    HolderFound,
    NothingToBegin,
    SessionHeld,
)
from .ending import begin_next
from .protocol import CheckProcess, ProcessChecked, RunnerStopReason, SetTimer, Stop
from .states import (
    ROUNDS_MAX,
    Acquiring,
    CheckingHolder,
    Core,
    HeldRun,
    Outcome,
    RenewalTimer,
    RunnerConfig,
    Stopped,
    next_id,
    send,
)

__all__ = [
    "ask_for_holder",
    "asks_for_holder",
    "begin_again",
    "check_holder",
    "dead",
    "elsewhere",
    "finds_nothing",
    "hold",
    "leaves_to_holder",
    "may_live",
    "near",
    "needs_room",
    "reclaim",
    "start",
    "stop_alive",
    "stop_elsewhere",
    "stop_fenced",
    "stop_for_room",
    "stop_held",
    "stop_idle",
    "stop_refused",
    "sweep",
    "sweeps",
]


def start(config: RunnerConfig, now_ms: int) -> Outcome:
    """Return the first state of a runner, and its Begin (RUNNER-1)."""
    return call(Core(config), begin(config), now_ms, "RUNNER-1")


def begin(config: RunnerConfig) -> Begin:
    """Return the Begin of this runner."""
    return Begin(
        config.session_id, config.lease_id, config.run_id, config.owner,
        config.ttl_ms, config.limit, config.limit_bytes, config.others, config.exactly, config.resolution,
    )  # fmt: skip


def call(core: Core, what: Command[Any, Any] | Question[Any], now_ms: int, clause: str) -> Outcome:
    """Send a command or question while no lease is held."""
    id, core = next_id(core)
    pending, effect = send(what, id, now_ms)
    return Stepped(Acquiring(core, pending), clause, (effect,))


# -- guards


def may_clear(s: Acquiring) -> bool:
    """True if the runner may sweep or reclaim before another Begin."""
    return s.core.rounds < ROUNDS_MAX and not s.core.draining


def sweeps(s: Acquiring, e: NothingToBegin | SessionHeld) -> bool:
    """True if a sweep comes before the next Begin."""
    return e.sweep and may_clear(s)


def finds_nothing(s: Acquiring, e: NothingToBegin) -> bool:
    """True if no sweep can help."""
    return not sweeps(s, e) and e.answer.others_max is None


def needs_room(s: Acquiring, e: NothingToBegin) -> bool:
    """True if a run is due for an owner with fewer other sessions."""
    return not sweeps(s, e) and e.answer.others_max is not None


def asks_for_holder(s: Acquiring, e: SessionHeld) -> bool:
    """True if the holder may be dead."""
    return may_clear(s) and not e.sweep


def leaves_to_holder(s: Acquiring, e: SessionHeld) -> bool:
    """True if the runner gives up."""
    return not may_clear(s)


def same_scope(mine: LocalProcess | None, other: LocalProcess | None) -> bool:
    """True if this process can find out if the other one is alive."""
    return (
        mine is not None
        and other is not None
        and (mine.host, mine.boot, mine.pid_namespace)
        == (other.host, other.boot, other.pid_namespace)
    )


def near(s: Acquiring, e: HolderFound) -> bool:
    """True if the holder ran on this host, boot and pid namespace."""
    return same_scope(s.core.config.owner.process, e.held.owner.process)


def elsewhere(s: Acquiring, e: HolderFound) -> bool:
    """True if the holder's process cannot be checked here."""
    return not near(s, e)


def dead(s: CheckingHolder, e: ProcessChecked) -> bool:
    """True if the holder's process is certainly dead."""
    return e.evidence is Evidence.DEAD


def may_live(s: CheckingHolder, e: ProcessChecked) -> bool:
    """True if the holder's process may be alive."""
    return e.evidence is not Evidence.DEAD


# -- actions


def hold(s: Acquiring, e: Granted, clause: str) -> Outcome:
    """Take over the lease.  Its deadline counts from the attempt that may have granted it."""
    begun, sent_ms = e.begun, s.pending.sent_ms
    id, core = next_id(s.core)
    held_run = HeldRun(begun, sent_ms + begun.ttl_ms, RenewalTimer(id), begun.n, begun.cancel)
    timer = SetTimer(id, sent_ms + begun.ttl_ms // 3)
    return begin_next(core, held_run, e.now_ms, clause, (timer,))


def sweep(s: Acquiring, e: NothingToBegin | SessionHeld, clause: str) -> Outcome:
    """Sweep before the next Begin."""
    core = replace(s.core, rounds=s.core.rounds + 1)
    return call(core, Sweep(core.config.session_id), e.now_ms, clause)


def begin_again(s: Acquiring, e: Cleared, clause: str) -> Outcome:
    """Begin with the same ids: no earlier Begin has left a record."""
    return call(s.core, begin(s.core.config), e.now_ms, clause)


def stop_idle(s: Acquiring, e: NothingToBegin, clause: str) -> Outcome:
    """Stop, and report when something will be due."""
    stop = Stop(RunnerStopReason.NOTHING_DUE, e.answer.due_at_ms)
    return Stepped(Stopped(), clause, (stop,))


def stop_for_room(s: Acquiring, e: NothingToBegin, clause: str) -> Outcome:
    """Stop, and report how many other sessions the run allows."""
    stop = Stop(RunnerStopReason.NEEDS_ROOM, e.answer.others_max)
    return Stepped(Stopped(), clause, (stop,))


def stop_fenced(s: Acquiring, e: BegunEarlier, clause: str) -> Outcome:
    """Stop as if the runner were fenced."""
    return Stepped(Stopped(), clause, (Stop(RunnerStopReason.FENCED, e.answer),))


def stop_refused(s: Acquiring, e: BeginRefused, clause: str) -> Outcome:
    """Stop with the refusal."""
    return Stepped(Stopped(), clause, (Stop(RunnerStopReason.REFUSED, e.answer),))


def stop_held(s: Acquiring, e: SessionHeld, clause: str) -> Outcome:
    """Stop: the session belongs to another owner."""
    return Stepped(Stopped(), clause, (Stop(RunnerStopReason.HELD, e.answer),))


def ask_for_holder(s: Acquiring, e: SessionHeld, clause: str) -> Outcome:
    """Ask for the lease on the session's row."""
    core = replace(s.core, rounds=s.core.rounds + 1)
    return call(core, CurrentLease(core.config.session_id), e.now_ms, clause)


def check_holder(s: Acquiring, e: HolderFound, clause: str) -> Outcome:
    """Check if the holder's process is alive."""
    process = e.held.owner.process
    assert process is not None
    id, core = next_id(s.core)
    return Stepped(CheckingHolder(core, id, e.held), clause, (CheckProcess(id, process),))


def stop_elsewhere(s: Acquiring, e: HolderFound, clause: str) -> Outcome:
    """Stop: only time can end this holder's lease."""
    return Stepped(Stopped(), clause, (Stop(RunnerStopReason.HELD, e.held),))


def reclaim(s: CheckingHolder, e: ProcessChecked, clause: str) -> Outcome:
    """Reclaim the lease of a dead process, with the evidence and the fence that was observed."""
    seen = Fence(s.core.config.session_id, s.held.generation, s.held.lease_id)
    command = Reclaim(seen.session_id, e.command_id, seen, e.evidence)
    return call(s.core, command, e.now_ms, clause)


def stop_alive(s: CheckingHolder, e: ProcessChecked, clause: str) -> Outcome:
    """Stop: the holder may be alive."""
    return Stepped(Stopped(), clause, (Stop(RunnerStopReason.HELD, s.held),))
