"""Migration and activation of a store: what they need to know, and the protocol.  Spec: specs/schema.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from attrs import frozen

from tenure.release import RELEASE

from .base import Corrupt
from .errors import TenureError
from .layout import Layout, layout_of
from .row_codec import Column, RowCodec

__all__ = [
    "Migrate",
    "Migrator",
    "NotMigrated",
    "Numbers",
    "columns_lacking",
    "incomplete",
    "may_migrate",
    "schema_number",
]


Migrate: TypeAlias = Literal["auto", "no"]


@frozen
class Numbers:
    """The schema and the active number of a store, and the statements that would add what this release needs.

    Both numbers are 0 if there is no store yet.
    """

    schema: int
    active: int
    missing: tuple[str, ...]


class NotMigrated(TenureError):
    """A store cannot be activated, because its tables lack something (SCHEMA-7)."""

    def __init__(self, where: str, missing: tuple[str, ...]) -> None:
        super().__init__(where, missing)
        self.where, self.missing = where, missing

    def __str__(self) -> str:
        more = f", and {len(self.missing) - 1} more" if len(self.missing) > 1 else ""
        return f"{self.where} lacks {self.missing[0]}{more}: run `tenure store migrate` first"


def incomplete(where: str, active: int, missing: Sequence[str]) -> Corrupt:
    """Return the error for a store whose tables have less than the active release needs (SCHEMA-2)."""
    why = f"release {active} is active, but it lacks {missing[0]}: run `tenure store migrate`"
    return Corrupt(where, (), why)


def columns_lacking(
    where: str,
    codec: RowCodec[Any],
    found: Mapping[str, tuple[str, bool]],
    type_of: Callable[[str], str] = str,
) -> Iterator[Column]:
    """Yield the columns to add to a table that has the columns `found`, each with its type and whether it is NOT NULL.

    `type_of` returns the store's name for a type of the row codec.  Raises Corrupt for a column that differs, and for one
    that cannot be added because it is NOT NULL.
    """
    for column in codec.columns:
        kind, there = type_of(column.sql_type), found.get(column.name)
        if there == (kind, not column.nullable):
            continue
        if there is not None or not column.nullable:
            expected = kind + " NOT NULL" * (not column.nullable)
            why = "is missing" if there is None else f"is {there[0]}" + " NOT NULL" * there[1]
            problem = f"table {codec.table}: column {column.name} {why}, expected {expected}"
            raise Corrupt(where, (), problem)
        yield column


class Migrator(Protocol):
    """Changes the schema of a store.  Every method raises the errors of opening the store."""

    def numbers(self) -> Numbers:
        """Return the numbers of the store, and change nothing."""
        ...

    def migrate(self, report: Callable[[str], None], /) -> None:
        """Add what is missing, and report each statement before.  Others may use the store meanwhile."""
        ...

    def activate(self) -> None:
        """Make this release active.  Raises NotMigrated."""
        ...


def may_migrate(migrate: Migrate) -> bool:
    """Return True for "auto", False for "no".  Raises ValueError for anything else."""
    if migrate not in ("auto", "no"):
        raise ValueError(f"migrate must be 'auto' or 'no', not {migrate!r}")
    return migrate == "auto"


def schema_number(has: Callable[[Layout], bool]) -> int:
    """Return the newest release whose layout the tables have; 0 if they have none."""
    return next((n for n in range(RELEASE, 0, -1) if has(layout_of(n))), 0)
