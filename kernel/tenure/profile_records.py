"""What people know a session by: its profile, its labels, and where it comes from.  Spec: specs/profile.md."""

from __future__ import annotations

from typing import ClassVar, TypeAlias

from attrs import field, frozen

from .queries import Record

__all__ = ["Child", "Fork", "Label", "Profile", "Relation", "Root"]


@frozen
class Root:
    """A session that comes from no other one."""

    since: ClassVar = 2


@frozen
class Child:
    """A session that another one has opened.  `cause`: opaque text, for instance the run or the tool call."""

    since: ClassVar = 2
    parent: str
    cause: str = ""


@frozen
class Fork:
    """A session that began as a copy of another one, up to `node`; None: of an empty transcript."""

    since: ClassVar = 2
    origin: str
    node: str | None


Relation: TypeAlias = Root | Child | Fork


@frozen
class Profile(Record):
    """What people know a session by; no decision about its work reads it.

    `labels`: names and values, sorted by name.  `data`: opaque text.  `created_at_ms`: when the profile was created, for most
    sessions with them.
    """

    since: ClassVar = 2
    key: ClassVar = ("session_id",)
    payloads: ClassVar = ("data",)
    flat: ClassVar = ("relation",)
    derived: ClassVar = ("from_session",)
    session_id: str
    relation: Root | Child | Fork
    created_at_ms: int
    labels: tuple[tuple[str, str], ...] = ()
    name: str | None = None
    data: str | None = field(
        default=None,
        repr=lambda d: repr(d) if d is None or len(d) < 80 else f"<{len(d)} characters>",
    )

    @property
    def from_session(self) -> str | None:
        """The session that it comes from, as a child or as a fork; None: from no other one."""
        match self.relation:
            case Child(parent):
                return parent
            case Fork(origin):
                return origin
            case _:
                return None


@frozen
class Label(Record):
    """PROFILE-5: one label of a profile, by which the session is found."""

    since: ClassVar = 2
    key: ClassVar = ("session_id", "name")
    session_id: str
    name: str
    value: str
    created_at_ms: int  # that of the profile
