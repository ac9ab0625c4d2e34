"""Wakes: what a job sends to the session that it was registered with.  Spec: specs/signal.md, EMIT-8, EMIT-9."""

from __future__ import annotations

import hashlib

from ...machines import job as job_
from ...records import Job
from ..admit import Admit
from ..submission import NewInput

__all__ = ["end_wake", "wake"]


def wake(job: Job, key: str, body: str) -> Admit:
    """Return a wake.  Its id follows from its target, the job and the key, so it is sent once."""
    assert job.wake_target is not None, job
    words = f"{job.wake_target} {job.session_id} {key}"
    wake_id = f"wake:{hashlib.sha256(words.encode()).hexdigest()}"
    return Admit(job.wake_target, (NewInput(wake_id, "wake", body, source="job"),))


def end_wake(job: Job, how: job_.How, reason: str) -> Admit:
    """EMIT-9: return the wake that tells of the end of a job."""
    why = f" ({reason})" if reason else ""
    return wake(job, "end", f"job {job.session_id} ({job.runner}) has ended: {how.value}{why}")
