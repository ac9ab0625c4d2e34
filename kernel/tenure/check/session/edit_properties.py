"""Properties of decisions about the places of inputs that wait: where new ones stand, and who moves by an edit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from ... import commands as c
from ...machines import input as input_
from ...records import QueueEntry
from .step import Step

__all__ = ["EDIT_PROPERTIES"]


Place: TypeAlias = tuple[int, int]  # priority and rank

How = input_.How


def place_of(entry: QueueEntry) -> Place | None:
    """The place of a ready input."""
    state = entry.state
    return (entry.priority, state.ready_rank) if isinstance(state, input_.Ready) else None


def ended_for(t: Step, new: QueueEntry) -> QueueEntry | None:
    """The input in whose place a new one stands: it was replaced by it, or coalesced with it.

    Of a chain of inputs of one slot in one Admit, the last one stands in the place of the first.
    """
    name: str | None = new.input_id
    while name is not None:
        name = next((e.input_id for e in t.after.queue_entries.values() if _ends(t, e, name)), None)
        if name in t.before.queue_entries:
            return t.before.queue_entries[name]
    return None


def _ends(t: Step, old: QueueEntry, new_id: str) -> bool:
    """Return True if a new input stands in the place of an old one."""
    state = old.state
    if not isinstance(state, input_.Ended) or state.by != new_id:
        return False
    replaced = isinstance(t.command, c.Replace) and t.command.input_id == old.input_id
    return replaced or state.how is How.COALESCED


def stands(t: Step) -> bool:
    """A new ready input stands at the tail, or in the place of the one that it replaces or is coalesced with."""
    for name, new in t.after.queue_entries.items():
        place = place_of(new)
        if name in t.before.queue_entries or place is None:
            continue
        old = ended_for(t, new)
        former = None if old is None else place_of(old)
        if former is None and place[1] < t.before.session.next_rank:
            return False
        if former is not None and former != place and not _has_priority(t.command):
            return False
    return True


def _has_priority(command: object) -> bool:
    return isinstance(command, c.Replace) and command.new.priority is not None


def only_named_move(t: Step) -> bool:
    """Replace ends one input and moves none; Reorder moves only inputs that it names, among their places."""
    if isinstance(t.command, c.Replace):
        moved = {before.input_id: after.state for before, after in t.moved()}
        old = moved.pop(t.command.input_id, None)
        return not moved and isinstance(old, input_.Ended) and old.how is How.SUPERSEDED
    if not isinstance(t.command, c.Reorder):
        return True
    named = t.command.input_ids
    if any(before.input_id not in named for before, _ in t.moved()):
        return False
    before = [place_of(t.before.queue_entries[name]) for name in named]
    after = [place_of(t.after.queue_entries[name]) for name in named]
    return None not in before and sorted(before) == after  # type: ignore[type-var]


EDIT_PROPERTIES: Final[dict[str, Callable[[Step], bool]]] = {
    "a new input stands at the tail, or in the place of the one that it ends": stands,
    "Reorder and Replace change no other input's standing": only_named_move,
}
