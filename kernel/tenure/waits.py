"""The replay rules of waits: which ticket a question has, and what a wait gave.  Spec: specs/ticket.md, WAIT-32, WAIT-33.

A host opens the tickets, parks, and hands on what was decided; it does not decide which decisions count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from .commands import NewEntry
from .machines.ticket import Action
from .records import EntryKind, JournalEntry, Ticket

__all__ = ["given_entry", "given_id", "given_tickets", "question_id"]


GIVEN: Final = ":given"


def given_id(effect_id: str) -> str:
    """Return the effect id under which it is recorded what a wait gave.  No step has such an id."""
    return f"{effect_id}{GIVEN}"


def given_entry(
    effect_id: str, ticket_ids: Sequence[str], settled: Collection[str]
) -> NewEntry | None:
    """WAIT-32: return what must be recorded before a wait returns; None if all of its tickets are settled for ever."""
    given = [each for each in ticket_ids if each in settled]
    if len(given) == len(ticket_ids):
        return None
    return NewEntry(EntryKind.REPORT, given_id(effect_id), " ".join(given))


def given_tickets(entries: Iterable[JournalEntry], turn: int) -> dict[str, frozenset[str]]:
    """Return which tickets were settled when a wait of a turn returned, by `given_id`."""
    return {
        e.effect_id: frozenset(e.body.split())
        for e in entries
        if e.kind is EntryKind.REPORT and e.turn == turn and e.effect_id.endswith(GIVEN)
    }


def question_id(
    effect_id: str,
    ids: Mapping[str, str],
    tickets: Mapping[str, Ticket],
    prompt: str,
    offers: tuple[Action, ...],
) -> str:
    """WAIT-33: return the effect id of the ticket that asks exactly this, or of the one to open.

    `ids`: the tickets of the turn by effect id.  `tickets`: those that earlier attempts have opened, by id.
    """
    name, number = effect_id, 1
    while (opened := tickets.get(ids.get(name, ""))) is not None:
        if (opened.prompt, opened.offers) == (prompt, offers):
            break
        number += 1
        name = f"{effect_id}:{number}"
    return name
