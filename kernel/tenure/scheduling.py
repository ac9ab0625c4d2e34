"""Scheduling: which run or input comes next, and which inputs are bound together.  Spec: specs/inbox.md.

Begin calls `next_work` with the time, and `due_at_ms` calls it without, so the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Final, TypeAlias

from attrs import frozen

from .limits import RUN_BYTES_MAX, RUN_INPUTS_MAX, UNFINISHED_RUNS_MAX
from .machines import lease as lease_
from .machines import run as run_
from .machines.input import Bound, Delayed, Ended, How, Ready
from .policy import LANES, IfOver, Lane, WhileWaiting
from .records import Phase, QueueEntry, Run, Session

__all__ = [
    "BEGINNING_PHASES",
    "EndHead",
    "Fold",
    "NewRun",
    "Supersede",
    "TakeUp",
    "TimedOut",
    "UNLEASED_PHASES",
    "Wait",
    "asking_since_ms",
    "due_at_ms",
    "delay_order",
    "ended_unwritten",
    "heads_matter",
    "intents_aged",
    "meeting",
    "next_work",
    "order_of",
    "outdated",
    "queue_order",
    "retry_from_ms",
    "take_group",
    "target_ended",
    "unpublished_since_ms",
    "visible_status",
]


BEGINNING_PHASES: Final = frozenset((Phase.OPEN, Phase.RETIRED))  # phases in which runs begin
# phases in which no lease is granted (PHASE-3)
UNLEASED_PHASES: Final = frozenset((Phase.STOPPED, Phase.DESTROYED, Phase.IMPORTING))
FOLDING: Final = frozenset((run_.WaitReason.USER_INPUT, run_.WaitReason.BACKGROUND))


@frozen
class TakeUp:
    """A run that exists is taken up again."""

    run: Run


@frozen
class NewRun:
    """A new run begins with the first ready input of this lane."""

    lane: Lane


@frozen
class Wait:
    """Nothing can begin until `due_at_ms`; None: until an input is submitted.

    `from_ms`: but before this time something can, since the clock was set back (RUN-25).
    """

    due_at_ms: int | None
    from_ms: int | None = None


@frozen
class EndHead:
    """The head of this lane has ended, because the run that it names has.  That is written before anything begins."""

    lane: Lane


@frozen
class Fold:
    """The head of this lane enters the open turn, which waits."""

    run: Run
    lane: Lane


@frozen
class Supersede:
    """The head of this lane ends the open turn, which waits."""

    run: Run
    lane: Lane


@frozen
class TimedOut:
    """The time of a ticket has come.  Sweep writes that before anything begins."""


Next: TypeAlias = TakeUp | NewRun | Wait | EndHead | Fold | Supersede | TimedOut
Candidate: TypeAlias = tuple[int, int, Run | QueueEntry]  # priority, rank, a run or a lane's head


def outdated(session: Session, run: Run) -> bool:
    """Return whether a mark has superseded all inputs of a run, and no progress keeps it."""
    return run.mark < session.mark(run.lane) and session.open_run != run.run_id


def head(session: Session, ready: Sequence[QueueEntry], lane: Lane) -> QueueEntry | None:
    """Return the first ready input of a lane, unless a mark has superseded it."""
    if ready:
        state = ready[0].state
        if isinstance(state, Ready) and state.mark == session.mark(lane):
            return ready[0]
    return None


def target_ended(queue_entry: QueueEntry, unfinished: Container[str]) -> bool:
    """INBOX-55: return whether a ready input has ended, because the run that it names has.

    `unfinished`: the ids of all unfinished runs of the session.
    """
    state = queue_entry.state
    return (
        isinstance(state, Ready)
        and state.if_over is IfOver.ABANDON
        and state.target_run is not None
        and state.target_run not in unfinished
    )


def order_of(queue_entry: QueueEntry) -> tuple[int, int]:
    """Return the position of a ready input among those of the current marks."""
    state = queue_entry.state
    assert isinstance(state, Ready), queue_entry
    return (queue_entry.priority, state.ready_rank)


def queue_order(queue_entry: QueueEntry) -> tuple[int, int, int]:
    """Return the position of a ready input in its lane."""
    return (-getattr(queue_entry.state, "mark", 0), *order_of(queue_entry))


def delay_order(queue_entry: QueueEntry) -> tuple[int, int]:
    """Return the position of a delayed input."""
    state = queue_entry.state
    assert isinstance(state, Delayed), queue_entry
    return (state.until_ms, queue_entry.seq)


def next_work(
    session: Session,
    runs: Mapping[str, Run],
    ready: Mapping[Lane, Sequence[QueueEntry]],
    now_ms: int | None,
) -> Next:
    """INBOX-10 to INBOX-15: return what comes next in a session without a lease.

    `now_ms` None: no retry is due yet.  The run that an input names does not matter here (INBOX-54), unless the input
    has ended with it.
    """
    if session.open_run is not None:
        open_run = runs[session.open_run]
        if isinstance(open_run.state, run_.Waiting):
            return _meet(session, open_run, runs, ready, now_ms)
        return _resume(open_run, now_ms)
    if session.phase not in BEGINNING_PHASES:  # INBOX-11
        return Wait(None)
    candidates: list[Candidate] = []
    for run in runs.values():
        if run.mark == session.mark(run.lane):
            candidates.append((*run.order, run))
    for lane in ready:
        first = head(session, ready[lane], lane)
        if first is not None:
            if target_ended(first, runs):
                return EndHead(lane)  # DUE-29
            candidates.append((*order_of(first), first))
    if len(candidates) > 1:
        candidates.sort(key=lambda c: c[:2])
    return _first_of(candidates, len(runs), now_ms)


def _resume(run: Run, now_ms: int | None) -> Next:
    state = run.state
    assert isinstance(state, run_.Rescheduled), run
    if state.due_at_ms is None or (now_ms is not None and state.is_due(now_ms)):
        return TakeUp(run)
    return Wait(state.due_at_ms, state.from_ms)


def heads_matter(session: Session, runs: Mapping[str, Run]) -> bool:
    """Return whether ready inputs have an effect: there is no open turn, or it waits."""
    run = runs.get(session.open_run or "")
    return run is None or isinstance(run.state, run_.Waiting)


def _meet(
    session: Session,
    run: Run,
    runs: Mapping[str, Run],
    ready: Mapping[Lane, Sequence[QueueEntry]],
    now_ms: int | None,
) -> Next:
    """WAIT-10, DUE-60: return what comes next while the open turn waits."""
    heads: list[QueueEntry] = []
    for lane in LANES if session.phase in BEGINNING_PHASES else ():
        first = head(session, ready[lane], lane)
        if first is not None and target_ended(first, runs):
            return EndHead(lane)  # DUE-29
        if first is not None and meeting(run, first) is not WhileWaiting.HOLD:
            heads.append(first)
    if heads:
        first = min(heads, key=order_of)
        folds = meeting(run, first) is WhileWaiting.FOLD
        return Fold(run, first.lane) if folds else Supersede(run, first.lane)
    times = [each.deadline_ms for each in run.waits_for() if each.deadline_ms is not None]
    deadline = min(times, default=None)
    if now_ms is not None and deadline is not None and deadline <= now_ms:
        return TimedOut()
    return Wait(deadline)


def meeting(run: Run, queue_entry: QueueEntry) -> WhileWaiting:
    """Return what a ready input does to a run that waits: FOLD, HOLD or SUPERSEDE."""
    word = _word(run, queue_entry)
    if word is WhileWaiting.SUPERSEDE and _is_only_for(run, queue_entry):
        return WhileWaiting.HOLD
    return word


def _is_only_for(run: Run, queue_entry: QueueEntry) -> bool:
    """WAIT-34: return whether an input is abandoned when this run ends."""
    state = queue_entry.state
    assert isinstance(state, Ready), queue_entry
    return state.target_run == run.run_id and state.if_over is IfOver.ABANDON


def _word(run: Run, queue_entry: QueueEntry) -> WhileWaiting:
    """WAIT-11, WAIT-12, WAIT-13, WAIT-14: return what the policy of an input, the wait or the table says."""
    wait, state = run.state, queue_entry.state
    assert isinstance(wait, run_.Waiting) and isinstance(state, Ready), (run, queue_entry)
    folds = wait.cause in FOLDING
    word = state.while_waiting
    if word is WhileWaiting.BACKGROUND:
        named = state.target_run == run.run_id
        folds = folds and (named or wait.cause is run_.WaitReason.BACKGROUND)
        word = None
    elif word is None and queue_entry.lane is Lane.USER:
        word = wait.on_input
    word = word or (WhileWaiting.FOLD if folds else WhileWaiting.HOLD)
    if word is not WhileWaiting.FOLD:
        return word
    if run.open_calls:
        return WhileWaiting.HOLD
    size = sum([c.size for c in run.contributors]) + state.size
    fits = len(run.contributors) < RUN_INPUTS_MAX and size <= RUN_BYTES_MAX
    return WhileWaiting.FOLD if fits else WhileWaiting.SUPERSEDE


def _first_of(candidates: Sequence[Candidate], unfinished: int, now_ms: int | None) -> Next:
    passed: int | None = None
    latest: int | None = None
    for _, _, candidate in candidates:
        if isinstance(candidate, QueueEntry):
            if passed is not None and getattr(candidate.state, "barrier", None):
                break  # INBOX-31
            if unfinished < UNFINISHED_RUNS_MAX:
                return NewRun(candidate.lane)
            continue
        state = candidate.state
        assert isinstance(state, run_.Rescheduled), candidate
        if state.due_at_ms is None or (now_ms is not None and state.is_due(now_ms)):
            return TakeUp(candidate)
        passed = state.due_at_ms if passed is None else min(passed, state.due_at_ms)
        if (from_ms := state.from_ms) is not None:
            latest = from_ms if latest is None else max(latest, from_ms)
        if candidate.hold or state.hold_all:
            break
    return Wait(passed, latest)


def take_group(
    ready: Sequence[QueueEntry], limit: int, limit_bytes: int, unfinished: Container[str]
) -> tuple[QueueEntry, ...]:
    """INBOX-16: return the first input, with its neighbours of the same group, up to the limits.

    A neighbour that has ended with its target ends the group.
    """
    first = ready[0]
    state = first.state
    assert isinstance(state, Ready)
    if state.group is None:
        return (first,)
    taken, size = [first], state.size
    for queue_entry in ready[1 : min(limit, RUN_INPUTS_MAX)]:
        other = queue_entry.state
        assert isinstance(other, Ready)
        size += other.size
        if other.group != state.group or other.mark != state.mark or size > limit_bytes:
            break
        if other.resolution != state.resolution or other.retry != state.retry:
            break  # RUN-71, FAIL-21
        if target_ended(queue_entry, unfinished):
            break
        taken.append(queue_entry)
    return tuple(taken)


def due_at_ms(
    session: Session,
    runs: Mapping[str, Run],
    ready: Mapping[Lane, Sequence[QueueEntry]],
    delayed: Sequence[QueueEntry],
) -> int | None:
    """DUE-6: return the earliest time at which anything can be done, from the stored rows alone; None: never."""
    if session.kind is not None:
        return _due_without_runs(session)
    if session.sweep:
        return 0  # DUE-1
    due = session.intents_at_ms  # ATTACH-32
    if delayed and session.phase in BEGINNING_PHASES:
        first = delayed[0].state
        assert isinstance(first, Delayed)
        due = first.until_ms if due is None else min(due, first.until_ms)  # DUE-2
    expires = getattr(session.lease, "expires_at_ms", None)
    if expires is not None:
        other = expires + 1  # DUE-3
    else:
        step = next_work(session, runs, ready, None)
        other = step.due_at_ms if isinstance(step, Wait) else 0  # DUE-5, DUE-4, DUE-29
    if other is None or (due is not None and due < other):
        return due
    return int(other)


def retry_from_ms(
    session: Session, runs: Mapping[str, Run], ready: Mapping[Lane, Sequence[QueueEntry]]
) -> int | None:
    """DUE-63: return before which time a retry of a session without a lease is due at once; None: none is."""
    if not runs or session.lease.__class__ is lease_.Held:
        return None
    if not any([getattr(run.state, "since_ms", None) for run in runs.values()]):
        return None  # nearly always: the search is saved
    step = next_work(session, runs, ready, None)
    return step.from_ms if isinstance(step, Wait) else None


def _due_without_runs(session: Session) -> int | None:
    """DUE-61: return when a job or a trigger is due.

    A job that was left is due when it is to be looked at, also while its lease stays on the row.
    """
    lease = session.lease
    if lease.__class__ is lease_.Held and session.left_since_ms is None:
        assert isinstance(lease, lease_.Held)
        return lease.expires_at_ms + 1
    return session.work_at_ms


def intents_aged(session: Session, now_ms: int) -> bool:
    """ATTACH-32: return whether an intent without a run may be aged, so that Sweep has something to do."""
    return session.intents_at_ms is not None and session.intents_at_ms <= now_ms


def asking_since_ms(session: Session, runs: Mapping[str, Run], now_ms: int) -> int | None:
    """WAIT-30: return since when the open turn waits for people; None: it does not."""
    run = runs.get(session.open_run or "")
    if run is None or all(each.unasked for each in run.waits_for()):
        return None
    return now_ms if session.asking_since_ms is None else session.asking_since_ms


def unpublished_since_ms(session: Session, added: int, now_ms: int) -> int | None:
    """EVENT-66: return since when events wait to be published, with those that are `added` to the session now.

    None: no event waits, or the session has no cursor.
    """
    if session.published is None or session.published >= session.next_event + added - 1:
        return None
    return now_ms if session.unpublished_since_ms is None else session.unpublished_since_ms


def ended_unwritten(
    session: Session, queue_entry: QueueEntry, run: Run | None, unfinished: Container[str]
) -> Ended | None:
    """Return how an input has ended for every reader before that is written, by a mark or by its target; None: it has not.

    Arguments as of `visible_status`.
    """
    match visible_status(session, queue_entry, run, unfinished):
        case "superseded" if not isinstance(queue_entry.state, Ended):
            return Ended(How.SUPERSEDED, "mark")
        case "abandoned" if isinstance(queue_entry.state, Ready):
            return Ended(How.ABANDONED, queue_entry.state.target_run or "")
    return None


def visible_status(
    session: Session, queue_entry: QueueEntry, run: Run | None, unfinished: Container[str]
) -> str:
    """INBOX-17, INBOX-55: return the status of an input.

    It is superseded as soon as the mark is raised, and abandoned as soon as its target has ended, before that is written.
    `run`: that it is bound to.  `unfinished`: the ids of unfinished runs, of which only its target matters.
    """
    state = queue_entry.state
    if isinstance(state, Ended):
        return state.how.value
    outdated_ = state.mark < session.mark(queue_entry.lane)
    if isinstance(state, Bound):
        held = run is not None and (
            run.progress
            or (session.lease_run == run.run_id and isinstance(run.state, run_.Running))
        )
        return "superseded" if outdated_ and not held else "bound"
    if outdated_:
        return "superseded"
    if target_ended(queue_entry, unfinished):
        return "abandoned"
    return "ready" if isinstance(state, Ready) else "delayed"
