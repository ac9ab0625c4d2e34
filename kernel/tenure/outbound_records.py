"""The records of commands that a session sends to others.  Spec: specs/outbound.md."""

from __future__ import annotations

from typing import ClassVar, TypeAlias

from attrs import field, frozen

from .queries import Record

__all__ = ["Behind", "Due", "Outbound", "OutboundState", "Undeliverable", "route_of"]


@frozen
class Due:
    """It may be sent from `due_at_ms` on, if it is the first of its route; 0: at once."""

    since: ClassVar = 2
    due_at_ms: int


@frozen
class Behind:
    """An earlier row of its route waits for its time, and this one behind it."""

    since: ClassVar = 2


@frozen
class Undeliverable:
    """Its target has refused it, and time will not change that.  `detail`: of the refusal."""

    since: ClassVar = 2
    refused_at_ms: int
    refusal: str
    clause: str
    detail: str


OutboundState: TypeAlias = Due | Behind | Undeliverable


@frozen
class Outbound(Record):
    """OUTBOUND-1: a command that is to be executed for another session, in the same store or in one that has a name.

    `number`: its place among all rows that its session has ever written.  `peer`: the name of the store; "" is the same
    one.  `to`: the session that the command is for.  `outbound_id`: takes the place of an empty id in the command.
    `command`: its text.  `attempts`: how often sending has failed, and `error` is why, the last time.
    """

    since: ClassVar = 2
    key: ClassVar = ("session_id", "number")
    payloads: ClassVar = ("command",)
    flat: ClassVar = ("state",)
    derived: ClassVar = ("waiting_route",)
    session_id: str
    number: int
    peer: str
    to: str
    outbound_id: str
    at_ms: int
    command: str = field(repr=lambda c: repr(c) if len(c) < 80 else f"<{len(c)} characters>")
    state: OutboundState = Due(0)
    attempts: int = 0
    error: str | None = None

    @property
    def route(self) -> str:
        """Where it goes.  The rows of one route are sent in the order of their numbers."""
        return route_of(self.to, self.peer)

    @property
    def waiting_route(self) -> str | None:
        """The route, while it is to be sent; None if it is undeliverable."""
        return None if self.state.__class__ is Undeliverable else self.route


def route_of(to: str, peer: str) -> str:
    """Return the text of a route.  Ids have no blanks, so no two routes have the same."""
    return f"{peer} {to}" if peer else to
