"""How a job's runner takes its job: with evidence about its holder and its starter.  Spec: specs/job-runner.md."""

from __future__ import annotations

from typing import Any

from ..commands import Deferred, JobEnded, Left, NotDue, Take, TakenBefore
from ..commands.jobs.take import NO_RUNNER
from ..machines.job import Disposition
from ..machines.lease import Owner
from ..outcome import Stepped
from ..questions.job_work import LoadWork
from ..questions.jobs import JobStatus
from ..runner.protocol import RunnerStopReason, SetTimer
from ..runner.states import RenewalTimer, send
from ..verdict import Observed
from .answers import Granted, JobFound, JobLoaded, JobMissing, NotTaken
from .ending import call, give_back, stop
from .protocol import Effect, ObserveOwners, OwnersObserved, StartWork, Stop
from .states import (
    Core,
    HeldJob,
    JobRunnerConfig,
    Loading,
    Observing,
    Outcome,
    Reading,
    Supervision,
    Taking,
    Working,
    next_id,
)

__all__ = [
    "drains",
    "goes_on",
    "has_no_owners",
    "has_owners",
    "hold",
    "observe",
    "release_loaded",
    "release_taken",
    "start",
    "start_work",
    "stop_missing",
    "stop_not_taken",
    "take_observed",
    "take_unowned",
]


def start(config: JobRunnerConfig, now_ms: int) -> Outcome:
    """Return the first state of a runner: it reads the job (JOBRUN-1)."""
    id, core = next_id(Core(config))
    pending, effect = send(JobStatus(config.job_id), id, now_ms)
    return Stepped(Reading(core, pending), "JOBRUN-1", (effect,))


# -- guards


def owners_of(e: JobFound) -> tuple[Owner, ...]:
    """Return the owners that the verdict may ask about: the holder and the starter, each once."""
    holder = () if e.held is None else (e.held.owner,)
    starter = () if e.job.starter is None else (e.job.starter,)
    return tuple(dict.fromkeys((*holder, *starter)))


def has_owners(s: Reading, e: JobFound) -> bool:
    """True if somebody holds the job or has started it."""
    return bool(owners_of(e))


def has_no_owners(s: Reading, e: JobFound) -> bool:
    """True if nobody holds the job, and nobody has started it."""
    return not owners_of(e)


def drains(s: Any, e: object) -> bool:
    """True after a drain."""
    return bool(s.core.draining)


def goes_on(s: Any, e: object) -> bool:
    """True before a drain."""
    return not s.core.draining


# -- actions


def observe(s: Reading, e: JobFound, clause: str) -> Outcome:
    """Let the host find out which of the owners are dead."""
    owners = owners_of(e)
    id, core = next_id(s.core)
    effect = ObserveOwners(id, tuple([owner.process for owner in owners]))
    return Stepped(Observing(core, id, e.job, owners), clause, (effect,))


def take_observed(s: Observing, e: OwnersObserved, clause: str) -> Outcome:
    """Take the job with what was observed."""
    observed = [Observed(*each) for each in zip(s.owners, e.evidence, strict=True)]
    return _take(s, e.now_ms, clause, tuple(observed))


def take_unowned(s: Reading, e: JobFound, clause: str) -> Outcome:
    """Take a job that nobody holds and nobody has started."""
    return _take(Observing(s.core, 0, e.job, ()), e.now_ms, clause, ())


def _take(s: Observing, now_ms: int, clause: str, observed: tuple[Observed, ...]) -> Outcome:
    config = s.core.config
    able = s.job.runner in config.runners
    command = Take(config.job_id, config.lease_id, config.owner, config.ttl_ms, observed, able)
    core, pending, effect = call(s.core, command, now_ms)
    return Stepped(Taking(core, pending), clause, (effect,))


def reason_of(answer: object) -> RunnerStopReason:
    """Return why a runner stops whose Take was answered with this."""
    match answer:
        case JobEnded():
            return RunnerStopReason.DONE
        case Deferred():
            return RunnerStopReason.HELD
        case NotDue(reason) if reason == NO_RUNNER:
            return RunnerStopReason.NO_RUNNER
        case Left() | NotDue():
            return RunnerStopReason.NOTHING_DUE
        case TakenBefore():
            return RunnerStopReason.FENCED
        case _:
            return RunnerStopReason.REFUSED


def stop_missing(s: Any, e: JobMissing, clause: str) -> Outcome:
    """Stop: there is no such job."""
    return stop(Stop(RunnerStopReason.NOTHING_DUE), clause)


def stop_not_taken(s: Taking, e: NotTaken, clause: str) -> Outcome:
    """Stop: the Take has done what there was to do, or has left the job to others."""
    return stop(Stop(reason_of(e.answer), e.answer), clause)


def hold(s: Taking, e: Granted, clause: str) -> Outcome:
    """Take over the lease, and read what the work needs.  The deadline counts from the first sending of the Take."""
    held, core, timer = _held(s, e)
    core, pending, effect = call(core, LoadWork(core.config.job_id), e.now_ms)
    return Stepped(Loading(core, held, pending), clause, (timer, effect))


def _held(s: Taking, e: Granted) -> tuple[HeldJob, Core, Effect]:
    taken, ttl_ms, sent_ms = e.taken, e.taken.ttl_ms, s.pending.sent_ms
    id, core = next_id(s.core)
    owner_bound = taken.disposition is Disposition.OWNER_BOUND
    timer = RenewalTimer(id)
    held = HeldJob(taken.fence, ttl_ms, sent_ms + ttl_ms, timer, owner_bound, n=taken.n)
    return held, core, SetTimer(id, sent_ms + ttl_ms // 3)


def release_taken(s: Taking, e: Granted, clause: str) -> Outcome:
    """Let go of a job that was taken after the drain."""
    held, core, timer = _held(s, e)
    return give_back(core, held, e.now_ms, clause, (timer,))


def start_work(s: Loading, e: JobLoaded, clause: str) -> Outcome:
    """Start the work.  Its first request marks the start."""
    work_id, core = next_id(s.core)
    effect = StartWork(work_id, s.held.fence, e.loaded)
    return Stepped(Working(core, s.held, Supervision(work_id)), clause, (effect,))


def release_loaded(s: Loading, e: JobLoaded, clause: str) -> Outcome:
    """Let go of a job whose work has not begun before the drain."""
    return give_back(s.core, s.held, e.now_ms, clause)
