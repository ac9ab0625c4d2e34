"""A long random walk over all commands on jobs, judged by the properties of their rows.

The walk has what the models of the explorer leave out: signals, events, journals, long histories, and a clock that moves by
any time.  It also shows that from wherever it is the work can be finished.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from tenure.check.jobs.properties import violated
from tenure.commands import Complete, Signal, Start, Take, Taken
from tenure.commands.jobs.job_transaction import JobTransaction
from tenure.commands.jobs.signal import Signal as SignalCommand
from tenure.machines.job import Disposition, Ended
from tenure.machines.lease import Evidence, Held
from tenure.outcome import Decided
from tenure.queries import Get
from tenure.records import Job, Session
from tenure.release import RELEASE, decide_at
from tenure.verdict import Observed
from tenure.world import World, world_of
from tenure_drivers.testing.job_commands import JOBS, WORKERS, JobCommandGenerator

STEPS = int(os.environ.get("TENURE_WALK_STEPS", "4000"))
CHAPTER = 200
changed: Any = attrs.evolve


class JobWalk:
    """A few jobs, with the commands that led to their rows."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.now_ms = 1_000_000
        self.jobs = JobCommandGenerator(self.dice.choice, ids=self.dice.choice((4, 40, 4_000)))
        self.trace: list[Any] = []

    def execute(self, command: Any) -> Any:
        self.trace.append((self.now_ms, command))
        before = self.jobs.world
        answer = decide_at(RELEASE, command, before.load(command.reads()), self.now_ms)
        self.jobs.observe(command, answer)
        if isinstance(answer, Decided) and answer.writes:
            self.judge(before, command, answer)
        return answer

    def judge(self, before: World, command: Any, answer: Decided[Any]) -> None:
        assert len(answer.writes) <= 256
        key = (command.session_id,)
        rows = [r for r in self.jobs.world if getattr(r, "session_id", "") == key[0]]
        assert list(violated(world_of(rows))) == [], answer
        old, new = before.answer(Get(Job, key)), self.jobs.world.answer(Get(Job, key))
        assert new is not None
        if old is not None:
            if isinstance(old.state, Ended):
                assert changed(new, changed_at_ms=0) == changed(old, changed_at_ms=0), answer
            for name in ("request", "cancel", "starter"):
                assert getattr(old, name) in (None, getattr(new, name)), name
            if new.attempts > old.attempts:
                assert old.request is None and old.cancel is None, "started behind a request"
                if new.disposition is Disposition.OWNER_BOUND:
                    assert new.attempts == 1, "owner-bound work was started twice"

    def chapter(self, steps: int) -> None:
        for _ in range(steps):
            self.now_ms += self.dice.choice((0, 0, 1, 5, 30, 61, 400, 2_000, -25, 40_000))
            command = self.jobs.send()
            answer = self.execute(command)
            again = decide_at(RELEASE, command, self.jobs.world.load(command.reads()), self.now_ms)
            if isinstance(answer, Decided) and answer.writes and known(command, answer):
                assert isinstance(again, Decided) and not again.writes, f"{command}: {again}"
        for job_id in JOBS:
            self.finish(job_id)

    def finish(self, job_id: str) -> None:
        """A worker that has evidence, and people who help, end every job."""
        for at in range(60):
            job = self.jobs.world.answer(Get(Job, (job_id,)))
            row = self.jobs.world.answer(Get(Session, (job_id,)))
            if job is None or row is None or isinstance(job.state, Ended):
                return
            if job.waits is not None:
                self.execute(Signal(job_id, f"end-{at}", job.waits.name))
            elif job.disposition is Disposition.EXTERNAL:
                self.execute(Complete(job_id, "out", authority="ann"))
            elif row.due_at_ms is None:
                raise AssertionError(f"neither due nor waiting: {job}")
            self.now_ms = max(self.now_ms, row.due_at_ms or 0)
            owners = [row.lease.owner] if isinstance(row.lease, Held) else []
            owners += [] if job.starter is None else [job.starter]
            dead = tuple([Observed(each, Evidence.DEAD) for each in owners])
            taken = self.execute(Take(job_id, f"end-{at}", WORKERS[0], 60, dead))
            if isinstance(taken, Decided) and isinstance(taken.outcome, Taken):
                self.execute(Start(job_id, taken.outcome.fence))
                self.execute(Complete(job_id, "out", taken.outcome.fence))
        raise AssertionError(f"not finished: {job}")


def known(command: Any, answer: Decided[Any]) -> bool:
    """Return whether a repetition at once must change nothing."""
    looks = isinstance(command, Take) and not isinstance(answer.outcome, Taken)
    name = type(command).__name__
    if name == "Emit":
        return command.key is not None
    return not looks and name not in ("Renew", "Wait")


def test_a_long_walk_over_jobs() -> None:
    for seed in range(STEPS // CHAPTER):
        walk = JobWalk(seed)
        try:
            walk.chapter(CHAPTER)
        except Exception as error:
            lines = [f"{at}: {command}" for at, command in walk.trace[-20:]]
            pytest.fail("\n".join([f"seed {seed}: {error!r}", *lines]))


def a_signal_makes_nothing_due(patch: pytest.MonkeyPatch) -> None:
    decide = SignalCommand.decide

    def deaf(self: Any, view: Any, now_ms: int) -> Any:
        answer = decide(self, view, now_ms)
        if isinstance(answer, Decided) and view.job is not None:
            writes = [
                changed(w, record=changed(w.record, waits=view.job.waits))
                if isinstance(getattr(w, "record", None), Job)
                else w
                for w in answer.writes
            ]
            return changed(answer, writes=tuple(writes))
        return answer

    patch.setattr(SignalCommand, "decide", deaf)


def an_end_keeps_the_lease(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(JobTransaction, "end_lease", lambda tx, fence=None: None)


def counted_from_anew(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(JobTransaction, "count_signal", lambda tx, name: 1)


@pytest.mark.parametrize(
    "patch", [a_signal_makes_nothing_due, an_end_keeps_the_lease, counted_from_anew]
)
def test_the_walk_finds_the_bug(
    patch: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(monkeypatch)

    assert any(finds(seed) for seed in range(20))


def finds(seed: int) -> bool:
    try:
        JobWalk(seed).chapter(CHAPTER)
    except Exception:  # it may fail in its own code
        return True
    return False
