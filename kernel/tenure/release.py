"""The number of this release, and what may be stored while an earlier one still works.  Spec: specs/schema.md.

What a release adds to the stored forms carries its number: `since` on a class, `added` on a class for its fields,
derived columns and members.  `ignorable` names added fields without which an earlier release does what it always did:
until the release is active, they are left out.  `instead` names the older member that stands for an added one.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from functools import cache
from typing import Any, Final, TypeVar, cast

import attrs

from .kind import Kind
from .outcome import Decided, Drop, Refusal, Refused
from .queries import Command
from .replace import replace

__all__ = ["OLDEST", "RELEASE", "added_in", "decide_at", "needs", "reduced", "since"]


O = TypeVar("O")
T = TypeVar("T")
V = TypeVar("V")

RELEASE: Final = 2
OLDEST: Final = max(1, RELEASE - 1)  # SCHEMA-1: the lowest active number with which it works


def decide_at(active: int, command: Command[V, O], view: V, now_ms: int) -> Decided[O] | Refused:
    """Decide a command for a store with this active number (SCHEMA-3).

    JOB-2: a command for another kind of aggregate is refused here, and nowhere else.
    """
    if not command.serves_all:
        session: Any = getattr(view, "session", None)
        if session is not None and session.kind is not command.serves:
            kind = session.kind or Kind.SESSION
            return Refused(Refusal.OTHER_KIND, "JOB-2", kind.value)
    if active >= RELEASE:
        return command.decide(view, now_ms)
    command = reduced(command, active)
    wanted = needs(command)
    if wanted > active:
        return not_active(command, wanted)
    decided = command.decide(view, now_ms)
    if isinstance(decided, Refused):
        return decided
    writes = reduced(decided.writes, active)
    wanted = most(since(w.record) if isinstance(w, Drop) else needs(w.record) for w in writes)
    return not_active(command, wanted) if wanted > active else replace(decided, writes=writes)


def not_active(command: object, release: int) -> Refused:
    """Return the refusal of a command that an earlier release could not read."""
    name = command.__class__.__name__
    return Refused(
        Refusal.NOT_ACTIVE,
        "SCHEMA-3",
        f"{name} needs release {release}: run `tenure store activate` when no earlier release is at work",
    )


def reduced(value: T, active: int) -> T:
    """Return a value without what releases after `active` added and it can do without.

    SCHEMA-12: ignorable fields are left out.  SCHEMA-13: members that have a substitute are replaced.
    """
    kind: Any = value.__class__
    if isinstance(value, enum.Enum):
        older = getattr(kind, "instead", {}).get(value.name)
        return value if older is None or added_in(kind, value.name) <= active else kind[older]
    if isinstance(value, tuple):
        parts = tuple([reduced(part, active) for part in value])
        return value if parts == value else cast(T, parts)
    if not attrs.has(kind):
        return value
    changes: dict[str, object] = {}
    for name, default in _fields(kind):
        part = getattr(value, name)
        if name in getattr(kind, "ignorable", ()) and added_in(kind, name) > active:
            wanted = default
        else:
            wanted = reduced(part, active)
        if wanted != part:
            changes[name] = wanted
    return cast(T, attrs.evolve(cast(Any, value), **changes)) if changes else value


def needs(value: object) -> int:
    """Return the first release that can read a value: a record, a command, or any value in one."""
    kind = value.__class__
    if isinstance(value, tuple):
        return most(map(needs, value))
    if isinstance(value, enum.Enum):
        return added_in(kind, value.name)
    if not attrs.has(kind):
        return 1
    found = since(kind)
    for name, default in _fields(kind):
        part = getattr(value, name)
        if part is not None and part != default:
            found = max(found, added_in(kind, name), needs(part))
    return found


def since(kind: type) -> int:
    """Return the release that added a class to the stored forms."""
    found: int = getattr(kind, "since", 1)
    return found


def added_in(kind: type, name: str) -> int:
    """Return the release that added a field, a derived column or a member to a class."""
    found: int = getattr(kind, "added", {}).get(name, since(kind))
    return found


def most(found: Iterable[int]) -> int:
    """Return the highest number, 1 if there is none."""
    return max(found, default=1)


@cache
def _fields(kind: Any) -> tuple[tuple[str, object], ...]:
    return tuple([(field.name, field.default) for field in attrs.fields(kind)])
