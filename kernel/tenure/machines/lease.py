"""The lease: who may act.  Spec: specs/lease.md.

A lease ends by a transaction, never by the clock alone: the clock says when a transaction may end it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TypeAlias

from attrs import frozen

from ..outcome import Refusal, Refused, Stepped
from ..rules import Row, Table, always

# -- states


@frozen
class LocalProcess:
    """Where an owner runs, if that can be observed: all scopes must agree before a missing pid means dead."""

    host: str
    boot: str
    pid_namespace: str
    pid: int
    start: str


@frozen
class Owner:
    """`incarnation_id` belongs to one runner, not to an OS process: two tasks are two owners."""

    owner_id: str
    incarnation_id: str
    process: LocalProcess | None = None  # None: opaque, only time can tell


@frozen
class Fence:
    """What every write by a holder presents."""

    session_id: str
    generation: int
    lease_id: str


@frozen
class Vacant:
    generation: int = 0  # the last one granted; it survives release and destruction


@frozen
class Held:
    generation: int
    lease_id: str
    owner: Owner
    ttl_ms: int
    expires_at_ms: int


Lease: TypeAlias = Vacant | Held


# -- commands


class Evidence(enum.StrEnum):
    DEAD = (
        "dead"  # same host, boot and pid namespace; the pid is gone or was started at another time
    )
    UNKNOWN = "unknown"


@frozen
class Acquire:
    lease_id: str
    owner: Owner
    ttl_ms: int
    now_ms: int


@frozen
class Renew:
    generation: int
    lease_id: str
    now_ms: int


@frozen
class Use:
    """A write presents its fence."""

    generation: int
    lease_id: str


@frozen
class Release:
    generation: int
    lease_id: str


@frozen
class End:
    """Somebody needs it to be over."""

    now_ms: int


@frozen
class Reclaim:
    """Somebody saw this lease, and has evidence about its holder."""

    generation: int
    lease_id: str
    evidence: Evidence
    now_ms: int


@frozen
class Revoke:
    """The session is destroyed: no lease survives that."""


@frozen
class FenceOff:
    """Whoever held it, here or in another history of the store, must not go on."""

    by: int = 1


# -- refusal details


@frozen
class Holder:
    """Who holds it.  `sweep`: meanwhile something is due that needs no lease, and Sweep writes it out."""

    owner_id: str
    expires_at_ms: int
    sweep: bool = False


Outcome: TypeAlias = Stepped[Lease, None] | Refused


# -- guards


def live_at(lease: Held, now_ms: int) -> bool:
    """An expiry further ahead than any grant could set was written by a clock that fell back since."""
    expires, ttl = lease.expires_at_ms, lease.ttl_ms
    return ttl > 0 and expires - 2 * ttl <= now_ms <= expires


def known(lease: Held, c: Acquire) -> bool:
    return lease.lease_id == c.lease_id


def over(lease: Held, c: Acquire) -> bool:
    return lease.lease_id != c.lease_id and not live_at(lease, c.now_ms)


def mine(lease: Held, c: Acquire) -> bool:
    return (
        lease.lease_id != c.lease_id
        and live_at(lease, c.now_ms)
        and lease.owner.incarnation_id == c.owner.incarnation_id
    )


def foreign(lease: Held, c: Acquire) -> bool:
    return (
        lease.lease_id != c.lease_id
        and live_at(lease, c.now_ms)
        and lease.owner.incarnation_id != c.owner.incarnation_id
    )


def exact(lease: Held, c: Renew | Use | Release | Reclaim) -> bool:
    return lease.generation == c.generation and lease.lease_id == c.lease_id


def other(lease: Held, c: Renew | Use | Release | Reclaim) -> bool:
    return lease.generation != c.generation or lease.lease_id != c.lease_id


def ended(lease: Held, c: End) -> bool:
    return not live_at(lease, c.now_ms)


def unended(lease: Held, c: End) -> bool:
    return live_at(lease, c.now_ms)


def reclaimable(lease: Held, c: Reclaim) -> bool:
    return exact(lease, c) and (c.evidence is Evidence.DEAD or not live_at(lease, c.now_ms))


def protected(lease: Held, c: Reclaim) -> bool:
    return exact(lease, c) and c.evidence is not Evidence.DEAD and live_at(lease, c.now_ms)


# -- actions


def grant(lease: Lease, c: Acquire, clause: str) -> Outcome:
    held = Held(lease.generation + 1, c.lease_id, c.owner, c.ttl_ms, c.now_ms + c.ttl_ms)
    return Stepped(held, clause)


def prolong(lease: Held, c: Renew, clause: str) -> Outcome:
    until = c.now_ms + lease.ttl_ms
    if live_at(lease, c.now_ms):
        until = max(until, lease.expires_at_ms)
    held = Held(lease.generation, lease.lease_id, lease.owner, lease.ttl_ms, until)
    return Stepped(held, clause)


def no_change(lease: Lease, c: object, clause: str) -> Outcome:
    return Stepped(lease, clause)


def vacate(lease: Lease, c: object, clause: str) -> Outcome:
    return Stepped(Vacant(lease.generation), clause)


def raise_generation(lease: Lease, c: FenceOff, clause: str) -> Outcome:
    return Stepped(Vacant(lease.generation + c.by), clause)


def refuse_held(lease: Held, c: object, clause: str) -> Outcome:
    return Refused(Refusal.HELD, clause, Holder(lease.owner.owner_id, lease.expires_at_ms))


def refuse_active(lease: Held, c: object, clause: str) -> Outcome:
    return Refused(Refusal.RUN_ACTIVE, clause, Holder(lease.owner.owner_id, lease.expires_at_ms))


def refuse(reason: Refusal) -> Callable[[Lease, object, str], Outcome]:
    def refused(lease: Lease, c: object, clause: str) -> Outcome:
        return Refused(reason, clause, lease.generation)

    return refused


RULES: Table[Outcome] = Table(
    (
        Row("LEASE-1", Vacant, Acquire, always, grant),
        Row("LEASE-2", Held, Acquire, known, no_change),
        Row("LEASE-3", Held, Acquire, over, grant),
        Row("LEASE-4", Held, Acquire, mine, refuse_active),
        Row("LEASE-5", Held, Acquire, foreign, refuse_held),
        Row("LEASE-6", Held, Renew, exact, prolong),
        Row("LEASE-7", Held, Use, exact, no_change),
        Row("LEASE-8", Held, Release, exact, vacate),
        Row("LEASE-9", Held, Renew, other, refuse(Refusal.FENCED)),
        Row("LEASE-9", Held, Use, other, refuse(Refusal.FENCED)),
        Row("LEASE-9", Held, Release, other, refuse(Refusal.FENCED)),
        Row("LEASE-9", Vacant, Renew, always, refuse(Refusal.FENCED)),
        Row("LEASE-9", Vacant, Use, always, refuse(Refusal.FENCED)),
        Row("LEASE-9", Vacant, Release, always, refuse(Refusal.FENCED)),
        Row("LEASE-10", Held, End, ended, vacate),
        Row("LEASE-11", Held, End, unended, refuse_held),
        Row("LEASE-12", Vacant, End, always, no_change),
        Row("LEASE-13", Held, Reclaim, reclaimable, vacate),
        Row("LEASE-14", Held, Reclaim, protected, refuse_held),
        Row("LEASE-15", Held, Reclaim, other, refuse(Refusal.NOT_OBSERVED)),
        Row("LEASE-15", Vacant, Reclaim, always, refuse(Refusal.NOT_OBSERVED)),
        Row("LEASE-16", Held, Revoke, always, vacate),
        Row("LEASE-16", Vacant, Revoke, always, no_change),
        Row("LEASE-17", Held, FenceOff, always, raise_generation),
        Row("LEASE-17", Vacant, FenceOff, always, raise_generation),
    )
)
step = RULES.step
