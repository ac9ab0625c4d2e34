"""What a job sends: wakes (specs/signal.md, EMIT-8, EMIT-9), and its end to a ticket (specs/job.md, JOB-69)."""

from __future__ import annotations

import hashlib

from ...limits import TICKET_BYTES_MAX
from ...machines import job as job_
from ...machines import ticket as ticket_
from ...records import Job
from ...run_values import TicketName
from ..admit import Admit
from ..submission import NewInput
from ..validation import size_of
from ..work_end import WorkEnd

__all__ = ["end_of_work", "end_wake", "wake"]


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


def end_of_work(job: Job, settles: TicketName, how: job_.How, reason: str, output: str) -> WorkEnd:
    """JOB-69: return the Settle that tells of the end of a job."""
    body = reason
    if how is job_.How.COMPLETED:
        body = output if size_of(output) <= TICKET_BYTES_MAX else ""
    action = ticket_.Action(how.value)
    return WorkEnd(settles.asked_by, "", settles.ticket_id, action, body, job.session_id)
