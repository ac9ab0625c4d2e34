"""Checkpoint: make progress durable before an effect depends on it.  Spec: specs/journal.md."""

from __future__ import annotations

from typing import ClassVar, Final

from attrs import field, frozen

from ..event import Event, EventKind
from ..indexes import JOURNAL_ENTRIES, READY
from ..limits import (
    ATTACHED_MAX,
    CHECKPOINT_ENTRIES_MAX,
    CHECKPOINT_NODES_MAX,
    CHECKPOINT_ROWS_MAX,
    RUN_INPUTS_MAX,
)
from ..machines import lease as lease_
from ..machines import run as run_
from ..outcome import Decided, Insert, Refusal, Refused, Update, Write
from ..policy import Boundary, Lane
from ..queries import Command, Each, First, Get, Query, Reads, read
from ..records import (
    Attachment,
    Blob,
    Cancel,
    EntryKind,
    EventBatch,
    JournalEntry,
    Node,
    QueueEntry,
    Run,
    Session,
    Ticket,
    Usage,
)
from ..replace import replace
from ..scheduling import unpublished_since_ms
from ..transcript import (
    INPUTS_NODE,
    NewNode,
    Tip,
    UsageDelta,
    hash_node,
    hash_parts,
    hash_text,
)
from .attached import attach, attachment_queries, refuse_unknown, validate_ids
from .attachment_counts import count_attachments
from .contributors import apply_to, is_targeted
from .hints import hints_of
from .nodes import append_nodes, first_number, open_calls_after, validate_body, validate_nodes
from .replay import not_found
from .send import NewOutbound, hash_outbound, outbound_rows, validate_outbound
from .states import store_environment
from .steering import no_targets, takeable, targeted_queries
from .tickets import NewTicket, open_tickets, ticket_queries, validate_tickets
from .usage import count_usage, usage_queries, validate_usage
from .validation import validate_text

__all__ = [
    "Checkpoint",
    "Checkpointed",
    "NewEntry",
    "check_fence",
    "validate_effect_id",
]


NOTE_MAX = 2_000
MADE_BY_KERNEL: Final = (EntryKind.TAKEN, EntryKind.TICKET, EntryKind.WAIT)
EFFECT_ID_MAX = 400  # characters; may contain blanks


@frozen
class NewEntry:
    """An entry for the journal.  `effect_id` names the step within the run; `body` is opaque text."""

    kind: EntryKind
    effect_id: str
    body: str = field(default="", repr=lambda b: repr(b) if len(b) < 80 else f"<{len(b)}>")


@frozen
class Checkpointed:
    """`n` is the number of the next checkpoint.  `held` False: a replay, and the fence is no longer valid.

    `inputs`: what the checkpoint has taken.  `more`: another one would take more.
    """

    n: int
    tip: Tip | None
    cancel: Cancel | None = None
    held: bool = True
    inputs: tuple[str, ...] = ()
    more: bool = False


@frozen
class CheckpointView:
    """The session, the run, and the rows that this checkpoint may have written or must change."""

    session: Session | None
    run: Run | None
    written: tuple[JournalEntry, ...]
    usage: tuple[Usage | None, ...]
    blobs: tuple[Blob | None, ...]
    targeted: tuple[tuple[QueueEntry, ...], ...]
    users: tuple[QueueEntry, ...]
    systems: tuple[QueueEntry, ...]
    known: tuple[Ticket | None, ...]
    attached: tuple[Attachment | None, ...] = ()


