"""What the work of a job needs, for its holder.  Spec: specs/job-runner.md."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from attrs import frozen

from ..queries import Get, Query, Question, existing
from ..records import Job, JobPart, JobText, JournalEntry
from .core import journal_steps

__all__ = ["LoadWork", "LoadedWork"]


@frozen
class LoadedWork:
    """A job, its input and its whole journal, in order."""

    job: Job
    input: str
    entries: tuple[JournalEntry, ...] = ()


@frozen
class LoadWork(Question[LoadedWork | None]):
    """Read what the work of a job needs; None: there is no job with this id."""

    job_id: str

    def steps(self) -> Generator[Query[Any], Any, LoadedWork | None]:
        job = yield Get(Job, (self.job_id,))
        if job is None:
            return None
        text = yield Get(JobText, (self.job_id, JobPart.INPUT))
        entries: tuple[JournalEntry, ...] = ()
        if job.next_checkpoint:
            entries = yield from journal_steps(self.job_id, self.job_id)
        return LoadedWork(job, existing(text, f"input of job {self.job_id}").body, entries)
