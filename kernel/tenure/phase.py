"""The phases of a session.  Spec: specs/phase.md."""

from __future__ import annotations

import enum

__all__ = ["Phase"]


class Phase(enum.StrEnum):
    """What a session admits and begins (specs/phase.md)."""

    OPEN = "open"
    RETIRED = "retired"
    STOPPING = "stopping"
    STOPPED = "stopped"
    DESTROYED = "destroyed"
    IMPORTING = "importing"  # until its import is whole (specs/import.md)
    added = enum.nonmember({"IMPORTING": 2})
