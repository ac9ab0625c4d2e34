"""States of a job's runner and events in which every row of its table fires (see machine_domains)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

from ..commands import (
    Complete,
    Deferred,
    Drain,
    Emit,
    Emitted,
    FailJob,
    JobCheckpoint,
    JobCheckpointed,
    JobEnded,
    JobReleased,
    JobStarted,
    Left,
    LetGo,
    NewEntry,
    NotDue,
    NotSignalled,
    Renew,
    Renewed,
    Signalled,
    Start,
    Take,
    Taken,
    TakenBefore,
    Wait,
)
from ..failure import ErrorKind, Failure
from ..job_runner.protocol import (
    Abandoned,
    AwaitSignal,
    BeginWork,
    EmitEvent,
    Event,
    JobHinted,
    MayGoOn,
    OwnersObserved,
    Raised,
    RecordEntries,
    Returned,
    Stop,
    WorkEnded,
    WorkReply,
    WorkRequested,
)
from ..job_runner.states import (
    CALLING,
    HOLDING,
    Closing,
    Core,
    Ending,
    HeldJob,
    JobRunnerConfig,
    Loading,
    Losing,
    Observing,
    Reading,
    Request,
    State,
    Stopped,
    Supervision,
    Taking,
    Working,
    WorkStopReason,
)
from ..machines.job import Disposition, How
from ..machines.lease import Evidence, Fence, Held, LocalProcess, Owner
from ..outcome import Refusal, Refused
from ..questions.job_work import LoadedWork, LoadWork
from ..questions.jobs import JobItem, JobStatus
from ..records import Cancel, EntryKind, Job, Session
from ..replace import replace
from ..runner import protocol
from ..runner.protocol import (
    Answered,
    OutcomeUnknown,
    RunnerStopReason,
    StoreBroken,
    StoreUnavailable,
    TimerFired,
)
from ..runner.states import PendingCall, RenewalTimer, SupervisionStage

__all__ = [
    "CONFIG",
    "ENDED",
    "ENTRY",
    "EVENTS",
    "FENCE",
    "HELD",
    "JOB",
    "LOADED",
    "OTHER",
    "OWNER",
    "RELEASED",
    "STATES",
    "TAKEN",
    "answers",
]


HERE: Final = LocalProcess("host", "boot", "ns", 1, "10")
OWNER: Final = Owner("own", "own-1", HERE)
OTHER: Final = Owner("other", "other-1", replace(HERE, pid=2))
CONFIG: Final = JobRunnerConfig("j", "lease", OWNER, frozenset(("build",)), 300, 50)
FENCE: Final = Fence("j", 1, "lease")
JOB: Final = Job("j", "build", Disposition.OWNER_BOUND, "digest", 0, 0)
STARTED_JOB: Final = replace(JOB, starter=OTHER)
HELD: Final = Held(3, "l3", OTHER, 300, 900)
LOADED: Final = LoadedWork(JOB, "null")
TAKEN: Final = Taken(FENCE, 300, "build", Disposition.OWNER_BOUND, 0, 0)
ENTRY: Final = NewEntry(EntryKind.REPORT, "pay#1", "{}")
FAILURE: Final = Failure(ErrorKind.TRANSIENT)

CALL_ID, RENEWAL_TIMER_ID, RENEWAL_ID, STAGE_ID, WORK_ID = 7, 8, 9, 6, 5
STRAY_ID, STRAY_WORK_ID = 77, 55

START: Final = Start("j", FENCE)
EMIT: Final = Emit("j", FENCE, "progress", "1")
WAIT: Final = Wait("j", FENCE, "go", 1)
CHECKPOINT: Final = JobCheckpoint("j", FENCE, 0, (ENTRY,))
FINALS: Final = (
    Complete("j", "null", FENCE),
    FailJob("j", FAILURE, FENCE),
    LetGo("j", FENCE),
    Drain("j", OWNER, "lease"),
)

# -- states

CORES: Final = (Core(CONFIG, 100), Core(CONFIG, 100, draining_ms=0))
RENEWALS: Final[tuple[PendingCall | RenewalTimer, ...]] = (
    RenewalTimer(RENEWAL_TIMER_ID),
    PendingCall(RENEWAL_ID, Renew("j", FENCE), 0, 0),
)
LEASES: Final = tuple(
    HeldJob(FENCE, 300, 300, renewal, bound, cancelled, started)
    for renewal in RENEWALS
    for bound, cancelled, started in (
        (False, False, False),
        (True, False, False),
        (False, True, True),
        (True, False, True),
    )
)
STOP: Final = Stop(RunnerStopReason.FENCED)


def supervisions() -> Iterator[Supervision]:
    """Yield the stages of work; its timer is set from the notice on."""
    yield Supervision(WORK_ID)
    for stage in (SupervisionStage.NOTIFIED, SupervisionStage.INTERRUPTED):
        yield Supervision(WORK_ID, STAGE_ID, stage)


def calls(what: Any) -> list[PendingCall]:
    """Return a call in all its phases."""
    new = PendingCall(CALL_ID, what, 0, 0)
    unsure = replace(new, tries=3, unsure=True)
    return [new, unsure, replace(new, tries=3, waiting=True), replace(unsure, waiting=True)]


def _states() -> Iterator[State]:
    yield Stopped()
    for core in CORES:
        yield Observing(core, CALL_ID, STARTED_JOB, (OTHER,))
        yield from [Reading(core, call) for call in calls(JobStatus("j"))]
        yield from [Taking(core, call) for call in calls(Take("j", "lease", OWNER, 300))]
        yield from [Closing(core, call, STOP) for call in calls(FINALS[3])]
        for supervision, bound in itertools.product(supervisions(), (False, True)):
            yield Losing(core, supervision, WorkReply.LEASE_LOST, STOP, bound)
        for held in LEASES:
            yield from [Loading(core, held, call) for call in calls(LoadWork("j"))]
            for final in FINALS:
                yield from [Ending(core, held, call) for call in calls(final)]
            yield from _working(core, held)


def _working(core: Core, held: HeldJob) -> Iterator[State]:
    for supervision, reason in itertools.product(supervisions(), (None, *WorkStopReason)):
        base = Working(core, held, supervision, stop_reason=reason)
        yield base
        yield replace(base, late=(4,), awaiting=(Request(3, AwaitSignal("go", 1)),))
        for call in (*calls(START), *calls(EMIT)[::2], *calls(WAIT)[::2], *calls(CHECKPOINT)[::2]):
            request = BeginWork() if call.what is START else EmitEvent("progress", "1")
            writing = replace(base, pending=call, asked=Request(1, request))
            yield writing
            yield replace(writing, queue=(Request(2, RecordEntries((ENTRY,))),))
            yield replace(writing, exit=Abandoned())


STATES: Final[tuple[State, ...]] = tuple(_states())

# -- events

NOW: Final = (10, 5_000)
IDS: Final = (STAGE_ID, CALL_ID, RENEWAL_TIMER_ID, RENEWAL_ID, STRAY_ID)
REQUESTS: Final = (
    BeginWork(HERE),
    MayGoOn(),
    RecordEntries((ENTRY,)),
    EmitEvent("progress", "1"),
    AwaitSignal("go", 1),
)


def _events(now_ms: int) -> Iterator[Event]:
    yield protocol.Drain(now_ms, 0)
    yield JobHinted(now_ms)
    yield Answered(now_ms, STRAY_ID, TAKEN)
    for id in IDS:
        yield StoreUnavailable(now_ms, id)
        yield OutcomeUnknown(now_ms, id)
        yield StoreBroken(now_ms, id, "x")
        yield TimerFired(now_ms, id)
        yield from [OwnersObserved(now_ms, id, (evidence,)) for evidence in Evidence]
    for work_id in (WORK_ID, STRAY_WORK_ID):
        yield from [WorkRequested(now_ms, work_id, 11, request) for request in REQUESTS]
        for work_exit in (Abandoned(), Returned("null"), Raised(FAILURE)):
            yield WorkEnded(now_ms, work_id, work_exit)


EVENTS: Final[tuple[Event, ...]] = tuple([e for now_ms in NOW for e in _events(now_ms)])

ENDED: Final = JobEnded(How.COMPLETED)
REFUSED: Final = tuple(
    [Refused(reason, "") for reason in (Refusal.FENCED, Refusal.ENDED, Refusal.ILLEGAL)]
)
RELEASED: Final = JobReleased("released", None)
ANSWERS: Final[dict[type, tuple[Any, ...]]] = {  # the possible answers of a store
    JobStatus: (
        None,
        JobItem(Session("j"), JOB),
        JobItem(Session("j", lease=HELD), JOB),
        JobItem(Session("j", lease=HELD), STARTED_JOB),
    ),
    Take: (
        TAKEN,
        replace(TAKEN, disposition=Disposition.RERUNNABLE),
        TakenBefore(),
        ENDED,
        Deferred("other", 900),
        Left("silent_owner", 900),
        NotDue("retry", 900),
        *REFUSED,
    ),
    LoadWork: (None, LOADED),
    Renew: (Renewed(300, None, 0), Renewed(300, Cancel("j", "user"), 0), *REFUSED[:1]),
    Start: (JobStarted(1), ENDED, *REFUSED),
    Emit: (Emitted(1), *REFUSED),
    Wait: (Signalled("x", "1"), NotSignalled(True), NotSignalled(False), ENDED, *REFUSED),
    JobCheckpoint: (JobCheckpointed(1), JobCheckpointed(1, True), *REFUSED),
    Complete: (ENDED, *REFUSED),
    FailJob: (ENDED, RELEASED, *REFUSED),
    LetGo: (ENDED, RELEASED, *REFUSED),
    Drain: (ENDED, *REFUSED),
}


def answers(state: State) -> tuple[Answered, ...]:
    """Return the answers to the calls of this state."""
    pending: list[PendingCall] = []
    if isinstance(state, CALLING) and state.pending is not None:
        pending.append(state.pending)
    if isinstance(state, HOLDING) and isinstance(state.held.renewal, PendingCall):
        pending.append(state.held.renewal)
    return tuple(
        [
            Answered(now_ms, call.id, answer)
            for now_ms in NOW
            for call in pending
            for answer in ANSWERS[call.what.__class__]
        ]
    )
