"""Illegal commands: generated from the rows of a session, some tried in every state.  None may change a row."""

from __future__ import annotations

from typing import Any

from ... import commands as c
from ...failure import ErrorKind, Failure
from ...machines import lease as lease_
from ...machines.input import Bound, Ended, How, Ready
from ...machines.run import Done, Termination, WaitReason
from ...machines.ticket import Action, Open, TicketKind
from ...policy import IfOver, Lane
from ...records import EntryKind, ExecutedCommand, Phase, QueueEntry, Ticket
from ...transcript import NewNode, Role, UsageDelta
from .ordering_oracle import left_behind
from .snapshot import REVISION, TTL, S, Snapshot, rows_of

__all__ = ["illegal_commands", "is_withdrawable"]


OTHER = "other"
OTHER_OWNER = lease_.Owner("other", "other")
UNREADABLE = NewNode(Role.ASSISTANT, "\x00")
FAILED = Failure(ErrorKind.TRANSIENT)
TWICE_LABELLED = c.NewProfile(labels=(("a", "1"), ("a", "2")))


def illegal_commands(snapshot: Snapshot) -> list[Any]:
    """Return commands that this session must refuse, or that it has already executed."""
    return [
        *_unknown(),
        *_illegal(snapshot),
        *_inputs(snapshot),
        *_phases(snapshot),
        *_other_content(snapshot),
        *_decisions(snapshot),
        *_without_the_fence(snapshot),
        *(_with_the_fence(snapshot) if isinstance(snapshot.session.lease, lease_.Held) else ()),
    ]


def is_withdrawable(snapshot: Snapshot, queue_entry: QueueEntry) -> bool:
    """Return True if a withdrawal of this input must succeed."""
    state, session = queue_entry.state, snapshot.session
    assert not isinstance(state, Ended)
    run = snapshot.runs[state.run_id] if isinstance(state, Bound) else None
    if run is not None and run.progress:
        return False
    if run is not None and session.lease_run == run.run_id:
        # it was under the lease when the mark was raised, so only a live lease protects it
        return not snapshot.live()
    if left_behind(queue_entry, snapshot.unfinished()):
        return False
    return state.mark == session.mark(queue_entry.lane)


def is_busy(snapshot: Snapshot) -> bool:
    """Return True if something is at work or ready, so that an input for an idle session must be refused."""
    session = snapshot.session
    runs = any(r.progress or r.mark == session.mark(r.lane) for r in snapshot.unfinished())
    ready = any(
        isinstance(e.state, Ready) and e.state.mark == session.mark(e.lane)
        for e in snapshot.queue_entries.values()
    )
    return runs or ready or snapshot.live() or session.phase is Phase.IMPORTING


def _unknown() -> list[Any]:
    """Return commands that name an unknown session, input or run."""
    other_fence = lease_.Fence(OTHER, 1, "l1")
    return [
        c.Admit(OTHER, (c.NewInput("p", "prompt", "p"),), open=False),
        c.Begin(OTHER, "l1", "r1", OTHER_OWNER),
        c.Acquire(OTHER, "l1", OTHER_OWNER),
        c.Renew(OTHER, other_fence),
        c.ReleaseSession(OTHER, other_fence),
        c.Amend(OTHER, "c.1", other_fence, 0),
        c.Reclaim(OTHER, "c.1", other_fence, lease_.Evidence.DEAD),
        c.Interrupt(OTHER, "c.1"),
        c.Retire(OTHER, "c.1"),
        c.FenceOff(OTHER, "c.1"),
        c.FenceOff(S, "c.1", 0),
        c.Sweep(OTHER),
        c.Reseal(OTHER, ()),
        c.Publish(OTHER, 0),
        c.Begin(OTHER, "l1", "r1", OTHER_OWNER, exactly=("nothing",)),
        c.Replace(S, "c.1", "nothing", c.NewInput("z", "prompt", "z")),
        c.Reorder(S, "c.1", Lane.USER, ("nothing",)),
        c.Readmit(S, "c.1", "nothing", "z"),
        c.WithdrawFrom(S, "c.1", "nothing"),
        c.Withdraw(S, "c.1", "nothing"),
        c.RequestCancel(S, "c.1", "nothing"),
        c.CancelInput(S, "c.1", "nothing"),
        c.Checkpoint(S, other_fence, "nothing", 1, 0),
        c.Commit(S, other_fence, "nothing", 1, 0, 0),
        c.Fail(S, other_fence, "nothing", 1, FAILED),
        c.Release(S, other_fence, "nothing"),
        c.Park(S, other_fence, "nothing", 1, 0, "w", WaitReason.USER_INPUT),
        c.Decide(S, "nothing", "c.1", Action.APPROVE),
        c.Settle(S, "c.1", "nothing", Action.FAILED),
        c.Open(S),
        c.Open(S, importing=c.Import(1, "another")),
        c.Admit(S, (c.NewInput("z", "prompt", "z"),), profile=TWICE_LABELLED),
        c.ImportPage(OTHER, 1, ()),
        c.ImportPage(S, 9, ()),
    ]


