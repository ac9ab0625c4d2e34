"""What Prune may remove: a table with a row for each kind.  Spec: specs/retention.md.

A walk goes along the events of a session, oldest first, because an event names what it has ended (RETENTION-5).  A new
record joins with a row in `WALKED`, or with none if its rows go only with their session.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from attrs import define, field, frozen

from ..event import EventKind
from ..limits import PRUNE_ROWS_MAX
from ..machines import input as input_
from ..machines import run as run_
from ..machines import ticket as ticket_
from ..outcome import Drop, Update, Write
from ..records import (
    EventBatch,
    Input,
    JournalEntry,
    QueueEntry,
    Run,
    Session,
    Ticket,
)
from ..replace import replace
from ..retention import Keep, PruneKind, Retention, time_of
from ..world import key_of

__all__ = ["WALKED", "Found", "Named", "Removal", "Verdict", "Walked", "cut_of", "names_of"]


class Verdict(enum.Enum):
    """How a step is done with a name."""

    DONE = "done"  # nothing of it is left that may be removed
    LATER = "later"  # it must be kept for now, so the walk waits here
    FULL = "full"  # the rows of this step are used up


@frozen
class Named:
    """What an event has ended: a run, or an input or a ticket, with its run if it has one."""

    name: str
    run_id: str | None = None


@frozen
class Found:
    """The rows that a step has read, by the names that it was given."""

    runs: Mapping[str, Run | None]
    entries: Mapping[str, tuple[JournalEntry, ...]]
    tickets: Mapping[str, Ticket | None]
    queue_entries: Mapping[str, QueueEntry | None]
    inputs: Mapping[str, Input | None]


@define
class Removal:
    """What one step removes, while it is being decided.

    `cut_ms`: what ended later is kept.  `horizon_ms`: the ids of the rows that it removes are older.
    """

    session: Session
    policy: Retention
    now_ms: int
    cut_ms: int
    found: Found
    writes: list[Write] = field(factory=list)
    horizon_ms: int | None = None

    def room(self) -> int:
        """Return how many rows may still be written."""
        return PRUNE_ROWS_MAX - len(self.writes)

    def drop(self, *records: object) -> None:
        """Remove rows."""
        for record in records:
            kind = record.__class__
            self.writes.append(Drop(kind, key_of(kind)(record)))  # type: ignore[arg-type]

    def forgets(self, id_: str) -> bool:
        """RETENTION-4: return whether the row of an id may go, because its time will say that it was removed."""
        made_ms = time_of(id_)
        if made_ms is None or made_ms >= self.cut_ms:
            return False
        self.horizon_ms = max(self.horizon_ms or 0, made_ms + 1)
        return True

    def run(self, run_id: str | None) -> Run | None:
        """Return a run that was read."""
        return None if run_id is None else self.found.runs.get(run_id)


@frozen
class Walked:
    """A row of the table: how long the kind is kept, what a batch of events names, and how that is removed."""

    keep: Callable[[Retention], Keep | None]
    names: Callable[[EventBatch], Iterable[Named]]
    remove: Callable[[Removal, Named], Verdict]


def cut_of(session: Session, keep: Keep, now_ms: int) -> tuple[int, int]:
    """Return the time and the number of the last events whose things are no longer kept."""
    return now_ms - keep.for_ms, session.next_event - 1 - keep.last


def names_of(kind: PruneKind, batches: Iterable[EventBatch]) -> list[Named]:
    """Return what some batches name, each once."""
    walked = WALKED[kind]
    return list(dict.fromkeys(named for batch in batches for named in walked.names(batch)))


# -- names


def _ended_runs(batch: EventBatch) -> Iterable[Named]:
    for event in batch.events:
        if event.kind is EventKind.RUN_FINISHED and event.run_id is not None:
            yield Named(event.run_id, event.run_id)


def _ended_inputs(batch: EventBatch) -> Iterable[Named]:
    for event in batch.events:
        if event.kind in (EventKind.RUN_FINISHED, EventKind.INPUT_ENDED):
            yield from [Named(input_id, event.run_id) for input_id in event.input_ids]


def _settled_tickets(batch: EventBatch) -> Iterable[Named]:
    for event in batch.events:
        if event.kind is EventKind.TICKET_SETTLED:
            yield Named(event.detail.partition(" ")[0], event.run_id)


# -- removing


def _remove_journal(removal: Removal, named: Named) -> Verdict:
    run = removal.run(named.run_id)
    if run is None:
        return Verdict.DONE
    if not isinstance(run.state, run_.Done):
        return Verdict.LATER
    entries = removal.found.entries.get(run.run_id, ())
    if not entries:
        return Verdict.DONE
    if removal.room() < 2:
        return Verdict.FULL
    if not run.pruned:
        removal.writes.append(Update(replace(run, pruned=True)))
    taken = entries[: removal.room()]
    removal.drop(*taken)
    whole = len(taken) == len(entries) and len(entries) < entries_read(len(removal.found.runs))
    return Verdict.DONE if whole else Verdict.FULL


def entries_read(runs: int) -> int:
    """Return how many entries are read of each journal, so that all are about as many as a step may remove."""
    return max(1, PRUNE_ROWS_MAX // max(1, runs))


def _remove_ticket(removal: Removal, named: Named) -> Verdict:
    ticket, run = removal.found.tickets.get(named.name), removal.run(named.run_id)
    if ticket is None:
        return Verdict.DONE
    if isinstance(ticket.state, ticket_.Open):
        return Verdict.LATER
    if run is not None and not isinstance(run.state, run_.Done):
        return Verdict.LATER
    if removal.room() < 1:
        return Verdict.FULL
    removal.drop(ticket)
    return Verdict.DONE


def _remove_stamp(removal: Removal, named: Named) -> Verdict:
    run = removal.run(named.run_id)
    if run is None:
        return Verdict.DONE
    if not isinstance(run.state, run_.Done):
        return Verdict.LATER
    if run.stamp is None and run.last_end is None:
        return Verdict.DONE
    if removal.room() < 1:
        return Verdict.FULL
    removal.writes.append(Update(replace(run, stamp=None, last_end=None, pruned=True)))
    return Verdict.DONE


def _remove_input(removal: Removal, named: Named) -> Verdict:
    """RETENTION-6: remove an ended input that no node may name, or all of it but what recognises its repetition."""
    entry = removal.found.queue_entries.get(named.name)
    given = removal.found.inputs.get(named.name)
    if entry is None or given is None or not isinstance(entry.state, input_.Ended):
        return Verdict.DONE
    run = removal.run(named.run_id)
    if run is not None and (run.tip is not None or run.next_checkpoint > 0):
        return Verdict.DONE  # the transcript may name it
    if (
        given.key_value is not None
        and removal.now_ms - given.admitted_at_ms < removal.policy.keys_for_ms
    ):
        return Verdict.LATER
    if removal.room() < 2:
        return Verdict.FULL
    removal.drop(entry)
    if given.key_value is None and removal.forgets(given.input_id):
        removal.drop(given)
    else:
        left = replace(given, payload="", origin=None, parent=None, pruned=True)
        removal.writes.append(Update(left))
    return Verdict.DONE


WALKED: Final[dict[PruneKind, Walked]] = {
    PruneKind.JOURNALS: Walked(lambda p: p.journals, _ended_runs, _remove_journal),
    PruneKind.TICKETS: Walked(lambda p: p.journals, _settled_tickets, _remove_ticket),
    PruneKind.STAMPS: Walked(lambda p: p.stamps, _ended_runs, _remove_stamp),
    PruneKind.INPUTS: Walked(lambda p: p.inputs, _ended_inputs, _remove_input),
}
