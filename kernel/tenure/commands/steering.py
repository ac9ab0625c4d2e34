"""Steering: inputs that name a run, and what a checkpoint takes into it.  Specs: specs/inbox.md, specs/journal.md."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

from attrs import frozen

from ..indexes import TARGETED
from ..limits import RUN_BYTES_MAX, RUN_INPUTS_MAX
from ..machines.input import Ready
from ..outcome import Refusal, Refused
from ..policy import LANES, REACHED, Boundary, IfOver, Lane, Policy
from ..queries import Each, First
from ..records import QueueEntry, Run, Session
from ..scheduling import BEGINNING_PHASES, order_of
from .submission import Conflict, IfIdle, NewInput, Target

__all__ = ["NoTarget", "no_targets", "resolve_target", "takeable", "targeted_queries"]


# -- at admission


@frozen
class NoTarget:
    """The run that an input names cannot take it, and the input must not be an ordinary one."""

    reason: Refusal
    clause: str
    detail: str

    def refused(self, index: int) -> Refused:
        """Return the refusal of the command, for the input at this place."""
        return Refused(self.reason, self.clause, Conflict(index, self.detail))


def resolve_target(
    session: Session, unfinished: Container[str], new: NewInput, policy: Policy
) -> str | None | NoTarget:
    """INBOX-49, INBOX-50, INBOX-51, INBOX-52: return the run that an input is addressed to; None: it is an ordinary input."""
    target = new.target
    if target is None:
        target = Target.CURRENT if policy.steers else Target.NOBODY
    if target is Target.NOBODY:
        return None
    stopping = None if session.cancel is None else session.cancel.run_id
    if target is Target.CURRENT:
        run_id = session.open_run or session.lease_run
        if run_id is not None and run_id != stopping:
            return run_id
        if new.if_idle is IfIdle.QUEUE:
            return None
        return NoTarget(Refusal.IDLE, "INBOX-51", "no run is at work")
    if target in unfinished and target != stopping:
        return target
    if new.if_over is IfOver.QUEUE:
        return None
    return NoTarget(Refusal.ENDED, "INBOX-52", target)


# -- at a checkpoint


def targeted_queries(
    session_id: str, run_id: str, boundary: Boundary, limit: int
) -> Each[tuple[QueueEntry, ...]]:
    """Return the queries of the first inputs that name a run, for each lane and each delivery that is reached."""
    return Each(
        tuple(
            [
                First(TARGETED, (session_id, run_id, lane, delivery), limit)
                for lane in LANES
                for delivery in REACHED[boundary]
            ]
        ),
        counted="targeted_count",
    )


def no_targets() -> Each[tuple[QueueEntry, ...]]:
    """Return no queries, for a command that takes nothing."""
    return Each(())


def takeable(
    session: Session,
    run: Run,
    open_calls: tuple[str, ...],
    boundary: Boundary,
    targeted: Sequence[Sequence[QueueEntry]],
    heads: Mapping[Lane, Sequence[QueueEntry]],
) -> list[QueueEntry]:
    """JOURNAL-32, JOURNAL-34, JOURNAL-35: return the inputs that a checkpoint of this run may take, in order.

    `open_calls`: after the checkpoint's own nodes.  `targeted`: the answers to `targeted_queries`.  `heads`: the first
    ready inputs of each lane, those that name this run among them.  Of both, one more than the checkpoint may take.
    """
    cancel = session.cancel
    if open_calls or session.phase not in BEGINNING_PHASES:
        return []
    if cancel is not None and cancel.run_id == run.run_id:
        return []
    named = [entry for found in targeted for entry in found if _is_current(session, entry)]
    others = [entry for lane in heads for entry in _open_heads(session, run, boundary, heads[lane])]
    room = RUN_INPUTS_MAX - len(run.contributors)
    size = sum([c.size for c in run.contributors])
    fitting: list[QueueEntry] = []
    for entry in (*sorted(named, key=order_of), *sorted(others, key=order_of)):
        assert isinstance(entry.state, Ready)
        size += entry.state.size
        if len(fitting) == room or size > RUN_BYTES_MAX:
            break
        fitting.append(entry)
    return fitting


def _is_current(session: Session, entry: QueueEntry) -> bool:
    return isinstance(entry.state, Ready) and entry.state.mark == session.mark(entry.lane)


def _open_heads(
    session: Session, run: Run, boundary: Boundary, ready: Sequence[QueueEntry]
) -> Iterator[QueueEntry]:
    """JOURNAL-33: yield the first inputs of a lane that name nobody, up to the one that closes it."""
    for entry in ready:
        state = entry.state
        if not isinstance(state, Ready) or not _is_current(session, entry):
            return
        if state.target_run == run.run_id:
            continue  # it passes the lane
        if state.target_run is not None or state.barrier or state.delivery not in REACHED[boundary]:
            return
        yield entry
