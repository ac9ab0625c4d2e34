"""Migration and activation of a store: what they need to know, and the protocol.  Spec: specs/schema.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

from attrs import frozen

from tenure.release import RELEASE

from .base import Corrupt
from .errors import TenureError
from .layout import Layout, layout_of

__all__ = [
    "Migrate",
    "Migrator",
    "NotMigrated",
    "Numbers",
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