@frozen
class Checkpoint(Command[CheckpointView, Checkpointed]):
    """Write at most 64 journal entries and 64 provisional nodes of a running run.

    `usage` counts model usage, `environment` is the model request's environment as text.
    The START entry of a once step must be stored before the step runs.
    `tickets`: opens them, for ids that are to be sent out before the run waits (TICKET-6).
    `take`: also take at most `take_max` inputs, at this boundary, under the effect id `take_id` (JOURNAL-32).
    `attach`: also attach these attachments, at most 32, beside at least one entry or node.
    Refusals: FENCED, STALE, CANCELLED, UNKNOWN_RUN, ILLEGAL, UNKNOWN_ATTACHMENT.
    """

    added: ClassVar = {
        "take": 2,
        "take_max": 2,
        "take_id": 2,
        "tickets": 2,
        "attach": 2,
        "outbound": 2,
    }
    ignorable: ClassVar = (
        "take",
        "take_max",
        "take_id",
    )
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
    take: Boundary | None = None
    take_max: int = RUN_INPUTS_MAX
    take_id: str = ""
    tickets: tuple[NewTicket, ...] = ()
    attach: tuple[str, ...] = ()
    outbound: tuple[NewOutbound, ...] = ()

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
            no_targets()
            if self.take is None
            else targeted_queries(s, self.run_id, self.take, self._most + 1),
            self._heads(Lane.USER, "ready_user_count"),
            self._heads(Lane.SYSTEM, "ready_system_count"),
            ticket_queries(s, [new.ticket_id for new in self.tickets]),
            attachment_queries(s, self.attach),
        )

    @property
    def _most(self) -> int:
        """How many inputs it may take, if they fit."""
        return min(max(self.take_max, 1), RUN_INPUTS_MAX)

    def _heads(self, lane: Lane, counted: str) -> Query[tuple[QueueEntry, ...]]:
        if self.take is None:
            return Each(())
        return First(READY, (self.session_id, lane), self._most + 1, counted=counted)

    def decide(self, view: CheckpointView, now_ms: int) -> Decided[Checkpointed] | Refused:
        session, run = view.session, view.run
        if session is None or run is None:
            return not_found(session, Refusal.UNKNOWN_RUN, "JOURNAL-1", self.run_id)
        contents = [hash_node(node) for node in self.nodes]
        digest = self.digest(contents)
        if view.written:
            first = view.written[0]
            if first.lease_id == self.fence.lease_id and first.digest == digest:
                return Decided(self._again(view, session, run), "JOURNAL-2", replayed=True)
        if run.pruned:
            return Refused(Refusal.PRUNED, "RETENTION-10", self.run_id)
        if refused := self._refused(session, run, view, now_ms):
            return refused
        return self.write(view, session, run, digest, contents, now_ms)

    def _refused(
        self, session: Session, run: Run, view: CheckpointView, now_ms: int
    ) -> Refused | None:
        if refused := check_fence(session, self.fence, self.run_id):
            return refused
        if (self.turn, self.n) != (run.turn, run.next_checkpoint):
            return Refused(Refusal.STALE, "JOURNAL-3", (run.turn, run.next_checkpoint))
        if problem := self.problem(run, view.known, now_ms):
            return Refused(Refusal.ILLEGAL, "JOURNAL-4", problem)
        if refused := refuse_unknown(self.attach, view.attached):
            return refused
        starts = any(e.kind is EntryKind.START for e in self.entries)
        if starts and session.cancel is not None:
            return Refused(Refusal.CANCELLED, "JOURNAL-5", session.cancel)
        return None

    def _again(self, view: CheckpointView, session: Session, run: Run) -> Checkpointed:
        """JOURNAL-2, JOURNAL-37: return the answer to a repetition."""
        held = check_fence(session, self.fence, self.run_id) is None
        inputs = tuple([c.input_id for c in run.contributors if c.checkpoint == self.n])
        more = held and bool(self._takeable(view, session, run, run.open_calls))
        return Checkpointed(self.n + 1, run.tip, self._cancel(session), held, inputs, more)

    def _takeable(
        self, view: CheckpointView, session: Session, run: Run, open_calls: tuple[str, ...]
    ) -> list[QueueEntry]:
        if self.take is None:
            return []
        heads = {Lane.USER: view.users, Lane.SYSTEM: view.systems}
        return takeable(session, run, open_calls, self.take, view.targeted, heads)

    def _cancel(self, session: Session) -> Cancel | None:
        cancel = session.cancel
        return cancel if cancel is not None and cancel.run_id == self.run_id else None

    def problem(self, run: Run, known: tuple[Ticket | None, ...], now_ms: int) -> str | None:
        """JOURNAL-4, TICKET-5: return what is wrong with its content, or None.  `known`: tickets of the new ids."""
        if len(self.entries) > CHECKPOINT_ENTRIES_MAX or len(self.nodes) > CHECKPOINT_NODES_MAX:
            return f"{len(self.entries)} entries, {len(self.nodes)} nodes; at most 64 of each"
        for entry in self.entries:
            if problem := validate_effect_id(entry.effect_id):
                return problem
            if entry.kind in MADE_BY_KERNEL:
                return f"entry of kind {entry.kind.value}: only the kernel makes it"
        if self.take is not None and (problem := self._validate_take()):
            return problem
        if self.attach and not self.entries and not self.nodes:
            return "attach without an entry or a node: expected what names the attachments"
        if self.outbound and not (self.entries or self.nodes or self.tickets):
            return "outbound without an entry, a node or a ticket: expected what recognises a repetition"
        bodies = [e.body for e in self.entries] + ([self.environment] if self.environment else [])
        return (
            validate_nodes(run.open_calls, self.nodes)
            or validate_tickets(run, self.tickets, known, now_ms)
            or validate_usage(self.usage)
            or validate_ids(self.attach, ATTACHED_MAX)
            or validate_outbound(self.outbound)
            or next((p for p in map(validate_body, bodies) if p), None)
        )

    def _validate_take(self) -> str | None:
        """JOURNAL-38: return what is wrong with what it takes, or None."""
        if self.take_max < 1:
            return f"take_max {self.take_max}: expected at least 1"
        if not self.take_id:
            return "take_id '': expected the effect id of who takes"
        return validate_text("take_id", self.take_id, EFFECT_ID_MAX)

    def digest(self, contents: list[tuple[object, ...]]) -> str:
        """Return the digest by which a repetition is recognised."""
        return hash_parts(
            [[e.kind.value, e.effect_id, hash_text(e.body)] for e in self.entries],
            contents,
            *([] if self.take is None else [[self.take.value, self.take_max, self.take_id]]),
            *([new.parts() for new in self.tickets]),
            *([["attach", list(self.attach)]] if self.attach else []),
            *([["outbound", hash_outbound(self.outbound)]] if self.outbound else []),
        )

    def write(
        self,
        view: CheckpointView,
        session: Session,
        run: Run,
        digest: str,
        contents: list[tuple[object, ...]],
        now_ms: int,
    ) -> Decided[Checkpointed]:
        """JOURNAL-7: return the decision of a checkpoint that is not refused."""
        open_calls = open_calls_after(run.open_calls, self.nodes)
        found = self._takeable(view, session, run, open_calls)
        taken = found[: min(self._most, self._room())]
        ids = tuple([entry.input_id for entry in taken])
        if not self.entries and not self.nodes and not ids and not self.tickets:
            answer = Checkpointed(self.n, run.tip, self._cancel(session))
            return Decided(answer, "JOURNAL-6")
        new = (*self.nodes, INPUTS_NODE) if ids else self.nodes
        contents = [*contents, hash_node(INPUTS_NODE)] if ids else contents
        reversible = self._reversible(run)
        run, nodes = append_nodes(session, run, self.n, new, contents, now_ms, ids)
        stepped = run_.step(run.state, run_.Record())
        assert not isinstance(stepped, Refused)
        after = replace(
            run, state=stepped.state, next_checkpoint=self.n + 1, retry=run.retry.reset(), progress=True,
            reversible=reversible,
        )  # fmt: skip
        changed = replace(session, open_run=run.run_id)
        if nodes:
            changed = replace(changed, next_node=first_number(session))
        after, changed, places, via = self._apply(after, changed, taken)
        after, opened = open_tickets(after, self.tickets, now_ms)
        if opened:
            count = (session.open_ticket_count or 0) + len(opened)
            changed = replace(changed, open_ticket_count=count)
        changed, writes = self._store_environment(changed, view)
        attached = attach(view.attached, now_ms)
        if (
            attached
        ):  # due_at_ms stays, so the time of the intents does too; Sweep or Commit clears it
            counted = count_attachments(changed, -len(attached), 0, now_ms)
            changed = replace(counted, intents_at_ms=changed.intents_at_ms)
        writes += attached
        changed, sent = outbound_rows(changed, self.outbound, self.fence.lease_id, now_ms)
        writes += sent
        writes += count_usage(self.session_id, self.usage, view.usage)
        writes += [Insert(e) for e in self._lines(digest, nodes, ids)]
        writes += [Insert(row) for row in (*nodes, *opened)]
        changed, event = self._append_events(changed, ids, now_ms)
        writes = [Update(after), *places, *writes, *event]
        if changed != session:
            changed = replace(changed, changed_at_ms=max(now_ms, session.changed_at_ms))
            writes.insert(0, Update(changed))
        more = len(found) > len(taken)
        answer = Checkpointed(self.n + 1, run.tip, self._cancel(session), True, ids, more)
        hints = hints_of(session, changed) if sent else ()
        return Decided(answer, "JOURNAL-7", tuple(writes), hints, via=(stepped.clause, *via))

    def _room(self) -> int:
        """JOURNAL-35: return how many queue entries it may write beside its other rows."""
        rows = len(self.entries) + 2 * len(self.tickets) + len(self.usage)
        others = (
            2 * (len(self.nodes) + 1) + rows + len(self.attach) + len(self.outbound) + 1 + 2 + 3
        )
        return CHECKPOINT_ROWS_MAX - others

    def _apply(
        self, run: Run, session: Session, taken: list[QueueEntry]
    ) -> tuple[Run, Session, list[Write], tuple[str, ...]]:
        """JOURNAL-39: bind inputs to the run, each with its own lane and mark."""
        writes: list[Write] = []
        via: list[str] = []
        contributors = list(run.contributors)
        for position, entry in enumerate(taken, len(contributors)):
            stepped, contributor = apply_to(run, entry, position, session.mark(entry.lane), self.n)
            assert not isinstance(stepped, Refused), stepped
            via.append(stepped.clause)
            writes.append(Update(replace(entry, state=stepped.state)))
            contributors.append(contributor)
        if not taken:
            return run, session, writes, ()
        users = sum([entry.lane is Lane.USER for entry in taken])
        named = sum([is_targeted(entry) for entry in taken])
        session = replace(
            session,
            ready_user_count=session.ready_user_count - users,
            ready_system_count=session.ready_system_count - (len(taken) - users),
            targeted_count=((session.targeted_count or 0) - named) or None,
        )
        return replace(run, contributors=tuple(contributors)), session, writes, tuple(via)

    def _reversible(self, run: Run) -> bool | None:
        """CANCEL-14: return whether the run can be rolled back: no checkpoint of it has started a once step."""
        starts = any(e.kind is EntryKind.START for e in self.entries)
        return True if not starts and (run.reversible or not run.progress) else None

    def _store_environment(
        self, session: Session, view: CheckpointView
    ) -> tuple[Session, list[Write]]:
        """JOURNAL-8: store the environment as a blob named by its digest."""
        if self.environment is None:
            return session, []
        return store_environment(session, self.environment, view.blobs)

    def _append_events(
        self, session: Session, taken: tuple[str, ...], now_ms: int
    ) -> tuple[Session, list[Write]]:
        """JOURNAL-9, EVENT-26, EVENT-60: append an event for each note and ticket, and one for what was taken."""
        notes = [e.body for e in self.entries if e.kind is EntryKind.NOTE]
        if not notes and not taken and not self.tickets:
            return session, []
        seq, kind = session.next_event, EventKind.REPLAY_DIFFERED
        events = tuple([Event(kind, self.run_id, (), note[:NOTE_MAX]) for note in notes])
        if taken:
            applied = Event(EventKind.INPUT_APPLIED, self.run_id, taken, str(self.n))
            events = (*events, applied)
        for new in self.tickets:
            events = (*events, Event(EventKind.TICKET_OPENED, self.run_id, (), new.ticket_id))
        batch = EventBatch(self.session_id, seq, now_ms, self.fence.lease_id, events)
        session = replace(
            session,
            next_event=seq + len(events),
            changed_at_ms=max(now_ms, session.changed_at_ms),  # FEED-1
            unpublished_since_ms=unpublished_since_ms(session, len(events), now_ms),
        )
        return session, [Insert(batch)]

    def _lines(
        self, digest: str, nodes: tuple[Node, ...], taken: tuple[str, ...]
    ) -> list[JournalEntry]:
        lease_id = self.fence.lease_id
        key = (self.session_id, self.run_id, self.turn, self.n)
        lines = [
            JournalEntry(*key, i, e.kind, e.effect_id, lease_id, digest, None, e.body)
            for i, e in enumerate(self.entries)
        ]
        for new in self.tickets:  # TICKET-6
            i, opened = len(lines), EntryKind.TICKET
            body = new.ticket_id
            lines.append(JournalEntry(*key, i, opened, new.effect_id, lease_id, digest, None, body))
        if taken:  # JOURNAL-36
            i, kind, body = len(lines), EntryKind.TAKEN, " ".join(taken)
            lines.append(JournalEntry(*key, i, kind, self.take_id, lease_id, digest, None, body))
        return lines + [
            JournalEntry(*key, i, EntryKind.NODE, node.node_id, lease_id, digest, node.node_id)
            for i, node in enumerate(nodes, len(lines))
        ]


def validate_effect_id(effect_id: str) -> str | None:
    """Return what is wrong with the name of an entry, or None."""
    return validate_text("effect_id", effect_id, EFFECT_ID_MAX)


def check_fence(session: Session, fence: lease_.Fence, run_id: str | None) -> Refused | None:
    """LEASE-7, LEASE-9: refuse a fence that is not the session's, or whose lease works on another run."""
    outcome = lease_.step(session.lease, lease_.Use(fence.generation, fence.lease_id))
    if isinstance(outcome, Refused):
        return outcome
    if fence.session_id != session.session_id or session.lease_run != run_id:
        return Refused(Refusal.FENCED, "LEASE-25", session.lease_run)
    return None
