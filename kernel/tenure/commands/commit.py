"""End a turn: one transaction completes the inputs, moves the transcript and hands over the lease.

Spec: specs/commit.md.
"""

from __future__ import annotations

import enum

from attrs import field, frozen

from .. import inbox
from .. import lease as lease_
from .. import run as run_
from ..outcome import Decided, Drop, Insert, Refusal, Refused, Update
from ..queries import Command, Each, Get, Reads, read
from ..records import Blob, Contributor, Run, Session, Stamp, Usage
from ..replace import replace
from ..transcript import NewNode, UsageDelta, hash_node, hash_parts, hash_text
from .begin import LIMIT_DEFAULT, PROMOTED_MAX
from .desk import Desk, desk
from .draft import Draft
from .grant import Begun, begun_of, bind, take_up
from .journal import grow, illegal_body, illegal_calls, presents
from .legal import illegal_id, illegal_limits, illegal_text

NODES_MAX = 32
USAGE_MAX = 8


class Then(enum.StrEnum):
    RELEASE = "release"
    NEXT = "next"  # keep the lease if there is something to begin


@frozen
class Committed:
    """`next` only under NEXT, and only while the fence presented is the session's."""

    revision: int
    next: Begun | None = None
    held: bool = False


@frozen
class Ending(Desk):
    run: Run | None
    usage: tuple[Usage | None, ...]
    blobs: tuple[Blob | None, ...]


