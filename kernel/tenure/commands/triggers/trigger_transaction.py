"""The unit of work of a command on a trigger: its row `Trigger` beside those of its events.  Spec: specs/trigger.md."""

from __future__ import annotations

from typing import TypeVar

from attrs import define, frozen

from ...outcome import Decided, Insert, Refusal, Refused, Update
from ...phase import Phase
from ...queries import Get, Query
from ...records import ExecutedCommand, Session, Trigger
from ..aggregate import AggregateTransaction

__all__ = [
    "CommandView",
    "TriggerTransaction",
    "TriggerView",
    "command_queries",
    "refuse",
    "trigger_queries",
]


O = TypeVar("O")


@frozen
class TriggerView:
    """The two rows of a trigger that every command on it reads."""

    session: Session | None
    trigger: Trigger | None


@frozen
class CommandView(TriggerView):
    """The trigger, and what the command left when it was executed before."""

    executed: ExecutedCommand | None


def trigger_queries(trigger_id: str) -> tuple[Query[Session | None], Query[Trigger | None]]:
    """The queries of a `TriggerView`."""
    return Get(Session, (trigger_id,)), Get(Trigger, (trigger_id,))


def command_queries(
    trigger_id: str, command_id: str
) -> tuple[Query[Session | None], Query[Trigger | None], Query[ExecutedCommand | None]]:
    """The queries of a `CommandView`."""
    return *trigger_queries(trigger_id), Get(ExecutedCommand, (trigger_id, command_id))


def refuse(view: TriggerView, trigger_id: str) -> Refused | None:
    """TRIGGER-2, TRIGGER-3: refuse a command on a trigger that does not exist, or that was deleted."""
    session = view.session
    if session is None:
        return Refused(Refusal.UNKNOWN_TRIGGER, "TRIGGER-2", trigger_id)
    if session.phase is Phase.DESTROYED or view.trigger is None:
        return Refused(Refusal.PHASE, "TRIGGER-3", session.phase.value)
    return None


@define
class TriggerTransaction(AggregateTransaction):
    """What one decision on a trigger changes.  `trigger` is as of the writes so far."""

    trigger_before: Trigger | None = None
    trigger: Trigger = None  # type: ignore[assignment]  # set by `on`; attrs wants a default after the base's

    @classmethod
    def on(cls, view: TriggerView, now_ms: int, causation_id: str) -> TriggerTransaction:
        """Begin a transaction over the rows of a trigger that exists."""
        session, trigger = view.session, view.trigger
        assert session is not None and trigger is not None, view
        return cls(session, session, now_ms, causation_id, trigger_before=trigger, trigger=trigger)

    def decided(self, outcome: O, clause: str) -> Decided[O]:
        """Settle and return the decision, with the row of the trigger if it has changed (TRIGGER-41)."""
        deleted = self.session.phase is Phase.DESTROYED
        self.update(work_at_ms=None if deleted else self.trigger.next_at_ms)
        before = self.trigger_before
        if self.trigger != before:
            row = self.trigger
            self.rows.insert(0, Insert(row) if before is None else Update(row))
        return super().decided(outcome, clause)
