"""How a repeated end of a lease is recognised, and what a job that has ended answers.  Spec: specs/job.md."""

from __future__ import annotations

from ...machines import job as job_
from ...machines import lease as lease_
from ...records import Job
from .take import JobEnded

__all__ = ["ended_of", "released_before"]


def ended_of(job: Job) -> JobEnded:
    """Return how a job has ended."""
    state = job.state
    assert isinstance(state, job_.Ended), state
    return JobEnded(state.how, state.reason)


def released_before(job: Job, fence: lease_.Fence | None) -> str | None:
    """Return what became of the job under this lease, if its holder has let go of it; None: it has not."""
    last = job.last_end
    if last is None or fence is None or last.lease_id != fence.lease_id:
        return None
    return last.verdict
