"""Write the rows of a session back as they were exported.  Spec: specs/store.md, STORE-39."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from attrs import frozen

from ..limits import RESTORED_CHARACTERS_MAX, RESTORED_ROWS_MAX
from ..outcome import Decided, Hint, Insert, Refusal, Refused
from ..queries import Command, Each, Get, Query, Reads, Record, read
from ..records import Session
from ..world import key_of
from .validation import texts_of, validate_text

__all__ = ["Restore", "restoring"]


@frozen
class RestoreView:
    session: Session | None
    records: tuple[Record | None, ...]


@frozen
class Restore(Command[RestoreView, int]):
    """Insert rows as they are, and answer how many were missing.

    A row that exists must be equal.  The session's own row must come last: until it exists no reader finds the others,
    and once it exists nothing can be restored into the session.  Refusals: KEY_CONFLICT, ILLEGAL.
    """

    serves_all: ClassVar = True
    session_id: str
    records: tuple[Record, ...]

    def reads(self) -> Reads[RestoreView]:
        keys: list[Query[Record | None]] = [
            Get(r.__class__, key_of(r.__class__)(r)) for r in self.records
        ]
        return read(RestoreView, Get(Session, (self.session_id,)), Each(tuple(keys)))

    def decide(self, view: RestoreView, now_ms: int) -> Decided[int] | Refused:
        if problem := self._validate():
            return Refused(Refusal.ILLEGAL, "STORE-45", problem)
        missing = []
        for record, stored in zip(self.records, view.records, strict=True):
            if stored is None:
                missing.append(record)
            elif stored != record:
                return Refused(Refusal.KEY_CONFLICT, "STORE-39", stored)
        if missing and view.session is not None:
            return Refused(Refusal.KEY_CONFLICT, "STORE-39", view.session)
        hints = tuple(
            [
                Hint(self.session_id, r.due_at_ms, kind=r.kind)
                for r in missing
                if isinstance(r, Session)
            ]
        )
        writes = tuple([Insert(record) for record in missing])
        return Decided(len(missing), "STORE-39", writes, hints, replayed=not missing)

    def _validate(self) -> str | None:
        for record in self.records:
            key = key_of(record.__class__)(record)
            where = f"{record.__class__.__name__} {key}"
            if key[0] != self.session_id:
                return f"{where}: expected a row of session {self.session_id}"
            for text in texts_of(record):
                if problem := validate_text("text", text, len(text)):
                    return f"{where}: {problem}"
        return None


def restoring(records: Sequence[Record]) -> Iterator[Restore]:
    """Yield the commands that write the rows of one session, to be executed in their order."""
    head = [r for r in records if isinstance(r, Session)]
    rest = [r for r in records if not isinstance(r, Session)]
    at = 0
    while at < len(rest):
        part = _fitting(rest[at : at + RESTORED_ROWS_MAX])
        at += len(part)
        yield Restore(part[0].session_id, part)  # type: ignore[attr-defined]
    for session in head:
        yield Restore(session.session_id, (session,))


def _fitting(records: Sequence[Record]) -> tuple[Record, ...]:
    """Return the first rows that one command takes: at least one, with texts of a bounded size together."""
    size = 0
    for count, record in enumerate(records):
        size += sum(map(len, texts_of(record)))
        if count and size > RESTORED_CHARACTERS_MAX:
            return tuple(records[:count])
    return tuple(records)
