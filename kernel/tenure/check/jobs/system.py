"""What may happen to an explored job, and its states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import frozen

from ... import commands as c
from ...machines import job as job_
from ...machines import lease as lease_
from ...queries import Get
from ...records import Job, Session
from ...replace import replace
from ...verdict import Facts
from ...world import World

__all__ = [
    "J",
    "JOB_EXTERNAL",
    "JOB_OWNER",
    "JOB_RERUN",
    "JOB_SYSTEMS",
    "JOB_SYSTEMS_DEEP",
    "JobSystem",
    "NOW",
    "State",
    "TTL",
    "SIGNALS",
    "SIGNALS_BOUND",
    "Worker",
    "owner_of",
    "put",
    "rows_of",
]


J: Final = "j"
NOW: Final = 1_000_000_000_000
TTL: Final = 30_000


@frozen
class JobSystem:
    """What may happen.  `older`: makes a Take that carries out the verdict on rows that were read before (a wrong worker)."""

    name: str
    description: str
    disposition: job_.Disposition
    crashes: int = 1
    lost: int = 1
    fenced_off: bool = False
    clock_back: bool = False  # the clock may be set back
    signals: tuple[str, ...] = ()  # that are sent, each with its id as its body
    older: Callable[[c.Take, Facts], c.Take] | None = None
    sometimes: tuple[str, ...] = ()


ENDS: Final = tuple([how.value for how in job_.How])
JOB_OWNER: Final = JobSystem(
    "job-owner",
    "owner-bound work, two workers, a crash, a lost answer, lapses, drain, requests",
    job_.Disposition.OWNER_BOUND,
    sometimes=(*ENDS, "sweep", "drain", "request", "left", "a revenant is refused"),
)
JOB_RERUN: Final = JobSystem(
    "job-rerun",
    "rerunnable work, two workers, a crash, lapses, failures, requests; the clock is set back",
    job_.Disposition.RERUNNABLE,
    lost=0,
    clock_back=True,
    sometimes=(*ENDS, "request", "started twice", "a revenant is refused", "set back"),
)
JOB_EXTERNAL: Final = JobSystem(
    "job-external",
    "work that is executed elsewhere, ended by who registered it, requests, two workers that look",
    job_.Disposition.EXTERNAL,
    sometimes=("completed", "failed", "cancelled", "abandoned", "request"),
)
SIGNALS: Final = JobSystem(
    "signals",
    "rerunnable work that waits for two signals, sent in any order and again, two workers, a crash",
    job_.Disposition.RERUNNABLE,
    lost=0,
    signals=("a", "b"),
    sometimes=("completed", "waits", "started twice", "a revenant is refused"),
)
SIGNALS_BOUND: Final = replace(
    SIGNALS,
    name="signals-bound",
    description="likewise, with owner-bound work, which keeps its lease",
    disposition=job_.Disposition.OWNER_BOUND,
    sometimes=("completed", "waits", "abandoned", "a revenant is refused"),
)
JOB_SYSTEMS: Final = (JOB_OWNER, JOB_RERUN, JOB_EXTERNAL, SIGNALS)
JOB_SYSTEMS_DEEP: Final = (
    SIGNALS_BOUND,
    replace(
        JOB_OWNER,
        name="job-owner-deep",
        description="likewise, with two crashes and a fence off",
        crashes=2,
        fenced_off=True,
    ),
    replace(
        JOB_RERUN,
        name="job-rerun-deep",
        description="likewise, with a lost answer and a fence off",
        lost=1,
        fenced_off=True,
    ),
)


@frozen
class Worker:
    """A worker.  `lease_id` is that of the Take that it sends, `facts` what it read before, `starts` its own start."""

    step: str = "idle"
    life: int = 0
    lease_id: str = ""
    fence: lease_.Fence | None = None
    facts: Facts | None = None
    started: bool = False
    sent: str = ""  # the command whose answer was lost
    waited: int = 0  # how many signals it has waited for


@frozen
class State:
    """The rows, the workers, who is dead, and what has happened."""

    world: World
    workers: tuple[Worker, ...]
    dead: frozenset[lease_.Owner] = frozenset()
    starts: int = 0  # of the effect, at most 2 are counted
    crashes: int = 0
    lost: int = 0
    drained: bool = False
    order: tuple[str, ...] = ()  # the signals, as they came
    broken: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()


def rows_of(world: World) -> tuple[Session, Job]:
    """Return the two rows of the job."""
    session, job = world.answer(Get(Session, (J,))), world.answer(Get(Job, (J,)))
    assert session is not None and job is not None
    return session, job


def owner_of(slot: int, worker: Worker) -> lease_.Owner:
    """Return a worker as an owner.  Each of its lives is another one."""
    return lease_.Owner(f"w{slot}", f"w{slot}.{worker.life}")


def put(state: State, slot: int, worker: Worker) -> State:
    """Return the state with one worker replaced."""
    workers = (*state.workers[:slot], worker, *state.workers[slot + 1 :])
    return replace(state, workers=workers)
