"""The subscription machine: registered, changed, deleted and revived, each by its revision.  Spec: specs/trigger.md.

The digest of what it starts is compared before: `Register.same` says whether it is that of the subscription.
"""

from __future__ import annotations

from typing import ClassVar, Final, TypeAlias

from attrs import frozen

from ..outcome import Refusal, Refused, Stepped
from ..replace import replace
from ..rules import Row, Table, always

__all__ = [
    "ABSENT",
    "RULES",
    "Absent",
    "Delete",
    "Deleted",
    "Disable",
    "Enable",
    "Live",
    "Register",
    "Revive",
    "State",
    "Update",
    "step",
]


@frozen
class Absent:
    """There never was one with this id."""


@frozen
class Live:
    """It gets occurrences while it is enabled.

    `incarnation`: how often it was registered or revived.  `revision`: grows with each change, and never falls.
    """

    since: ClassVar = 2
    incarnation: int
    revision: int
    enabled: bool = True


@frozen
class Deleted:
    """It gets no occurrences, and may be revived."""

    since: ClassVar = 2
    incarnation: int
    revision: int


State: TypeAlias = Absent | Live | Deleted
ABSENT: Final = Absent()


@frozen
class Register:
    """Make it.  `same`: there is one that starts the same."""

    same: bool = False


@frozen
class Update:
    """Change what it starts."""

    expected: int


@frozen
class Enable:
    """Give it occurrences from now on."""

    expected: int


@frozen
class Disable:
    """Give it no occurrences."""

    expected: int


@frozen
class Delete:
    """Delete it."""

    expected: int


@frozen
class Revive:
    """Make it live again, with a new incarnation."""

    expected: int


Outcome: TypeAlias = Stepped[State, None] | Refused
Change: TypeAlias = Update | Enable | Disable | Delete


def equal(s: Live, c: Register) -> bool:
    """True if it starts the same."""
    return c.same


def different(s: Live, c: Register) -> bool:
    """True if it starts something else."""
    return not c.same


def current(s: Live | Deleted, c: Change | Revive) -> bool:
    """True if the command knows the last revision."""
    return c.expected == s.revision


def outdated(s: Live | Deleted, c: Change | Revive) -> bool:
    """True if the command knows another revision."""
    return c.expected != s.revision


def register(s: Absent, c: Register, clause: str) -> Outcome:
    return Stepped(Live(1, 1), clause)


def keep(s: Live, c: Register, clause: str) -> Outcome:
    return Stepped(s, clause)


def update(s: Live, c: Update, clause: str) -> Outcome:
    return Stepped(replace(s, revision=s.revision + 1), clause)


def switch(s: Live, c: Enable | Disable, clause: str) -> Outcome:
    enabled = isinstance(c, Enable)
    if s.enabled is enabled:
        return Stepped(s, clause)
    return Stepped(replace(s, revision=s.revision + 1, enabled=enabled), clause)


def delete(s: Live, c: Delete, clause: str) -> Outcome:
    return Stepped(Deleted(s.incarnation, s.revision + 1), clause)


def revive(s: Deleted, c: Revive, clause: str) -> Outcome:
    return Stepped(Live(s.incarnation + 1, s.revision + 1), clause)


def unknown(s: Absent, c: Change | Revive, clause: str) -> Outcome:
    return Refused(Refusal.UNKNOWN_SUBSCRIPTION, clause)


def conflict(s: Live, c: Register | Revive, clause: str) -> Outcome:
    return Refused(Refusal.KEY_CONFLICT, clause, s)


def stale(s: Live | Deleted, c: Change | Revive, clause: str) -> Outcome:
    return Refused(Refusal.REVISION, clause, s)


def ended(s: Deleted, c: Register | Change, clause: str) -> Outcome:
    return Refused(Refusal.ENDED, clause, s)


RULES: Table[Outcome] = Table(
    (
        Row("TRIGGER-10", Absent, Register, always, register),
        Row("TRIGGER-11", Live, Register, equal, keep),
        Row("TRIGGER-12", Live, Register, different, conflict),
        Row("TRIGGER-13", Live, Update, current, update),
        Row("TRIGGER-14", Live, Enable, current, switch),
        Row("TRIGGER-14", Live, Disable, current, switch),
        Row("TRIGGER-15", Live, Delete, current, delete),
        Row("TRIGGER-16", Deleted, Revive, current, revive),
        Row("TRIGGER-17", Live, Update, outdated, stale),
        Row("TRIGGER-17", Live, Enable, outdated, stale),
        Row("TRIGGER-17", Live, Disable, outdated, stale),
        Row("TRIGGER-17", Live, Delete, outdated, stale),
        Row("TRIGGER-17", Deleted, Revive, outdated, stale),
        Row("TRIGGER-18", Deleted, Register, always, ended),
        Row("TRIGGER-18", Deleted, Update, always, ended),
        Row("TRIGGER-18", Deleted, Enable, always, ended),
        Row("TRIGGER-18", Deleted, Disable, always, ended),
        Row("TRIGGER-18", Deleted, Delete, always, ended),
        Row("TRIGGER-19", Live, Revive, always, conflict),
        Row("TRIGGER-20", Absent, Update, always, unknown),
        Row("TRIGGER-20", Absent, Enable, always, unknown),
        Row("TRIGGER-20", Absent, Disable, always, unknown),
        Row("TRIGGER-20", Absent, Delete, always, unknown),
        Row("TRIGGER-20", Absent, Revive, always, unknown),
    )
)
step = RULES.step
