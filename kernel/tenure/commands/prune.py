"""Prune: remove what a policy no longer keeps, in bounded steps.  Spec: specs/retention.md.

The question `NextPrune` makes the steps; each checks again all that it removes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, TypeVar

from attrs import frozen

from ..event import Event, EventKind
from ..indexes import (
    ATTACHMENT_STAGES,
    EVENT_BATCHES,
    EXECUTED_COMMANDS,
    FRAMES,
    HIDDEN,
    JOURNAL_ENTRIES,
    OCCURRENCES,
    PRIMARY,
)
from ..limits import FRAMES_MAX, PRUNE_NAMES_MAX, PRUNE_ROWS_MAX
from ..machines import lease as lease_
from ..outcome import Decided, Insert, Key, Refusal, Refused, Update, Write
from ..queries import Command, Each, First, Get, Index, Named, Query, Reads, Record, read
from ..records import (
    RECORDS,
    Attachment,
    BlobHolders,
    EventBatch,
    ExecutedCommand,
    Frame,
    Input,
    Intent,
    JournalEntry,
    Outbound,
    Phase,
    PruneProgress,
    QueueEntry,
    Run,
    Session,
    Ticket,
)
from ..replace import replace
from ..retention import PruneKind, Retention
from ..scheduling import unpublished_since_ms
from ..world import key_of
from .attachment_counts import count_attachments
from .erasing import ERASED, place_after, place_of, table_after
from .prunable import WALKED, Found, Removal, Verdict, cut_of, entries_read
from .prune_frames import FRAMES_A_STEP, holders_of, prunable_frames, prune_frames
from .prune_hidden import prune_hidden
from .prune_occurrences import prune_occurrences

__all__ = [
    "BATCHES_READ",
    "GOING_WITH_SESSION",
    "Prune",
    "Pruned",
    "at_rest",
    "events_until",
    "lease_of",
]


R = TypeVar("R", bound=Record)

BATCHES_READ: Final = 32
LOOK_AGAIN_MS: Final = 3_600_000  # a session is looked at at most once in this time
# The rows of a destroyed session; those of its commands have a kind of their own.
GOING_WITH_SESSION: Final = {
    record.__name__: record
    for record in RECORDS
    if record not in (Session, PruneProgress, ExecutedCommand)
}


@frozen
class Pruned:
    """How many rows a step has removed or changed.  `done`: nothing more of its kind can be done now."""

    since: ClassVar = 2
    kind: PruneKind
    rows: int
    done: bool


@frozen
class PruneView:
    """The session, how far its pruning is, and the rows that this step may remove."""

    session: Session | None
    progress: PruneProgress | None
    batches: tuple[EventBatch, ...]
    runs: tuple[Run | None, ...]
    entries: tuple[tuple[JournalEntry, ...], ...]
    tickets: tuple[Ticket | None, ...]
    queue_entries: tuple[QueueEntry | None, ...]
    inputs: tuple[Input | None, ...]
    executed: tuple[ExecutedCommand, ...]
    rows: tuple[Any, ...]
    holders: tuple[tuple[BlobHolders, ...], ...]


@frozen
class Prune(Command[PruneView, Pruned]):
    """Remove at most 240 rows of one kind that the policy no longer keeps.  A repetition is a new, monotone step.

    `after`: the last event, or the time of the last command, that the kind has done.  `place`: the id of that command, or
    where erasing is.  `names`: the inputs or tickets that the next events have ended, frames, or a table.  `runs`: their runs.
    `next_ms`: for DONE, when something else may be removed.
    Refusals: UNKNOWN_SESSION, ILLEGAL.
    """

    since: ClassVar = 2
    serves_all: ClassVar = True
    session_id: str
    policy: Retention
    kind: PruneKind
    after: int = 0
    place: str = ""
    names: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    next_ms: int | None = None

    def reads(self) -> Reads[PruneView]:
        s, kind = self.session_id, self.kind
        names, runs = self.names[:PRUNE_NAMES_MAX], self.runs[:PRUNE_NAMES_MAX]
        tickets = names if kind is PruneKind.TICKETS else ()
        inputs = names if kind is PruneKind.INPUTS else ()
        journals = runs if kind is PruneKind.JOURNALS else ()
        per_run = entries_read(len(runs))
        return read(
            PruneView,
            Get(Session, (s,)),
            Get(PruneProgress, (s,)),
            self._batches(),
            Each(tuple([Get(Run, (s, run)) for run in runs])),
            Each(tuple([First(JOURNAL_ENTRIES, (s, run), per_run) for run in journals])),
            Each(tuple([Get(Ticket, (s, name)) for name in tickets])),
            Each(tuple([Get(QueueEntry, (s, name)) for name in inputs])),
            Each(tuple([Get(Input, (s, name)) for name in inputs])),
            self._executed(),
            self._rows(),
            self._holders(),
        )

    def _batches(self) -> Query[tuple[EventBatch, ...]]:
        if self.kind in WALKED:
            return First(EVENT_BATCHES, (self.session_id,), BATCHES_READ, (self.after,))
        if self.kind is PruneKind.EVENTS:
            return First(EVENT_BATCHES, (self.session_id,), PRUNE_ROWS_MAX)
        return Each(())

    def _executed(self) -> Query[tuple[ExecutedCommand, ...]]:
        if self.kind is not PruneKind.COMMANDS:
            return Each(())
        after = (self.after, self.place)
        return First(EXECUTED_COMMANDS, (self.session_id,), PRUNE_ROWS_MAX, after)

    def _holders(self) -> Query[tuple[tuple[BlobHolders, ...], ...]]:
        names = self.names[:FRAMES_A_STEP] if self.kind is PruneKind.FRAMES else ()
        frames = [Get(Frame, (self.session_id, name)) for name in names]
        return Each(tuple([Named(frame, "digests", BlobHolders) for frame in frames]))

    def _rows(self) -> Query[tuple[Any, ...]]:
        if self.kind is PruneKind.FRAMES:
            return First(FRAMES, (self.session_id,), FRAMES_MAX)
        if self.kind is PruneKind.OCCURRENCES:
            return First(OCCURRENCES, (self.session_id,), PRUNE_ROWS_MAX)
        if self.kind is PruneKind.HIDDEN:
            return First(HIDDEN, (self.session_id,), PRUNE_ROWS_MAX, (self.after, self.place))
        found = self._table()
        if found is None:
            return Each(())
        index, after = found
        return First(index, (self.session_id,), PRUNE_ROWS_MAX, after)

    def _table(self) -> tuple[Index[Any], Key] | None:
        """Return the table of this step, and the key after which it is read; None: it has none."""
        if self.kind is PruneKind.SESSION and len(self.names) == 1:
            table = GOING_WITH_SESSION.get(self.names[0])
            if table is Attachment:  # those that the session holds come first
                return ATTACHMENT_STAGES, ()
            return None if table is None else (PRIMARY[table], ())
        found = place_of(self.place) if self.kind is PruneKind.ERASE else None
        if found is None or len(found[1]) not in (0, len(found[0].key) - 1):
            return None
        return PRIMARY[found[0]], found[1]

    # -- the decision

    def decide(self, view: PruneView, now_ms: int) -> Decided[Pruned] | Refused:
        session = view.session
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "RETENTION-1", self.session_id)
        if problem := self._problem():
            return Refused(Refusal.ILLEGAL, "RETENTION-2", problem)
        progress = view.progress or PruneProgress(self.session_id)
        if not self._goes_on_from(progress):
            return Decided(Pruned(self.kind, 0, False), "RETENTION-3")
        if self.kind in WALKED:
            return self._walk(view, session, progress, now_ms)
        match self.kind:
            case PruneKind.COMMANDS:
                return self._commands(view, session, progress, now_ms)
            case PruneKind.EVENTS:
                return self._events(view, session, progress, now_ms)
            case PruneKind.FRAMES:
                return self._frames(view, session, now_ms)
            case PruneKind.OCCURRENCES:
                return self._occurrences(view, session, now_ms)
            case PruneKind.HIDDEN:
                return self._hidden(view, session, progress, now_ms)
            case PruneKind.SESSION:
                return self._session(view, session, now_ms)
            case PruneKind.ERASE:
                return self._erase(view, session, progress, now_ms)
        return self._done(session, now_ms)

    def _problem(self) -> str | None:
        """RETENTION-2: return what is wrong with the policy or the names, or None."""
        if max(len(self.names), len(self.runs)) > PRUNE_NAMES_MAX:
            return f"{len(self.names)} names, {len(self.runs)} runs; at most {PRUNE_NAMES_MAX} each"
        if self.kind in (PruneKind.SESSION, PruneKind.ERASE) and self._table() is None:
            return f"kind {self.kind.value}: no table {', '.join(self.names) or self.place!r}"
        return self.policy.problem()

    def _goes_on_from(self, progress: PruneProgress) -> bool:
        """Return whether the step goes on where the last one of its kind has stopped."""
        if self.kind in WALKED:
            return self.after == progress.through(self.kind)
        if self.kind is PruneKind.COMMANDS:
            return (self.after, self.place) == (progress.commands_at_ms, progress.commands_id)
        if self.kind is PruneKind.HIDDEN:
            return (self.after, self.place) == (progress.hidden_at_ms, progress.hidden_id)
        if self.kind is PruneKind.ERASE:
            return self.place == (progress.erasing or place_after(next(iter(ERASED))))
        return True

    def _walk(
        self, view: PruneView, session: Session, progress: PruneProgress, now_ms: int
    ) -> Decided[Pruned]:
        """RETENTION-5: go on along the events, and remove what they have ended."""
        walked, through = WALKED[self.kind], self.after
        keep = walked.keep(self.policy)
        if keep is None:
            return Decided(Pruned(self.kind, 0, True), "RETENTION-3")
        cut_ms, last = cut_of(session, keep, now_ms)
        removal = Removal(session, self.policy, now_ms, cut_ms, self._found(view))
        verdict = Verdict.DONE
        for batch in view.batches:
            end = batch.seq + len(batch.events) - 1
            if batch.at_ms > cut_ms or end > last:
                verdict = Verdict.LATER
                break
            for named in walked.names(batch):
                known = named.run_id is None or named.run_id in self.runs
                if not (known and (named.name in self.names or named.name in self.runs)):
                    verdict = Verdict.FULL  # of a later step
                    break
                verdict = walked.remove(removal, named)
                if verdict is not Verdict.DONE:
                    break
            if verdict is not Verdict.DONE:
                break
            through = end
        done = verdict is Verdict.LATER or not view.batches
        if through != self.after:
            progress = replace(progress, walks=progress.walked(self.kind, through))
        return self._removed(view, session, progress, removal.writes, done, removal.horizon_ms)

    def _found(self, view: PruneView) -> Found:
        def by(names: Sequence[str], rows: Sequence[R]) -> dict[str, R]:
            return dict(zip(names, rows, strict=False))

        return Found(
            dict(zip(self.runs, view.runs, strict=False)),
            dict(zip(self.runs, view.entries, strict=False)),
            dict(zip(self.names, view.tickets, strict=False)),
            dict(zip(self.names, view.queue_entries, strict=False)),
            dict(zip(self.names, view.inputs, strict=False)),
        )

    def _commands(
        self, view: PruneView, session: Session, progress: PruneProgress, now_ms: int
    ) -> Decided[Pruned]:
        """RETENTION-7: remove rows of commands whose ids have a time, but none of a lease that is held."""
        keep = self.policy.stamps
        if keep is None:
            return Decided(Pruned(self.kind, 0, True), "RETENTION-3")
        cut_ms = now_ms - keep.for_ms
        found = Found({}, {}, {}, {}, {})
        removal = Removal(session, self.policy, now_ms, cut_ms, found)
        done = len(view.executed) < PRUNE_ROWS_MAX
        for row in view.executed:
            if row.at_ms > cut_ms or row.command_id == lease_of(session):
                done = True
                break
            if removal.forgets(row.command_id):
                removal.drop(row)
            progress = replace(progress, commands_at_ms=row.at_ms, commands_id=row.command_id)
        return self._removed(view, session, progress, removal.writes, done, removal.horizon_ms)

    def _events(
        self, view: PruneView, session: Session, progress: PruneProgress, now_ms: int
    ) -> Decided[Pruned]:
        """RETENTION-9: remove events that are published, and along which no walk has still to go."""
        keep = self.policy.events
        if keep is None:
            return Decided(Pruned(self.kind, 0, True), "RETENTION-3")
        cut_ms, last = cut_of(session, keep, now_ms)
        last = min(last, events_until(session, progress))
        found = Found({}, {}, {}, {}, {})
        removal = Removal(session, self.policy, now_ms, cut_ms, found)
        done = len(view.batches) < PRUNE_ROWS_MAX
        for batch in view.batches:
            end = batch.seq + len(batch.events) - 1
            if batch.at_ms > cut_ms or end > last:
                done = True
                break
            removal.drop(batch)
            progress = replace(progress, events_through=end)
        return self._removed(view, session, progress, removal.writes, done)

    def _frames(self, view: PruneView, session: Session, now_ms: int) -> Decided[Pruned]:
        """RETENTION-14: remove what frames hold that were left; the counts of the blobs that they name stay exact."""
        keep = self.policy.frames
        if keep is None or session.current_frame is None:
            return Decided(Pruned(self.kind, 0, True), "RETENTION-3")
        prunable = prunable_frames(view.rows, keep, now_ms).now
        names = self.names[:FRAMES_A_STEP]
        chosen = [frame for frame in prunable if frame.frame_id in names]
        after, writes = prune_frames(session, chosen, holders_of(view.holders))
        done = len(chosen) == len(prunable)
        return self._removed(view, after, view.progress, writes, done, clause="RETENTION-14")

    def _occurrences(self, view: PruneView, session: Session, now_ms: int) -> Decided[Pruned]:
        """RETENTION-16: remove what has occurred in a trigger.  What it has started is not affected."""
        keep_ms = self.policy.occurrences_for_ms
        if keep_ms is None:
            return Decided(Pruned(self.kind, 0, True), "RETENTION-3")
        removal = Removal(session, self.policy, now_ms, now_ms - keep_ms, Found({}, {}, {}, {}, {}))
        done, at = prune_occurrences(removal, view.rows), removal.horizon_ms
        rows = removal.writes
        return self._removed(view, session, view.progress, rows, done, at, clause="RETENTION-16")

    def _hidden(
        self, view: PruneView, session: Session, progress: PruneProgress, now_ms: int
    ) -> Decided[Pruned]:
        """RETENTION-15: remove the bodies of nodes that were hidden long enough ago."""
        keep_ms = self.policy.hidden_for_ms
        if keep_ms is None:
            return Decided(Pruned(self.kind, 0, True), "RETENTION-3")
        progress, writes, done = prune_hidden(progress, view.rows, now_ms - keep_ms)
        return self._removed(view, session, progress, writes, done, clause="RETENTION-15")

    def _session(self, view: PruneView, session: Session, now_ms: int) -> Decided[Pruned]:
        """RETENTION-8: remove the rows of a destroyed session, table by table."""
        keep_ms, table = self.policy.destroyed_for_ms, GOING_WITH_SESSION[self.names[0]]
        wait = (
            keep_ms is None
            or not at_rest(session)
            or session.changed_at_ms > now_ms - keep_ms
            or (table is EventBatch and session.unpublished_since_ms is not None)
        )
        if wait:
            return Decided(Pruned(self.kind, 0, True), "RETENTION-3")
        empty = replace(
            session, leaf=None, state_digest=None, environment_digest=None, current_frame=None
        )
        if table is Attachment:  # whoever deletes its bytes drops the row
            writes: list[Write] = []
            writes += [Update(after) for row in view.rows if (after := ERASED[table](row)) != row]
            empty = let_go(empty, view.rows, now_ms)
            return self._removed(view, empty, view.progress, writes, len(writes) < PRUNE_ROWS_MAX)
        removal = Removal(session, self.policy, now_ms, now_ms, Found({}, {}, {}, {}, {}))
        going = view.rows
        if table is Outbound:  # OUTBOUND-51
            going = tuple([row for row in going if row.waiting_route is None])
        removal.drop(*going)
        return self._removed(view, empty, view.progress, removal.writes, not going)

    def _erase(
        self, view: PruneView, session: Session, progress: PruneProgress, now_ms: int
    ) -> Decided[Pruned]:
        """RETENTION-11: erase the texts of a destroyed session, table by table; the last step says so in an event."""
        if session.erased is not False or not at_rest(session):
            return Decided(Pruned(self.kind, 0, True), "RETENTION-3")
        found = place_of(self.place)
        assert found is not None, self.place
        table, writes = found[0], list[Write]()
        for row in view.rows:
            if (after := ERASED[table](row)) != row:
                writes.append(Update(after))
        if len(view.rows) == PRUNE_ROWS_MAX:
            place = place_after(table, key_of(table)(view.rows[-1])[1:])
        else:
            following = table_after(table, session.kind)
            place = "" if following is None else place_after(following)
        progress = replace(progress, erasing=place)
        if table is Attachment:
            session = let_go(session, view.rows, now_ms)
        if place:
            return self._removed(view, session, progress, writes, False)
        batch = (Event(EventKind.ERASED),)
        writes.append(
            Insert(EventBatch(self.session_id, session.next_event, now_ms, "erase", batch))
        )
        after = replace(
            session, erased=True, next_event=session.next_event + 1,
            changed_at_ms=max(now_ms, session.changed_at_ms),
            unpublished_since_ms=unpublished_since_ms(session, 1, now_ms),
        )  # fmt: skip
        return self._removed(view, after, progress, writes, True, clause="RETENTION-11")

    def _done(self, session: Session, now_ms: int) -> Decided[Pruned]:
        """RETENTION-12: note when to look again."""
        next_ms = None if self.next_ms is None else max(self.next_ms, now_ms + LOOK_AGAIN_MS)
        done = Pruned(self.kind, 0, True)
        if session.prune_at_ms == next_ms:
            return Decided(done, "RETENTION-12")
        return Decided(done, "RETENTION-12", (Update(replace(session, prune_at_ms=next_ms)),))

    def _removed(
        self,
        view: PruneView,
        session: Session,
        progress: PruneProgress | None,
        writes: list[Write],
        done: bool,
        horizon_ms: int | None = None,
        clause: str = "RETENTION-3",
    ) -> Decided[Pruned]:
        """Return the decision of a step, with the rows of the session and of its progress if they have changed."""
        rows = len(writes)
        if horizon_ms is not None and horizon_ms > (session.pruned_before_ms or 0):
            session = replace(session, pruned_before_ms=horizon_ms)
        if session != view.session:
            writes = [Update(session), *writes]
        if progress is not None and progress != (view.progress or PruneProgress(self.session_id)):
            writes.append(Insert(progress) if view.progress is None else Update(progress))
        return Decided(Pruned(self.kind, rows, done), clause, tuple(writes))


def let_go(session: Session, rows: Sequence[Attachment], now_ms: int) -> Session:
    """Return a destroyed session at rest without those of the attachments that it holds."""
    held = [row for row in rows if row.held]
    intents = sum([isinstance(row.state, Intent) for row in held])
    after = count_attachments(session, -intents, len(held), now_ms)
    return replace(after, due_at_ms=after.intents_at_ms)  # at rest nothing else is due


def at_rest(session: Session) -> bool:
    """Return whether nothing of a destroyed session is left to be swept."""
    left = session.waiting + session.unfinished_run_count + (session.open_ticket_count or 0)
    return session.phase is Phase.DESTROYED and not session.sweep and not left


def events_until(session: Session, progress: PruneProgress) -> int:
    """Return the number of the last event that was published and along which every walk has gone."""
    walked = min(progress.through(kind) for kind in WALKED)
    return walked if session.published is None else min(walked, session.published)


def lease_of(session: Session) -> str | None:
    """Return the id of the lease on the row of a session."""
    return session.lease.lease_id if isinstance(session.lease, lease_.Held) else None
