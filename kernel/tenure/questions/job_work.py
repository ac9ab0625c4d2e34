"""Questions of the holders of jobs.  Spec: specs/job-runner.md."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from attrs import frozen

from ..machines.lease import Held
from ..queries import Get, Query, Question, existing
from ..records import Job, JobPart, JobText, JournalEntry, Session
from .core import journal_steps

__all__ = ["CurrentJob", "FoundJob", "LoadJob", "LoadedJob"]


@frozen
class FoundJob:
    """A job, and the lease on its row, live or not."""

    job: Job
    lease: Held | None


@frozen
class CurrentJob(Question[FoundJob | None]):
    """Read a job and its lease; None: there is no job with this id."""

    job_id: str

    def steps(self) -> Generator[Query[Any], Any, FoundJob | None]:
        session = yield Get(Session, (self.job_id,))
        job = yield Get(Job, (self.job_id,))
        if session is None or job is None:
            return None
        return FoundJob(job, session.lease if isinstance(session.lease, Held) else None)


@frozen
class LoadedJob:
    """What the work of a job needs: the job, its input and its journal, in order."""

    job: Job
    input: str
    entries: tuple[JournalEntry, ...] = ()


@frozen
class LoadJob(Question[LoadedJob | None]):
    """Read what the work of a job needs; None: there is no job with this id."""

    job_id: str

    def steps(self) -> Generator[Query[Any], Any, LoadedJob | None]:
        job = yield Get(Job, (self.job_id,))
        if job is None:
            return None
        text = yield Get(JobText, (self.job_id, JobPart.INPUT))
        entries: tuple[JournalEntry, ...] = ()
        if job.next_checkpoint:
            entries = yield from journal_steps(self.job_id, self.job_id)
        return LoadedJob(job, existing(text, f"the input of job {self.job_id}").body, entries)