def _illegal(snapshot: Snapshot) -> list[Any]:
    """Return commands with illegal ids and values."""
    return [
        c.Begin(S, "l 1", "r1", OTHER_OWNER),
        c.Begin(S, "l1", "r 1", OTHER_OWNER),
        c.Begin(S, "l1", "r1", OTHER_OWNER, ttl_ms=-1),
        c.Acquire(S, "l1", OTHER_OWNER, ttl_ms=-1),
        c.Open("an illegal\tname"),
        c.Reseal(S, (c.RowName("Session"),)),
        c.Reseal(S, (c.RowName("Node"),)),
        c.Admit(S, ()),
        c.Reorder(S, "c.1", Lane.USER, ()),
        c.Publish(S, -1),
        c.Publish(S, snapshot.session.next_event),
    ]


def _inputs(snapshot: Snapshot) -> list[Any]:
    """Return commands with illegal inputs, and commands that come too late for an input or run."""
    found: list[Any] = [
        c.Admit(S, (c.NewInput("z z", "prompt", "z"),)),
        c.Admit(S, (c.NewInput("z", "prompt", "\x00"),)),
        c.Admit(S, (c.NewInput("z", "prompt", ""),)),
        c.Admit(S, (c.NewInput("z", "prompt", "z"),), queue_max=snapshot.session.waiting),
        c.Admit(S, (c.NewInput("z", "no kind", "z"),)),
        c.Admit(S, (c.NewInput("z", "prompt", "z", available_at_ms=-1),)),
        c.Interrupt(S, "c.z", c.NewInput("z", "no kind", "z")),
    ]
    session, flag = snapshot.session, snapshot.session.cancel
    if (session.open_run or session.lease_run) in (None, None if flag is None else flag.run_id):
        idle = c.NewInput("z", "steering", "z", if_idle=c.IfIdle.REFUSE)
        found.append(c.Admit(S, (idle,)))
    late = c.NewInput("z", "steering", "z", target="nothing", if_over=IfOver.ABANDON)
    found.append(c.Admit(S, (late,)))
    for queue_entry in snapshot.queue_entries.values():
        found.append(c.Admit(S, (c.NewInput(queue_entry.input_id, "prompt", "something else"),)))
        if isinstance(queue_entry.state, Ended):
            found.append(c.Withdraw(S, "c.too late", queue_entry.input_id))
        if not isinstance(queue_entry.state, Ready):
            found.append(c.Reorder(S, "c.too.late", queue_entry.lane, (queue_entry.input_id,)))
        found.append(c.Readmit(S, "c.known", queue_entry.input_id, queue_entry.input_id))
        if not _is_dead(queue_entry):
            found.append(c.Readmit(S, "c.not.dead", queue_entry.input_id, "z"))
        known = c.NewInput(queue_entry.input_id, "prompt", queue_entry.input_id)
        found.append(c.Replace(S, "c.known", queue_entry.input_id, known))
        if isinstance(queue_entry.state, Ended | Bound):
            new = c.NewInput("z", "prompt", "z")
            found.append(c.Replace(S, "c.too.late", queue_entry.input_id, new))
    found += _taken_slots(snapshot)
    for run in snapshot.runs.values():
        old = run.mark < snapshot.session.mark(run.lane) and not run.progress
        if isinstance(run.state, Done) or (old and snapshot.session.lease_run != run.run_id):
            found.append(c.RequestCancel(S, "c.too.late", run.run_id))
    return found


