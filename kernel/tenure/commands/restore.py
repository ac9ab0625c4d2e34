"""Write the rows of a session back as they were exported.  Spec: specs/store.md, STORE-39."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import frozen

from ..limits import RESTORED_ROWS_MAX
from ..outcome import Decided, Hint, Insert, Refusal, Refused
from ..queries import Command, Each, Get, Query, Reads, Record, read
from ..records import Session
from ..world import key_of

__all__ = ["Restore", "restoring"]


@frozen
class RestoreView:
    session: Session | None
    records: tuple[Record | None, ...]


@frozen
class Restore(Command[RestoreView, int]):
    """Insert rows as they are, and answer how many were missing.

    A row that exists must be equal.  The session's own row must come last: until it exists no reader finds the others,
    and once it exists nothing can be restored into the session.  Refusals: KEY_CONFLICT.
    """

    session_id: str
    records: tuple[Record, ...]

    def reads(self) -> Reads[RestoreView]:
        keys: list[Query[Record | None]] = [
            Get(r.__class__, key_of(r.__class__)(r)) for r in self.records
        ]
        return read(RestoreView, Get(Session, (self.session_id,)), Each(tuple(keys)))

    def decide(self, view: RestoreView, now_ms: int) -> Decided[int] | Refused:
        missing = []
        for record, stored in zip(self.records, view.records, strict=True):
            if stored is None:
                missing.append(record)
            elif stored != record:
                return Refused(Refusal.KEY_CONFLICT, "STORE-39", stored)
        if missing and view.session is not None:
            return Refused(Refusal.KEY_CONFLICT, "STORE-39", view.session)
        hints = tuple(
            [Hint(self.session_id, r.due_at_ms) for r in missing if isinstance(r, Session)]
        )
        writes = tuple([Insert(record) for record in missing])
        return Decided(len(missing), "STORE-39", writes, hints, replayed=not missing)


def restoring(records: Sequence[Record]) -> Iterator[Restore]:
    """Yield the commands that write the rows of one session, to be executed in their order."""
    head = [r for r in records if isinstance(r, Session)]
    rest = [r for r in records if not isinstance(r, Session)]
    for at in range(0, len(rest), RESTORED_ROWS_MAX):
        part = tuple(rest[at : at + RESTORED_ROWS_MAX])
        yield Restore(part[0].session_id, part)  # type: ignore[attr-defined]
    for session in head:
        yield Restore(session.session_id, (session,))
