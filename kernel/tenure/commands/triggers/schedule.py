"""SetTrigger and DeleteTrigger: a trigger and its schedule.  Spec: specs/trigger.md."""

from __future__ import annotations

from typing import ClassVar, Final

from attrs import frozen

from ...event import EventKind
from ...kind import Kind
from ...outcome import Decided, Refusal, Refused
from ...phase import Phase
from ...queries import Command, Reads, read
from ...records import PhaseChanged, Session, Trigger
from ...replace import replace
from ...stored_outcomes import TriggerChanged
from ...trigger_records import Missed, Schedule
from ..replay import check_command_id, replay
from ..validation import validate_id, validate_text, validate_time
from .trigger_transaction import CommandView, TriggerTransaction, command_queries, refuse

__all__ = ["DeleteTrigger", "SetTrigger"]


EXPRESSION_MAX: Final = 1_000
ZONE_MAX: Final = 100


@frozen
class SetTrigger(Command[CommandView, TriggerChanged]):
    """Create a trigger, or change its schedule.  Writes at most four rows.

    `expected`: the revision that is changed; 0 creates the trigger.  `schedule`: None for a trigger that only Occur uses.
    `next_at_ms`: the first time of the schedule.
    Refusals: KEY_CONFLICT if another trigger is to be created than the one that exists, UNKNOWN_TRIGGER, REVISION, PHASE,
    ILLEGAL.
    """

    since: ClassVar = 2
    serves: ClassVar = Kind.TRIGGER
    session_id: str
    command_id: str
    expected: int = 0
    schedule: Schedule | None = None
    next_at_ms: int | None = None
    missed: Missed = Missed.ONE

    def reads(self) -> Reads[CommandView]:
        return read(CommandView, *command_queries(self.session_id, self.command_id))

    def decide(self, view: CommandView, now_ms: int) -> Decided[TriggerChanged] | Refused:
        executed, session, trigger = view.executed, view.session, view.trigger
        if refused := check_command_id("set_trigger", self.command_id, executed, session):
            return refused
        if executed is not None:
            return replay(executed, TriggerChanged, "TRIGGER-4")
        if session is None and self.expected == 0:
            return self._create(now_ms)
        if refused := refuse(view, self.session_id):
            return refused
        assert trigger is not None
        if self.expected == 0:
            return self._found(trigger)
        if self.expected != trigger.revision:
            return Refused(Refusal.REVISION, "TRIGGER-7", trigger.revision)
        if problem := self._validate(now_ms):
            return Refused(Refusal.ILLEGAL, "TRIGGER-5", problem)
        tx = TriggerTransaction.on(view, now_ms, self.command_id)
        revision = trigger.revision + 1
        tx.trigger = replace(
            trigger, revision=revision, schedule=self.schedule, next_at_ms=self.next_at_ms,
            missed=self.missed,
        )  # fmt: skip
        return self._write(tx, revision, "TRIGGER-8")

    def _create(self, now_ms: int) -> Decided[TriggerChanged] | Refused:
        if problem := self._validate(now_ms):
            return Refused(Refusal.ILLEGAL, "TRIGGER-5", problem)
        row = Session(self.session_id, kind=Kind.TRIGGER)
        values = (self.schedule, self.next_at_ms, self.missed)
        made = Trigger(self.session_id, 1, *values, made_at_ms=now_ms)
        tx = TriggerTransaction(None, row, now_ms, self.command_id, trigger=made)
        return self._write(tx, 1, "TRIGGER-1")

    def _found(self, trigger: Trigger) -> Decided[TriggerChanged] | Refused:
        """TRIGGER-6: answer that the trigger exists.  Its next time may be another one by now."""
        if (trigger.schedule, trigger.missed) != (self.schedule, self.missed):
            return Refused(Refusal.KEY_CONFLICT, "TRIGGER-6", trigger.revision)
        return Decided(TriggerChanged(trigger.revision), "TRIGGER-6", replayed=True)

    def _write(self, tx: TriggerTransaction, revision: int, clause: str) -> Decided[TriggerChanged]:
        changed = TriggerChanged(revision)
        tx.append_event(EventKind.TRIGGER_CHANGED, f"revision {revision}")
        tx.remember(self.command_id, "set_trigger", changed)
        return tx.decided(changed, clause)

    def _validate(self, now_ms: int) -> str | None:
        schedule = self.schedule
        if problem := validate_id("session_id", self.session_id):
            return problem
        if schedule is None:
            return None if self.next_at_ms is None else "next_at_ms without a schedule"
        if self.next_at_ms is None:
            return f"{schedule.kind} {schedule.expression!r}: it has no time to come"
        return (
            validate_id("kind", schedule.kind)
            or validate_text("expression", schedule.expression, EXPRESSION_MAX)
            or validate_text("zone", schedule.zone, ZONE_MAX)
            or validate_time("next_at_ms", self.next_at_ms, now_ms)
        )


@frozen
class DeleteTrigger(Command[CommandView, PhaseChanged]):
    """Delete a trigger: from now on nothing occurs.  What has occurred is still delivered.

    `erase_payloads`: its texts are to be erased by whoever prunes next.
    Refusals: UNKNOWN_TRIGGER, PHASE if it was deleted before, unless its texts are to be erased now.
    """

    since: ClassVar = 2
    serves: ClassVar = Kind.TRIGGER
    session_id: str
    command_id: str
    erase_payloads: bool = False

    def reads(self) -> Reads[CommandView]:
        return read(CommandView, *command_queries(self.session_id, self.command_id))

    def decide(self, view: CommandView, now_ms: int) -> Decided[PhaseChanged] | Refused:
        executed, session, trigger = view.executed, view.session, view.trigger
        if refused := check_command_id("delete_trigger", self.command_id, executed, session):
            return refused
        if executed is not None:
            return replay(executed, PhaseChanged, "TRIGGER-4")
        to_erase = self.erase_payloads and session is not None and session.erased is None
        if (refused := refuse(view, self.session_id)) and not (to_erase and trigger):
            return refused
        assert trigger is not None
        tx = TriggerTransaction.on(view, now_ms, self.command_id)
        if self.erase_payloads:
            tx.update(erased=False, prune_at_ms=0)
        if tx.session.phase is not Phase.DESTROYED:
            tx.append_event(EventKind.PHASE_CHANGED, Phase.DESTROYED.value)
        tx.update(phase=Phase.DESTROYED)
        tx.trigger = replace(trigger, next_at_ms=None)
        changed = PhaseChanged(Phase.DESTROYED)
        tx.remember(self.command_id, "delete_trigger", changed)
        return tx.decided(changed, "TRIGGER-9")
