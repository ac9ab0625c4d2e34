"""Grant, Revoke, Transfer and CancelOrphans: which sessions see a job.  Spec: specs/handle.md.

A grant is a row of the session that it is given to.  It has no effect on the job.
"""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from ...limits import GRANTS_MAX, OUTBOUND_MAX
from ...outcome import Decided, Drop, Insert, Refusal, Refused, Update
from ...queries import Command, Each, Get, Query, Reads, read
from ...records import ExecutedCommand, GrantsMoved, JobGrant, Phase, Session
from ...transcript import hash_parts
from ..hints import hints_of
from ..replay import check_command_id, replay
from ..send import NewOutbound, outbound_rows
from ..sendable import Sendable
from ..validation import validate_id
from .ask import CancelJob

__all__ = ["CancelOrphans", "Grant", "Granted", "Revoke", "Transfer"]


@frozen
class Granted:
    """How many of the grants are new, or are gone now."""

    since: ClassVar = 2
    count: int


@frozen
class GrantView:
    """The session, and its grants of the jobs that the command names."""

    session: Session | None
    grants: tuple[JobGrant | None, ...]


@frozen
class MoveView(GrantView):
    """Likewise, and what the command left when it was executed before."""

    executed: ExecutedCommand | None


def _grants(session_id: str, job_ids: tuple[str, ...]) -> Each[JobGrant | None]:
    return Each(tuple([Get(JobGrant, (session_id, each)) for each in job_ids[:GRANTS_MAX]]))


def _validate(job_ids: tuple[str, ...], most: int = GRANTS_MAX) -> str | None:
    """GRANT-2: return what is wrong with the jobs that a command names, or None."""
    if not 0 < len(job_ids) <= most:
        return f"{len(job_ids)} jobs; expected 1 to {most}"
    if len(set(job_ids)) < len(job_ids):
        return "a job is named twice"
    return next(filter(None, [validate_id("job_id", each) for each in job_ids]), None)


@frozen
class Grant(Command[GrantView, Granted]):
    """Let a session see jobs, at most 64.  Those that it sees already are left as they are.

    The jobs are not looked at: they are other aggregates.  Refusals: UNKNOWN_SESSION, PHASE, ILLEGAL.
    """

    since: ClassVar = 2
    session_id: str
    job_ids: tuple[str, ...]
    by: str = ""

    def reads(self) -> Reads[GrantView]:
        return read(
            GrantView, Get(Session, (self.session_id,)), _grants(self.session_id, self.job_ids)
        )

    def decide(self, view: GrantView, now_ms: int) -> Decided[Granted] | Refused:
        session = view.session
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "GRANT-1", self.session_id)
        if problem := _validate(self.job_ids) or (validate_id("by", self.by) if self.by else None):
            return Refused(Refusal.ILLEGAL, "GRANT-2", problem)
        if session.phase is Phase.DESTROYED:
            return Refused(Refusal.PHASE, "GRANT-3", session.phase.value)
        writes = _new(self.session_id, self.job_ids, view.grants, self.by, now_ms)
        return Decided(Granted(len(writes)), "GRANT-4", writes, replayed=not writes)


def _new(
    session_id: str,
    job_ids: tuple[str, ...],
    known: tuple[JobGrant | None, ...],
    by: str,
    now_ms: int,
) -> tuple[Insert, ...]:
    pairs = zip(job_ids, known, strict=True)
    return tuple(
        [Insert(JobGrant(session_id, each, by, now_ms)) for each, row in pairs if row is None]
    )


@frozen
class Revoke(Sendable, Command[GrantView, Granted]):
    """Take grants from a session, at most 64.  Those that it has not are left out.  Refusals: UNKNOWN_SESSION, ILLEGAL.

    `moved_to`, `moved_at_ms`: of the transfer that sends it; grants that are newer than that stay (GRANT-12).
    """

    since: ClassVar = 2
    id_field: ClassVar = "session_id"
    moot: ClassVar = (Refusal.UNKNOWN_SESSION,)
    session_id: str
    job_ids: tuple[str, ...]
    moved_to: str | None = None
    moved_at_ms: int | None = None

    def reads(self) -> Reads[GrantView]:
        return read(
            GrantView, Get(Session, (self.session_id,)), _grants(self.session_id, self.job_ids)
        )

    def decide(self, view: GrantView, now_ms: int) -> Decided[Granted] | Refused:
        if view.session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "GRANT-1", self.session_id)
        if problem := _validate(self.job_ids):
            return Refused(Refusal.ILLEGAL, "GRANT-2", problem)
        known = [row for row in view.grants if row is not None]
        taken = [row.job_id for row in known if self._takes(row)]
        writes = tuple([Drop(JobGrant, (self.session_id, job_id)) for job_id in taken])
        via = ("GRANT-12",) if len(taken) < len(known) else ()
        return Decided(Granted(len(writes)), "GRANT-5", writes, replayed=not writes, via=via)

    def _takes(self, row: JobGrant) -> bool:
        """GRANT-12: return whether a grant is older than the transfer, so that it has not come back since."""
        at_ms = self.moved_at_ms
        return at_ms is None or row.at_ms < at_ms or row.at_ms == at_ms and row.by != self.moved_to


