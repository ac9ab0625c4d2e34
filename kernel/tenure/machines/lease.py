"""The lease machine: which owner may write to a session.  Spec: specs/lease.md.

Only a transaction ends a lease.  The clock decides when a transaction may do so.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TypeAlias

from attrs import frozen

from ..outcome import Refusal, Refused, Stepped
from ..rules import Row, Table, always

__all__ = [
    "RULES",
    "Acquire",
    "End",
    "Evidence",
    "Fence",
    "FenceOff",
    "Held",
    "Holder",
    "Lease",
    "LocalProcess",
    "Owner",
    "Reclaim",
    "Release",
    "Renew",
    "Revoke",
    "Use",
    "Vacant",
    "live_at",
    "step",
]


# -- states


@frozen
class LocalProcess:
    """The process of an owner.  A missing pid proves its death only if host, boot and pid namespace are the same."""

    host: str
    boot: str
    pid_namespace: str
    pid: int
    start: str


@frozen
class Owner:
    """The owner of a lease.  `incarnation_id` identifies one runner: two tasks of one process are two owners."""

    owner_id: str
    incarnation_id: str
    process: LocalProcess | None = None  # None: its death cannot be observed


@frozen
class Fence:
    """The token that every write by a lease holder presents."""

    session_id: str
    generation: int
    lease_id: str


@frozen
class Vacant:
    """No lease."""

    generation: int = 0  # of the last lease; kept after release and destruction


@frozen
class Held:
    """A lease, valid until `expires_at_ms` unless it is renewed."""

    generation: int
    lease_id: str
    owner: Owner
    ttl_ms: int
    expires_at_ms: int


Lease: TypeAlias = Vacant | Held


# -- commands


class Evidence(enum.StrEnum):
    """What was observed about the process of a holder."""

    DEAD = (
        "dead"  # same host, boot and pid namespace; the pid is gone or was started at another time
    )
    UNKNOWN = "unknown"


@frozen
class Acquire:
    """Grant a new lease."""

    lease_id: str
    owner: Owner
    ttl_ms: int
    now_ms: int


@frozen
class Renew:
    """Extend the lease by its `ttl_ms`."""

    generation: int
    lease_id: str
    now_ms: int


@frozen
class Use:
    """Check the fence of a write."""

    generation: int
    lease_id: str


@frozen
class Release:
    """End the lease, by its holder."""

    generation: int
    lease_id: str


@frozen
class End:
    """End the lease if it has lapsed."""

    now_ms: int


@frozen
class Reclaim:
    """End an observed lease, with evidence about its holder."""

    generation: int
    lease_id: str
    evidence: Evidence
    now_ms: int


@frozen
class Revoke:
    """End the lease because the session is destroyed."""


@frozen
class FenceOff:
    """End the lease and raise the generation by `by`, so that every earlier fence is invalid."""

    by: int = 1


# -- refusal details


@frozen
class Holder:
    """The holder of the lease.  `sweep`: Sweep has work on the session, which needs no lease."""

    owner_id: str
    expires_at_ms: int
    sweep: bool = False


Outcome: TypeAlias = Stepped[Lease, None] | Refused


# -- guards


def live_at(lease: Held, now_ms: int) -> bool:
    """Return whether a lease is live.

    An expiry that is later than any grant could set was written before the clock fell back: such a lease is not live.
    """
    expires, ttl = lease.expires_at_ms, lease.ttl_ms
    return ttl > 0 and expires - 2 * ttl <= now_ms <= expires


def same_lease(lease: Held, c: Acquire) -> bool:
    return lease.lease_id == c.lease_id


def lapsed(lease: Held, c: Acquire) -> bool:
    return lease.lease_id != c.lease_id and not live_at(lease, c.now_ms)


def same_incarnation(lease: Held, c: Acquire) -> bool:
    return (
        lease.lease_id != c.lease_id
        and live_at(lease, c.now_ms)
        and lease.owner.incarnation_id == c.owner.incarnation_id
    )


def other_incarnation(lease: Held, c: Acquire) -> bool:
    return (
        lease.lease_id != c.lease_id
        and live_at(lease, c.now_ms)
        and lease.owner.incarnation_id != c.owner.incarnation_id
    )


def same_fence(lease: Held, c: Renew | Use | Release | Reclaim) -> bool:
    return lease.generation == c.generation and lease.lease_id == c.lease_id


def other_fence(lease: Held, c: Renew | Use | Release | Reclaim) -> bool:
    return lease.generation != c.generation or lease.lease_id != c.lease_id


def ended(lease: Held, c: End) -> bool:
    return not live_at(lease, c.now_ms)


def still_live(lease: Held, c: End) -> bool:
    return live_at(lease, c.now_ms)


def reclaimable(lease: Held, c: Reclaim) -> bool:
    return same_fence(lease, c) and (c.evidence is Evidence.DEAD or not live_at(lease, c.now_ms))


def protected(lease: Held, c: Reclaim) -> bool:
    return same_fence(lease, c) and c.evidence is not Evidence.DEAD and live_at(lease, c.now_ms)


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
        Row("LEASE-2", Held, Acquire, same_lease, no_change),
        Row("LEASE-3", Held, Acquire, lapsed, grant),
        Row("LEASE-4", Held, Acquire, same_incarnation, refuse_active),
        Row("LEASE-5", Held, Acquire, other_incarnation, refuse_held),
        Row("LEASE-6", Held, Renew, same_fence, prolong),
        Row("LEASE-7", Held, Use, same_fence, no_change),
        Row("LEASE-8", Held, Release, same_fence, vacate),
        Row("LEASE-9", Held, Renew, other_fence, refuse(Refusal.FENCED)),
        Row("LEASE-9", Held, Use, other_fence, refuse(Refusal.FENCED)),
        Row("LEASE-9", Held, Release, other_fence, refuse(Refusal.FENCED)),
        Row("LEASE-9", Vacant, Renew, always, refuse(Refusal.FENCED)),
        Row("LEASE-9", Vacant, Use, always, refuse(Refusal.FENCED)),
        Row("LEASE-9", Vacant, Release, always, refuse(Refusal.FENCED)),
        Row("LEASE-10", Held, End, ended, vacate),
        Row("LEASE-11", Held, End, still_live, refuse_held),
        Row("LEASE-12", Vacant, End, always, no_change),
        Row("LEASE-13", Held, Reclaim, reclaimable, vacate),
        Row("LEASE-14", Held, Reclaim, protected, refuse_held),
        Row("LEASE-15", Held, Reclaim, other_fence, refuse(Refusal.NOT_OBSERVED)),
        Row("LEASE-15", Vacant, Reclaim, always, refuse(Refusal.NOT_OBSERVED)),
        Row("LEASE-16", Held, Revoke, always, vacate),
        Row("LEASE-16", Vacant, Revoke, always, no_change),
        Row("LEASE-17", Held, FenceOff, always, raise_generation),
        Row("LEASE-17", Vacant, FenceOff, always, raise_generation),
    )
)
step = RULES.step
