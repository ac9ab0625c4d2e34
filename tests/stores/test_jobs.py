"""Jobs are exported, imported, checked and removed as sessions are."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from tenure.check.invariants import Rows, violations
from tenure.commands import DestroyJob
from tenure.commands.restore import restoring
from tenure.limits import COMMANDS_FOR_MS_MIN
from tenure.machines.job import Ended
from tenure.outcome import Decided
from tenure.queries import Get
from tenure.questions.retention import AllRows, PrunePass
from tenure.records import Job, Phase, PruneProgress, Session
from tenure.retention import Retention
from tenure.world import EMPTY, World, ask, world_of
from tenure_drivers.stores.export import exported, imported
from tenure_drivers.stores.memory import MemoryStore
from tenure_drivers.testing.fixtures import START_MS, decided
from tenure_drivers.testing.job_commands import JobCommandGenerator


def played(seed: int = 3, steps: int = 400) -> World:
    """Return the rows after many commands on jobs."""
    dice, world, now_ms = random.Random(seed), EMPTY, START_MS
    jobs = JobCommandGenerator(dice.choice)
    for _ in range(steps):
        now_ms += dice.choice((0, 1, 61, 2_000))
        command = jobs.send()
        answer, world = decided(world, command, now_ms)
        jobs.observe(command, answer)
    return world


def test_an_import_of_an_export_has_the_same_jobs() -> None:
    world = played()

    records = tuple(imported(exported(world)))

    assert world_of(records) == world
    asyncio.run(restore(world))


async def restore(world: World) -> None:
    store = MemoryStore()
    for session in world.all(Session):
        rows = ask(AllRows(session.session_id), world.answer)
        for command in restoring(rows):
            await store.execute(command)
    assert world_of(await store.dump()) == world


def test_the_rows_of_jobs_are_checked() -> None:
    world = played()
    for session in world.all(Session):
        rows = ask(Rows(session.session_id), world.answer)
        assert list(violations(rows)) == []
        if session.phase is Phase.DESTROYED:
            continue
        broken = [row for row in rows if not isinstance(row, Job)]
        assert list(violations(broken)) != []


def test_a_destroyed_job_is_removed_but_for_its_id() -> None:
    world, now_ms = played(), START_MS + 10_000_000
    ended = [job for job in world.all(Job) if isinstance(job.state, Ended)]
    assert ended
    for job in ended:
        answer, world = decided(world, DestroyJob(job.session_id, "gone", True), now_ms)
        for later in (2, 4):  # texts are erased first, and the rows kept for a while
            world = pruned(world, job.session_id, now_ms + later * COMMANDS_FOR_MS_MIN)
        rows = ask(AllRows(job.session_id), world.answer)
        assert {type(row) for row in rows} <= {Session, PruneProgress} | kept(rows), answer
        assert list(violations(ask(Rows(job.session_id), world.answer))) == []


def kept(rows: tuple[Any, ...]) -> set[type]:
    """Ids without a time recognise repetitions for ever, and what is to be sent or published stays."""
    return {
        type(row)
        for row in rows
        if type(row).__name__ in ("ExecutedCommand", "Outbound", "EventBatch")
    }


def pruned(world: World, job_id: str, now_ms: int) -> World:
    found = PrunePass(job_id, Retention.for_ms(COMMANDS_FOR_MS_MIN))
    while (step := ask(found.question(now_ms), world.answer)) is not None:
        answer, world = decided(world, step, now_ms)
        assert isinstance(answer, Decided), answer
        found = found.after(answer.outcome)
    return world


def test_a_pass_destroys_jobs_that_have_ended_long_ago() -> None:  # JOB-94
    world, now_ms = played(seed=5), START_MS + 10_000_000
    for job in world.all(Job):
        at_once = pruned(world, job.session_id, START_MS)
        later = pruned(world, job.session_id, now_ms + COMMANDS_FOR_MS_MIN)
        before = phase_of(world, job.session_id)
        assert phase_of(at_once, job.session_id) is before
        ended = isinstance(job.state, Ended)
        assert phase_of(later, job.session_id) is (Phase.DESTROYED if ended else before)


def phase_of(world: World, job_id: str) -> Phase:
    row = world.answer(Get(Session, (job_id,)))
    assert row is not None
    return row.phase
