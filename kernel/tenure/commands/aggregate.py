"""The unit of work of a command on a job or a trigger: its row `Session`, its own rows, events and hints.

Spec: specs/job.md.  It owes the row what `Transaction` owes that of a session: it numbers events, recomputes
`due_at_ms` and gives hints.
"""

from __future__ import annotations

from typing import Any, TypeVar, Unpack

from attrs import define, field

from ..event import Event, EventKind
from ..machines import lease as lease_
from ..outcome import Decided, Insert, Refused, Stepped, Update, Write
from ..records import EventBatch, ExecutedCommand, ExecutedOutcome, Session
from ..replace import replace
from ..scheduling import due_at_ms, unpublished_since_ms
from .hints import hints_of
from .session_changes import SessionChanges

__all__ = ["AggregateTransaction"]


S = TypeVar("S")
O = TypeVar("O")


@define
class AggregateTransaction:
    """What one decision changes.  `session` is as of the writes so far."""

    before: Session | None
    session: Session
    now_ms: int
    causation_id: str
    rows: list[Write] = field(factory=list)
    events: list[Event] = field(factory=list)
    via: list[str] = field(factory=list)
    cancelled: str | None = None  # the job that was asked to stop
    signalled: str | None = None  # the job whose signal has come

    def update(self, **changes: Unpack[SessionChanges]) -> None:
        """Change fields of the row `Session`."""
        self.session = replace(self.session, **changes)

    def write(self, *writes: Write) -> None:
        """Add writes of other rows, each at most once."""
        self.rows += writes

    def append_event(self, kind: EventKind, detail: str = "") -> None:
        """Append an event."""
        self.events.append(Event(kind, None, (), detail))

    def step_to(self, outcome: Stepped[S, Any] | Refused) -> S:
        """Return the state after a step of a machine, and note its clause.

        AssertionError: the machine refused.  The command must check before, so this is a bug of the kernel.
        """
        if isinstance(outcome, Refused):
            raise AssertionError(outcome)
        self.via.append(outcome.clause)
        return outcome.state

    def remember(
        self, command_id: str, command: str, outcome: ExecutedOutcome, digest: str | None = None
    ) -> None:
        """Store the outcome of this command under its id, for its repetition (STORE-2), and the digest of its content (STORE-56)."""
        at = (self.session.session_id, command_id, command, self.now_ms)
        self.write(Insert(ExecutedCommand(*at, outcome, digest)))

    def end_lease(self, fence: lease_.Fence | None = None) -> None:
        """End the lease, if there is one: by its holder, because it is over, or because its holder is dead."""
        lease = self.session.lease
        if isinstance(lease, lease_.Vacant):
            return
        command: lease_.Release | lease_.End | lease_.Reclaim
        if fence is not None:
            command = lease_.Release(fence.generation, fence.lease_id)
        elif not lease_.live_at(lease, self.now_ms):
            command = lease_.End(self.now_ms)
        else:
            dead = lease_.Evidence.DEAD
            command = lease_.Reclaim(lease.generation, lease.lease_id, dead, self.now_ms)
        self.update(lease=self.step_to(lease_.step(lease, command)))

    def decided(self, outcome: O, clause: str) -> Decided[O]:
        """Settle and return the decision.  The row `Session` is its first write.  Nothing is written if nothing changed."""
        session, via = self.session, tuple(self.via)
        if not self.rows and not self.events and session == self.before:
            return Decided(outcome, clause, (), (), False, via)
        seq = session.next_event
        session = replace(
            session,
            next_event=seq + len(self.events),
            unpublished_since_ms=unpublished_since_ms(session, len(self.events), self.now_ms),
            due_at_ms=due_at_ms(session, {}, {}, ()),
            changed_at_ms=max(self.now_ms, session.changed_at_ms),
        )
        self.session = session
        head = Insert(session) if self.before is None else Update(session)
        batch: tuple[Write, ...] = ()
        if self.events:
            at = (session.session_id, seq, self.now_ms, self.causation_id)
            batch = (Insert(EventBatch(*at, tuple(self.events))),)
        hints = hints_of(self.before, session, self.cancelled, self.signalled)
        return Decided(outcome, clause, (head, *self.rows, *batch), hints, False, via)
