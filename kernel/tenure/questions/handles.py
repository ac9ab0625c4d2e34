"""Questions about who sees which jobs.  Spec: specs/handle.md."""

from __future__ import annotations

from attrs import frozen

from ..indexes import JOB_GRANTEES, JOB_GRANTS
from ..machines import job as job_
from ..queries import Each, First, Get, Question
from ..records import Job, JobGrant, Phase, Session
from .core import PAGE, Steps

__all__ = ["Grantees", "Grants", "Orphans"]


@frozen
class Grants(Question[tuple[JobGrant, ...]]):
    """The jobs that a session sees, after the job `after`."""

    session_id: str
    after: str = ""
    limit: int = PAGE

    def steps(self) -> Steps:
        after = (self.after,) if self.after else ()
        return (yield First(JOB_GRANTS, (self.session_id,), self.limit, after))


@frozen
class Grantees(Question[tuple[JobGrant, ...]]):
    """The sessions that see a job, after the session `after`."""

    job_id: str
    after: str = ""
    limit: int = PAGE

    def steps(self) -> Steps:
        after = (self.after,) if self.after else ()
        return (yield First(JOB_GRANTEES, (self.job_id,), self.limit, after))


@frozen
class Orphans(Question[tuple[str, ...]]):
    """GRANT-11: the jobs that a session sees, that have not ended, and that no other session sees which is not destroyed.

    `after`: a job.  `limit`: how many grants are looked at, so an answer may be shorter and not be the last one.
    """

    session_id: str
    after: str = ""
    limit: int = PAGE

    def steps(self) -> Steps:
        grants = yield from Grants(self.session_id, self.after, self.limit).steps()
        jobs = yield Each(tuple([Get(Job, (row.job_id,)) for row in grants]))
        found = []
        for job in jobs:
            if job is not None and not isinstance(job.state, job_.Ended):
                if not (yield from self._others(job.session_id)):
                    found.append(job.session_id)
        return tuple(found)

    def _others(self, job_id: str) -> Steps:
        """Return whether another session sees a job."""
        grantees = yield First(JOB_GRANTEES, (job_id,), PAGE)
        others = [row.session_id for row in grantees if row.session_id != self.session_id]
        sessions = yield Each(tuple([Get(Session, (each,)) for each in others]))
        return any(each is not None and each.phase is not Phase.DESTROYED for each in sessions)
