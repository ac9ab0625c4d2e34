"""What a step of a machine and a decision of a command return.  Spec: specs/store.md.

A store owes a decision: what `evolve` makes of it (STORE-1), all or nothing (STORE-3), in the order of its writes
(STORE-9), on one reading of one clock (STORE-10), as durable as the store says before it is answered (STORE-11), or to
say that it does not know (STORE-12); also in a group (STORE-13, STORE-14); its hints afterwards (STORE-15).
"""

from __future__ import annotations

import enum
from typing import Any, Generic, TypeAlias, TypeVar

from attrs import frozen

S_co = TypeVar("S_co", covariant=True)
E_co = TypeVar("E_co", covariant=True)
O_co = TypeVar("O_co", covariant=True)
Key: TypeAlias = tuple[str | int, ...]


class Refusal(enum.StrEnum):
    """Every expected "no".  The values are stable: callers may store and compare them."""

    # who may act
    HELD = "held"  # another owner's lease is live
    RUN_ACTIVE = "run_active"  # the same incarnation already works on this session
    FENCED = "fenced"  # the fence presented is not the session's
    NOT_OBSERVED = "not_observed"  # a reclaim names a lease that is not there
    STALE = "stale"  # another checkpoint number or turn than the run's
    # what may enter
    UNKNOWN_SESSION = "unknown_session"
    UNKNOWN_INPUT = "unknown_input"
    UNKNOWN_RUN = "unknown_run"
    UNKNOWN_KIND = "unknown_kind"
    KEY_CONFLICT = "key_conflict"  # this key or id came with other content before
    PHASE = "phase"  # the session's phase does not allow it
    ILLEGAL = "illegal"  # shape or limits: the detail says which
    # what may be taken back
    BOUND = "bound"  # a run works on it, or has made progress with it
    ENDED = "ended"  # it has ended already
    # what may be committed
    STAMP_CONFLICT = "stamp_conflict"  # this turn was committed with other content
    REVISION = "revision"  # the transcript has moved
    CANCELLED = "cancelled"  # the run was asked to stop; close it instead
    OPEN_TURN = "open_turn"  # not while a turn is open


@frozen
class Stepped(Generic[S_co, E_co]):
    """A machine obeyed.  Keep `state`, then carry out `effects` in order."""

    state: S_co
    clause: str
    effects: tuple[E_co, ...] = ()


@frozen
class Refused:
    """Understood and declined: nothing changed.  `detail` is the value that caused it."""

    reason: Refusal
    clause: str
    detail: Any = None

    def __str__(self) -> str:
        return f"{self.reason.value} ({self.clause}): {self.detail}"


@frozen
class Insert:
    """This record must not exist yet (STORE-8)."""

    record: Any


@frozen
class Update:
    """This record exists and is replaced as a whole."""

    record: Any


@frozen
class Drop:
    record: type
    key: Key


Write: TypeAlias = Insert | Update | Drop


@frozen
class Hint:
    """After the commit: look at this session.  Lossy; losing one costs latency, never correctness."""

    session_id: str
    due_at_ms: int | None
    cancel_run: str | None = None  # its holder may want to look at once


@frozen
class Decided(Generic[O_co]):
    """A command was obeyed: write `writes` in one transaction, then give `hints`, then answer."""

    outcome: O_co
    clause: str
    writes: tuple[Write, ...] = ()
    hints: tuple[Hint, ...] = ()
    replayed: bool = False
    via: tuple[str, ...] = ()  # the rows of the machines that were stepped on the way
