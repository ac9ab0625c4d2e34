"""The changes of stored rows: how a row that an earlier release wrote is read by this one.  Spec: specs/schema.md.

A row is a mapping of column names to texts, integers and None, as a store holds it.  Its version is a number of its
own; a row without one has version 1 (SCHEMA-8).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from attrs import frozen

__all__ = ["CHANGES", "Change", "downgrade", "upgrade", "version_at"]


Row: TypeAlias = Mapping[str, str | int | None]


@frozen
class Change:
    """One change of the rows of a table, and its exact inverse; neither touches a column of a key or an index."""

    table: str
    version: int  # that it makes, from the one before
    release: int  # that makes it
    up: Callable[[Row], Row]
    down: Callable[[Row], Row]


CHANGES: Final[tuple[Change, ...]] = ()


def upgrade(table: str, row: Row, from_: int) -> Row:
    """Return a row of version `from_` as this release writes it."""
    for change in _of(table):
        if change.version > from_:
            row = change.up(row)
    return row


def downgrade(table: str, row: Row, to: int) -> Row:
    """Return a row of this release as version `to`."""
    for change in reversed(_of(table)):
        if change.version > to:
            row = change.down(row)
    return row


def version_at(table: str, active: int) -> int:
    """Return the version of the rows that are written while `active` is the number of the store."""
    return max([c.version for c in _of(table) if c.release <= active], default=1)


def _of(table: str) -> list[Change]:
    return sorted([c for c in CHANGES if c.table == table], key=lambda c: c.version)
