"""The question that names the rows of a session which a store may have sealed.  Spec: specs/state.md, STATE-24."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

from attrs import frozen

from ..commands.reseal import RowName
from ..indexes import PRIMARY
from ..limits import RESEALED_ROWS_MAX, RESTORED_CHARACTERS_MAX
from ..queries import First, Index, Query, Question, Record
from ..records import RECORDS
from ..world import key_of

__all__ = ["SealablePage", "SealableRows", "SealedUpTo"]


# Every record with texts by its own key: what other rows say about it may have been pruned.
ORDERS: Final[tuple[Index[Any], ...]] = tuple([PRIMARY[r] for r in RECORDS if r.payloads])


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
        part = self.start.part
        rows = yield First(ORDERS[part], (self.session_id,), RESEALED_ROWS_MAX, self.start.after)
        count = _fitting(rows)
        following: SealedUpTo | None = SealedUpTo(part + 1)
        if rows and (count < len(rows) or count == RESEALED_ROWS_MAX):
            last = rows[count - 1]
            following = SealedUpTo(part, key_of(last.__class__)(last)[1:])
        elif part + 1 == len(ORDERS):
            following = None
        return SealablePage(tuple(map(_name, rows[:count])), following)


def _fitting(rows: Sequence[Record]) -> int:
    """Return how many of the first rows one command takes: at least one, if there is any."""
    size = 0
    for count, row in enumerate(rows):
        size += sum([len(getattr(row, name, None) or "") for name in row.payloads])
        if count and size > RESTORED_CHARACTERS_MAX:
            return count
    return len(rows)


def _name(row: Record) -> RowName:
    _, *key = key_of(row.__class__)(row)
    texts = tuple([str(part) for part in key if isinstance(part, str)])
    numbers = tuple([part for part in key if isinstance(part, int)])
    return RowName(row.__class__.__name__, texts, numbers)
