"""The feed of a store: sessions that have changed, with a cursor to go on from.  Spec: specs/feed.md."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable

from attrs import frozen

from tenure.questions.feed import FEED_PAGE, LIFETIME_MS, FeedPosition
from tenure.records import Session

from ..stores.base import Unavailable, wall_clock_ms
from .changes import ReadableStore

__all__ = ["Change", "follow_changes"]


POLL_S = 1.0
SESSIONS_MIN = 10_000
CURSOR = re.compile(r"f1-(\d{1,18})")


@frozen
class Change:
    """A session that has changed.  After you have handled it, store `cursor`: `changes(cursor)` continues there."""

    session_id: str
    changed_at_ms: int
    cursor: str


class _Known:
    """What was named last of each session, as far back as a pass may begin."""

    def __init__(self) -> None:
        self._sessions: dict[str, tuple[Session, bool]] = {}
        self._most = SESSIONS_MIN

    def is_new(self, session: Session, long: bool, wall_ms: int) -> bool:
        """Return True if a session is to be named, and remember it.

        FEED-3: an equal row may have changed again in the same millisecond, until all its transactions have ended.
        """
        known, settled = self._sessions.get(session.session_id, (None, False))
        if known == session and (settled or not long):
            return False
        over = wall_ms - session.changed_at_ms > LIFETIME_MS
        self._sessions[session.session_id] = (session, over)
        return True

    def forget(self, before_ms: int) -> None:
        """Forget what no pass reads again, if there may be much of it."""
        if len(self._sessions) < self._most:
            return
        for session_id in [
            i for i, (s, _) in self._sessions.items() if s.changed_at_ms < before_ms
        ]:
            del self._sessions[session_id]
        self._most = max(SESSIONS_MIN, 2 * len(self._sessions))


async def follow_changes(
    store: ReadableStore,
    cursor: str | None,
    *,
    clock: Callable[[], int],
    wall_clock: Callable[[], int] = wall_clock_ms,
    poll_s: float = POLL_S,
) -> AsyncIterator[Change]:
    """FEED-5: yield the sessions that have changed since `cursor`, or all, then those that change.  Never ends.

    While the store is unavailable, it waits.  Raises ValueError if the cursor is not one of a Change.
    """
    position, known = FeedPosition(at_ms=_time_of(cursor)), _Known()
    while True:
        position = position.next_pass(clock())
        wall_ms = wall_clock()
        try:
            page = await store.ask(position.question(wall_ms))
        except Unavailable:
            await asyncio.sleep(poll_s)
            continue
        read = position.read(page)
        for session in page:
            if known.is_new(session, position.long, wall_ms):
                at_ms = max(position.at_ms, session.changed_at_ms)
                yield Change(session.session_id, session.changed_at_ms, f"f1-{at_ms}")
        position = read
        known.forget(position.at_ms - 2 * LIFETIME_MS)
        if len(page) < FEED_PAGE:
            await asyncio.sleep(poll_s)


def _time_of(cursor: str | None) -> int:
    if cursor is None:
        return 0
    found = CURSOR.fullmatch(cursor)
    if found is None:
        raise ValueError(
            f"cursor {cursor!r}: expected the cursor of a Change, such as 'f1-1700000000000'"
        )
    return int(found[1])
