"""Publish: move the cursor of a session behind the events that a sink has taken.  Spec: specs/event.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from ..outcome import Decided, Refusal, Refused, Update
from ..queries import Command, Get, Reads, read
from ..records import Session
from ..replace import replace
from ..scheduling import unpublished_since_ms

__all__ = ["Publish", "Published"]


@frozen
class Published:
    """The events up to number `through` are published."""

    since: ClassVar = 2
    through: int


@frozen
class PublishView:
    """The session."""

    session: Session | None


@frozen
class Publish(Command[PublishView, Published]):
    """Note that a sink has taken the events up to number `through`; 0: they are to be published from now on (EVENT-65).

    Writes one row.  A lower number than before changes nothing.  Refusals: UNKNOWN_SESSION, ILLEGAL.
    """

    since: ClassVar = 2
    serves_all: ClassVar = True
    session_id: str
    through: int

    def reads(self) -> Reads[PublishView]:
        return read(PublishView, Get(Session, (self.session_id,)))

    def decide(self, view: PublishView, now_ms: int) -> Decided[Published] | Refused:
        session = view.session
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "EVENT-63", self.session_id)
        last = session.next_event - 1
        if not 0 <= self.through <= last:
            problem = f"through {self.through}: expected 0 to {last}, the last event"
            return Refused(Refusal.ILLEGAL, "EVENT-64", problem)
        before = session.published
        if before is not None and self.through <= before:
            return Decided(Published(before), "EVENT-62", replayed=True)
        after = replace(session, published=self.through)
        after = replace(after, unpublished_since_ms=unpublished_since_ms(after, 0, now_ms))
        return Decided(Published(self.through), "EVENT-61", (Update(after),))