def _is_dead(entry: QueueEntry) -> bool:
    state = entry.state
    dead = isinstance(state, Ended) and state.how is How.DEAD_LETTERED
    return dead and getattr(state, "readmitted_as", None) is None


def _taken_slots(snapshot: Snapshot) -> list[Any]:
    """Return commands that would replace an input by one in whose slot another input waits."""
    new = c.NewInput("z", "prompt", "z", supersession_key="one")
    ready = [
        e
        for e in snapshot.queue_entries.values()
        if isinstance(e.state, Ready) and e.state.mark == snapshot.session.mark(e.lane)
    ]
    holders = [e for e in ready if getattr(e.state, "slot", None) == "user:prompt:one"]
    return [c.Replace(S, "c.slot", e.input_id, new) for h in holders for e in ready if e is not h]


def _phases(snapshot: Snapshot) -> list[Any]:
    """Return commands that the phase or the lease of the session forbids."""
    found: list[Any] = []
    if snapshot.session.phase is Phase.DESTROYED:
        found += [c.Reopen(S, "c.1"), c.Reset(S, "c.1"), c.Stop(S, "c.1"), c.Destroy(S, "c.1")]
    if snapshot.session.phase in (Phase.STOPPING, Phase.STOPPED):
        found.append(c.Retire(S, "c.1"))
    if snapshot.session.phase is Phase.IMPORTING:
        found += [c.Reopen(S, "c.1"), c.Reset(S, "c.1"), c.Stop(S, "c.1"), c.Retire(S, "c.1")]
        found.append(c.Acquire(S, "another", OTHER_OWNER))
    if snapshot.session.phase not in (Phase.OPEN, Phase.IMPORTING):
        found.append(c.Admit(S, (c.NewInput("z", "prompt", "z"),)))
    if is_busy(snapshot):
        found.append(c.Admit(S, (c.NewInput("z", "prompt", "z"),), only_if_idle=True))
    if snapshot.live() or snapshot.session.open_run is not None:
        found.append(c.Interrupt(S, "c.1", only_if_at_rest=True))
    if snapshot.live():
        found.append(c.Reset(S, "c.1"))
    elif snapshot.session.open_run is not None and not _rolls_back(snapshot):
        found.append(c.Acquire(S, "another", OTHER_OWNER))
    return found


def _rolls_back(snapshot: Snapshot) -> bool:
    """Return True if the open turn ends as soon as its lease does."""
    cancel = snapshot.session.cancel
    return cancel is not None and cancel.rollback


def _other_content(snapshot: Snapshot) -> list[Any]:
    """Return commands with the ids of commands that were executed, and with other content."""
    found: list[Any] = []
    for row in rows_of(snapshot.world, ExecutedCommand).values():
        match row.command:
            case "interrupt":
                found.append(c.Interrupt(S, row.command_id, c.NewInput("z", "prompt", "other")))
            case "request_cancel":
                found.append(c.RequestCancel(S, row.command_id, OTHER))
            case "amend":
                fence = lease_.Fence(S, 1, "l1")
                found.append(c.Amend(S, row.command_id, fence, 0, (UNREADABLE,)))
            case "retire":
                found.append(c.Retire(S, row.command_id, abandon_queued=True))
            case "destroy":
                found.append(c.Destroy(S, row.command_id, erase_payloads=True))
    return found


def _decisions(snapshot: Snapshot) -> list[Any]:
    """Return decisions that no ticket takes."""
    found: list[Any] = []
    for ticket in rows_of(snapshot.world, Ticket).values():
        found.append(c.Decide(S, ticket.ticket_id, "c.no", Action.EDIT))
        work = ticket.kind is TicketKind.WORK
        found.append(
            c.Settle(S, "c.no", ticket.ticket_id, Action.ANSWER if work else Action.FAILED)
        )
        if not isinstance(ticket.state, Open) or not _accepts(snapshot):
            found.append(c.Decide(S, ticket.ticket_id, "c.no", Action.APPROVE))
    return found


def _accepts(snapshot: Snapshot) -> bool:
    return snapshot.session.phase in (Phase.OPEN, Phase.RETIRED)


