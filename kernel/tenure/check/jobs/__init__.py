"""The model of a job: two workers, and people who ask to abandon or cancel it."""

from .model import JobModel
from .system import (
    JOB_EXTERNAL,
    JOB_OWNER,
    JOB_RERUN,
    JOB_SYSTEMS,
    JOB_SYSTEMS_DEEP,
    SIGNALS,
    SIGNALS_BOUND,
    JobSystem,
)

__all__ = [
    "JOB_EXTERNAL",
    "JOB_OWNER",
    "JOB_RERUN",
    "JOB_SYSTEMS",
    "JOB_SYSTEMS_DEEP",
    "SIGNALS",
    "SIGNALS_BOUND",
    "JobModel",
    "JobSystem",
]