class _Moving(Command[MoveView, GrantsMoved]):
    """A command that changes grants of one session, and sends commands to other aggregates."""

    __slots__ = ()
    name: ClassVar[str]
    command_id: str
    job_ids: tuple[str, ...]

    def reads(self) -> Reads[MoveView]:
        s = self.session_id
        executed: Query[ExecutedCommand | None] = Get(ExecutedCommand, (s, self.command_id))
        return read(MoveView, Get(Session, (s,)), _grants(s, self.job_ids), executed)

    def known(self, view: MoveView, *content: object) -> Decided[GrantsMoved] | Refused | None:
        """GRANT-6: answer a repetition, and refuse an id of another command."""
        digest = hash_parts(*self.job_ids, *content)
        executed = view.executed
        if refused := check_command_id(self.name, self.command_id, executed, view.session, digest):
            return refused
        if executed is not None:
            return replay(executed, GrantsMoved, "GRANT-6")
        return None

    def moved(
        self,
        session: Session,
        writes: tuple[Insert | Update | Drop, ...],
        sent: list[NewOutbound],
        now_ms: int,
        clause: str,
        *content: object,
    ) -> Decided[GrantsMoved]:
        """Return the decision that changes grants and sends commands."""
        after, rows = outbound_rows(session, sent, self.command_id, now_ms)
        outcome, digest = GrantsMoved(len(self.job_ids)), hash_parts(*self.job_ids, *content)
        at = (self.session_id, self.command_id, self.name, now_ms)
        executed = Insert(ExecutedCommand(*at, outcome, digest))
        hints = hints_of(session, after)
        return Decided(outcome, clause, (Update(after), *writes, *rows, executed), hints)


@frozen
class Transfer(_Moving):
    """Give a session the grants of another one, at most 64, all or nothing.  The other one loses them afterwards.

    Refusals: UNKNOWN_SESSION, PHASE, KEY_CONFLICT, ILLEGAL.
    """

    since: ClassVar = 2
    name: ClassVar = "transfer"
    session_id: str
    command_id: str
    from_session: str
    job_ids: tuple[str, ...]

    def decide(self, view: MoveView, now_ms: int) -> Decided[GrantsMoved] | Refused:
        if (known := self.known(view, self.from_session)) is not None:
            return known
        session = view.session
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "GRANT-1", self.session_id)
        if problem := _validate(self.job_ids) or validate_id("from_session", self.from_session):
            return Refused(Refusal.ILLEGAL, "GRANT-2", problem)
        if self.from_session == self.session_id:
            return Refused(Refusal.ILLEGAL, "GRANT-2", "from_session: it is the same session")
        if session.phase is Phase.DESTROYED:
            return Refused(Refusal.PHASE, "GRANT-3", session.phase.value)
        given = [JobGrant(self.session_id, i, self.from_session, now_ms) for i in self.job_ids]
        pairs = zip(given, view.grants, strict=True)
        writes = tuple([Insert(new) if old is None else Update(new) for new, old in pairs])
        revoke = NewOutbound(Revoke(self.from_session, self.job_ids, self.session_id, now_ms))
        return self.moved(session, writes, [revoke], now_ms, "GRANT-7", self.from_session)


@frozen
class CancelOrphans(_Moving):
    """Ask to cancel jobs that a destroyed session has left behind, at most 8.  It sees them no more.

    Refusals: UNKNOWN_SESSION, UNKNOWN_JOB, PHASE, KEY_CONFLICT, ILLEGAL.
    """

    since: ClassVar = 2
    name: ClassVar = "cancel_orphans"
    session_id: str
    command_id: str
    job_ids: tuple[str, ...]

    def decide(self, view: MoveView, now_ms: int) -> Decided[GrantsMoved] | Refused:
        if (known := self.known(view)) is not None:
            return known
        session = view.session
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "GRANT-1", self.session_id)
        if problem := _validate(self.job_ids, OUTBOUND_MAX):
            return Refused(Refusal.ILLEGAL, "GRANT-2", problem)
        if session.phase is not Phase.DESTROYED:
            return Refused(Refusal.PHASE, "GRANT-8", session.phase.value)
        for job_id, row in zip(self.job_ids, view.grants, strict=True):
            if row is None:
                return Refused(Refusal.UNKNOWN_JOB, "GRANT-9", job_id)
        drops = tuple([Drop(JobGrant, (self.session_id, each)) for each in self.job_ids])
        sent = [NewOutbound(CancelJob(each, "", self.session_id)) for each in self.job_ids]
        return self.moved(session, drops, sent, now_ms, "GRANT-10")
