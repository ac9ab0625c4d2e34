"""The tables, indexes and rows of a store while its active number is that of a release.  Spec: specs/schema.md."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from tenure.indexes import INDEXES
from tenure.queries import Chain, First, Get, Index, Named, Query, Record
from tenure.records import RECORDS
from tenure.release import OLDEST, RELEASE, since

from .base import Corrupt, SchemaTooNew, SchemaTooOld
from .payloads import PayloadHook
from .row_codec import RowCodec, codec_of

__all__ = ["Layout", "check_active", "layout_of", "warn_if_older"]


R = TypeVar("R", bound=Record)
log = logging.getLogger("tenure")
Answerer = Callable[[Query[Any]], Any]


class Layout:
    """What a release stores, without what later releases added; it never changes (SCHEMA-9).

    `payloads`: the hook that seals texts (STATE-20).
    """

    def __init__(self, release: int, payloads: PayloadHook | None = None) -> None:
        self.release = release
        self.payloads = payloads
        self._sealed: dict[type[Record], RowCodec[Any]] = {}
        self.records: tuple[type[Record], ...] = tuple(r for r in RECORDS if since(r) <= release)
        self.indexes: tuple[Index[Any], ...] = tuple(i for i in INDEXES if i.since <= release)
        self._names = frozenset(index.name for index in self.indexes)

    def codec(self, record: type[R]) -> RowCodec[R]:
        """Return the codec of a record type."""
        if self.payloads is None or not record.payloads:
            return codec_of(record, self.release)
        found = self._sealed.get(record)
        if found is None:
            found = self._sealed[record] = RowCodec(record, self.release, self.payloads)
        return found

    def at(self, release: int) -> Layout:
        """Return the layout of another release, with the same hook."""
        return layout_of(release, self.payloads)

    def has(self, query: Query[Any]) -> bool:
        """Return True if the tables can answer a query."""
        if isinstance(query, First):
            return query.index.name in self._names
        if isinstance(query, Get | Chain | Named):
            return query.record in self.records
        return True

    def reading(self, answer: Answerer) -> Answerer:
        """Return `answer` for every query: one about what a later release added finds nothing (SCHEMA-4)."""
        if self.release == RELEASE:
            return answer

        def answer_older(query: Query[Any]) -> Any:
            if self.has(query):
                return answer(query)
            return None if isinstance(query, Get) else ()

        return answer_older


@cache
def _plain_layout(release: int) -> Layout:
    return Layout(release)


def layout_of(release: int, payloads: PayloadHook | None = None) -> Layout:
    """Return the layout of a release up to this one, with a payload hook or without."""
    return _plain_layout(release) if payloads is None else Layout(release, payloads)


def check_active(active: int, where: str, oldest: int = OLDEST) -> int:
    """Return the active number if it is from `oldest` to this release (SCHEMA-1).

    Raises SchemaTooNew or SchemaTooOld; Corrupt for a number that no release has.
    """
    if active < 1:
        raise Corrupt(where, (), f"its active release is {active}, and the first one was 1")
    if active > RELEASE:
        raise SchemaTooNew(where, active, RELEASE)
    if active < oldest:
        raise SchemaTooOld(where, active, oldest)
    return active


def warn_if_older(active: int, where: str) -> None:
    """Log, for a store that was opened to write, what to run if the release before is active."""
    if active < RELEASE:
        log.warning(
            "%s: release %d is active, this is release %d: run `tenure store migrate`, "
            "and `tenure store activate` when all processes have been upgraded",
            where, active, RELEASE,
        )  # fmt: skip
