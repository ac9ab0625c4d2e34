"""What has become of the turns of a runtime that was drained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from attrs import frozen

from tenure.job_runner.protocol import JobLeft
from tenure.runner.protocol import Left

__all__ = ["Drained"]


@frozen
class Drained:
    """What became of the turns that were running when a runtime began to drain (RUNNER-140).

    `ended`: their end is stored.  `released`: they are due again at once, for any worker.  `given_up`: another owner
    has them, or they are due when their leases have expired.

    Of jobs (JOBRUN-70), by id: `jobs_ended`, `jobs_released`, and `jobs_given_up` likewise.  `jobs_drained`: those that
    were started, that nobody else may carry on, and whose end as abandoned is stored.
    """

    ended: int = 0
    released: int = 0
    given_up: int = 0
    jobs_ended: tuple[str, ...] = ()
    jobs_drained: tuple[str, ...] = ()
    jobs_released: tuple[str, ...] = ()
    jobs_given_up: tuple[str, ...] = ()

    @classmethod
    def of(cls, left: Mapping[Left, int], jobs: Mapping[str, JobLeft]) -> Self:
        """Return these counts and ids."""

        def named(how: JobLeft) -> tuple[str, ...]:
            return tuple([job_id for job_id, each in jobs.items() if each is how])

        return cls(
            left[Left.ENDED], left[Left.RELEASED], left[Left.GIVEN_UP], named(JobLeft.ENDED),
            named(JobLeft.DRAINED), named(JobLeft.RELEASED), named(JobLeft.GIVEN_UP),
        )  # fmt: skip
