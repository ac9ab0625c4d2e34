"""What Prune removes of a trigger.  Spec: specs/retention.md, RETENTION-16."""

from __future__ import annotations

from collections.abc import Sequence

from ..limits import PRUNE_ROWS_MAX
from ..records import Occurrence
from ..retention import time_of
from .prunable import Removal

__all__ = ["prune_occurrences"]


def prune_occurrences(removal: Removal, rows: Sequence[Occurrence]) -> bool:
    """Remove occurrences that are old enough.  `rows`: the oldest ones.  Return whether no others are."""
    for row in rows:
        key = row.key_value
        if row.recorded_at_ms > removal.cut_ms:
            return True
        if time_of(key) is not None and not removal.forgets(key):
            return True  # the key says that it is younger
        removal.drop(row)
    return len(rows) < PRUNE_ROWS_MAX
