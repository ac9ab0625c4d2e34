"""Questions about triggers: which there are, what they start, and what has occurred.  Spec: specs/trigger.md."""

from __future__ import annotations

from attrs import frozen

from ..indexes import OCCURRENCES, SUBSCRIPTIONS, TRIGGERS
from ..phase import Phase
from ..queries import First, Get, Question
from ..records import Occurrence, Session, Subscription, Trigger
from .core import PAGE, Steps

__all__ = ["LoadTrigger", "Occurrences", "TriggerItem", "Triggers", "TriggersPage"]


@frozen
class TriggerItem:
    """A trigger, with at most 256 of its subscriptions, in the order of their ids.  `deleted`: nothing occurs any more."""

    trigger: Trigger
    subscriptions: tuple[Subscription, ...]
    deleted: bool


@frozen
class LoadTrigger(Question[TriggerItem | None]):
    """A trigger; None if it does not exist.  `after`: only the subscriptions after this id."""

    session_id: str
    after: str = ""

    def steps(self) -> Steps:
        session = yield Get(Session, (self.session_id,))
        trigger = yield Get(Trigger, (self.session_id,))
        if session is None or trigger is None:
            return None
        after = (self.after,) if self.after else ()
        found = yield First(SUBSCRIPTIONS, (self.session_id,), PAGE, after)
        return TriggerItem(trigger, found, session.phase is Phase.DESTROYED)


@frozen
class TriggersPage:
    """Triggers in the order of their ids.  `after`: where the next page begins; None: this is the last one."""

    items: tuple[TriggerItem, ...]
    after: str | None


@frozen
class Triggers(Question[TriggersPage]):
    """A page of the triggers after an id, with those that were deleted.

    `without`: triggers that are left out.
    """

    after: str = ""
    limit: int = 64
    without: frozenset[str] = frozenset()

    def steps(self) -> Steps:
        limit = min(self.limit, PAGE)
        found = yield First(TRIGGERS, (), limit, (self.after,) if self.after else ())
        items = []
        for trigger in found:
            if trigger.session_id not in self.without:
                item = yield from LoadTrigger(trigger.session_id).steps()
                items += [] if item is None else [item]
        return TriggersPage(tuple(items), found[-1].session_id if len(found) == limit else None)


@frozen
class Occurrences(Question[tuple[Occurrence, ...]]):
    """What has occurred in a trigger, the latest first.  `before`: only what is before this one."""

    session_id: str
    before: Occurrence | None = None
    limit: int = PAGE

    def steps(self) -> Steps:
        row = self.before
        at = () if row is None else (row.recorded_at_ms, row.source, row.key_value)
        return (yield First(OCCURRENCES, (self.session_id,), self.limit, at, backwards=True))
