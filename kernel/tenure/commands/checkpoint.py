"""Checkpoint: make progress durable before an effect depends on it.  Spec: specs/journal.md."""

from __future__ import annotations

from attrs import field, frozen

from ..event import Event, EventKind
from ..indexes import JOURNAL_ENTRIES
from ..limits import CHECKPOINT_ENTRIES_MAX, CHECKPOINT_NODES_MAX
from ..machines import lease as lease_
from ..machines import run as run_
from ..outcome import Decided, Drop, Insert, Refusal, Refused, Update, Write
from ..queries import Command, Each, First, Get, Reads, read
from ..records import Blob, Cancel, EntryKind, EventBatch, JournalEntry, Node, Run, Session, Usage
from ..replace import replace
from ..transcript import NewNode, Tip, UsageDelta, hash_node, hash_parts, hash_text
from .nodes import append_nodes, open_calls_after, validate_body, validate_nodes
from .usage import count_usage, usage_queries, validate_usage
from .validation import validate_text

__all__ = ["Checkpoint", "Checkpointed", "NewEntry", "check_fence"]


NOTE_MAX = 2_000
EFFECT_ID_MAX = 400  # characters; may contain blanks


@frozen
class NewEntry:
    """An entry for the journal.  `effect_id` names the step within the run; `body` is opaque text."""

    kind: EntryKind
    effect_id: str
    body: str = field(default="", repr=lambda b: repr(b) if len(b) < 80 else f"<{len(b)}>")


@frozen
class Checkpointed:
    """`n` is the number of the next checkpoint.  `held` False: a replay, and the fence is no longer valid."""

    n: int
    tip: Tip | None
    cancel: Cancel | None = None
    held: bool = True


@frozen
class CheckpointView:
    """The session, the run, and the rows that this checkpoint may have written or must change."""

    session: Session | None
    run: Run | None
    written: tuple[JournalEntry, ...]
    usage: tuple[Usage | None, ...]
    blobs: tuple[Blob | None, ...]


