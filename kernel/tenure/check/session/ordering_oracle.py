"""The order of work in a session: who begins before whom, and when a session is due.

Written from the design and over all rows, without the functions of `scheduling`, so that it checks them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from ... import commands as c
from ...limits import UNFINISHED_RUNS_MAX
from ...machines import input as input_
from ...machines import lease as lease_
from ...machines import run as run_
from ...policy import IfOver
from ...records import Phase, QueueEntry, Run, Session
from .snapshot import wakes_at
from .step import Step, lease_id_of

__all__ = [
    "BEGINNING",
    "barrier_respected",
    "due_of",
    "retry_from_of",
    "hold_respected",
    "in_order",
    "left_behind",
    "meets",
    "newly_taken",
    "nothing_due",
]


Position: TypeAlias = tuple[int, int]  # priority and rank

BEGINNING: Final = (Phase.OPEN, Phase.RETIRED)  # the phases in which runs begin


def waiting(
    session: Session, runs: Iterable[Run], queue_entries: Iterable[QueueEntry]
) -> Iterator[tuple[Position, Run | QueueEntry]]:
    """The unfinished runs and the ready inputs that no mark has superseded and no target left behind."""
    unfinished = [run for run in runs if not isinstance(run.state, run_.Done)]
    for run in unfinished:
        if run.mark == session.mark(run.lane):
            first = run.contributors[0]
            yield (first.priority, first.rank), run
    for entry in queue_entries:
        state = entry.state
        if isinstance(state, input_.Ready) and state.mark == session.mark(entry.lane):
            if not left_behind(entry, unfinished):
                yield (entry.priority, state.ready_rank), entry


def left_behind(entry: QueueEntry, unfinished: Iterable[Run]) -> bool:
    """The input is ready, was to be abandoned with the run that it names, and that run has ended."""
    state = entry.state
    if not isinstance(state, input_.Ready) or state.if_over is not IfOver.ABANDON:
        return False
    return state.target_run not in {run.run_id for run in unfinished}


def heads(session: Session, queue_entries: Iterable[QueueEntry]) -> Iterator[QueueEntry]:
    """The first ready input of each lane."""
    ready = [
        (entry.lane, entry.priority, entry.state.ready_rank, entry)
        for entry in queue_entries
        if isinstance(entry.state, input_.Ready) and entry.state.mark == session.mark(entry.lane)
    ]
    for lane in {each[0] for each in ready}:
        yield min([each for each in ready if each[0] == lane], key=lambda each: each[:3])[3]


def holds(run: Run) -> bool:
    return run.hold or (isinstance(run.state, run_.Rescheduled) and run.state.hold_all)


# -- which work a lease is granted for


def newly_taken(t: Step) -> Run | None:
    """The run that this decision puts under the lease."""
    before, after = t.before.session, t.after.session
    if (
        lease_id_of(before.lease) == lease_id_of(after.lease)
        and before.lease_run == after.lease_run
    ):
        return None
    return t.after.runs.get(after.lease_run or "")


def overtaken(t: Step, run: Run) -> Iterator[tuple[Position, Run | QueueEntry]]:
    """What comes before a run that was newly taken."""
    after = t.after
    for position, other in waiting(
        after.session, after.runs.values(), after.queue_entries.values()
    ):
        if position < run.order and other is not run:
            yield position, other


def in_order(t: Step) -> bool:
    """Only a run that sleeps and does not hold is passed over, or an input if there are too many runs."""
    run, after = newly_taken(t), t.after
    if run is None or run.progress:
        return True
    if after.session.open_run is not None:
        return False  # the open turn comes first
    known = len(after.unfinished()) - (run.run_id not in t.before.runs)
    return all(
        known >= UNFINISHED_RUNS_MAX
        if isinstance(other, QueueEntry)
        else after.sleeping(other) and not holds(other)
        for _, other in overtaken(t, run)
    )


def hold_respected(t: Step) -> bool:
    run = newly_taken(t)
    return run is None or not any(
        isinstance(other, Run) and t.after.sleeping(other) and holds(other)
        for _, other in overtaken(t, run)
    )


def barrier_respected(t: Step) -> bool:
    run = newly_taken(t)
    if run is None or run.run_id in t.before.runs or not run.contributors[0].barrier:
        return True
    return not any(isinstance(other, Run) for _, other in overtaken(t, run))


# -- when there is work


def starts_at(
    session: Session, runs: Iterable[Run], queue_entries: Iterable[QueueEntry], now_ms: int | None
) -> int | None:
    """The time at which a session without a lease can begin a run.  0: now; None: never.

    `now_ms` None: as of `wakes_at`.
    """
    unfinished = {run.run_id: run for run in runs if not isinstance(run.state, run_.Done)}
    if session.open_run is not None:
        turn = unfinished[session.open_run]
        if isinstance(turn.state, run_.Waiting):
            return _meets_at(session, turn, unfinished.values(), tuple(queue_entries), now_ms)
        return wakes_at(turn, now_ms)
    if session.phase not in BEGINNING:
        return None
    times: list[int] = []
    entries = tuple(queue_entries)
    if any(left_behind(entry, unfinished.values()) for entry in heads(session, entries)):
        return 0  # its end can be written
    work = waiting(session, unfinished.values(), entries)
    for _, run in sorted(work, key=lambda each: each[0]):
        if isinstance(run, QueueEntry):
            if times and getattr(run.state, "barrier", None):
                break
            if len(unfinished) < UNFINISHED_RUNS_MAX:
                return 0
            continue
        at = wakes_at(run, now_ms)
        if at == 0:
            return 0
        times.append(at)
        if holds(run):
            break
    return min(times, default=None)


def meets(run: Run, entry: QueueEntry) -> str:
    """What an input that is ready, or due to be, does to a run that waits: `enters`, `ends` or `stays`."""
    wait, state = run.state, entry.state
    assert isinstance(wait, run_.Waiting) and isinstance(state, input_.Ready | input_.Delayed)
    word = state.while_waiting
    if word is None and entry.lane == "user":
        word = wait.on_input
    named = state.target_run == run.run_id
    reason = wait.cause.value
    if word is None:
        enters = reason in ("user_input", "background")
    elif word.value == "background":
        enters = reason == "background" or (reason == "user_input" and named)
    elif word.value == "supersede":
        return "stays" if named and state.if_over is IfOver.ABANDON else "ends"
    else:
        enters = word.value == "fold"
    return "enters" if enters and not run.open_calls else "stays"


def _meets_at(
    session: Session,
    run: Run,
    unfinished: Iterable[Run],
    entries: tuple[QueueEntry, ...],
    now_ms: int | None,
) -> int | None:
    for entry in heads(session, entries) if session.phase in BEGINNING else ():
        if left_behind(entry, unfinished) or meets(run, entry) != "stays":
            return 0
    assert isinstance(run.state, run_.Waiting)
    tickets = [each for each in run.open_tickets or () if each.ticket_id in run.state.tickets]
    times = [each.deadline_ms for each in tickets if each.deadline_ms is not None]
    at = min(times, default=None)
    return at if at is None or now_ms is None or at > now_ms else 0


def due_of(
    session: Session, runs: Iterable[Run], queue_entries: Iterable[QueueEntry]
) -> int | None:
    """What `due_at_ms` must be: the earliest time at which a worker finds something to do."""
    if session.sweep:
        return 0
    if isinstance(session.lease, lease_.Held):
        begins: int | None = session.lease.expires_at_ms + 1
    else:
        begins = starts_at(session, runs, queue_entries, None)
    times = (begins, session.intents_at_ms, *promotions(session, queue_entries))
    return min((at for at in times if at is not None), default=None)


def retry_from_of(
    session: Session, runs: Iterable[Run], queue_entries: Iterable[QueueEntry]
) -> int | None:
    """What `retry_from_ms` must be: the latest time before which the session begins a run that it passes over now."""
    entries, runs = tuple(queue_entries), tuple(runs)
    if isinstance(session.lease, lease_.Held):
        return None
    if starts_at(session, runs, entries, None) in (0, None):
        return None
    if session.open_run is not None:
        reached = [run for run in runs if run.run_id == session.open_run]
    else:
        reached = []
        for _, each in sorted(waiting(session, runs, entries), key=lambda each: each[0]):
            if isinstance(each, QueueEntry):
                if reached and getattr(each.state, "barrier", None):
                    break
                continue
            reached.append(each)
            if holds(each):
                break
    times = [
        2 * run.state.since_ms - run.state.due_at_ms
        for run in reached
        if isinstance(run.state, run_.Rescheduled)
        and run.state.due_at_ms is not None
        and run.state.since_ms is not None
    ]
    return max(times, default=None)


def promotions(session: Session, queue_entries: Iterable[QueueEntry]) -> list[int]:
    """The times at which delayed inputs become ready."""
    if session.phase not in BEGINNING:
        return []
    return [e.state.until_ms for e in queue_entries if isinstance(e.state, input_.Delayed)]


def nothing_due(t: Step) -> bool:
    """A Begin that begins nothing leaves nothing to begin, or says why: a Sweep is first, or another owner is needed."""
    outcome, after = t.decided.outcome, t.after
    if not isinstance(outcome, c.NothingDue):
        return True
    if outcome.due_at_ms != after.session.due_at_ms:
        return False
    rows = after.runs.values(), after.queue_entries.values()
    due = starts_at(after.session, *rows, after.now_ms) == 0
    open_ = after.runs.get(after.session.open_run or "")
    if open_ is not None and isinstance(open_.state, run_.Waiting):
        return not due or outcome.sweep
    left = [left_behind(head, after.unfinished()) for head in heads(after.session, rows[1])]
    if due and outcome.sweep and any(left):
        return True  # a run that waited was superseded, and its inputs are left behind
    return due is (outcome.others_max is not None)
