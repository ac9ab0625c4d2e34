"""The states of a runner, and what they share: calls, the renewal of the lease, supervision.  Spec: specs/runner.md."""

from __future__ import annotations

import enum
from typing import Any, Final, TypeAlias

from attrs import frozen

from ..commands import Begun, Commit, Renew
from ..commands.grant import TTL_MS_DEFAULT
from ..limits import RUN_BYTES_DEFAULT, RUN_INPUTS_DEFAULT
from ..machines.lease import Held, Owner
from ..outcome import Stepped
from ..queries import Command, Question
from ..questions.core import LoadedRun
from ..records import Cancel
from ..replace import replace
from .protocol import Ask, Effect, Execute, SetTimer, Stop, TurnExit, TurnRequest

__all__ = [
    "CALLING",
    "HOLDING",
    "ROUNDS_MAX",
    "SUPERVISING",
    "Acquiring",
    "CheckingHolder",
    "Core",
    "Ending",
    "HeldRun",
    "LeaseLost",
    "Loading",
    "Outcome",
    "PendingCall",
    "RenewalTimer",
    "Request",
    "RunnerConfig",
    "State",
    "Stopped",
    "SupervisionStage",
    "TurnCommitted",
    "TurnRunning",
    "TurnStopReason",
    "TurnSupervision",
    "code_runs",
    "final_call_pending",
    "next_id",
    "renew",
    "resend",
    "retry_delay_ms",
    "send",
    "wait",
]


RETRY_MS: Final = 5
RETRY_MS_MAX: Final = 1_000
ROUNDS_MAX: Final = 64  # sweeps and reclaims before a Begin


@frozen
class RunnerConfig:
    """What one runner works on: the session, its ids and its limits."""

    session_id: str
    lease_id: str
    run_id: str
    owner: Owner
    ttl_ms: int = TTL_MS_DEFAULT
    limit: int = RUN_INPUTS_DEFAULT
    limit_bytes: int = RUN_BYTES_DEFAULT
    turn_deadline_ms: int = 3_600_000
    grace_ms: int = 5_000
    others: int = 0  # other sessions that this process may run under the lease
    runs_max: int = 16  # runs under one lease, before other owners get their chance
    exactly: tuple[str, ...] | None = None  # begin only if these inputs come next
    resolution: str | None = None  # the version of the agent for new runs


@frozen
class Core:
    """The part that all states share.  `draining_ms` is the drain's grace period; None: the runner is not draining."""

    config: RunnerConfig
    next_id: int = 1
    runs: int = 0
    rounds: int = 0
    draining_ms: int | None = None

    @property
    def draining(self) -> bool:
        """True after a drain."""
        return self.draining_ms is not None

    def drain(self, grace_ms: int) -> Core:
        """Remember a drain (RUNNER-88)."""
        return replace(self, draining_ms=grace_ms)


@frozen
class PendingCall:
    """A command or question without an answer.  Every retry has the same id.

    `first_ms` is the time of the first attempt, `sent_ms` the earliest attempt that may have been executed.
    """

    id: int
    what: Command[Any, Any] | Question[Any]
    first_ms: int
    sent_ms: int
    tries: int = 0
    unsure: bool = False  # an attempt may have been executed
    waiting: bool = False  # for the timer that starts the next attempt


@frozen
class RenewalTimer:
    """The timer `id` starts the next renewal; none is in progress."""

    id: int
    tries: int = 0


@frozen
class HeldRun:
    """The lease, and the run that is worked on under it.  `n` is the number of the next checkpoint."""

    begun: Begun
    deadline_ms: int
    renewal: PendingCall | RenewalTimer
    n: int
    cancel: Cancel | None

    def on_time(self, now_ms: int) -> bool:
        """True until the deadline of the lease."""
        return now_ms <= self.deadline_ms

    @property
    def cancelled(self) -> bool:
        """True if this run, not an earlier one, was asked to stop."""
        return self.cancel is not None and self.cancel.run_id == self.begun.run_id


class SupervisionStage(enum.StrEnum):
    """How far the runner has gone to end a turn."""

    RUNNING = "running"  # the timer is the turn's time limit
    NOTIFIED = "notified"  # the timer is the grace period
    INTERRUPTED = "interrupted"  # the code is abandoned when the timer fires


@frozen
class TurnSupervision:
    """The turn code that is running, and the timer for its next stage."""

    turn_id: int
    timer: int
    stage: SupervisionStage = SupervisionStage.RUNNING


class TurnStopReason(enum.StrEnum):
    """Why a turn has to end."""

    DRAINING = "draining"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


# -- states


@frozen
class Acquiring:
    """The session is not acquired.  The call is the Begin, or what has to come before it."""

    core: Core
    pending: PendingCall