@frozen
class Commit(Command[Ending, Committed]):
    """End the turn of a run.  Writes at most 64 places with their keys, 32 nodes, 8 usage rows, 64 places of the next.

    The same commit again is a replay, whoever holds the session by now; another one is refused STAMP_CONFLICT.
    Refusals besides: UNKNOWN_RUN, FENCED, STALE, CANCELLED, REVISION, ILLEGAL.
    """

    session_id: str
    fence: lease_.Fence
    run_id: str
    turn: int
    n: int
    expected_revision: int
    termination: run_.Termination = run_.Termination.FINISHED
    reason: str = ""
    nodes: tuple[NewNode, ...] = ()
    usage: tuple[UsageDelta, ...] = ()
    state: str | None = field(default=None, repr=lambda s: "None" if s is None else f"<{len(s)}>")
    then: Then = Then.RELEASE
    next_run_id: str | None = None
    limit: int = LIMIT_DEFAULT
    limit_bytes: int = inbox.GROUP_BYTES

    def reads(self) -> Reads[Ending]:
        s = self.session_id
        more = self.then is Then.NEXT
        ready = min(max(self.limit, 1), inbox.GROUP_MAX) + 1 if more else 1
        digests = () if self.state is None else (hash_text(self.state),)
        return read(
            Ending,
            *desk(s, ready=ready, delayed=PROMOTED_MAX + 1 if more else 1),
            Get(Run, (s, self.run_id)),
            Each(tuple([Get(Usage, (s, u.source, u.model)) for u in self.usage])),
            Each(tuple([Get(Blob, (s, digest)) for digest in digests])),
        )

    def decide(self, view: Ending, now_ms: int) -> Decided[Committed] | Refused:
        session, run = view.session, view.run
        if session is None or run is None:
            return Refused(Refusal.UNKNOWN_RUN, "COMMIT-1", self.run_id)
        contents = [hash_node(node) for node in self.nodes]
        digest = self.digest(run.contributors, contents)
        if run.stamp is not None and run.stamp.turn == self.turn:
            return self._again(view, session, run.stamp, digest)
        if refused := self._refused(session, run):
            return refused
        draft = Draft.on(view, session, now_ms, self.fence.lease_id)
        draft.via.append("LEASE-7")
        tip, nodes = grow(session, run, self.n, self.nodes, contents, now_ms)
        revision = session.revision + 1
        draft.session = replace(session, revision=revision, leaf=tip or session.leaf)
        draft.writes += [Insert(node) for node in nodes]
        self._keep_state(draft, view.blobs)
        self._count_usage(draft, view.usage)
        lease_id = self.fence.lease_id
        stamp = Stamp(self.turn, digest, revision, lease_id, self.next_run_id)
        stamped = replace(run, tip=tip, stamp=stamp)
        cancel = session.cancel
        if cancel is not None and not run.progress and tip is None:
            draft.end_cancelled(stamped, cancel.how, cancel.by)
        else:
            draft.finish(stamped, self.termination, self.reason)
        return self._hand_over(draft, revision)

    def digest(
        self, contributors: tuple[Contributor, ...], contents: list[tuple[object, ...]]
    ) -> str:
        """COMMIT-2: what a stamp vouches for; ids of nodes, times, usage and the continuation are outside."""
        return hash_parts(
            self.run_id,
            self.turn,
            [c.input_id for c in contributors],
            [self.termination.value, self.reason],
            contents,
            None if self.state is None else hash_text(self.state),
        )

    def _again(
        self, view: Ending, session: Session, stamp: Stamp, digest: str
    ) -> Decided[Committed] | Refused:
        if stamp.digest != digest:
            return Refused(Refusal.STAMP_CONFLICT, "COMMIT-4", stamp)
        next_ = next((r for r in view.runs if r.run_id == session.lease_run), None)
        lease = session.lease
        held = (
            next_ is not None
            and stamp.lease_id == self.fence.lease_id
            and isinstance(lease, lease_.Held)
            and lease.lease_id == self.fence.lease_id
        )
        if not held or next_ is None:
            return Decided(Committed(stamp.revision), "COMMIT-3", replayed=True)
        begun = begun_of(session, next_, resumed=next_.run_id != stamp.next_run)
        return Decided(Committed(stamp.revision, begun, True), "COMMIT-3", replayed=True)

    def _refused(self, session: Session, run: Run) -> Refused | None:
        if refused := presents(session, self.fence, self.run_id):
            return refused
        if (self.turn, self.n) != (run.turn, run.n):
            return Refused(Refusal.STALE, "COMMIT-5", (run.turn, run.n))
        cancel = session.cancel
        if cancel is not None and self.termination is not run_.Termination.CANCELLED:
            return Refused(Refusal.CANCELLED, "COMMIT-6", cancel)
        if self.expected_revision != session.revision:
            return Refused(Refusal.REVISION, "COMMIT-7", session.revision)
        if problem := self._illegal():
            return Refused(Refusal.ILLEGAL, "COMMIT-8", problem)
        return None

    def _illegal(self) -> str | None:
        if self.termination in (run_.Termination.SPLIT, run_.Termination.SUPERSEDED):
            return f"termination {self.termination.value} is the kernel's"
        if self.termination is run_.Termination.ERROR:
            return "termination error: a run ends in error by Fail"
        if self.then is Then.NEXT and self.next_run_id is None:
            return "then=NEXT without next_run_id"
        if self.next_run_id is not None and (
            problem := illegal_id("next_run_id", self.next_run_id)
        ):
            return problem
        if len(self.nodes) > NODES_MAX or len(self.usage) > USAGE_MAX:
            return (
                f"{len(self.nodes)} nodes, {len(self.usage)} usages; "
                f"at most {NODES_MAX} and {USAGE_MAX}"
            )
        problem = (
            illegal_text("reason", self.reason)
            or illegal_limits(self.limit, self.limit_bytes)
            or illegal_calls(self.nodes)
            or next((p for p in map(illegal_usage, self.usage) if p), None)
        )
        if problem is not None:
            return problem
        bodies = [node.body for node in self.nodes] + ([self.state] if self.state else [])
        return next((p for p in map(illegal_body, bodies) if p), None)

    def _keep_state(self, draft: Draft, known: tuple[Blob | None, ...]) -> None:
        """TRANSCRIPT-5: the state is a blob named by its digest; the one before is dropped."""
        if self.state is None:
            return
        digest, old = hash_text(self.state), draft.session.state_digest
        if digest == old:
            return
        if known[0] is None:
            draft.writes.append(Insert(Blob(self.session_id, digest, self.state)))
        if old is not None:
            draft.writes.append(Drop(Blob, (self.session_id, old)))
        draft.session = replace(draft.session, state_digest=digest)

    def _count_usage(self, draft: Draft, known: tuple[Usage | None, ...]) -> None:
        totals = {(u.source, u.model): u for u in known if u is not None}
        fresh = {(d.source, d.model) for d in self.usage} - totals.keys()
        for d in self.usage:
            at = (d.source, d.model)
            t = totals.get(at) or Usage(self.session_id, d.source, d.model)
            totals[at] = Usage(
                t.session_id, t.source, t.model, t.requests + d.requests,
                t.input_tokens + d.input_tokens, t.output_tokens + d.output_tokens,
                t.cached_tokens + d.cached_tokens, t.reasoning_tokens + d.reasoning_tokens,
            )  # fmt: skip
        for at in dict.fromkeys((d.source, d.model) for d in self.usage):
            draft.writes.append((Insert if at in fresh else Update)(totals[at]))

    def _hand_over(self, draft: Draft, revision: int) -> Decided[Committed]:
        """COMMIT-10, COMMIT-11: the lease ends here, or goes on with what comes next."""
        held = draft.session.lease
        if self.then is Then.NEXT and self.next_run_id is not None:
            if draft.session.phase in inbox.FULL:
                draft.promote(PROMOTED_MAX)
            step = inbox.walk(draft.session, draft.runs, draft.ready, draft.now_ms)
            if not isinstance(step, inbox.Wait):
                draft.session = replace(draft.session, lease_run=None)
                resumed = isinstance(step, inbox.TakeUp)
                if isinstance(step, inbox.TakeUp):
                    run = take_up(draft, step.run)
                else:
                    group = inbox.form(draft.ready[step.lane], self.limit, self.limit_bytes)
                    run = bind(draft, group, self.next_run_id)
                draft.session = replace(draft.session, lease_run=run.run_id)
                begun = begun_of(draft.session, run, resumed=resumed)
                return draft.decided(Committed(revision, begun, True), "COMMIT-11")
        fence = self.fence
        draft.vacate(lease_.step(held, lease_.Release(fence.generation, fence.lease_id)))
        return draft.decided(Committed(revision), "COMMIT-10")


def illegal_usage(usage: UsageDelta) -> str | None:
    counts = (
        usage.requests, usage.input_tokens, usage.output_tokens,
        usage.cached_tokens, usage.reasoning_tokens,
    )  # fmt: skip
    if min(counts) < 0:
        return f"usage below 0: {usage}"
    return illegal_id("usage source", usage.source) or illegal_id("usage model", usage.model)
