"""Write rows with texts of users again, so that a store seals them with its present hook.  Spec: specs/state.md, STATE-24."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from attrs import frozen

from ..limits import RESEALED_ROWS_MAX
from ..outcome import Decided, Key, Refusal, Refused, Update
from ..queries import Command, Each, Get, Query, Reads, Record, read
from ..records import RECORDS, Session

__all__ = ["Reseal", "RowName"]


SEALABLE: Final[Mapping[str, type[Record]]] = {r.__name__: r for r in RECORDS if r.payloads}


@frozen
class RowName:
    """The name of a row of a session: its record, and its key without the session, texts before numbers."""

    record: str
    ids: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()

    def query(self, session_id: str) -> Get[Record] | None:
        """Return the query of the row; None if there are no such rows."""
        record = SEALABLE.get(self.record)
        key: Key = (session_id, *self.ids, *self.numbers)
        return None if record is None or len(key) != len(record.key) else Get(record, key)


@frozen
class ResealView:
    session: Session | None
    rows: tuple[Record | None, ...]


@frozen
class Reseal(Command[ResealView, int]):
    """Write at most 256 rows as they are, and answer how many there were.  Rows that are gone are left out.

    Each repetition writes again (STORE-2).  Refusals: UNKNOWN_SESSION, ILLEGAL.
    """

    since: ClassVar = 2
    serves_all: ClassVar = True
    session_id: str
    rows: tuple[RowName, ...]

    def reads(self) -> Reads[ResealView]:
        found: list[Query[Record | None]] = []
        for name in dict.fromkeys(self.rows[:RESEALED_ROWS_MAX]):
            query = name.query(self.session_id)
            if query is not None:
                found.append(query)
        return read(ResealView, Get(Session, (self.session_id,)), Each(tuple(found)))

    def decide(self, view: ResealView, now_ms: int) -> Decided[int] | Refused:
        if view.session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "LEASE-20", self.session_id)
        if len(self.rows) > RESEALED_ROWS_MAX:
            problem = f"{len(self.rows)} rows; at most {RESEALED_ROWS_MAX}"
            return Refused(Refusal.ILLEGAL, "STATE-24", problem)
        wrong = next((name for name in self.rows if name.query(self.session_id) is None), None)
        if wrong is not None:
            return Refused(Refusal.ILLEGAL, "STATE-24", f"no row has a text and the name {wrong}")
        writes = tuple([Update(row) for row in view.rows if row is not None])
        return Decided(len(writes), "STATE-24", writes)
