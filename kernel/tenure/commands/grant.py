"""Grant leases and bind inputs to runs: shared by Begin, Acquire and Commit.  Spec: specs/lease.md."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from ..event import EventKind
from ..machines import input as input_
from ..machines import lease as lease_
from ..machines import run as run_
from ..outcome import Insert, Refused, Update
from ..policy import Lane
from ..records import Cancel, Contributor, EntryKind, JournalEntry, QueueEntry, Run, Session
from ..replace import replace
from ..transcript import INPUTS_NODE, Tip, hash_node, hash_parts
from .contributors import apply_to
from .nodes import append_nodes, first_number
from .transaction import Transaction
from .validation import validate_id, validate_text

__all__ = [
    "TTL_MS_DEFAULT",
    "Begun",
    "BegunBefore",
    "begun_of",
    "bind",
    "end_lapsed",
    "fold",
    "grant",
    "take_up",
    "validate_grant",
    "validate_process",
]


TTL_MS_DEFAULT: Final = 30_000
TTL_MS_MAX: Final = 86_400_000


@frozen
class Begun:
    """The fence, valid for `ttl_ms` from when the command was first sent, and the run to execute."""

    fence: lease_.Fence
    ttl_ms: int
    run_id: str
    turn: int
    n: int  # number of the next checkpoint
    revision: int
    leaf: Tip | None
    inputs: tuple[str, ...]
    resumed: bool  # the journal may have entries
    cancel: Cancel | None = None  # the run must only be closed
    held: bool = True
    resolution: str | None = None  # the version of the agent that works on the run


@frozen
class BegunBefore:
    """A replay: this command was executed, and its lease has ended since (unless `held`)."""

    run_id: str | None
    termination: str | None  # None: the run is not done
    held: bool = False


def validate_grant(lease_id: str, owner: lease_.Owner, ttl_ms: int) -> str | None:
    """Return what is wrong with a lease to be granted, or None."""
    if not 0 <= ttl_ms <= TTL_MS_MAX:
        return f"ttl_ms {ttl_ms}: expected 0 to {TTL_MS_MAX}"
    return (
        validate_id("lease_id", lease_id)
        or validate_id("owner_id", owner.owner_id)
        or validate_id("incarnation_id", owner.incarnation_id)
        or (None if owner.process is None else validate_process(owner.process))
    )


def validate_process(process: lease_.LocalProcess) -> str | None:
    return (
        validate_text("process host", process.host)
        or validate_text("process boot", process.boot)
        or validate_text("process pid_namespace", process.pid_namespace)
        or validate_text("process start", process.start)
    )


def end_lapsed(tx: Transaction, acquire: lease_.Acquire) -> Refused | None:
    """LEASE-3, RUN-7: end a lapsed lease in this transaction; a live one refuses the command."""
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
    """Grant the lease, for a run or without one."""
    lease = tx.step_to(lease_.step(tx.session.lease, acquire))
    tx.update(lease=lease, lease_run=run_id)


def take_up(tx: Transaction, run: Run) -> Run:
    """INBOX-12: take up a run again, with the same turn, contributors and journal."""
    generation = tx.session.lease.generation
    state = tx.step_to(run_.step(run.state, run_.TakeUp(generation)))
    taken = replace(run, state=state)
    tx.write_run(taken)
    tx.append_event(EventKind.RUN_RESUMED, run.run_id, detail=str(generation))
    return taken


def bind(
    tx: Transaction, group: tuple[QueueEntry, ...], run_id: str, resolution: str | None
) -> Run:
    """INBOX-13: bind ready inputs to a new run.  A run is retried; its inputs stay bound.

    RUN-70: the version that the first input asks for goes before `resolution`.
    """
    first = group[0]
    mark = tx.session.mark(first.lane)
    contributors, hold = [], False
    resolution = getattr(first.state, "resolution", None) or resolution
    for position, queue_entry in enumerate(group):
        state = queue_entry.state
        assert isinstance(state, input_.Ready)
        hold = hold or state.hold
        contributors.append(
            Contributor(
                queue_entry.input_id, queue_entry.seq, queue_entry.priority,
                state.ready_rank, state.size, state.open_key, state.delivery, state.barrier,
                while_waiting=state.while_waiting, retry=state.retry, settles=queue_entry.settles,
            )
        )  # fmt: skip
        bound = tx.step_to(input_.step(state, input_.Bind(run_id, position, mark)))
        tx.write(Update(replace(queue_entry, state=bound)))
    generation = tx.session.lease.generation
    run = Run(
        tx.session.session_id, run_id, first.lane, mark, hold,
        tuple(contributors), run_.Running(generation), resolution=resolution,
    )  # fmt: skip
    tx.take_ready(first.lane, len(group))
    tx.write_run(run, new=True)
    tx.append_event(
        EventKind.RUN_STARTED, run_id, tuple([c.input_id for c in contributors]), str(generation)
    )
    return run


def fold(tx: Transaction, run: Run, lane: Lane) -> Run:
    """WAIT-15: bind the head of a lane to the open turn, which waits, as a checkpoint would."""
    session, entry, n = tx.session, tx.ready[lane][0], run.next_checkpoint
    assert isinstance(run.state, run_.Waiting), run
    effect_id = run.state.effect_id
    outcome, contributor = apply_to(run, entry, len(run.contributors), session.mark(lane), n)
    ids = (entry.input_id,)
    contents = [hash_node(INPUTS_NODE)]
    run, nodes = append_nodes(session, run, n, (INPUTS_NODE,), contents, tx.now_ms, ids)
    tx.update(next_node=first_number(session))
    tx.write(Update(replace(entry, state=tx.step_to(outcome))), *[Insert(node) for node in nodes])
    tx.take_ready(lane, 1)
    lease = session.lease
    assert isinstance(lease, lease_.Held)
    key = (session.session_id, run.run_id, run.turn, n)
    last = (lease.lease_id, hash_parts("fold", n, *ids))
    taken = JournalEntry(*key, 0, EntryKind.TAKEN, effect_id, *last, None, entry.input_id)
    node_id = nodes[0].node_id
    named = JournalEntry(*key, 1, EntryKind.NODE, node_id, *last, node_id)
    tx.write(Insert(taken), Insert(named))
    tx.append_event(EventKind.INPUT_APPLIED, run.run_id, ids, str(n))
    contributors = (*run.contributors, contributor)
    return replace(run, contributors=contributors, next_checkpoint=n + 1)


def begun_of(session: Session, run: Run, *, resumed: bool) -> Begun:
    """Return the answer for a run that begins under the lease of the session."""
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
        resolution=run.resolution,
    )
