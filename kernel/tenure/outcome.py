"""The results of machines and commands: Stepped, Decided, Refused, writes and hints.  Spec: specs/store.md.

A store writes a decision as `evolve` does (STORE-1), all or nothing (STORE-3), with one reading of its clock (STORE-10).
It answers when the decision is durable (STORE-11), or reports that the outcome is unknown (STORE-12).  The same holds in
a group (STORE-13, STORE-14).  Hints follow the commit (STORE-15).
"""

from __future__ import annotations

import enum
from typing import Any, Generic, TypeAlias, TypeVar

from attrs import frozen

from .kind import Kind

__all__ = [
    "Decided",
    "Drop",
    "Hint",
    "Insert",
    "Key",
    "Refusal",
    "Refused",
    "Stepped",
    "Update",
    "Write",
]


S_co = TypeVar("S_co", covariant=True)
E_co = TypeVar("E_co", covariant=True)
O_co = TypeVar("O_co", covariant=True)
Key: TypeAlias = tuple[str | int, ...]


class Refusal(enum.StrEnum):
    """The reasons of refusals.  The values are stable: callers may store and compare them."""

    # who may act
    HELD = "held"  # another owner's lease is live
    RUN_ACTIVE = "run_active"  # the same incarnation already has a lease on this session
    FENCED = "fenced"  # the fence is not that of the session's lease
    NOT_OBSERVED = "not_observed"  # a reclaim names another lease than the session's
    STALE = "stale"  # another checkpoint number or turn than the run's
    NO_AUTHORITY = "no_authority"  # only who registered the job may end it
    OTHER_KIND = (
        "other_kind"  # this id is that of a session, a job or a trigger: the detail tells which
    )
    STARTED = "started"  # owner-bound work that was started does not start again
    # what may enter
    FULL = "full"  # more inputs would wait than the caller allows; the detail is how many wait now
    UNKNOWN_SESSION = "unknown_session"
    UNKNOWN_INPUT = "unknown_input"
    UNKNOWN_RUN = "unknown_run"
    UNKNOWN_TICKET = "unknown_ticket"
    UNKNOWN_OUTBOUND = "unknown_outbound"
    UNKNOWN_ATTACHMENT = "unknown_attachment"  # the session does not hold it
    UNKNOWN_NODE = "unknown_node"
    UNKNOWN_JOB = "unknown_job"
    UNKNOWN_TRIGGER = "unknown_trigger"
    UNKNOWN_SUBSCRIPTION = "unknown_subscription"
    UNKNOWN_KIND = "unknown_kind"
    KEY_CONFLICT = "key_conflict"  # this key or id was used with other content before
    DELETING = "deleting"  # its bytes are being deleted: try again
    PHASE = "phase"  # the session's phase does not allow it
    IDLE = "idle"  # there is no current run for this input
    ILLEGAL = "illegal"  # not valid or beyond a limit: the detail tells which
    PRUNED = "pruned"  # what would recognise a repetition was removed: send it with a new id if it is new
    NOT_ACTIVE = "not_active"  # an earlier release, which may still be at work, could not read it
    # what may be withdrawn
    BOUND = "bound"  # a run works on it, or has made progress with it
    ENDED = "ended"  # it has ended already
    NOT_DEAD = "not_dead"  # it is no dead letter: the detail is its status
    NOT_READY = "not_ready"  # the detail names the first input that is not ready
    # what may begin
    BUSY = "busy"  # the session is at work, or something is ready: the detail tells what
    NOT_NEXT = "not_next"  # the detail names the inputs that come next
    # what may be committed
    STAMP_CONFLICT = "stamp_conflict"  # this turn was committed with other content
    REVISION = "revision"  # the transcript, or what is to be changed, has another revision
    CANCELLED = "cancelled"  # the run was asked to stop; close it instead
    STEERED = "steered"  # inputs for the turn wait; take them instead
    OPEN_TURN = "open_turn"  # not while a turn is open


@frozen
class Stepped(Generic[S_co, E_co]):
    """A machine took a step: keep `state`, then execute `effects` in order."""

    state: S_co
    clause: str
    effects: tuple[E_co, ...] = ()


@frozen
class Refused:
    """A command or a step was refused, and nothing changed.  `detail` is the value that caused it."""

    reason: Refusal
    clause: str
    detail: Any = None

    def __str__(self) -> str:
        return f"{self.reason.value} ({self.clause}): {self.detail}"


@frozen
class Insert:
    """Add a record that must not exist (STORE-8)."""

    record: Any


@frozen
class Update:
    """Replace a record that must exist, as a whole."""

    record: Any


@frozen
class Drop:
    """Remove the record with this key, if it exists."""

    record: type
    key: Key


Write: TypeAlias = Insert | Update | Drop


@frozen
class Hint:
    """A notification after the commit that a session is due.  A lost hint costs latency, never correctness."""

    session_id: str
    due_at_ms: int | None
    cancel_run: str | None = None  # a run that was asked to stop; its holder may act at once
    steer_run: str | None = None  # a run that an input is addressed to
    outbound: bool = False  # it has something to be sent
    kind: Kind | None = None  # of the aggregate; None: a session


@frozen
class Decided(Generic[O_co]):
    """A decision: write `writes` in one transaction, then publish `hints`, then answer `outcome`."""

    outcome: O_co
    clause: str
    writes: tuple[Write, ...] = ()
    hints: tuple[Hint, ...] = ()
    replayed: bool = False
    via: tuple[str, ...] = ()  # clauses of the machine rows that were used
