"""Occur and Fire: something has occurred, and is delivered to the subscriptions of a trigger.  Spec: specs/trigger.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from attrs import field, frozen

from ...event import EventKind
from ...indexes import ENABLED
from ...kind import Kind
from ...limits import FIRED_TIMES_MAX, OCCURRENCE_BYTES_MAX, SUBSCRIPTIONS_MAX
from ...outcome import Decided, Insert, Refusal, Refused
from ...queries import Command, Each, First, Get, Query, Reads, read
from ...records import Occurrence, Subscription
from ...replace import replace
from ...transcript import hash_parts, hash_text
from ...trigger_records import Reservation
from ..replay import check_pruned
from ..send import send
from ..validation import size_of, validate_id, validate_text, validate_time
from .firing import firing_of
from .starting import OccurrenceFacts, command_for, id_for
from .trigger_transaction import TriggerTransaction, TriggerView, refuse, trigger_queries

__all__ = ["SCHEDULE", "Occurred", "Fire", "Fired", "Occur"]


SCHEDULE: Final = "schedule"  # the source of what Fire has made


@frozen
class Occurred:
    """What an occurrence starts, one for each subscription that was enabled."""

    since: ClassVar = 2
    reservations: tuple[Reservation, ...]


@frozen
class Fired:
    """The time that has occurred, with what it starts, how many times were passed over, and the next time.

    `at_ms` None: none has occurred with this command.
    """

    since: ClassVar = 2
    at_ms: int | None
    reservations: tuple[Reservation, ...]
    passed_over: int
    next_at_ms: int | None


@frozen
class OccurView(TriggerView):
    """The trigger, the occurrence if it is known, and the subscriptions that are enabled."""

    known: Occurrence | None
    subscriptions: tuple[Subscription, ...]


@frozen
class FireView(TriggerView):
    """The trigger, what has occurred at these times before, and the subscriptions that are enabled."""

    known: tuple[Occurrence | None, ...]
    subscriptions: tuple[Subscription, ...]


def enabled_query(trigger_id: str) -> Query[tuple[Subscription, ...]]:
    """Return the query of the subscriptions that get what occurs now."""
    return First(ENABLED, (trigger_id,), SUBSCRIPTIONS_MAX)


@frozen
class Occur(Command[OccurView, Occurred]):
    """Store that something has occurred, and what that starts, in one transaction.  Writes at most 67 rows.

    `source` and `key_value` name it: the same again is a replay.  `body`: opaque text.  `at_ms`: when it occurred; None:
    now.  Refusals: UNKNOWN_TRIGGER, PHASE, KEY_CONFLICT if it is known with another body, PRUNED, ILLEGAL.
    """

    since: ClassVar = 2
    serves: ClassVar = Kind.TRIGGER
    session_id: str
    source: str
    key_value: str
    body: str = field(default="", repr=lambda b: repr(b) if len(b) < 80 else f"<{len(b)}>")
    at_ms: int | None = None

    def reads(self) -> Reads[OccurView]:
        s = self.session_id
        known = Get(Occurrence, (s, self.source, self.key_value))
        return read(OccurView, *trigger_queries(s), known, enabled_query(s))

    def decide(self, view: OccurView, now_ms: int) -> Decided[Occurred] | Refused:
        known, digest = view.known, hash_parts(hash_text(self.body))
        if known is not None:
            if known.digest != digest:
                return Refused(Refusal.KEY_CONFLICT, "TRIGGER-32", self.key_value)
            return Decided(Occurred(known.reservations), "TRIGGER-31", replayed=True)
        if refused := refuse(view, self.session_id) or check_pruned(view.session, self.key_value):
            return refused
        if problem := self._validate(now_ms):
            return Refused(Refusal.ILLEGAL, "TRIGGER-30", problem)
        tx = TriggerTransaction.on(view, now_ms, self.key_value)
        at_ms = now_ms if self.at_ms is None else self.at_ms
        facts = OccurrenceFacts(
            self.session_id, self.source, self.key_value, at_ms, now_ms, self.body
        )
        made = deliver(tx, facts, digest, view.subscriptions)
        return tx.decided(Occurred(made), "TRIGGER-33")

    def _validate(self, now_ms: int) -> str | None:
        if self.source == SCHEDULE:
            return f"source {SCHEDULE!r}: expected another one; it is that of the times that Fire brings"
        if (size := size_of(self.body)) > OCCURRENCE_BYTES_MAX:
            return f"body of {size} bytes; at most {OCCURRENCE_BYTES_MAX}"
        return (
            validate_id("source", self.source)
            or validate_id("key_value", self.key_value)
            or validate_text("body", self.body, OCCURRENCE_BYTES_MAX)
            or validate_time("at_ms", self.at_ms, now_ms)
        )


@frozen
class Fire(Command[FireView, Fired]):
    """Store that times of the schedule have come, and what that starts.  Needs no lease.  Writes at most 67 rows.

    `revision`: of the schedule from which the times were computed.  `times_ms`: consecutive times from the next time of
    the trigger on, at most 32; if there are more, the last ones.  `next_at_ms`: the time after them; None: there is none.
    Refusals: UNKNOWN_TRIGGER, PHASE, REVISION, ILLEGAL.
    """

    since: ClassVar = 2
    serves: ClassVar = Kind.TRIGGER
    session_id: str
    revision: int
    times_ms: tuple[int, ...]
    next_at_ms: int | None

    def reads(self) -> Reads[FireView]:
        s = self.session_id
        times = self.times_ms[:FIRED_TIMES_MAX]
        known = Each(tuple([Get(Occurrence, (s, SCHEDULE, str(at_ms))) for at_ms in times]))
        return read(FireView, *trigger_queries(s), known, enabled_query(s))

    def decide(self, view: FireView, now_ms: int) -> Decided[Fired] | Refused:
        if refused := refuse(view, self.session_id):
            return refused
        trigger = view.trigger
        assert trigger is not None
        if self.revision != trigger.revision:
            return Refused(Refusal.REVISION, "TRIGGER-42", trigger.revision)
        if problem := self._validate():
            return Refused(Refusal.ILLEGAL, "TRIGGER-44", problem)
        next_ms, first = trigger.next_at_ms, self.times_ms[0]
        if next_ms is None or first < next_ms:
            return Decided(Fired(None, (), 0, next_ms), "TRIGGER-41", replayed=True)
        if first > now_ms:
            return Refused(Refusal.ILLEGAL, "TRIGGER-44", f"time {first}: it has not come")
        firing = firing_of(trigger.missed, self.times_ms, self.next_at_ms, now_ms)
        tx = TriggerTransaction.on(view, now_ms, f"{SCHEDULE}:{first}")
        tx.trigger = replace(trigger, next_at_ms=firing.next_at_ms)
        if firing.passed_over:
            tx.append_event(EventKind.TIMES_PASSED_OVER, str(firing.passed_over))
        made: tuple[Reservation, ...] = ()
        key = str(firing.at_ms)
        if any(row is not None and row.key_value == key for row in view.known):
            answer = Fired(None, (), firing.passed_over, firing.next_at_ms)
            return tx.decided(answer, "TRIGGER-49")
        if firing.at_ms is not None:
            facts = OccurrenceFacts(self.session_id, SCHEDULE, key, firing.at_ms, now_ms, "")
            made = deliver(tx, facts, hash_parts(hash_text("")), view.subscriptions)
        answer = Fired(firing.at_ms, made, firing.passed_over, firing.next_at_ms)
        return tx.decided(answer, firing.clause)

    def _validate(self) -> str | None:
        times = self.times_ms if self.next_at_ms is None else (*self.times_ms, self.next_at_ms)
        if not 0 < len(self.times_ms) <= FIRED_TIMES_MAX:
            return f"{len(self.times_ms)} times; expected 1 to {FIRED_TIMES_MAX}"
        if any(a >= b for a, b in zip(times, times[1:], strict=False)):
            return f"times {times}: expected each to be later than the one before"
        return next(filter(None, [validate_time("time", at_ms, 0) for at_ms in times]), None)


def deliver(
    tx: TriggerTransaction,
    facts: OccurrenceFacts,
    digest: str,
    subscriptions: Sequence[Subscription],
) -> tuple[Reservation, ...]:
    """TRIGGER-33, TRIGGER-36: write an occurrence, and for each subscription as it is now a command that is to be sent."""
    made: list[Reservation] = []
    for row in subscriptions:
        started_id = id_for(facts, row)
        command = command_for(facts, row.subscription_id, row.starts, row.text, started_id)
        sent = send(tx, command)
        made.append(
            Reservation(
                row.subscription_id,
                row.state.incarnation,
                row.state.revision,
                command.session_id,
                started_id,
                sent.number,
            )  # fmt: skip
        )
    reservations = tuple(made)
    tx.write(
        Insert(
            Occurrence(
                facts.trigger_id,
                facts.source,
                facts.key_value,
                digest,
                facts.at_ms,
                facts.recorded_at_ms,
                facts.body,
                reservations,
            )  # fmt: skip
        )
    )
    detail = f"{facts.source} {facts.key_value} for {len(reservations)}"
    tx.append_event(EventKind.OCCURRED, detail)
    return reservations