def _without_the_fence(snapshot: Snapshot) -> list[Any]:
    """Return commands of a holder whose fence has another generation or another lease id."""
    lease, found = snapshot.session.lease, []
    lease_id = lease.lease_id if isinstance(lease, lease_.Held) else "l0"
    for fence in (
        lease_.Fence(S, lease.generation + 1, lease_id),
        lease_.Fence(S, lease.generation, "another"),
    ):
        found += [
            c.Renew(S, fence),
            c.Amend(S, "c.1", fence, REVISION),
            c.Reclaim(S, "c.1", fence, lease_.Evidence.DEAD),
        ]
        for run in snapshot.unfinished():
            found += [
                c.Checkpoint(
                    S,
                    fence,
                    run.run_id,
                    1,
                    run.next_checkpoint,
                    (c.NewEntry(EntryKind.START, "y"),),
                ),
                c.Commit(S, fence, run.run_id, 1, run.next_checkpoint, REVISION),
                c.Fail(S, fence, run.run_id, 1, FAILED),
                c.Release(S, fence, run.run_id),
            ]
    return found


def _with_the_fence(snapshot: Snapshot) -> list[Any]:
    """Return commands with the valid fence and a wrong run, turn, checkpoint, revision or content."""
    lease = snapshot.session.lease
    assert isinstance(lease, lease_.Held)
    fence = lease_.Fence(S, lease.generation, lease.lease_id)
    found: list[Any] = []
    if snapshot.live():
        found.append(c.Reclaim(S, "c.1", fence, lease_.Evidence.UNKNOWN))
        found.append(c.Begin(S, "another", "r.other", OTHER_OWNER, TTL))
    run_id = snapshot.session.lease_run
    if run_id is None:
        return [
            *found,
            c.Amend(S, "c.1", fence, REVISION + 1),
            c.Amend(S, "c.1", fence, REVISION, (UNREADABLE,)),
            c.Amend(S, "c.1", fence, REVISION, rewind=c.Rewind("nothing")),
            c.Amend(S, "c.1", fence, REVISION, switch=c.Switch("f 1")),
            c.Amend(S, "c.1", fence, REVISION, states=(c.NewState("", "x"),)),
            c.Amend(S, "c.1", fence, REVISION, profile=TWICE_LABELLED),
        ]
    run = snapshot.runs[run_id]
    nodes = (UNREADABLE,)
    return [
        *found,
        c.ReleaseSession(S, fence),
        c.Amend(S, "c.1", fence, REVISION),
        c.Checkpoint(
            S, fence, run_id, 1, run.next_checkpoint + 7, (c.NewEntry(EntryKind.START, "y"),)
        ),
        c.Checkpoint(S, fence, run_id, 2, run.next_checkpoint, (c.NewEntry(EntryKind.START, "y"),)),
        c.Checkpoint(S, fence, run_id, 1, run.next_checkpoint, (), nodes),
        c.Checkpoint(S, fence, run_id, 1, run.next_checkpoint),
        c.Commit(S, fence, run_id, 1, run.next_checkpoint + 7, REVISION),
        c.Commit(S, fence, run_id, 1, run.next_checkpoint, REVISION + 1, Termination.CANCELLED),
        c.Commit(S, fence, run_id, 1, run.next_checkpoint, REVISION, Termination.SPLIT),
        c.Commit(S, fence, run_id, 1, run.next_checkpoint, REVISION, switch=c.Switch("f 1")),
        c.Park(S, fence, run_id, 2, run.next_checkpoint, "w", WaitReason.USER_INPUT),
        c.Park(S, fence, run_id, 1, run.next_checkpoint, "w", WaitReason.TOOL),
        *(
            [c.Park(S, fence, run_id, 1, run.next_checkpoint, "w", WaitReason.USER_INPUT)]
            if snapshot.session.cancel is not None
            else []
        ),
        c.Fail(S, fence, run_id, 2, FAILED),
        c.Fail(S, fence, run_id, 1, FAILED, (UsageDelta("", "\x00"),)),
        *(
            c.Checkpoint(
                S,
                fence,
                other.run_id,
                1,
                other.next_checkpoint,
                (c.NewEntry(EntryKind.START, "y"),),
            )
            for other in snapshot.unfinished()
            if other.run_id != run_id
        ),
    ]
