"""Canonical form of explored states: drops what no later decision reads, so that equal states are recognised.

- A time is either in the future or has come.  A live lease is in its last millisecond, and a lapsed one in the first
  after it, so that an error by one millisecond is found.
- Generations and lease ids that a worker may still present are renumbered.  So are the ranks of inputs that have not
  ended.
- Revisions and event numbers are constant.
- Counters of failures skip the values that make no difference.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from ...failure import RetryLimits, RetryState
from ...machines import input as input_
from ...machines import lease as lease_
from ...machines import run as run_
from ...machines import ticket as ticket_
from ...outbound_records import Outbound
from ...records import (
    Amended,
    Attachment,
    Blob,
    BlobHolders,
    EventBatch,
    ExecutedCommand,
    FencedOff,
    Frame,
    ImportedPage,
    ImportProgress,
    Input,
    Label,
    LastEnd,
    MarkRaise,
    Node,
    OpenKey,
    OpenTicket,
    Phase,
    PhaseChanged,
    Profile,
    QueueEntry,
    Reclaimed,
    Run,
    Session,
    Stamp,
    Ticket,
    Usage,
)
from ...replace import replace
from ...transcript import Tip
from ...world import Rows, World, key_of
from .ordering_oracle import due_of, retry_from_of
from .snapshot import EVENT, LATER, NOW, REVISION, UNUSED_LEASE, S, rank_of, rows_of

__all__ = ["Retained", "canonicalize", "cursors_of", "renamed_cursor"]


@frozen
class Retained:
    """The generations, in order, and the runs that a worker may still name.

    `resends`: commands are sent again, so `last_end` matters.  `clock_back`: the clock may be set back, so the times
    that have come matter.  `cursors`: the event numbers that matter, in order, the last one of all events at the end.
    """

    generations: tuple[int, ...]
    runs: tuple[str, ...]
    resends: bool = True
    clock_back: bool = False
    count_failures: bool = True
    cursors: tuple[int, ...] = ()

    def lease_id(self, old: str) -> str:
        for new, generation in enumerate(self.generations):
            if old == f"l{generation}":
                return f"l{new}"
        return UNUSED_LEASE


@frozen
class Renaming:
    """New numbers for old ones.  They keep the order, which is all that matters."""

    retained: Retained
    seqs: dict[int, int]
    ranks: dict[int, int]


def cursors_of(session: Session, given: tuple[int, ...], told: int) -> tuple[int, ...]:
    """Return the event numbers that a publisher may compare, in order."""
    return tuple(sorted({session.published or 0, *given, told, session.next_event - 1}))


def renamed_cursor(cursors: tuple[int, ...], number: int) -> int:
    """Return the new number of an event: only the order matters."""
    return EVENT - len(cursors) + cursors.index(number)


def renaming_of(world: World, retained: Retained) -> Renaming:
    live = [p for p in rows_of(world, QueueEntry).values() if not isinstance(p.state, input_.Ended)]
    ranks = sorted(r for r in map(rank_of, live) if r is not None)
    return Renaming(
        retained,
        {seq: n for n, seq in enumerate(sorted(p.seq for p in live), 1)},
        {rank: n for n, rank in enumerate(ranks, 1)},
    )


def canonicalize(world: World, retained: Retained) -> World:
    """Return the canonical form of a world.  Unchanged tables and records are shared."""
    names = renaming_of(world, retained)
    runs = rows_of(world, Run)
    kept = {
        run.run_id
        for run in runs.values()
        if run.run_id in retained.runs or not isinstance(run.state, run_.Done)
    }
    tables: dict[type[Any], Rows] = {}
    digest = world.digest
    (before,) = rows_of(world, Session).values()
    for kind, rows in world.tables.items():
        if kind is Node and before.phase is Phase.IMPORTING:
            tables[kind] = rows  # a page may name a node again
            continue
        renamed = _renamed(kind, rows.by_key, names, kept)
        if renamed is None:
            tables[kind] = rows
            continue
        digest += sum([hash(r) for r in renamed if r not in rows.by_key.values()])
        digest -= sum([hash(r) for r in rows.by_key.values() if r not in renamed])
        if renamed:
            tables[kind] = Rows({key_of(kind)(r): r for r in renamed})
    (session,) = tables[Session].by_key.values()
    queue_entries, unfinished = rows_of(World(tables), QueueEntry), rows_of(World(tables), Run)
    due = due_of(session, unfinished.values(), queue_entries.values())
    digest -= hash(session)
    ahead = retry_from_of(session, unfinished.values(), queue_entries.values())
    session = replace(session, due_at_ms=due, retry_from_ms=ahead)
    digest += hash(session)
    tables[Session] = Rows({(S,): session})
    return World(tables, digest & 0xFFFF_FFFF_FFFF_FFFF)


def _renamed(kind: Any, rows: dict[Any, Any], names: Renaming, kept: set[str]) -> list[Any] | None:
    """Return the records to keep, renamed.  Return None if none has changed."""
    if kind in (EventBatch, Node, Usage, Outbound):
        return []
    if kind in (OpenKey, MarkRaise, Profile, Label, Blob, BlobHolders, Attachment):
        return None
    if kind in (ImportProgress, ImportedPage):
        return None
    new = [_record(kind, record, names, kept) for record in rows.values()]
    if all(n is old for n, old in zip(new, rows.values(), strict=True)):
        return None
    return [record for record in new if record is not None]


def _record(kind: Any, record: Any, names: Renaming, kept: set[str]) -> Any:
    if kind is QueueEntry:
        return _queue_entry(record, names)
    if kind is Session:
        return _session(record, names)
    if kind is Input:
        return record if not record.admitted_at_ms else replace(record, admitted_at_ms=0)
    if kind is ExecutedCommand:
        return _executed(record, names.retained)
    if kind is Ticket:
        return _ticket(record, kept)
    if kind is Frame:
        leaf = None if record.leaf is None else Tip(record.frame_id, record.frame_id)
        return replace(record, leaf=leaf, opened_at_ms=None, left_at_ms=None, revision=0)
    if record.run_id not in kept:
        return None
    if kind is Run:
        return _run(record, names)
    lease_id = names.retained.lease_id(record.lease_id)
    return record if lease_id == record.lease_id else replace(record, lease_id=lease_id)


def _executed(done: ExecutedCommand, retained: Retained) -> ExecutedCommand | None:
    name = done.command_id
    if not name.startswith("c."):
        prefix, _, lease_id = name.rpartition(".")  # l3, amend.l3
        lease_id = retained.lease_id(lease_id)
        if lease_id == UNUSED_LEASE:
            return None
        name = f"{prefix}.{lease_id}" if prefix else lease_id
    if name == done.command_id and not done.at_ms:
        return done
    outcome = done.outcome
    if isinstance(outcome, FencedOff | Reclaimed):
        outcome = replace(outcome, generation=0)
    elif isinstance(outcome, Amended):
        outcome = replace(outcome, revision=0)
    elif isinstance(outcome, PhaseChanged):
        outcome = PhaseChanged(outcome.phase, outcome.run_id)
    # the digest of a Reclaim has a generation and a lease id, which get other names here
    digest = None if isinstance(outcome, Reclaimed) else done.content_digest
    return replace(done, command_id=name, at_ms=0, outcome=outcome, content_digest=digest)


def _session(s: Session, names: Renaming) -> Session:
    lease, known = s.lease, names.retained.generations
    held: lease_.Lease
    if isinstance(lease, lease_.Held):
        generation = known.index(lease.generation)
        if lease.expires_at_ms < NOW:
            expires = NOW - 1
        else:
            ahead = NOW + 2 * lease.ttl_ms
            expires = NOW if lease.expires_at_ms <= ahead else ahead + 1
        held = lease_.Held(generation, f"l{generation}", lease.owner, lease.ttl_ms, expires)
    else:
        held = lease_.Vacant(known.index(lease.generation))
    if s.published is not None:
        cursor = renamed_cursor(names.retained.cursors, s.published)
        since = None if s.unpublished_since_ms is None else NOW
        s = replace(s, published=cursor, unpublished_since_ms=since)
    return replace(
        s, lease=held, revision=REVISION, leaf=Tip("s", "s"),
        next_event=EVENT, next_rank=len(names.ranks) + 1, due_at_ms=None, retry_from_ms=None, changed_at_ms=0,
        next_outbound=None, asking_since_ms=None if s.asking_since_ms is None else NOW,
        next_node=s.next_node if s.phase is Phase.IMPORTING else None,
    )  # fmt: skip


def _queue_entry(queue_entry: QueueEntry, names: Renaming) -> QueueEntry:
    state, seq = queue_entry.state, 0
    if isinstance(state, input_.Ended):
        by = state.by if state.how is input_.How.WITHDRAWN else ""
        if by != state.by or state.run_id is not None:
            state = input_.Ended(state.how, by, None, state.readmitted_as)
    else:
        seq = names.seqs[queue_entry.seq]
        if isinstance(state, input_.Delayed):
            until = LATER if state.until_ms > NOW else NOW
            state = state if until == state.until_ms else replace(state, until_ms=until)
        elif isinstance(state, input_.Ready):
            rank = names.ranks[state.ready_rank]
            state = state if rank == state.ready_rank else replace(state, ready_rank=rank)
        else:
            rank = names.ranks[state.rank]
            state = state if rank == state.rank else replace(state, rank=rank)
    return (
        queue_entry
        if seq == queue_entry.seq and state is queue_entry.state
        else replace(queue_entry, seq=seq, state=state)
    )


def _run(run: Run, names: Renaming) -> Run:
    state, last, stamp, retained = run.state, run.last_end, run.stamp, names.retained
    if isinstance(state, run_.Running):
        state = run_.Running(retained.generations.index(state.generation), state.recorded)
    elif isinstance(state, run_.Rescheduled):
        state = _rescheduled(state, retained.clock_back)
    elif isinstance(state, run_.Done):
        state = run_.Done(state.termination)
    if last is not None:
        lease_id = retained.lease_id(last.lease_id)
        last = LastEnd(lease_id, "" if lease_id == UNUSED_LEASE else last.verdict)
    if stamp is not None:
        stamp = Stamp(
            stamp.turn,
            stamp.digest,
            0,
            retained.lease_id(stamp.lease_id),
            stamp.next_run,
            stamp.switched,
        )
    done = isinstance(state, run_.Done)
    contributors = tuple(
        [
            replace(
                x,
                seq=0 if done else names.seqs[x.seq],
                rank=0 if done else names.ranks[x.rank],
            )
            for x in run.contributors
        ]
    )
    renamed = replace(
        run, state=state, last_end=last if retained.resends else None, stamp=stamp,
        contributors=contributors,
        retry=RetryState() if done or not retained.count_failures else saturate(run.retry, run.limits, len(contributors)),
        tip=None if run.tip is None else Tip(run.run_id, run.run_id), node_count=None,
        open_tickets=None if done or run.open_tickets is None else tuple([_open_ticket(each) for each in run.open_tickets]),
    )  # fmt: skip
    return run if renamed == run else renamed


def _deadline(deadline: int | None) -> int | None:
    return None if deadline is None else LATER if deadline > NOW else NOW


def _open_ticket(ticket: OpenTicket) -> OpenTicket:
    return replace(ticket, deadline_ms=_deadline(ticket.deadline_ms))


def _ticket(ticket: Ticket, kept: set[str]) -> Ticket | None:
    """Keep what a command may still find: an open ticket, or one of a run that has not ended."""
    if ticket.run_id not in kept and not isinstance(ticket.state, ticket_.Open):
        return None
    return replace(ticket, deadline_ms=_deadline(ticket.deadline_ms), opened_at_ms=0)


def _rescheduled(state: run_.Rescheduled, clock_back: bool) -> run_.Rescheduled:
    """Drop a time that has come, unless the clock may be set back.

    A retry of a clock that was ahead is due in this millisecond for the last time.
    """
    due, since = state.due_at_ms, state.since_ms
    if due is not None and due > NOW:
        if since is not None:
            since = LATER if since - NOW > due - since else NOW
        return run_.Rescheduled(LATER, state.hold_all, since)
    if due is None or not clock_back:
        return run_.Rescheduled()
    return run_.Rescheduled(NOW, state.hold_all, None if since is None else NOW)


def saturate(t: RetryState, limits: RetryLimits, contributors: int) -> RetryState:
    """Raise each counter to its last value before it has an effect: the values between behave alike."""
    distinct = 1 if contributors > 1 else 0  # a group is split at its second loss
    losses = t.losses if t.losses <= distinct else limits.losses - 1
    first = t.first_failure_ms
    if first is not None:
        hour = limits.give_up_after_ms
        first = NOW if NOW - first < hour else NOW - hour
    return RetryState(limits.failures - 1 if t.failures else 0, min(t.outages, 1), losses, first)
