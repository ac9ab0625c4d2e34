"""The events of the runner's table: what an answer, a failed call or a timer means.  Spec: specs/runner.md.

A host reports `Answered`, `StoreUnavailable`, `OutcomeUnknown` and `TimerFired` with the id of a call or a timer.
`classify` finds out what the report is about, so that the type of an event selects the rows of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final, TypeAlias

from attrs import frozen

from ..commands import (
    Begin,
    Begun,
    BegunBefore,
    Checkpointed,
    Commit,
    Committed,
    Ended,
    NothingDue,
    Reclaim,
    Renew,
    Renewed,
    Sweep,
)
from ..machines.lease import Held, Holder
from ..outcome import Refusal, Refused
from ..queries import Command, Get, Query, Question
from ..questions.core import LoadedRun, LoadInputs, LoadRun
from ..records import Cancel, Input, Session
from .protocol import (
    Answered,
    OutcomeUnknown,
    ProcessChecked,
    StoreBroken,
    StoreUnavailable,
    TimerFired,
    TurnEnded,
)
from .states import (
    CALLING,
    HOLDING,
    SUPERVISING,
    CheckingHolder,
    PendingCall,
    RenewalTimer,
    code_runs,
)

__all__ = [
    "BeginRefused",
    "BegunEarlier",
    "CallRefused",
    "CheckpointWritten",
    "Cleared",
    "CommitRefused",
    "CurrentLease",
    "Fenced",
    "Granted",
    "HolderFound",
    "InputsLoaded",
    "LeaseRenewed",
    "NextTaken",
    "NothingToBegin",
    "RenewalDue",
    "RenewalRefused",
    "RenewalUnanswered",
    "RetryDue",
    "RunCancelled",
    "RunEnded",
    "RunLoaded",
    "RunMissing",
    "SessionHeld",
    "StageTimeOver",
    "classify",
]


@frozen
class CurrentLease(Question[Held | None]):
    """Read the lease on the row of a session, live or not."""

    session_id: str

    def steps(self) -> Generator[Query[Any], Any, Held | None]:
        session = yield Get(Session, (self.session_id,))
        lease = None if session is None else session.lease
        return lease if isinstance(lease, Held) else None


# -- answers while the session is acquired


@frozen
class Granted:
    """The session is acquired."""

    now_ms: int
    begun: Begun


@frozen
class NothingToBegin:
    """A Begin found no work."""

    now_ms: int
    answer: NothingDue

    @property
    def sweep(self) -> bool:
        """True if something is due after a sweep."""
        return self.answer.sweep


@frozen
class BegunEarlier:
    """The Begin was executed before, and its lease has ended."""

    now_ms: int
    answer: BegunBefore


@frozen
class SessionHeld:
    """A Begin was refused: another owner's lease is live.  `sweep`: something is due that needs no lease."""

    now_ms: int
    answer: Refused
    sweep: bool


@frozen
class BeginRefused:
    """A Begin was refused for another reason."""

    now_ms: int
    answer: Refused


@frozen
class Cleared:
    """A sweep or a reclaim was answered, or there is no holder any more."""

    now_ms: int


@frozen
class HolderFound:
    """The lease on the session's row."""

    now_ms: int
    held: Held


# -- answers under the lease


@frozen
class RunLoaded:
    """What the run needs."""

    now_ms: int
    loaded: LoadedRun


@frozen
class RunMissing:
    """The run that was begun cannot be read."""

    now_ms: int


@frozen
class CheckpointWritten:
    """A checkpoint is durable, and the session still belongs to this runner.  `inputs`: what it has taken."""

    now_ms: int
    n: int
    cancel: Cancel | None
    inputs: tuple[str, ...]


@frozen
class InputsLoaded:
    """The inputs that a checkpoint has taken."""

    now_ms: int
    inputs: tuple[Input, ...]


@frozen
class RunEnded:
    """The final command was accepted, and the lease is released."""

    now_ms: int
    answer: Committed | Ended


@frozen
class NextTaken:
    """A commit was accepted, and the next run is held under the same lease."""

    now_ms: int
    answer: Committed
    next: Begun


@frozen
class Fenced:
    """The session belongs to another owner: the refusal or the replay that says so."""

    now_ms: int
    answer: Checkpointed | Refused


@frozen
class RunCancelled:
    """A write was refused because the run was asked to stop."""

    now_ms: int
    answer: Refused


@frozen
class CommitRefused:
    """A commit was refused for another reason."""

    now_ms: int
    answer: Refused


@frozen
class CallRefused:
    """A checkpoint, Fail or Release was refused for another reason."""

    now_ms: int
    answer: Refused


# -- the renewal


@frozen
class RenewalDue:
    """It is time for the next renewal."""

    now_ms: int


@frozen
class LeaseRenewed:
    """The lease was renewed."""

    now_ms: int
    answer: Renewed


@frozen
class RenewalRefused:
    """A renewal was refused."""

    now_ms: int
    answer: Refused


@frozen
class RenewalUnanswered:
    """A renewal may or may not have been executed."""

    now_ms: int


# -- other timers


@frozen
class RetryDue:
    """It is time to send the pending call again."""

    now_ms: int


@frozen
class StageTimeOver:
    """The turn has used up the time of its stage: its time limit or a grace period."""

    now_ms: int


Answer: TypeAlias = (
    Granted
    | NothingToBegin
    | BegunEarlier
    | SessionHeld
    | BeginRefused
    | Cleared
    | HolderFound
    | RunLoaded
    | RunMissing
    | CheckpointWritten
    | InputsLoaded
    | RunEnded
    | NextTaken
    | Fenced
    | RunCancelled
    | CommitRefused
    | CallRefused
    | LeaseRenewed
    | RenewalRefused
)


