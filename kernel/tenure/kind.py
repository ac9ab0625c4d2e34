"""The kinds of aggregates that have a row `Session`.  Spec: specs/job.md."""

from __future__ import annotations

import enum

__all__ = ["Kind"]


class Kind(enum.StrEnum):
    """What a row `Session` is the head of.  All kinds share one space of ids (JOB-1)."""

    SESSION = "session"  # on a row this is stored as nothing
    JOB = "job"
    TRIGGER = "trigger"
    since = enum.nonmember(2)
