"""Two writes of one row as one.  Spec: specs/store.md, STORE-9."""

from __future__ import annotations

from ..outcome import Drop, Insert, Update, Write

__all__ = ["merge"]


def merge(before: Write, write: Write) -> Write | None:
    """Return the one write that equals two writes of the same row; None if the row was inserted and dropped."""
    if isinstance(write, Drop):
        return None if isinstance(before, Insert) else write
    if isinstance(write, Insert) is not isinstance(before, Drop):
        what = "insert of a row that exists" if isinstance(write, Insert) else "update of no row"
        raise AssertionError(f"{what}: {write.record!r}")
    return Insert(write.record) if isinstance(before, Insert) else Update(write.record)