def event_of(call: Command[Any, Any] | Question[Any], answer: Any, now_ms: int) -> Answer:
    """Return what the store's answer to this call means."""
    of_call = _OF_CALL.get(call.__class__)
    return _of_write(call, answer, now_ms) if of_call is None else of_call(answer, now_ms)


def _of_renewal(answer: Any, now_ms: int) -> Answer:
    if isinstance(answer, Refused):
        return RenewalRefused(now_ms, answer)
    return LeaseRenewed(now_ms, answer)


def _of_clearing(answer: Any, now_ms: int) -> Answer:
    return Cleared(now_ms)  # also after a refusal: the next Begin reads the current state


def _of_load(answer: Any, now_ms: int) -> Answer:
    return RunMissing(now_ms) if answer is None else RunLoaded(now_ms, answer)


def _of_inputs(answer: Any, now_ms: int) -> Answer:
    return InputsLoaded(now_ms, answer)


def _of_lease(answer: Any, now_ms: int) -> Answer:
    return Cleared(now_ms) if answer is None else HolderFound(now_ms, answer)


def _of_begin(answer: Any, now_ms: int) -> Answer:
    match answer:
        case Begun():
            return Granted(now_ms, answer)
        case NothingDue():
            return NothingToBegin(now_ms, answer)
        case BegunBefore():
            return BegunEarlier(now_ms, answer)
        case Refused(Refusal.HELD):
            detail = answer.detail
            return SessionHeld(now_ms, answer, isinstance(detail, Holder) and detail.sweep)
        case _:
            return BeginRefused(now_ms, answer)


def _of_write(call: Any, answer: Any, now_ms: int) -> Answer:
    if isinstance(answer, Checkpointed):
        if answer.held:
            return CheckpointWritten(now_ms, answer.n, answer.cancel, answer.inputs)
        return Fenced(now_ms, answer)
    if isinstance(answer, Refused):
        if answer.reason is Refusal.FENCED:
            return Fenced(now_ms, answer)
        if answer.reason is Refusal.CANCELLED:
            return RunCancelled(now_ms, answer)
        return (CommitRefused if isinstance(call, Commit) else CallRefused)(now_ms, answer)
    if isinstance(answer, Committed) and answer.next is not None:
        return NextTaken(now_ms, answer, answer.next)
    return RunEnded(now_ms, answer)


_OF_CALL: Final[dict[type, Callable[[Any, int], Answer]]] = {
    Begin: _of_begin,
    Renew: _of_renewal,
    Sweep: _of_clearing,
    Reclaim: _of_clearing,
    LoadRun: _of_load,
    LoadInputs: _of_inputs,
    CurrentLease: _of_lease,
}

# -- what a report is about


def pending_call(s: Any, id: int) -> PendingCall | None:
    """Return the call of this state with this id, if an attempt of it is in progress."""
    if isinstance(s, CALLING):
        pending: PendingCall | None = s.pending
        if pending is not None and pending.id == id and not pending.waiting:
            return pending
    return renewal_call(s, id)


def renewal_call(s: Any, id: int) -> PendingCall | None:
    """Return the renewal of this state with this id, if one is in progress."""
    if isinstance(s, HOLDING):
        renewal = s.held_run.renewal
        if isinstance(renewal, PendingCall) and renewal.id == id:
            return renewal
    return None


def classify(s: Any, e: Any) -> Any:
    """Return the event for the table.  None: nothing awaits this report (RUNNER-90)."""
    of_report = _OF_REPORT.get(e.__class__)
    return e if of_report is None else of_report(s, e)


def _of_answer(s: Any, e: Answered) -> Answer | None:
    call = pending_call(s, e.id)
    return None if call is None else event_of(call.what, e.answer, e.now_ms)


def _of_failed_call(s: Any, e: StoreUnavailable | OutcomeUnknown) -> Any:
    if renewal_call(s, e.id) is not None:
        return RenewalUnanswered(e.now_ms)
    return None if pending_call(s, e.id) is None else e


def _of_broken_call(s: Any, e: StoreBroken) -> StoreBroken | None:
    return None if pending_call(s, e.id) is None else e


def _of_check(s: Any, e: ProcessChecked) -> ProcessChecked | None:
    return e if isinstance(s, CheckingHolder) and s.id == e.id else None


def _of_end(s: Any, e: TurnEnded) -> TurnEnded | None:
    return e if _supervises(s) and s.supervision.turn_id == e.turn_id else None


def _of_timer(s: Any, e: TimerFired) -> RetryDue | RenewalDue | StageTimeOver | None:
    """Return what a timer means in this state.  None: the timer was replaced or given up."""
    if isinstance(s, CALLING) and s.pending is not None:
        if s.pending.waiting and s.pending.id == e.id:
            return RetryDue(e.now_ms)
    if isinstance(s, HOLDING) and isinstance(s.held_run.renewal, RenewalTimer):
        if s.held_run.renewal.id == e.id:
            return RenewalDue(e.now_ms)
    if _supervises(s) and s.supervision.timer == e.id:
        return StageTimeOver(e.now_ms)
    return None


def _supervises(s: Any) -> bool:
    return isinstance(s, SUPERVISING) and code_runs(s)


_OF_REPORT: Final[dict[type, Callable[[Any, Any], Any]]] = {
    Answered: _of_answer,
    StoreUnavailable: _of_failed_call,
    OutcomeUnknown: _of_failed_call,
    StoreBroken: _of_broken_call,
    ProcessChecked: _of_check,
    TimerFired: _of_timer,
    TurnEnded: _of_end,
}
