"""Jobs that a turn starts: exactly once over crashes, because their ids follow from the place of the call."""

from __future__ import annotations

import hashlib
from typing import Any

from tenure.outcome import Refused

from ...stores.base import Store
from ..attachments import Patient
from ..changes import SessionChanges
from ..errors import CommandRefused
from .definition import JobRequest
from .handle import JobHandle, new_job, register

__all__ = ["TurnJobs", "job_id_of"]


def job_id_of(session_id: str, key: str) -> str:
    """Return the id of the job that a session starts under an idempotency key."""
    return hashlib.sha256(f"job {session_id} {key}".encode()).hexdigest()[:32]


class TurnJobs(Patient):
    """Starts jobs for a session, and reads those that it has started."""

    def __init__(self, store: Store, session_id: str) -> None:
        super().__init__(store)
        self.session_id = session_id
        self.session_changes = SessionChanges(store)

    async def start(
        self, key: str, what: JobRequest, input: Any, *, wake: bool = True
    ) -> JobHandle:
        """Register the job of this key, which may be repeated.  Raises CommandRefused."""
        job_id = job_id_of(self.session_id, key)
        wake_target = self.session_id if wake else None
        command = register(
            job_id, new_job(what, input), origin=self.session_id, wake_target=wake_target
        )
        answer = await self.execute(command)
        if isinstance(answer, Refused):
            raise CommandRefused(f"job {job_id}", answer)
        return JobHandle(self, job_id)

    def job(self, job_id: str) -> JobHandle:
        """Return the handle of a job."""
        return JobHandle(self, job_id)

    async def own(self, job_id: str) -> JobHandle:
        """Return the handle of a job of this session.  Raises LookupError for any other."""
        handle = JobHandle(self, job_id)
        item = await handle.status()
        if item is None or item.job.origin != self.session_id:
            raise LookupError(f"this session has no job {job_id}")
        return handle
