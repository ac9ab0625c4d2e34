"""The feed: which sessions have changed, whichever process changed them.  Spec: specs/feed.md.

Sessions are read in the order of the time of their last change.  A transaction may commit later than another one that
took a later time from the clock, so each pass begins some time before the last change that was read.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

from attrs import frozen

from ..indexes import CHANGED
from ..queries import First, Query, Question
from ..records import Session
from ..replace import replace

__all__ = [
    "FEED_PAGE",
    "FROM_THE_BEGINNING",
    "LIFETIME_MS",
    "SHORT_MS",
    "ChangedSessions",
    "FeedPosition",
]


FEED_PAGE: Final = 256
SHORT_MS: Final = 2_000  # what most transactions take, and more
LIFETIME_MS: Final = 600_000  # longer than a store lets a transaction live (STORE-34)


@frozen
class ChangedSessions(Question[tuple[Session, ...]]):
    """A page of the sessions in the order of their last change, after this time and session."""

    after: tuple[int, str]
    limit: int = FEED_PAGE

    def steps(self) -> Generator[Query[Any], Any, tuple[Session, ...]]:
        found: tuple[Session, ...] = yield First(CHANGED, (), self.limit, self.after)
        return found


@frozen
class FeedPosition:
    """How far a reader has read.  A pass reads page after page up to the end, then the next one begins.

    `at_ms`: the latest time of a change that was read.  `after`: the last session that the pass has read; None: none.
    `long`: the pass looks back twice the lifetime of a transaction.  `long_ms`: when the last such pass began, by the
    clock of the reader.
    """

    at_ms: int = 0
    after: tuple[int, str] | None = None
    long: bool = True
    long_ms: int | None = None

    def next_pass(self, now_ms: int) -> FeedPosition:
        """FEED-3: return the position at the beginning of the next pass; in the middle of one, this position."""
        if self.after is not None:
            return self
        long = self.long_ms is None or now_ms - self.long_ms >= LIFETIME_MS
        return replace(self, long=long, long_ms=now_ms if long else self.long_ms)

    def begins_at(self, wall_ms: int) -> int:
        """FEED-2, FEED-4: return the time at which the pass begins to read."""
        back_ms = 2 * LIFETIME_MS if self.long else SHORT_MS
        return max(min(self.at_ms, wall_ms) - back_ms, 0)

    def question(self, wall_ms: int, limit: int = FEED_PAGE) -> ChangedSessions:
        """Return the question for the next page.  `wall_ms`: the time now."""
        return ChangedSessions(self.after or (self.begins_at(wall_ms), ""), limit)

    def read(self, page: Sequence[Session], limit: int = FEED_PAGE) -> FeedPosition:
        """Return the position after a page.  `after` is None if the pass has ended."""
        if not page:
            return replace(self, after=None)
        last = page[-1]
        after = (last.changed_at_ms, last.session_id) if len(page) >= limit else None
        return replace(self, at_ms=max(self.at_ms, last.changed_at_ms), after=after)


FROM_THE_BEGINNING: Final = FeedPosition()
