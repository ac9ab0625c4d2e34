"""Granting the session and binding what comes next: shared by Begin, Acquire and Commit(NEXT).  Spec: specs/lease.md."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from ..event import EventKind
from ..machines import input as input_
from ..machines import lease as lease_
from ..machines import run as run_
from ..outcome import Refused, Update
from ..records import Cancel, Contributor, QueueEntry, Run, Session
from ..replace import replace
from ..transcript import Tip
from .transaction import Transaction
from .validation import validate_id

TTL_MS_DEFAULT: Final = 30_000
TTL_MS_MAX: Final = 86_400_000


@frozen
class Begun:
    """The fence, for `ttl_ms` from the moment the command was first sent, and the run to carry out."""

    fence: lease_.Fence
    ttl_ms: int
    run_id: str
    turn: int
    n: int  # the checkpoint expected next
    revision: int
    leaf: Tip | None
    inputs: tuple[str, ...]
    resumed: bool  # the journal may hold something
    cancel: Cancel | None = None  # resumed only to be closed
    held: bool = True


@frozen
class BegunBefore:
    """A replay: this Begin was carried out, and its lease has ended since."""

    run_id: str | None
    termination: str | None  # None: the run is not done
    held: bool = False


def validate_grant(lease_id: str, owner: lease_.Owner, ttl_ms: int) -> str | None:
    if not 0 <= ttl_ms <= TTL_MS_MAX:
        return f"ttl_ms {ttl_ms}: 0 to {TTL_MS_MAX}"
    return (
        validate_id("lease_id", lease_id)
        or validate_id("owner_id", owner.owner_id)
        or validate_id("incarnation_id", owner.incarnation_id)
    )


def end_lapsed(tx: Transaction, acquire: lease_.Acquire) -> Refused | None:
    """LEASE-3, RUN-7: whoever needs a lease to be over ends it, in its own transaction; a live one refuses."""
    lease = tx.session.lease
    if isinstance(lease, lease_.Vacant):
        return None
    outcome = lease_.step(lease, acquire)
    if isinstance(outcome, Refused):
        return outcome
    tx.via.append(outcome.clause)
    tx.lose_lease(lease_.step(lease, lease_.End(tx.now_ms)))
    return None


def grant(tx: Transaction, acquire: lease_.Acquire, run_id: str | None) -> None:
    lease = tx.step_to(lease_.step(tx.session.lease, acquire))
    tx.update(lease=lease, lease_run=run_id)


def take_up(tx: Transaction, run: Run) -> Run:
    """INBOX-12: same run, same turn, same contributors, its journal."""
    generation = tx.session.lease.generation
    state = tx.step_to(run_.step(run.state, run_.TakeUp(generation)))
    taken = replace(run, state=state)
    tx.write_run(taken)
    tx.append_event(EventKind.RUN_RESUMED, run.run_id, detail=str(generation))
    return taken


def bind(tx: Transaction, group: tuple[QueueEntry, ...], run_id: str) -> Run:
    """INBOX-13: an input is bound to a run once; runs are retried, inputs never go back."""
    first = group[0]
    mark = tx.session.mark(first.lane)
    contributors, hold = [], False
    for position, queue_entry in enumerate(group):
        state = queue_entry.state
        assert isinstance(state, input_.Ready)
        hold = hold or state.hold
        contributors.append(
            Contributor(
                queue_entry.input_id, queue_entry.seq, queue_entry.priority,
                state.ready_rank, state.size, state.open_key,
            )
        )  # fmt: skip
        bound = tx.step_to(input_.step(state, input_.Bind(run_id, position, mark)))
        tx.write(
            Update(
                QueueEntry(
                    queue_entry.session_id,
                    queue_entry.input_id,
                    queue_entry.seq,
                    queue_entry.lane,
                    queue_entry.priority,
                    bound,
                )
            )
        )
    generation = tx.session.lease.generation
    run = Run(
        tx.session.session_id, run_id, first.lane, mark, hold,
        tuple(contributors), run_.Running(generation),
    )  # fmt: skip
    tx.take_ready(first.lane, len(group))
    tx.write_run(run, new=True)
    tx.append_event(
        EventKind.RUN_STARTED, run_id, tuple([c.input_id for c in contributors]), str(generation)
    )
    return run


def begun_of(session: Session, run: Run, *, resumed: bool) -> Begun:
    lease = session.lease
    assert isinstance(lease, lease_.Held)
    cancel = session.cancel
    return Begun(
        lease_.Fence(session.session_id, lease.generation, lease.lease_id),
        lease.ttl_ms,
        run.run_id,
        run.turn,
        run.next_checkpoint,
        session.revision,
        run.tip or session.leaf,
        tuple([c.input_id for c in run.contributors]),
        resumed,
        cancel if cancel is not None and cancel.run_id == run.run_id else None,
    )
