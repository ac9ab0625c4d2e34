"""States of a runner and events in which every row of its table fires (see machine_domains)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

from ..commands import (
    Begin,
    Begun,
    BegunBefore,
    Checkpoint,
    Checkpointed,
    Commit,
    Committed,
    Ended,
    Fail,
    NewEntry,
    NothingDue,
    Reclaim,
    Reclaimed,
    Release,
    Renew,
    Renewed,
    Sweep,
    Swept,
)
from ..failure import ErrorKind, Failure
from ..machines.lease import Evidence, Fence, Held, Holder, LocalProcess, Owner
from ..machines.run import Running
from ..outcome import Refusal, Refused
from ..policy import Boundary, Lane
from ..questions.core import LoadedRun, LoadInputs, LoadRun
from ..records import Cancel, EntryKind, Run
from ..replace import replace
from ..runner.answers import CurrentLease
from ..runner.protocol import (
    Abandoned,
    Answered,
    CancelSeen,
    Drain,
    EndTurn,
    Event,
    Failed,
    Finished,
    MayStart,
    OutcomeUnknown,
    ProcessChecked,
    RunnerStopReason,
    SteeringSeen,
    Stop,
    StoreBroken,
    StoreUnavailable,
    TimerFired,
    TurnEnded,
    TurnReply,
    TurnRequested,
)
from ..runner.states import (
    CALLING,
    HOLDING,
    Acquiring,
    CheckingHolder,
    Core,
    Ending,
    HeldRun,
    LeaseLost,
    Loading,
    PendingCall,
    RenewalTimer,
    Request,
    RunnerConfig,
    State,
    Stopped,
    SupervisionStage,
    TurnCommitted,
    TurnRunning,
    TurnStopReason,
    TurnSupervision,
)
from ..turn_end import Record, Take

__all__ = [
    "BEGUN",
    "CANCEL",
    "CONFIG",
    "END",
    "EVENTS",
    "FAR",
    "HERE",
    "LOADED",
    "NEAR",
    "RELEASE",
    "REPORT",
    "START",
    "STATES",
    "TAKE",
    "answers",
]


HERE: Final = LocalProcess("host", "boot", "ns", 1, "10")
THERE: Final = LocalProcess("other", "boot", "ns", 1, "10")
CONFIG: Final = RunnerConfig(
    "s",
    "lease",
    "run",
    Owner("own", "own-1", HERE),
    ttl_ms=300,
    turn_deadline_ms=10_000,
    grace_ms=50,
)
FENCE: Final = Fence("s", 1, "lease")
CANCEL: Final = Cancel("run", "user")
BEGUN: Final = Begun(FENCE, 300, "run", 1, 0, 0, None, ("i",), False, None)
LOADED: Final = LoadedRun(Run("s", "run", Lane.USER, 0, False, (), Running(1)), (), (), None)
START: Final = Record((NewEntry(EntryKind.START, "pay#1"),))
REPORT: Final = Record((NewEntry(EntryKind.REPORT, "pay#1", "{}"),))
TAKE: Final = Record(take=Take(Boundary.AFTER_WORK, "checkpoint#1"))
END: Final = EndTurn("run-2")
NEAR: Final = Held(3, "other", Owner("other", "other-1", HERE), 300, 900)
FAR: Final = Held(3, "other", Owner("other", "other-1", THERE), 300, 900)

BEGIN: Final = Begin("s", "lease", "run", CONFIG.owner)
CHECKPOINT: Final = Checkpoint("s", FENCE, "run", 1, 0, START.entries)
COMMIT: Final = Commit("s", FENCE, "run", 1, 0, 0)
FAIL: Final = Fail("s", FENCE, "run", 1, Failure(ErrorKind.TRANSIENT))
RELEASE: Final = Release("s", FENCE, "run")

CALL_ID, RENEWAL_TIMER_ID, RENEWAL_ID, STAGE_ID, TURN_ID = 7, 8, 9, 6, 5
STRAY_ID, STRAY_TURN_ID = 77, 55

# -- states

CORES: Final = (
    Core(CONFIG, 100),
    replace(Core(CONFIG, 100, rounds=64), draining_ms=0),
    Core(CONFIG, 100, rounds=64),
)
HELD_RUNS: Final = tuple(
    HeldRun(BEGUN, 300, renewal, 0, cancel)
    for renewal in (
        RenewalTimer(RENEWAL_TIMER_ID),
        PendingCall(RENEWAL_ID, Renew("s", FENCE), 0, 0),
    )
    for cancel in (None, CANCEL, Cancel("another", "x"))
)
SUPERVISIONS: Final = tuple(TurnSupervision(TURN_ID, STAGE_ID, stage) for stage in SupervisionStage)


def calls(what: Any) -> list[PendingCall]:
    """Return a call in all its phases."""
    new = PendingCall(CALL_ID, what, 0, 0)
    unsure = replace(new, tries=3, unsure=True)
    return [new, unsure, replace(new, tries=3, waiting=True), replace(unsure, waiting=True)]


def _states() -> Iterator[State]:
    yield Stopped()
    for core in CORES:
        yield CheckingHolder(core, CALL_ID, NEAR)
        for what in (BEGIN, Sweep("s"), Reclaim("s", "c", FENCE, Evidence.DEAD), CurrentLease("s")):
            yield from [Acquiring(core, call) for call in calls(what)]
        stop = Stop(RunnerStopReason.FENCED)
        yield from [LeaseLost(core, s, TurnReply.LEASE_LOST, stop) for s in SUPERVISIONS]
        for held_run in HELD_RUNS:
            yield Loading(core, held_run, None, LOADED)
            yield from [Loading(core, held_run, call) for call in calls(LoadRun("s", "run"))]
            for final in (COMMIT, FAIL, RELEASE):
                yield from [Ending(core, held_run, call) for call in calls(final)]
            yield from [TurnCommitted(core, held_run, s) for s in SUPERVISIONS]
    for core, held_run in itertools.product(CORES, HELD_RUNS):
        yield from _running(core, held_run)


def _running(core: Core, held_run: HeldRun) -> Iterator[State]:
    for supervision, reason in itertools.product(SUPERVISIONS, (None, *TurnStopReason)):
        base = TurnRunning(core, held_run, supervision, parked=(4,), stop_reason=reason)
        yield base
        for call in (*calls(CHECKPOINT), *calls(LoadInputs("s", ("j",))), *calls(COMMIT)):
            writing = replace(base, pending=call, asked=(Request(1, START),))
            yield writing
            yield replace(writing, queue=(Request(2, REPORT), Request(3, END)))
            yield replace(writing, asked=(), parked=(), exit=Abandoned())


STATES: Final[tuple[State, ...]] = tuple(_states())

# -- events

NOW: Final = (10, 5_000)
IDS: Final = (STAGE_ID, CALL_ID, RENEWAL_TIMER_ID, RENEWAL_ID, STRAY_ID)


def _events(now_ms: int) -> Iterator[Event]:
    yield Drain(now_ms, 0)
    yield CancelSeen(now_ms, "run")
    yield CancelSeen(now_ms, "another")
    yield SteeringSeen(now_ms, "run")
    yield SteeringSeen(now_ms, "another")
    yield Answered(now_ms, STRAY_ID, BEGUN)
    for id in IDS:
        yield StoreUnavailable(now_ms, id)
        yield OutcomeUnknown(now_ms, id)
        yield StoreBroken(now_ms, id, "x")
        yield TimerFired(now_ms, id)
        yield from [ProcessChecked(now_ms, id, evidence, "c") for evidence in Evidence]
    for turn_id in (TURN_ID, STRAY_TURN_ID):
        for request in (MayStart(), START, REPORT, TAKE, END):
            yield TurnRequested(now_ms, turn_id, 11, request)
        for turn_exit in (Abandoned(), Finished(END), Failed(Failure(ErrorKind.TRANSIENT))):
            yield TurnEnded(now_ms, turn_id, turn_exit)


EVENTS: Final[tuple[Event, ...]] = tuple([e for now_ms in NOW for e in _events(now_ms)])


def _refused(*reasons: Refusal, detail: Any = None) -> tuple[Refused, ...]:
    return tuple([Refused(reason, "", detail) for reason in reasons])


REFUSED: Final = _refused(Refusal.FENCED, Refusal.ILLEGAL)
ANSWERS: Final[dict[type, tuple[Any, ...]]] = {  # the possible answers of a store
    Begin: (
        BEGUN,
        replace(BEGUN, cancel=CANCEL),
        BegunBefore("run", None),
        NothingDue(5),
        NothingDue(None, True),
        NothingDue(0, False, 1),
        NothingDue(0, True, 1),
        *_refused(Refusal.HELD, Refusal.RUN_ACTIVE, Refusal.PHASE),
        *_refused(Refusal.HELD, detail=Holder("other", 900)),
        *_refused(Refusal.HELD, detail=Holder("other", 900, True)),
    ),
    Sweep: (Swept(1, 1, False), *_refused(Refusal.UNKNOWN_SESSION)),
    Reclaim: (Reclaimed(1, "run"), *_refused(Refusal.NOT_OBSERVED)),
    CurrentLease: (None, NEAR, FAR),
    LoadRun: (None, LOADED, replace(LOADED, cancel=CANCEL)),
    LoadInputs: ((),),
    Renew: (
        Renewed(300, None, 0),
        Renewed(300, None, 0, True),
        Renewed(300, CANCEL, 0),
        *_refused(Refusal.FENCED),
    ),
    Checkpoint: (
        Checkpointed(1, None),
        Checkpointed(1, None, CANCEL),
        Checkpointed(1, None, None, True, ("j",)),
        Checkpointed(1, None, None, False),
        *_refused(Refusal.CANCELLED, detail=CANCEL),
        *REFUSED,
    ),
    Commit: (
        Committed(1),
        Committed(1, replace(BEGUN, run_id="run-2"), True),
        *_refused(Refusal.CANCELLED, detail=CANCEL),
        *REFUSED,
    ),
    Fail: (Ended("released"), *REFUSED),
    Release: (Ended("released"), *REFUSED),
}


def answers(state: State) -> tuple[Answered, ...]:
    """Return the answers to the calls of this state."""
    pending: list[PendingCall] = []
    if isinstance(state, CALLING) and state.pending is not None:
        pending.append(state.pending)
    if isinstance(state, HOLDING) and isinstance(state.held_run.renewal, PendingCall):
        pending.append(state.held_run.renewal)
    return tuple(
        [
            Answered(now_ms, call.id, answer)
            for now_ms in NOW
            for call in pending
            for answer in ANSWERS[call.what.__class__]
        ]
    )
