"""Questions of whoever prunes: which sessions, and which step of Prune comes next.  Spec: specs/retention.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from attrs import frozen

from ..commands.erasing import ERASED, place_after
from ..commands.jobs.destroy import DestroyJob
from ..commands.prunable import WALKED, cut_of, names_of
from ..commands.prune import (
    BATCHES_READ,
    GOING_WITH_SESSION,
    Prune,
    Pruned,
    at_rest,
    events_until,
    lease_of,
)
from ..commands.prune_frames import FRAMES_A_STEP, prunable_frames
from ..commands.sweep import Sweep, Swept
from ..indexes import (
    CHANGED,
    EVENT_BATCHES,
    EXECUTED_COMMANDS,
    FRAMES,
    HIDDEN,
    OCCURRENCES,
    PRIMARY,
    PRUNABLE,
)
from ..kind import Kind
from ..limits import FRAMES_MAX
from ..machines import job as job_
from ..queries import First, Get, Question, Record
from ..records import (
    Attachment,
    EventBatch,
    Job,
    Outbound,
    Phase,
    PhaseChanged,
    PruneProgress,
    Session,
)
from ..replace import replace
from ..retention import PruneKind, Retention
from .core import PAGE, Steps
from .feed import FEED_PAGE, FROM_THE_BEGINNING, FeedPosition

__all__ = ["AllRows", "LookToPrune", "NextPrune", "PrunePass", "ToPrune"]


NAMES_WANTED: Final = 16  # of one step, unless one batch of events has more
Step: TypeAlias = Prune | Sweep | DestroyJob


@frozen
class NextPrune(Question[Step | None]):
    """The next step of a pass over a session, from its rows, the policy and the time; None: the pass has ended.

    `without`: the kinds that are done in this pass.
    """

    session_id: str
    policy: Retention
    now_ms: int
    without: tuple[PruneKind, ...] = ()

    def steps(self) -> Steps:
        session: Session | None = yield Get(Session, (self.session_id,))
        if session is None or PruneKind.DONE in self.without:
            return None
        stored = yield Get(PruneProgress, (self.session_id,))
        progress = stored or PruneProgress(self.session_id)
        times: list[int] = []  # at which something else may be removed
        if session.kind is Kind.JOB:
            step, times = yield from self._job(session)
            if step is not None:
                return step
        first = (self._destroyed, self._walks, self._commands)
        rest = (self._occurrences,) if session.kind is Kind.TRIGGER else ()
        for part in (*first, self._events, self._frames, self._hidden, *rest):
            step, next_times = yield from part(session, progress)
            if step is not None:
                return step
            times += next_times
        return self._prune(PruneKind.DONE, next_ms=min(times, default=None))

    def _prune(self, kind: PruneKind, **fields: Any) -> Prune:
        return Prune(self.session_id, self.policy, kind, **fields)

    def _job(self, session: Session) -> Steps:
        """JOB-94: destroy a job that has ended long enough ago."""
        keep_ms = self.policy.jobs_for_ms
        if keep_ms is None or session.phase is Phase.DESTROYED:
            return None, []
        job = yield Get(Job, (self.session_id,))
        if job is None or not isinstance(job.state, job_.Ended):
            return None, []
        due_ms = job.state.ended_at_ms + keep_ms
        if due_ms > self.now_ms:
            return None, [due_ms]
        return DestroyJob(self.session_id, "retention"), []

    def _destroyed(self, session: Session, progress: PruneProgress) -> Steps:
        """Erase texts first, then remove the rows."""
        if session.phase is not Phase.DESTROYED:
            return None, []
        if session.erased is False and PruneKind.ERASE not in self.without:
            if session.sweep:
                return Sweep(self.session_id), []
            place = progress.erasing or place_after(next(iter(ERASED)))
            return self._prune(PruneKind.ERASE, place=place), []
        times = [self.now_ms] if session.erased is False else []
        keep_ms = self.policy.destroyed_for_ms
        if keep_ms is None:
            return None, times
        last = (EventBatch.__name__, Attachment.__name__, Outbound.__name__)
        tables = sorted(
            GOING_WITH_SESSION, key=lambda name: last.index(name) if name in last else -1
        )
        left: list[str] = []
        for name in tables:
            rows = yield First(PRIMARY[GOING_WITH_SESSION[name]], (self.session_id,), 1)
            left += [name] if rows else []
        due_ms = session.changed_at_ms + keep_ms
        if left and due_ms <= self.now_ms and at_rest(session):
            if PruneKind.SESSION not in self.without:
                return self._prune(PruneKind.SESSION, names=(left[0],)), []
        return None, [*times, *([due_ms] if left else [])]

    def _walks(self, session: Session, progress: PruneProgress) -> Steps:
        times: list[int] = []
        for kind, walked in WALKED.items():
            keep = walked.keep(self.policy)
            if keep is None:
                continue
            through = progress.through(kind)
            cut_ms, last = cut_of(session, keep, self.now_ms)
            found = yield First(EVENT_BATCHES, (self.session_id,), BATCHES_READ, (through,))
            old: list[EventBatch] = []
            for batch in found:
                if batch.at_ms > cut_ms or batch.seq + len(batch.events) - 1 > last:
                    break
                old.append(batch)
                if len(names_of(kind, old)) >= NAMES_WANTED:
                    break
            if old and kind not in self.without:
                named = names_of(kind, old)
                runs = dict.fromkeys(each.run_id for each in named if each.run_id is not None)
                names = dict.fromkeys(each.name for each in named if each.name != each.run_id)
                return self._prune(kind, after=through, names=tuple(names), runs=tuple(runs)), []
            times += [found[0].at_ms + keep.for_ms] if found else []
        return None, times

    def _commands(self, session: Session, progress: PruneProgress) -> Steps:
        keep, kind = self.policy.stamps, PruneKind.COMMANDS
        if keep is None:
            return None, []
        after = (progress.commands_at_ms, progress.commands_id)
        found = yield First(EXECUTED_COMMANDS, (self.session_id,), 1, after)
        if not found:
            return None, []
        due_ms, of_lease = found[0].at_ms + keep.for_ms, lease_of(session)
        if due_ms <= self.now_ms and of_lease != found[0].command_id and kind not in self.without:
            return self._prune(kind, after=after[0], place=after[1]), []
        return None, [due_ms]

    def _events(self, session: Session, progress: PruneProgress) -> Steps:
        keep, kind = self.policy.events, PruneKind.EVENTS
        if keep is None:
            return None, []
        found = yield First(EVENT_BATCHES, (self.session_id,), 1)
        if not found:
            return None, []
        cut_ms, last = cut_of(session, keep, self.now_ms)
        end = found[0].seq + len(found[0].events) - 1
        removable = found[0].at_ms <= cut_ms and end <= min(last, events_until(session, progress))
        if removable and kind not in self.without:
            return self._prune(kind), []
        return None, [found[0].at_ms + keep.for_ms]

    def _frames(self, session: Session, progress: PruneProgress) -> Steps:
        keep, kind, current = self.policy.frames, PruneKind.FRAMES, session.current_frame
        if keep is None or current is None or current.frame_count < 2:
            return None, []
        rows = yield First(FRAMES, (self.session_id,), FRAMES_MAX)
        found = prunable_frames(rows, keep, self.now_ms)
        if found.now and kind not in self.without:
            names = [frame.frame_id for frame in found.now[:FRAMES_A_STEP]]
            return self._prune(kind, names=tuple(names)), []
        return None, [] if found.next_ms is None else [found.next_ms]

    def _hidden(self, session: Session, progress: PruneProgress) -> Steps:
        keep_ms, kind = self.policy.hidden_for_ms, PruneKind.HIDDEN
        if keep_ms is None:
            return None, []
        after = (progress.hidden_at_ms, progress.hidden_id)
        found = yield First(HIDDEN, (self.session_id,), 1, after)
        if not found:
            return None, []
        due_ms = found[0].hidden_at_ms + keep_ms
        if due_ms <= self.now_ms and kind not in self.without:
            return self._prune(kind, after=after[0], place=after[1]), []
        return None, [due_ms]

    def _occurrences(self, session: Session, progress: PruneProgress) -> Steps:
        keep_ms, kind = self.policy.occurrences_for_ms, PruneKind.OCCURRENCES
        if keep_ms is None:
            return None, []
        found = yield First(OCCURRENCES, (self.session_id,), 1)
        if not found:
            return None, []
        due_ms = found[0].recorded_at_ms + keep_ms
        if due_ms <= self.now_ms and kind not in self.without:
            return self._prune(kind), []
        return None, [due_ms]


@frozen
class PrunePass:
    """A pass over one session: what is done, and how many rows of each kind were removed or changed."""

    session_id: str
    policy: Retention
    without: tuple[PruneKind, ...] = ()
    rows: Mapping[PruneKind, int] = {}

    def question(self, now_ms: int) -> NextPrune:
        """Return the question for the next step."""
        return NextPrune(self.session_id, self.policy, now_ms, self.without)

    def after(self, outcome: Pruned | Swept | PhaseChanged) -> PrunePass:
        """Return the pass after the answer to a step."""
        if isinstance(outcome, Swept | PhaseChanged):
            return self
        kind = outcome.kind
        rows = {**self.rows, kind: self.rows.get(kind, 0) + outcome.rows}
        done = (*self.without, kind) if outcome.done else self.without
        return replace(self, rows=rows, without=done)

    def told(self) -> str:
        """Return how many rows of each kind were removed or changed, as text."""
        words = [f"{kind.value} {count}" for kind, count in self.rows.items() if count]
        return ", ".join(words) or "nothing"

    @property
    def count(self) -> int:
        """How many rows were removed or changed."""
        return sum(self.rows.values())


# -- which sessions


@frozen
class ToPrune:
    """The sessions to look at, and where the next look goes on.  `more`: it finds more at once."""

    session_ids: tuple[str, ...]
    position: FeedPosition
    more: bool


@frozen
class LookToPrune(Question[ToPrune]):
    """RETENTION-12: a page of the sessions whose time has come, and of those that have changed and have no time."""

    now_ms: int
    position: FeedPosition = FROM_THE_BEGINNING
    limit: int = FEED_PAGE

    def steps(self) -> Steps:
        due = yield First(PRUNABLE, (), self.limit)
        position = self.position.next_pass(self.now_ms)
        after = position.question(self.now_ms).after
        changed: Sequence[Session] = yield First(CHANGED, (), self.limit, after)
        ids = [s.session_id for s in due if s.prune_at_ms <= self.now_ms]
        ids += [s.session_id for s in changed if s.prune_at_ms is None]
        position = position.read(changed, self.limit)
        more = position.after is not None or len(ids) >= self.limit
        return ToPrune(tuple(dict.fromkeys(ids)), position, more)


@frozen
class AllRows(Question[tuple[Record, ...]]):
    """All rows of a session, in one snapshot; none if it does not exist."""

    session_id: str

    def steps(self) -> Steps:
        found: list[Record] = []
        for index in PRIMARY.values():
            after: tuple[Any, ...] = ()
            while True:
                page = yield First(index, (self.session_id,), PAGE, after)
                found += page
                if len(page) < PAGE or len(index.columns) == 1:
                    break
                after = tuple([getattr(page[-1], column) for column in index.columns[1:]])
        return tuple(found)
