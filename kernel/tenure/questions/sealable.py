"""The question that names the rows of a session which a store may have sealed.  Spec: specs/state.md, STATE-24."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

from attrs import frozen

from ..commands.reseal import RowName
from ..indexes import BLOBS, FRAMES, JOURNAL_ENTRIES, NODE_IDS, QUEUE_ENTRIES
from ..limits import RESEALED_ROWS_MAX, RESTORED_CHARACTERS_MAX
from ..queries import Each, First, Get, Index, Query, Question, Record
from ..records import EntryKind, Input, JournalEntry, Profile, QueueEntry
from ..world import key_of

__all__ = ["SealablePage", "SealableRows", "SealedUpTo"]


ORDERS: Final[tuple[Index[Any], ...]] = (BLOBS, NODE_IDS, JOURNAL_ENTRIES, QUEUE_ENTRIES, FRAMES)
PAGE: Final = RESEALED_ROWS_MAX // 2  # a journal entry may name a ticket


@frozen
class SealedUpTo:
    """How far a pass has come: the index that it is in, and the last key in it, without the session."""

    part: int = 0
    after: tuple[str | int, ...] = ()


@frozen
class SealablePage:
    """The rows of a page, and where the next one begins; None: there is none."""

    rows: tuple[RowName, ...]
    next: SealedUpTo | None


@frozen
class SealableRows(Question[SealablePage]):
    """Name rows of a session with texts of users: at most 256, with texts of a bounded size together."""

    session_id: str
    start: SealedUpTo = SealedUpTo()

    def steps(self) -> Generator[Query[Any], Any, SealablePage]:
        part, s = self.start.part, self.session_id
        if part == len(ORDERS):
            profile = yield Get(Profile, (s,))
            return SealablePage(() if profile is None else (RowName("Profile"),), None)
        rows = yield First(ORDERS[part], (s,), PAGE, self.start.after)
        texts: Sequence[Record] = rows
        if ORDERS[part] is QUEUE_ENTRIES:
            found = yield Each(tuple([Get(Input, (s, row.input_id)) for row in rows]))
            texts = [row for row in found if row is not None]
        count = _fitting(texts) if len(texts) == len(rows) else len(rows)
        names = [name for row in rows[:count] for name in _names(row)]
        if count < len(rows) or len(rows) == PAGE:
            last = rows[count - 1]
            after = SealedUpTo(part, key_of(last.__class__)(last)[1:])
        else:
            after = SealedUpTo(part + 1)
        return SealablePage(tuple(names), after)


def _fitting(rows: Sequence[Record]) -> int:
    """Return how many of the first rows one command takes: at least one, if there is any."""
    size = 0
    for count, row in enumerate(rows):
        size += sum([len(getattr(row, name, None) or "") for name in row.payloads])
        if count and size > RESTORED_CHARACTERS_MAX:
            return count
    return len(rows)


def _names(row: Record) -> tuple[RowName, ...]:
    """Return the names of the rows that a row stands for."""
    if isinstance(row, QueueEntry):
        return (RowName("Input", (row.input_id,)),)
    if isinstance(row, JournalEntry):
        own = RowName("JournalEntry", (row.run_id,), (row.turn, row.n, row.i))
        return (own, RowName("Ticket", (row.body,))) if row.kind is EntryKind.TICKET else (own,)
    _, *ids = key_of(row.__class__)(row)
    return (RowName(row.__class__.__name__, tuple([str(each) for each in ids])),)
