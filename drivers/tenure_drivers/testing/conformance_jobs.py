"""The part of the conformance suite about jobs."""

from __future__ import annotations

import random

from tenure.check.jobs.properties import violated
from tenure.commands import Register, Start, Take, Taken
from tenure.kind import Kind
from tenure.machines.job import Disposition
from tenure.outcome import Decided
from tenure.questions import Jobs, JobStatus, LoadJob, StartedBy
from tenure.records import Session
from tenure.world import EMPTY, ask, world_of

from ..stores.base import Due
from .fixtures import START_MS, ManualClock, Opener, asynchronous, decided, executed
from .job_commands import JOBS, WORKERS, JobCommandGenerator

__all__ = ["JobConformance"]


QUESTIONS = (
    *(Jobs(), Jobs(changed=True), Jobs(left=True), Jobs(origin="s1"), Jobs(limit=2)),
    *(JobStatus(JOBS[0]), LoadJob(JOBS[0]), StartedBy(WORKERS[0].incarnation_id)),
)


class JobConformance:
    """A store executes the commands of jobs as the model does."""

    @asynchronous
    async def test_jobs_are_decided_as_the_model_decides_them(self, opened: Opener) -> None:
        clock, dice, world = ManualClock(), random.Random(7), EMPTY
        store, jobs = opened(clock), JobCommandGenerator(dice.choice)
        for at in range(400):
            clock.now_ms += dice.choice((0, 1, 30, 61, 2_000))
            command = jobs.send()
            expected, world = decided(world, command, clock.now_ms)
            answer = await executed(store, command)
            assert answer == expected, command
            jobs.observe(command, answer)
            if at % 40 == 0:
                for question in QUESTIONS:
                    assert await store.ask(question) == ask(question, world.answer)
        assert world_of(await store.dump()) == world
        for session in world.all(Session):
            rows = [row for row in world if getattr(row, "session_id", "") == session.session_id]
            assert list(violated(world_of(rows))) == []

    @asynchronous
    async def test_due_tells_the_kind(self, opened: Opener) -> None:
        clock = ManualClock()
        store = opened(clock)
        await store.execute(Register("j", "build", "in", Disposition.OWNER_BOUND))
        assert await store.due(10) == (Due("j", 0, Kind.JOB),)
        taken = await executed(store, Take("j", "l1", WORKERS[0], 1_000))
        assert isinstance(taken, Decided) and isinstance(taken.outcome, Taken)
        await store.execute(Start("j", taken.outcome.fence))
        assert await store.due(10) == ()
        clock.now_ms += 2_000
        assert await store.due(10) == (Due("j", START_MS + 1_001, Kind.JOB),)
        await store.execute(Take("j", "l2", WORKERS[2], 1_000))
        assert await store.due(10) == ()  # it was left, and says when to look again
        assert await store.horizon() == clock.now_ms + 30_000
