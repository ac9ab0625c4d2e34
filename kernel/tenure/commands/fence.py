"""FenceOff: invalidate every fence that was granted so far, after a failover or a restored backup.

Spec: specs/lease.md.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from ..event import EventKind
from ..machines import lease as lease_
from ..outcome import Decided, Refusal, Refused
from ..queries import Command, Get, Reads, read
from ..records import ExecutedCommand, FencedOff
from ..transcript import hash_parts
from .replay import check_command_id, replay
from .session_view import CommandView, session_queries
from .transaction import Transaction

__all__ = ["BY_MAX", "FenceOff"]


BY_MAX: Final = 1_000_000_000


@frozen
class FenceOff(Command[CommandView, FencedOff]):
    """End any lease, live or not, and raise the generation by `by`.  Its run counts no failure and is due at once.

    A store that lost its last transactions may grant a generation twice.  `by` must exceed the number of leases that
    may have been granted in them.  Writes a few rows.  Refusals: UNKNOWN_SESSION, ILLEGAL.
    """

    session_id: str
    command_id: str
    by: int = 1

    def reads(self) -> Reads[CommandView]:
        s = self.session_id
        return read(CommandView, *session_queries(s), Get(ExecutedCommand, (s, self.command_id)))

    def decide(self, view: CommandView, now_ms: int) -> Decided[FencedOff] | Refused:
        session, executed = view.session, view.executed
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "LEASE-20", self.session_id)
        digest = hash_parts(self.by)
        if refused := check_command_id("fence_off", self.command_id, executed, session, digest):
            return refused
        if executed is not None:
            return replay(executed, FencedOff, "LEASE-31")
        if not 1 <= self.by <= BY_MAX:
            return Refused(Refusal.ILLEGAL, "LEASE-32", f"by {self.by}: expected 1 to {BY_MAX}")
        tx = Transaction.on(view, session, now_ms, self.command_id)
        run_id = session.lease_run
        if isinstance(session.lease, lease_.Held):
            tx.append_event(EventKind.LEASE_LOST, run_id, detail=str(session.lease.generation))
        tx.vacate(lease_.step(session.lease, lease_.FenceOff(self.by)))
        run = tx.runs.get(run_id or "")
        if run is not None:
            cancel = session.cancel
            if cancel is not None and (cancel.rollback or not run.progress):
                tx.close(run, cancel)
            else:
                tx.reschedule(run, None, "fenced_off")
        fenced = FencedOff(tx.session.lease.generation, run_id)
        tx.remember(self.command_id, "fence_off", fenced, digest)
        return tx.decided(fenced, "LEASE-30")
