"""Acquire: take the lease of a session without a run.  Spec: specs/lease.md."""

from __future__ import annotations

from attrs import frozen

from ..machines import lease as lease_
from ..outcome import Decided, Refusal, Refused
from ..queries import Command, Get, Reads, read
from ..records import ExecutedCommand, LeaseTaken, Session
from ..scheduling import UNLEASED_PHASES
from ..transcript import Tip
from .grant import TTL_MS_DEFAULT, BegunBefore, end_lapsed, grant, validate_grant
from .replay import check_command_id, check_pruned
from .session_view import CommandView, session_queries
from .transaction import Transaction

__all__ = ["Acquire", "Acquired"]


@frozen
class Acquired:
    """The fence of the lease, and the transcript's revision and leaf."""

    fence: lease_.Fence
    ttl_ms: int
    revision: int
    leaf: Tip | None
    held: bool = True


@frozen
class Acquire(Command[CommandView, Acquired | BegunBefore]):
    """Take the lease of a session without a run, for Amend.

    Refusals: UNKNOWN_SESSION, HELD, RUN_ACTIVE, OPEN_TURN, PHASE, ILLEGAL.
    """

    session_id: str
    lease_id: str
    owner: lease_.Owner
    ttl_ms: int = TTL_MS_DEFAULT

    def reads(self) -> Reads[CommandView]:
        return read(
            CommandView,
            *session_queries(self.session_id),
            Get(ExecutedCommand, (self.session_id, self.lease_id)),
        )

    def decide(self, view: CommandView, now_ms: int) -> Decided[Acquired | BegunBefore] | Refused:
        session = view.session
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "LEASE-20", self.session_id)
        if refused := check_command_id("acquire", self.lease_id, view.executed, None):
            return refused
        lease = session.lease
        if isinstance(lease, lease_.Held) and lease.lease_id == self.lease_id:
            return Decided(_acquired(session), "LEASE-22", replayed=True)
        if view.executed is not None:
            return Decided(BegunBefore(None, None), "LEASE-23", replayed=True)
        if refused := check_pruned(session, self.lease_id):
            return refused
        if problem := validate_grant(self.lease_id, self.owner, self.ttl_ms):
            return Refused(Refusal.ILLEGAL, "LEASE-21", problem)
        if session.phase in UNLEASED_PHASES:
            return Refused(Refusal.PHASE, "PHASE-3", session.phase.value)
        tx = Transaction.on(view, session, now_ms, self.lease_id)
        acquire = lease_.Acquire(self.lease_id, self.owner, self.ttl_ms, now_ms)
        refused = end_lapsed(tx, acquire)
        if refused is not None:
            return refused
        if tx.session.open_run is not None:
            return Refused(Refusal.OPEN_TURN, "COMMIT-21", tx.session.open_run)
        grant(tx, acquire, None)
        tx.remember(self.lease_id, "acquire", LeaseTaken())
        return tx.decided(_acquired(tx.session), "LEASE-24")


def _acquired(session: Session) -> Acquired:
    lease = session.lease
    assert isinstance(lease, lease_.Held)
    fence = lease_.Fence(session.session_id, lease.generation, lease.lease_id)
    return Acquired(fence, lease.ttl_ms, session.revision, session.leaf)