@frozen
class CheckingHolder:
    """Another owner holds the session.  The host checks if its process is alive."""

    core: Core
    id: int
    held: Held


@frozen
class Loading:
    """A run was begun, and what it needs is read.  `loaded`: it was read too late, and a renewal is awaited."""

    core: Core
    held_run: HeldRun
    pending: PendingCall | None
    loaded: LoadedRun | None = None


@frozen
class Request:
    """A request of the turn code that is not answered yet."""

    id: int
    request: TurnRequest


@frozen
class TurnRunning:
    """The turn code is running.  `pending` is the write for the requests `asked`; those in `queue` follow it.

    After the end of the code, `exit` waits for the answer to the write.
    """

    core: Core
    held_run: HeldRun
    supervision: TurnSupervision
    pending: PendingCall | None = None
    asked: tuple[Request, ...] = ()
    queue: tuple[Request, ...] = ()
    parked: tuple[int, ...] = ()  # effects that may begin after the renewal
    stop_reason: TurnStopReason | None = None
    exit: TurnExit | None = None


@frozen
class TurnCommitted:
    """The turn has committed and its code is still running.  The next run is held already."""

    core: Core
    held_run: HeldRun
    supervision: TurnSupervision


@frozen
class LeaseLost:
    """The lease has ended and the turn code is still running.  `answer` replies to its requests."""

    core: Core
    supervision: TurnSupervision
    answer: Any
    stop: Stop


@frozen
class Ending:
    """No turn code is running, and the final command is in progress."""

    core: Core
    held_run: HeldRun
    pending: PendingCall


@frozen
class Stopped:
    """The final state."""


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
Outcome: TypeAlias = Stepped[State, Effect]

CALLING: Final = (Acquiring, Loading, TurnRunning, Ending)  # may have a pending call
HOLDING: Final = (Loading, TurnRunning, TurnCommitted, Ending)  # hold the lease and renew it
SUPERVISING: Final = (TurnRunning, TurnCommitted, LeaseLost)  # have turn code


def code_runs(s: TurnRunning | TurnCommitted | LeaseLost) -> bool:
    """True if the turn code of this state is still running."""
    return not isinstance(s, TurnRunning) or s.exit is None


def final_call_pending(s: Any) -> bool:
    """True if only one answer is awaited, so that nothing needs the lease after it."""
    if isinstance(s, TurnRunning):
        return s.exit is not None or (s.pending is not None and isinstance(s.pending.what, Commit))
    return isinstance(s, Ending)


# -- calls


def next_id(core: Core) -> tuple[int, Core]:
    """Return a new id for an effect, and the core without it."""
    return core.next_id, replace(core, next_id=core.next_id + 1)


def send(
    what: Command[Any, Any] | Question[Any], id: int, now_ms: int
) -> tuple[PendingCall, Execute | Ask]:
    """Return a new call and its effect."""
    return PendingCall(id, what, now_ms, now_ms), effect_of(id, what)


def effect_of(id: int, what: Command[Any, Any] | Question[Any]) -> Execute | Ask:
    """Return the effect that sends this."""
    return Execute(id, what) if isinstance(what, Command) else Ask(id, what)


def retry_delay_ms(tries: int) -> int:
    """Return the delay before the next attempt: 5 ms, doubled each time, at most 1 s."""
    return int(min(RETRY_MS * 2 ** min(tries, 20), RETRY_MS_MAX))


def wait(pending: PendingCall, now_ms: int, *, unsure: bool) -> tuple[PendingCall, SetTimer]:
    """Return the call that waits for its next attempt, and the timer of that attempt."""
    waiting = replace(
        pending, tries=pending.tries + 1, unsure=pending.unsure or unsure, waiting=True
    )
    return waiting, SetTimer(pending.id, now_ms + retry_delay_ms(pending.tries))


def resend(pending: PendingCall, now_ms: int) -> tuple[PendingCall, Execute | Ask]:
    """Send the same call again.  If it was certainly not executed, its time starts now (RUNNER-80, RUNNER-81)."""
    sent_ms = pending.sent_ms if pending.unsure else now_ms
    return replace(pending, sent_ms=sent_ms, waiting=False), effect_of(pending.id, pending.what)


def renew(held_run: HeldRun, id: int, now_ms: int) -> tuple[HeldRun, Effect]:
    """Send a renewal.  Each renewal is a command of its own (RUNNER-73)."""
    begun = held_run.begun
    tries = held_run.renewal.tries
    pending, effect = send(Renew(begun.fence.session_id, begun.fence), id, now_ms)
    return replace(held_run, renewal=replace(pending, tries=tries)), effect
