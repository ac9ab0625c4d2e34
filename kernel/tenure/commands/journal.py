"""Make progress durable before the effect that depends on it.  Spec: specs/journal.md."""

from __future__ import annotations

from attrs import field, frozen

from .. import lease as lease_
from .. import run as run_
from ..failure import UNTROUBLED
from ..indexes import ENTRIES
from ..outcome import Decided, Insert, Refusal, Refused, Update, Write
from ..queries import Command, First, Get, Reads, read
from ..records import Cancel, Entry, EntryKind, Node, Run, Session
from ..replace import replace
from ..transcript import NewNode, Tip, extend_path, hash_node, hash_parts, hash_text
from .legal import illegal_id, illegal_text

ENTRIES_MAX = 64
NODES_MAX = 64
EFFECT_ID_MAX = 400  # characters; a name that people gave, blanks and all
BODY_BYTES_MAX = 10_000_000


@frozen
class NewEntry:
    """`effect_id` names the step within the run; `body` is the report, opaque."""

    kind: EntryKind
    effect_id: str
    body: str = field(default="", repr=lambda b: repr(b) if len(b) < 80 else f"<{len(b)}>")


@frozen
class Checkpointed:
    """`n` is the number expected next.  `held` False: this was a replay and the session is another's by now."""

    n: int
    tip: Tip | None
    cancel: Cancel | None = None
    held: bool = True


@frozen
class Ledger:
    session: Session | None
    run: Run | None
    written: tuple[Entry, ...]


@frozen
class Checkpoint(Command[Ledger, Checkpointed]):
    """Write journal entries and provisional nodes of a run under way; at most 64 of each.

    A mark of a once step must be answered before the step runs.  Refusals: FENCED, STALE, CANCELLED, UNKNOWN_RUN,
    ILLEGAL.
    """

    session_id: str
    fence: lease_.Fence
    run_id: str
    turn: int
    n: int
    entries: tuple[NewEntry, ...] = ()
    nodes: tuple[NewNode, ...] = ()

    def reads(self) -> Reads[Ledger]:
        s = self.session_id
        return read(
            Ledger,
            Get(Session, (s,)),
            Get(Run, (s, self.run_id)),
            First(ENTRIES, (s, self.run_id, self.turn, self.n), 1),
        )

    def decide(self, view: Ledger, now_ms: int) -> Decided[Checkpointed] | Refused:
        session, run = view.session, view.run
        if session is None or run is None:
            return Refused(Refusal.UNKNOWN_RUN, "JOURNAL-1", self.run_id)
        contents = [hash_node(node) for node in self.nodes]
        digest = self.digest(contents)
        if view.written:
            first = view.written[0]
            if first.lease_id == self.fence.lease_id and first.digest == digest:
                held = presents(session, self.fence, self.run_id) is None
                answer = Checkpointed(self.n + 1, run.tip, self._cancel(session), held)
                return Decided(answer, "JOURNAL-2", replayed=True)
        if refused := self._refused(session, run):
            return refused
        return self._write(session, run, digest, contents, now_ms)

    def _refused(self, session: Session, run: Run) -> Refused | None:
        if refused := presents(session, self.fence, self.run_id):
            return refused
        if (self.turn, self.n) != (run.turn, run.n):
            return Refused(Refusal.STALE, "JOURNAL-3", (run.turn, run.n))
        if problem := self._illegal():
            return Refused(Refusal.ILLEGAL, "JOURNAL-4", problem)
        starts = any(e.kind is EntryKind.START for e in self.entries)
        if starts and session.cancel is not None:
            return Refused(Refusal.CANCELLED, "JOURNAL-5", session.cancel)
        return None

    def _cancel(self, session: Session) -> Cancel | None:
        cancel = session.cancel
        return cancel if cancel is not None and cancel.run_id == self.run_id else None

    def _illegal(self) -> str | None:
        if len(self.entries) > ENTRIES_MAX or len(self.nodes) > NODES_MAX:
            return f"{len(self.entries)} entries, {len(self.nodes)} nodes; at most 64 of each"
        for entry in self.entries:
            if problem := illegal_text("effect_id", entry.effect_id, EFFECT_ID_MAX):
                return problem
        if problem := illegal_calls(self.nodes):
            return problem
        for body in (*[e.body for e in self.entries], *[n.body for n in self.nodes]):
            if problem := illegal_body(body):
                return problem
        return None

    def digest(self, contents: list[tuple[object, ...]]) -> str:
        return hash_parts(
            [[e.kind.value, e.effect_id, hash_text(e.body)] for e in self.entries],
            contents,
        )

    def _write(
        self,
        session: Session,
        run: Run,
        digest: str,
        contents: list[tuple[object, ...]],
        now_ms: int,
    ) -> Decided[Checkpointed]:
        if not self.entries and not self.nodes:
            answer = Checkpointed(self.n, run.tip, self._cancel(session))
            return Decided(answer, "JOURNAL-6")
        tip, nodes = grow(session, run, self.n, self.nodes, contents, now_ms)
        stepped = run_.step(run.state, run_.Record())
        assert not isinstance(stepped, Refused)
        after = replace(
            run, state=stepped.state, n=self.n + 1, trouble=UNTROUBLED, progress=True, tip=tip
        )
        writes: list[Write] = [Update(after)]
        if session.open_run is None:
            opened = replace(
                session, open_run=run.run_id, changed_at_ms=max(now_ms, session.changed_at_ms)
            )
            writes.insert(0, Update(opened))
        writes += [Insert(e) for e in self._lines(digest, nodes)]
        writes += [Insert(node) for node in nodes]
        answer = Checkpointed(self.n + 1, tip, self._cancel(session))
        return Decided(answer, "JOURNAL-7", tuple(writes), via=(stepped.clause,))

    def _lines(self, digest: str, nodes: tuple[Node, ...]) -> list[Entry]:
        lease_id = self.fence.lease_id
        key = (self.session_id, self.run_id, self.turn, self.n)
        lines = [
            Entry(*key, i, e.kind, e.effect_id, lease_id, digest, None, e.body)
            for i, e in enumerate(self.entries)
        ]
        return lines + [
            Entry(*key, i, EntryKind.NODE, node.node_id, lease_id, digest, node.node_id)
            for i, node in enumerate(nodes, len(lines))
        ]


def presents(session: Session, fence: lease_.Fence, run_id: str | None) -> Refused | None:
    """LEASE-7, LEASE-9: is this fence the session's, and does it work on this run?"""
    outcome = lease_.step(session.lease, lease_.Use(fence.generation, fence.lease_id))
    if isinstance(outcome, Refused):
        return outcome
    if fence.session_id != session.session_id or session.lease_run != run_id:
        return Refused(Refusal.FENCED, "LEASE-25", session.lease_run)
    return None
