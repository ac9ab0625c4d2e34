"""The verdict on a job: what may be done with it now, as a table of ten rules.  Spec: specs/job.md.

Exactly one rule holds in every case.  No rule reads a time: a lease that is over is no evidence of death.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from attrs import frozen

from .job_records import Job
from .machines import job as job_
from .machines import lease as lease_
from .records import Session

__all__ = ["RULES", "Facts", "LeaseNow", "Observed", "Rule", "Verdict", "facts_of", "judge"]


@frozen
class Observed:
    """What was observed about an owner that the row of a job names."""

    since: ClassVar = 2
    owner: lease_.Owner
    evidence: lease_.Evidence


class LeaseNow(enum.Enum):
    """The lease of a job at the time of the verdict."""

    NONE = "none"
    OVER = "over"
    LIVE = "live"


class Verdict(enum.Enum):
    """What is done with a job."""

    SKIP = "skip"  # there is nothing to do
    DEFER = "defer"  # its holder may be at work
    ABANDON = "abandon"
    LEAVE = "leave"  # nobody knows: it stays as it is, and a person may ask to abandon it
    CANCEL = "cancel"
    TAKE = "take"


@frozen
class Facts:
    """All that a verdict depends on."""

    disposition: job_.Disposition
    ended: bool
    started: bool
    lease: LeaseNow
    holder_dead: bool
    starter_dead: bool
    request: bool
    cancel: bool

    @property
    def external(self) -> bool:
        return self.disposition is job_.Disposition.EXTERNAL

    @property
    def defers(self) -> bool:
        return self.lease is LeaseNow.LIVE and not self.holder_dead

    @property
    def free(self) -> bool:
        """Neither of the first three rules holds."""
        return not (self.ended or (self.external and not self.request) or self.defers)

    @property
    def bound(self) -> bool:
        """Owner-bound work that was started: it never starts again."""
        return self.disposition is job_.Disposition.OWNER_BOUND and self.started

    @property
    def dead(self) -> bool:
        return self.holder_dead or self.starter_dead

    @property
    def may_start(self) -> bool:
        return self.free and not self.external and not self.bound


@frozen
class Rule:
    """One rule: if `holds`, the verdict applies.  `writer`: why the job is abandoned."""

    clause: str
    holds: Callable[[Facts], bool]
    verdict: Verdict
    writer: job_.Writer | None = None
    names_owners: bool = False


SWEEP, REQUEST = job_.Writer.SWEEP, job_.Writer.REQUEST

RULES: Final[tuple[Rule, ...]] = (
    Rule("VERDICT-1", lambda f: f.ended, Verdict.SKIP),
    Rule("VERDICT-2", lambda f: not f.ended and f.external and not f.request, Verdict.SKIP),
    Rule(
        "VERDICT-3",
        lambda f: not f.ended and f.defers and not (f.external and not f.request),
        Verdict.DEFER,
    ),
    Rule("VERDICT-4", lambda f: f.free and f.external, Verdict.ABANDON, REQUEST),
    Rule("VERDICT-5", lambda f: f.free and f.bound and f.dead, Verdict.ABANDON, SWEEP, True),
    Rule(
        "VERDICT-6",
        lambda f: f.free and f.bound and not f.dead and f.request,
        Verdict.ABANDON,
        REQUEST,
        True,
    ),
    Rule("VERDICT-7", lambda f: f.free and f.bound and not f.dead and not f.request, Verdict.LEAVE),
    Rule("VERDICT-8", lambda f: f.may_start and f.request, Verdict.ABANDON, REQUEST),
    Rule("VERDICT-9", lambda f: f.may_start and not f.request and f.cancel, Verdict.CANCEL),
    Rule("VERDICT-10", lambda f: f.may_start and not f.request and not f.cancel, Verdict.TAKE),
)


def judge(facts: Facts) -> Rule:
    """Return the rule that holds."""
    return next(rule for rule in RULES if rule.holds(facts))


def facts_of(session: Session, job: Job, observed: Sequence[Observed], now_ms: int) -> Facts:
    """Return what a verdict depends on, from the rows behind the lock and what was observed.

    Evidence counts only for the exact owner that a row names, its holder or its starter.
    """
    lease = session.lease
    holder = lease.owner if isinstance(lease, lease_.Held) else None
    now = LeaseNow.NONE
    if isinstance(lease, lease_.Held):
        now = LeaseNow.LIVE if lease_.live_at(lease, now_ms) else LeaseNow.OVER
    dead = [each.owner for each in observed if each.evidence is lease_.Evidence.DEAD]
    return Facts(
        disposition=job.disposition,
        ended=isinstance(job.state, job_.Ended),
        started=job.starter is not None,
        lease=now,
        holder_dead=holder is not None and holder in dead,
        starter_dead=job.starter is not None and job.starter in dead,
        request=job.request is not None,
        cancel=job.cancel is not None,
    )
