"""Moments as people read them."""

from __future__ import annotations

import datetime

__all__ = ["moment"]


def moment(at_ms: int) -> str:
    """Return a time as ISO 8601 with its number of milliseconds."""
    try:
        shown = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    except (OverflowError, ValueError, OSError):
        return str(at_ms)
    return f"{shown.isoformat(timespec='milliseconds').replace('+00:00', 'Z')} ({at_ms})"
