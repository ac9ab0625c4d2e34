"""The events of a session after a number, and which of them retention has removed.  Spec: specs/event.md."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias

from attrs import frozen

from ..queries import Get, Query, Question
from ..records import EventBatch, Session
from .core import PAGE, EventsAfter

__all__ = ["EventsPage", "LoadEvents"]


Steps: TypeAlias = Generator[Query[Any], Any, Any]


@frozen
class EventsPage:
    """The batches of events after a number; the first one may begin before it.

    `pruned_to`: the last event after that number that was removed (RETENTION-9); None: none of them was.
    """

    batches: tuple[EventBatch, ...]
    pruned_to: int | None = None


@frozen
class LoadEvents(Question[EventsPage]):
    """EVENT-83: the events of a session after number `after`, at most `limit` batches."""

    session_id: str
    after: int = 0
    limit: int = PAGE

    def steps(self) -> Steps:
        batches: tuple[EventBatch, ...]
        batches = yield from EventsAfter(self.session_id, self.after, self.limit).steps()
        if batches:
            first = batches[0].seq
        else:
            session: Session | None = yield Get(Session, (self.session_id,))
            first = 1 if session is None else session.next_event
        return EventsPage(batches, first - 1 if first > self.after + 1 else None)
