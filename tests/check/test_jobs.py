"""The models of jobs: they hold, and they find wrong kernels and wrong workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve, frozen

from tenure.check.explorer import explore
from tenure.check.jobs import (
    JOB_EXTERNAL,
    JOB_OWNER,
    JOB_RERUN,
    SIGNALS,
    JobModel,
    JobSystem,
)
from tenure.commands import Start, Take, Wait
from tenure.commands.jobs.job_transaction import JobTransaction, fence_of
from tenure.machines.lease import Held
from tenure.records import Job
from tenure.verdict import Facts, Verdict, judge

ONLY_STARTER = "nobody but its starter holds owner-bound work that was started"
FENCED = "whatever a holder sends has exactly the fence of the lease"
FOR_EVER = "a look that changes nothing is not repeated at once"
NOBODY_WAITS = "owner-bound work beside a dead owner waits for nobody"
LOST = "no job waits for a signal that has come"
LATE = "a clock that is set back delays no retry by more than its backoff"
BEHIND = "nothing starts behind a request or a cancel"

Patch = Callable[[pytest.MonkeyPatch], None]
SMALL = evolve(JOB_OWNER, lost=0, fenced_off=True)


@frozen
class OlderTake(Take):
    """A Take that carries out the verdict on rows that were read before."""

    facts: Any = None

    def decide(self, view: Any, now_ms: int) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(JobTransaction, "rule", lambda tx, observed=(): judge(self.facts))
            return super().decide(view, now_ms)


def older(take: Take, facts: Facts) -> Take:
    """Make a Take that trusts what was read before, if that said that the job may be taken."""
    if judge(facts).verdict is not Verdict.TAKE:
        return take
    return OlderTake(
        take.session_id, take.lease_id, take.owner, take.ttl_ms, take.evidence, facts=facts
    )


def may_always_start(patch: pytest.MonkeyPatch) -> None:
    """Nothing but the verdict keeps owner-bound work from a second start."""
    patch.setattr(Job, "may_start", True)


def vacant_is_alive(patch: pytest.MonkeyPatch) -> None:
    """Evidence counts for the holder of a lease alone, so a job without a lease has nobody who is dead."""
    patch.setattr(Facts, "dead", property(lambda facts: facts.holder_dead))


def left_unwritten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(JobTransaction, "leave", lambda tx, reason: tx.now_ms + 30_000)


def ahead_is_not_due(patch: pytest.MonkeyPatch) -> None:
    """A retry waits for its time, also if the clock was set back."""
    patch.setattr(
        "tenure.machines.job.backoff_is_over",
        lambda since, due, now: due is None or due <= now,
    )


def ahead_is_not_found(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("tenure.commands.jobs.job_transaction.retry_from_ms", lambda session, job: None)


def start_unfenced(patch: pytest.MonkeyPatch) -> None:
    decide = Start.decide

    def unfenced(self: Any, view: Any, now_ms: int) -> Any:
        held = view.session is not None and isinstance(view.session.lease, Held)
        own = evolve(self, fence=fence_of(view.session)) if held else self
        return decide(own, view, now_ms)

    patch.setattr(Start, "decide", unfenced)


def start_behind_a_request(patch: pytest.MonkeyPatch) -> None:
    decide = Start.decide

    def blind(self: Any, view: Any, now_ms: int) -> Any:
        job = evolve(view.job, request=None, cancel=None)
        return decide(self, evolve(view, job=job), now_ms)

    patch.setattr(Start, "decide", blind)


def a_signal_is_counted_at_its_wait(patch: pytest.MonkeyPatch) -> None:
    """The wait is resolved, and not the log read: a signal that nobody waits for is the one of the next wait."""
    decide = Wait.decide

    def resolved(self: Any, view: Any, now_ms: int) -> Any:
        return decide(self, evolve(view, signal=None), now_ms)

    patch.setattr(Wait, "decide", resolved)


@pytest.mark.parametrize(
    ("system", "size"),
    [
        (JOB_OWNER, (6_828, 29_458)),
        (JOB_RERUN, (5_913, 28_687)),
        (JOB_EXTERNAL, (8, 7)),
        (SIGNALS, (4_238, 22_613)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_model_is_small_and_holds(system: JobSystem, size: tuple[int, int]) -> None:
    found = explore(JobModel(system))

    assert found.good, found
    assert (found.states, found.transitions) == size


@pytest.mark.parametrize(
    ("system", "patch", "sentence"),
    [
        (evolve(SMALL, older=older), may_always_start, ONLY_STARTER),
        (SMALL, vacant_is_alive, NOBODY_WAITS),
        (SMALL, left_unwritten, FOR_EVER),
        (SMALL, start_unfenced, FENCED),
        (SMALL, start_behind_a_request, BEHIND),
        (SIGNALS, a_signal_is_counted_at_its_wait, LOST),
        (JOB_RERUN, ahead_is_not_due, LATE),
        (JOB_RERUN, ahead_is_not_found, LATE),
    ],
    ids=[
        "a verdict on older rows",
        "a job without a lease is judged alive",
        "left unwritten",
        "started unfenced",
        "started behind a request",
        "a wait that does not read the log",
        "a retry of a clock that was ahead waits",
        "a retry of a clock that was ahead is not found",
    ],
)
def test_the_model_finds_the_bug(
    system: JobSystem, patch: Patch, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(monkeypatch)

    found = explore(JobModel(system), first_only=True)

    assert sentence in found.broken, found.broken
