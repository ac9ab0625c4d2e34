"""Generates commands on jobs, with ids from small pools, so that they often collide.  See `command_generator`.

Replays, conflicts, stale fences, true and old evidence, and races are as frequent as valid commands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from tenure.commands import (
    Begin,
    CancelJob,
    Complete,
    DestroyJob,
    Drain,
    Emit,
    EventType,
    FailJob,
    FenceOff,
    JobCheckpoint,
    LetGo,
    NewEntry,
    Publish,
    Reclaim,
    Register,
    Renew,
    RequestAbandon,
    Signal,
    Start,
    Sweep,
    Take,
    Taken,
    Wait,
)
from tenure.failure import ErrorKind, Failure, RetryLimits
from tenure.machines.job import Disposition
from tenure.machines.lease import Evidence, Fence, Held, LocalProcess, Owner
from tenure.outcome import Decided
from tenure.queries import Command, Get
from tenure.records import EntryKind, Job, Session
from tenure.verdict import Observed
from tenure.world import EMPTY, World, evolve

__all__ = ["JOBS", "WORKERS", "JobCommandGenerator"]


AnyCommand: TypeAlias = Command[Any, Any]
Pick: TypeAlias = Callable[[Sequence[Any]], Any]

JOBS = ("j1", "j2", "j3", "j4")
WORKERS = (Owner("worker-1", "first"), Owner("worker-1", "second"), Owner("worker-2", "first"))
CHILD = LocalProcess("host", "boot", "space", 7, "12")  # the process that executes a job
SCHEMA = '{"type": "object", "required": ["done"], "properties": {"done": {"type": "integer"}}}'
TYPES = (EventType("progress", SCHEMA), EventType("note"))
BODIES = ('{"done": 1}', '{"done": "half"}', "note", "\u00e9\U0001f600")
SELDOM = (False,) * 9 + (True,)


class JobCommandGenerator:
    """Generates commands that fit the rows of jobs, commands that fitted earlier rows, and commands that never fit.

    It learns the rows from the answers that it observes.  `pick` chooses one of several values, `ids` is the size of each
    pool of ids.
    """

    def __init__(self, pick: Pick, jobs: Sequence[str] = JOBS, *, ids: int = 40) -> None:
        self.pick, self.jobs = pick, jobs
        self.ids = range(ids)
        self.world: World = EMPTY
        self.fences: dict[str, list[tuple[Fence, Owner]]] = {}
        self.sent: list[AnyCommand] = []

    def observe(self, command: AnyCommand, answer: object) -> None:
        """Apply the writes of an answer, and remember the fence that it grants."""
        if not isinstance(answer, Decided):
            return
        self.world = evolve(self.world, answer.writes)
        if isinstance(answer.outcome, Taken) and isinstance(command, Take):
            held = self.fences.setdefault(command.session_id, [])
            held.append((answer.outcome.fence, command.owner))

    def send(self) -> AnyCommand:
        """Return the next command: mostly a new one, sometimes an earlier one again."""
        if self.sent and self.pick(range(8)) == 0:
            return self.pick(self.sent[-20:])  # type: ignore[no-any-return]
        command = self._new(self.pick(self.jobs))
        self.sent.append(command)
        return command

    def _id(self, prefix: str) -> str:
        return f"{prefix}{self.pick(self.ids)}"

    def _new(self, job_id: str) -> AnyCommand:
        pick = self.pick
        job: Job | None = self.world.answer(Get(Job, (job_id,)))
        row: Session | None = self.world.answer(Get(Session, (job_id,)))
        if job is None or row is None or pick(range(25)) == 0:
            return self._register(job_id)
        if pick(range(9)) == 0:
            return self._ask(job_id)
        if isinstance(row.lease, Held) and pick(range(5)):
            fence = Fence(job_id, row.lease.generation, row.lease.lease_id)
            return self._hold(job, fence, row.lease.owner)
        if job_id in self.fences and pick(range(4)) == 0:
            return self._hold(job, *pick(self.fences[job_id][-3:]))
        return self._take(row, job)

    def _register(self, job_id: str) -> AnyCommand:
        pick = self.pick
        disposition = pick(tuple(Disposition))
        external = disposition is Disposition.EXTERNAL
        return Register(
            job_id,
            pick(("build", "build", "test")),
            pick(("in", "in", "\u00e9")),
            disposition,
            pick((None, "s1")),
            "ann" if external else None,
            pick((None, "s1")),
            pick((None, RetryLimits(failures=2, losses=2, base_ms=10))),
            pick((None, None, 2_000_000)) if not external else None,
            pick(((), TYPES, TYPES)),
        )

    def _ask(self, job_id: str) -> AnyCommand:
        """Return what anybody may send, or what a job does not serve."""
        pick = self.pick
        return pick(  # type: ignore[no-any-return]
            (
                RequestAbandon(job_id, self._id("q"), "ann", pick(("", "lost"))),
                CancelJob(job_id, self._id("x"), pick(("bob", "carl"))),
                *[Signal(job_id, self._id("g"), pick(("go", "halt")), "now") for _ in range(3)],
                Complete(job_id, "out", authority=pick(("ann", "bob"))),
                FailJob(job_id, Failure(ErrorKind.TRANSIENT), authority="ann"),
                FenceOff(job_id, self._id("f"), pick((1, 5))),
                Publish(job_id, pick((0, 1))),
                DestroyJob(job_id, self._id("d")),
                pick((Sweep(job_id), Begin(job_id, self._id("l"), "r1", WORKERS[0]))),
            )
        )

    def _take(self, row: Session, job: Job) -> AnyCommand:
        pick = self.pick
        owners = [row.lease.owner] if isinstance(row.lease, Held) else []
        owners += [job.starter] if job.starter is not None else []
        observed = tuple([Observed(each, pick(tuple(Evidence))) for each in owners])
        if pick(range(2)):
            observed = ()
        able = pick(range(6)) > 0
        return Take(
            job.session_id, self._id("l"), pick(WORKERS), pick((60, 60, 1_000)), observed, able
        )

    # -- commands of a holder, or of a former one

    def _hold(self, job: Job, fence: Fence, owner: Owner) -> AnyCommand:
        pick, job_id = self.pick, job.session_id
        failure = Failure(pick((ErrorKind.TRANSIENT, ErrorKind.INVALID_REQUEST)), "why")
        kinds = pick((EntryKind.START, EntryKind.REPORT))
        n = job.next_checkpoint - pick(SELDOM)
        number = pick((1, 1, 2, 3))
        key = pick((None, self._id("k")))
        return pick(  # type: ignore[no-any-return]
            (
                *(Start(job_id, fence, pick((None, CHILD))),) * 4,
                *(JobCheckpoint(job_id, fence, n, (NewEntry(kinds, "a#1", "1"),)),) * 2,
                *(Emit(job_id, fence, pick(TYPES).name, pick(BODIES), key, pick(SELDOM)),) * 3,
                *(Wait(job_id, fence, pick(("go", "halt")), number),) * 2,
                *(Renew(job_id, fence),) * 2,
                Complete(job_id, pick(("out", "other")), fence),
                FailJob(job_id, failure, fence),
                LetGo(job_id, fence),
                Drain(job_id, owner, fence.lease_id),
                Reclaim(job_id, self._id("c"), fence, pick(tuple(Evidence))),
            )
        )
