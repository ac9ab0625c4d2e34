"""The states of a runner, and what they have in common: orders, renewal, watch.  Spec: specs/runner.md."""

from __future__ import annotations

import enum
from typing import Any, Final, TypeAlias

from attrs import frozen

from ..commands import Begun, Renew
from ..commands.begin import LIMIT_DEFAULT
from ..commands.grant import TTL_MS_DEFAULT
from ..machines.lease import Held, Owner
from ..outcome import Stepped
from ..queries import Command, Question
from ..questions.core import LoadedRun
from ..records import Cancel
from ..replace import replace
from ..scheduling import GROUP_BYTES
from .protocol import Ask, Effect, Execute, SetTimer, Stop, TimerFired, TurnExit, TurnRequest

AGAIN_MS: Final = 5
AGAIN_MS_MAX: Final = 1_000
ROUNDS_MAX: Final = 64  # of sweeping and reclaiming before a Begin


@frozen
class RunnerConfig:
    """What one runner is to do, with all ids and limits that it needs."""

    session_id: str
    lease_id: str
    run_id: str
    owner: Owner
    ttl_ms: int = TTL_MS_DEFAULT
    limit: int = LIMIT_DEFAULT
    limit_bytes: int = GROUP_BYTES
    turn_deadline_ms: int = 3_600_000
    grace_ms: int = 5_000
    runs_max: int = 16  # how many under one lease, before others are let in


@frozen
class Core:
    """What every state carries along."""

    config: RunnerConfig
    next_id: int = 1
    runs: int = 0
    rounds: int = 0
    draining_ms: int | None = None  # the grace that is left to a turn

    def drain(self, grace_ms: int) -> Core:
        return replace(self, draining_ms=grace_ms)


@frozen
class PendingCall:
    """A command or question under way, sent again under the same id until it is answered."""

    id: int
    what: Command[Any, Any] | Question[Any]
    first_ms: int  # when it was first sent
    sent_ms: int  # since when it may have been carried out
    tries: int = 0
    unsure: bool = False  # one sending was not answered
    asleep: bool = False  # until its timer fires


@frozen
class RenewalTimer:
    """No renewal is under way; the timer `id` begins the next one."""

    id: int
    tries: int = 0


@frozen
class HeldRun:
    """The lease, and the run it works on."""

    begun: Begun
    deadline_ms: int
    renewal: PendingCall | RenewalTimer
    n: int
    cancel: Cancel | None

    def on_time(self, now_ms: int) -> bool:
        return now_ms <= self.deadline_ms


class SupervisionStage(enum.StrEnum):
    RUNNING = "running"  # its timer is the turn's deadline
    NOTIFIED = "notified"  # it has a grace to end by itself
    INTERRUPTED = "interrupted"  # it was interrupted; next it is given up


@frozen
class TurnSupervision:
    """Over the code of a turn that is alive."""

    turn_id: int
    timer: int
    stage: SupervisionStage = SupervisionStage.RUNNING


class TurnStopReason(enum.StrEnum):
    """Why a turn is to end."""

    DRAINING = "draining"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


# -- states


@frozen
class Acquiring:
    """Until the session is ours: Begin, and what may have to go before it."""

    core: Core
    pending: PendingCall


@frozen
class CheckingHolder:
    core: Core
    id: int
    held: Held


@frozen
class Loading:
    """A run was begun; what it needs is read.  `loaded`: it was, but our time is over and we ask for more."""

    core: Core
    held_run: HeldRun
    pending: PendingCall | None
    loaded: LoadedRun | None = None


@frozen
class Request:
    id: int
    request: TurnRequest


@frozen
class TurnRunning:
    """The code of a turn is at work.  `pending` is its write under way, for `asked`; `queue` waits behind it."""

    core: Core
    held_run: HeldRun
    supervision: TurnSupervision
    pending: PendingCall | None = None
    asked: tuple[Request, ...] = ()
    queue: tuple[Request, ...] = ()
    parked: tuple[int, ...] = ()  # starts that wait for our lease to be renewed
    stop_reason: TurnStopReason | None = None
    exit: TurnExit | None = None  # the code has ended, the order has not


@frozen
class TurnCommitted:
    """The turn has committed, its code is still alive, and the next run waits under our lease."""

    core: Core
    held_run: HeldRun
    supervision: TurnSupervision


@frozen
class LeaseLost:
    """The code of the turn is alive and the lease is not; when it ends, so do we."""

    core: Core
    supervision: TurnSupervision
    answer: Any  # what every request is told
    stop: Stop


@frozen
class Ending:
    """No code of a turn is alive; the last word about the run is on its way."""

    core: Core
    held_run: HeldRun
    pending: PendingCall


@frozen
class Stopped:
    pass


State: TypeAlias = (
    Acquiring
    | CheckingHolder
    | Loading
    | TurnRunning
    | TurnCommitted
    | LeaseLost
    | Ending
    | Stopped
)
HoldsLease: TypeAlias = Loading | TurnRunning | TurnCommitted | Ending
Outcome: TypeAlias = Stepped[State, Effect]


# -- orders


def send(
    what: Command[Any, Any] | Question[Any], id: int, now_ms: int
) -> tuple[PendingCall, Effect]:
    return PendingCall(id, what, now_ms, now_ms), transmit(id, what)


def transmit(id: int, what: Command[Any, Any] | Question[Any]) -> Effect:
    return Execute(id, what) if isinstance(what, Command) else Ask(id, what)


def again_ms(tries: int) -> int:
    return int(min(AGAIN_MS * 2 ** min(tries, 20), AGAIN_MS_MAX))


def sleep(pending: PendingCall, now_ms: int, *, unsure: bool) -> tuple[PendingCall, Effect]:
    later = replace(pending, tries=pending.tries + 1, unsure=pending.unsure or unsure, asleep=True)
    return later, SetTimer(pending.id, now_ms + again_ms(pending.tries))


def awake(pending: PendingCall, now_ms: int) -> tuple[PendingCall, Effect]:
    """The same again.  What certainly was not done counts from now."""
    sent = pending.sent_ms if pending.unsure else now_ms
    return replace(pending, sent_ms=sent, asleep=False), transmit(pending.id, pending.what)


def renew(held_run: HeldRun, id: int, now_ms: int) -> tuple[HeldRun, Effect]:
    begun = held_run.begun
    tries = held_run.renewal.tries
    pending, effect = send(Renew(begun.fence.session_id, begun.fence), id, now_ms)
    return replace(held_run, renewal=replace(pending, tries=tries)), effect


def number(core: Core) -> tuple[int, Core]:
    """The next id of an effect, and who gives out the one after it."""
    return core.next_id, replace(core, next_id=core.next_id + 1)


# -- guards on ids


def reports(s: Any, e: Any) -> bool:
    """This event reports the order of this state."""
    pending = s.pending
    return pending is not None and not pending.asleep and bool(pending.id == e.id)


def wakes(s: Any, e: TimerFired) -> bool:
    """This timer is that of the order of this state."""
    pending = s.pending
    return pending is not None and pending.asleep and bool(pending.id == e.id)


def of_renewal(s: Any, e: Any) -> bool:
    """This event reports the renewal under way."""
    renewal = s.held_run.renewal
    return isinstance(renewal, PendingCall) and bool(renewal.id == e.id)


def begins_renewal(s: Any, e: TimerFired) -> bool:
    renewal = s.held_run.renewal
    return isinstance(renewal, RenewalTimer) and bool(renewal.id == e.id)