@frozen
class Checkpoint(Command[CheckpointView, Checkpointed]):
    """Write at most 64 journal entries and 64 provisional nodes of a running run.

    `usage` counts model usage, `environment` is the model request's environment as text.
    The START entry of a once step must be stored before the step runs.  Refusals: FENCED, STALE, CANCELLED, UNKNOWN_RUN,
    ILLEGAL.
    """

    session_id: str
    fence: lease_.Fence
    run_id: str
    turn: int
    n: int
    entries: tuple[NewEntry, ...] = ()
    nodes: tuple[NewNode, ...] = ()
    usage: tuple[UsageDelta, ...] = ()
    environment: str | None = field(
        default=None, repr=lambda e: "None" if e is None else f"<{len(e)}>"
    )

    def reads(self) -> Reads[CheckpointView]:
        s = self.session_id
        return read(
            CheckpointView,
            Get(Session, (s,)),
            Get(Run, (s, self.run_id)),
            First(JOURNAL_ENTRIES, (s, self.run_id, self.turn, self.n), 1),
            usage_queries(s, self.usage),
            Each(
                () if self.environment is None else (Get(Blob, (s, hash_text(self.environment))),)
            ),
        )

    def decide(self, view: CheckpointView, now_ms: int) -> Decided[Checkpointed] | Refused:
        session, run = view.session, view.run
        if session is None or run is None:
            return Refused(Refusal.UNKNOWN_RUN, "JOURNAL-1", self.run_id)
        contents = [hash_node(node) for node in self.nodes]
        digest = self.digest(contents)
        if view.written:
            first = view.written[0]
            if first.lease_id == self.fence.lease_id and first.digest == digest:
                held = check_fence(session, self.fence, self.run_id) is None
                answer = Checkpointed(self.n + 1, run.tip, self._cancel(session), held)
                return Decided(answer, "JOURNAL-2", replayed=True)
        if refused := self._refused(session, run):
            return refused
        return self._write(view, session, run, digest, contents, now_ms)

    def _refused(self, session: Session, run: Run) -> Refused | None:
        if refused := check_fence(session, self.fence, self.run_id):
            return refused
        if (self.turn, self.n) != (run.turn, run.next_checkpoint):
            return Refused(Refusal.STALE, "JOURNAL-3", (run.turn, run.next_checkpoint))
        if problem := self._validate(run.open_calls):
            return Refused(Refusal.ILLEGAL, "JOURNAL-4", problem)
        starts = any(e.kind is EntryKind.START for e in self.entries)
        if starts and session.cancel is not None:
            return Refused(Refusal.CANCELLED, "JOURNAL-5", session.cancel)
        return None

    def _cancel(self, session: Session) -> Cancel | None:
        cancel = session.cancel
        return cancel if cancel is not None and cancel.run_id == self.run_id else None

    def _validate(self, open_calls: tuple[str, ...]) -> str | None:
        if len(self.entries) > CHECKPOINT_ENTRIES_MAX or len(self.nodes) > CHECKPOINT_NODES_MAX:
            return f"{len(self.entries)} entries, {len(self.nodes)} nodes; at most 64 of each"
        for entry in self.entries:
            if problem := validate_text("effect_id", entry.effect_id, EFFECT_ID_MAX):
                return problem
        bodies = [e.body for e in self.entries] + ([self.environment] if self.environment else [])
        return (
            validate_nodes(open_calls, self.nodes)
            or validate_usage(self.usage)
            or next((p for p in map(validate_body, bodies) if p), None)
        )

    def digest(self, contents: list[tuple[object, ...]]) -> str:
        """Return the digest by which a repetition is recognised."""
        return hash_parts(
            [[e.kind.value, e.effect_id, hash_text(e.body)] for e in self.entries],
            contents,
        )

    def _write(
        self,
        view: CheckpointView,
        session: Session,
        run: Run,
        digest: str,
        contents: list[tuple[object, ...]],
        now_ms: int,
    ) -> Decided[Checkpointed]:
        if not self.entries and not self.nodes:
            answer = Checkpointed(self.n, run.tip, self._cancel(session))
            return Decided(answer, "JOURNAL-6")
        tip, nodes = append_nodes(session, run, self.n, self.nodes, contents, now_ms)
        stepped = run_.step(run.state, run_.Record())
        assert not isinstance(stepped, Refused)
        after = replace(
            run, state=stepped.state, next_checkpoint=self.n + 1, retry=run.retry.reset(), progress=True, tip=tip,
            open_calls=open_calls_after(run.open_calls, self.nodes),
            reversible=self._reversible(run),
        )  # fmt: skip
        changed = replace(session, open_run=run.run_id)
        changed, writes = self._store_environment(changed, view)
        writes += count_usage(self.session_id, self.usage, view.usage)
        writes += [Insert(e) for e in self._lines(digest, nodes)]
        writes += [Insert(node) for node in nodes]
        changed, event = self._append_events(changed, now_ms)
        writes = [Update(after), *writes, *event]
        if changed != session:
            changed = replace(changed, changed_at_ms=max(now_ms, session.changed_at_ms))
            writes.insert(0, Update(changed))
        answer = Checkpointed(self.n + 1, tip, self._cancel(session))
        return Decided(answer, "JOURNAL-7", tuple(writes), via=(stepped.clause,))

    def _reversible(self, run: Run) -> bool | None:
        """CANCEL-14: return whether the run can be rolled back: no checkpoint of it has started a once step."""
        starts = any(e.kind is EntryKind.START for e in self.entries)
        return True if not starts and (run.reversible or not run.progress) else None

    def _store_environment(
        self, session: Session, view: CheckpointView
    ) -> tuple[Session, list[Write]]:
        """JOURNAL-8: store the environment as a blob named by its digest, and drop the former blob."""
        old = session.environment_digest
        digest = old if self.environment is None else hash_text(self.environment)
        if digest is None or digest == old:
            return session, []
        assert self.environment is not None
        known = view.blobs[0]
        writes: list[Write] = []
        if known is None:
            writes.append(Insert(Blob(self.session_id, digest, self.environment)))
        if old is not None and old != session.state_digest:
            writes.append(Drop(Blob, (self.session_id, old)))
        return replace(session, environment_digest=digest), writes

    def _append_events(self, session: Session, now_ms: int) -> tuple[Session, list[Write]]:
        """JOURNAL-9: append an event for each note.  A session with a sink becomes due, to publish it."""
        notes = [e.body for e in self.entries if e.kind is EntryKind.NOTE]
        if not notes:
            return session, []
        kind, seq = EventKind.REPLAY_DIFFERED, session.next_event
        events = tuple([Event(kind, self.run_id, (), note[:NOTE_MAX]) for note in notes])
        batch = EventBatch(self.session_id, seq, now_ms, self.fence.lease_id, events)
        due = session.due_at_ms if session.published is None else 0
        session = replace(session, next_event=seq + len(events), due_at_ms=due)
        return session, [Insert(batch)]

    def _lines(self, digest: str, nodes: tuple[Node, ...]) -> list[JournalEntry]:
        lease_id = self.fence.lease_id
        key = (self.session_id, self.run_id, self.turn, self.n)
        lines = [
            JournalEntry(*key, i, e.kind, e.effect_id, lease_id, digest, None, e.body)
            for i, e in enumerate(self.entries)
        ]
        return lines + [
            JournalEntry(*key, i, EntryKind.NODE, node.node_id, lease_id, digest, node.node_id)
            for i, node in enumerate(nodes, len(lines))
        ]


def check_fence(session: Session, fence: lease_.Fence, run_id: str | None) -> Refused | None:
    """LEASE-7, LEASE-9: refuse a fence that is not the session's, or whose lease works on another run."""
    outcome = lease_.step(session.lease, lease_.Use(fence.generation, fence.lease_id))
    if isinstance(outcome, Refused):
        return outcome
    if fence.session_id != session.session_id or session.lease_run != run_id:
        return Refused(Refusal.FENCED, "LEASE-25", session.lease_run)
    return None
