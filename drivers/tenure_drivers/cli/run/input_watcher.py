"""What becomes of the inputs of a file: asked in batches, of the sessions that have changed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from typing import Any, Final

from attrs import Factory, define, frozen

from tenure.indexes import CHANGED
from tenure.queries import First, Get, Query, Question
from tenure.questions.core import InputStatus, Statuses
from tenure.records import Session

from ...stores.base import Clock
from ..exit import UnreadableSession, store_lost
from ..output import log
from ..retrying_store import RetryingStore
from .prompt_file import PromptLine

HEADS: Final = 8  # asked first; more only if all of them have ended
BATCH: Final = 256
TOGETHER_S: Final = 0.05  # hints that come together are one look
LOOK_S: Final = 0.5  # if no hint comes
SWEEP_S: Final = 3.0  # hints are lossy, and clocks are set back
OVERLAP_MS: Final = 200


@define(eq=False)
class TrackedInput:
    """One line of the file, and what became of it so far."""

    line: PromptLine
    input_id: str | None = None
    refused: str | None = None  # by the store, when it was admitted
    status: InputStatus | None = None

    @property
    def ended(self) -> bool:
        return self.refused is not None or (self.status is not None and self.status.ended)


@frozen
class Progress:
    session: Session | None
    statuses: tuple[InputStatus | None, ...]


@frozen
class InputProgress(Question[Progress]):
    """How far these inputs of a session are, and what the session itself waits for, in one snapshot."""

    session_id: str
    input_ids: tuple[str, ...]

    def steps(self) -> Generator[Query[Any], Any, Progress]:
        session = yield Get(Session, (self.session_id,))
        statuses = yield from Statuses(self.session_id, self.input_ids).steps()
        return Progress(session, statuses)


@frozen
class ChangedSince(Question[tuple[Session, ...]]):
    """Sessions that changed at or behind this moment, the first of them."""

    moment_ms: int
    session_id: str = ""
    limit: int = BATCH

    def steps(self) -> Generator[Query[Any], Any, tuple[Session, ...]]:
        found: tuple[Session, ...]
        found = yield First(CHANGED, (), self.limit, (self.moment_ms, self.session_id))
        return found


@define(eq=False)
class Followers:
    """The inputs of one session that have not ended, in the order of the file."""

    session_id: str
    open: deque[TrackedInput] = Factory(deque)
    fresh: bool = False  # nothing has changed since all of them were asked
    swept_at_s: float = 0.0
    next_event: int = -1  # of the session, when it was asked last
    due_at_ms: int | None = None
    unreadable: bool = False

    def stuck(self, now_ms: int, *, wait: bool) -> bool:
        """None of them can end now: each is delayed, or nothing can be done for the session."""
        each = all(self._stuck(row.status, now_ms, wait) for row in self.open)
        return self.unreadable or (self.fresh and each)

    def _stuck(self, status: InputStatus | None, now_ms: int, wait: bool) -> bool:
        if self.due_at_ms is None:
            return True
        due = status.due_at_ms if status is not None and delayed(status) else None
        return due is not None and due > now_ms and not wait


class InputWatcher:
    def __init__(self, store: RetryingStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.report: Callable[[], Awaitable[None]] = nothing
        self._sessions: dict[str, Followers] = {}
        self._dirty: set[str] = set()
        self._changed = asyncio.Event()
        self._since_ms = 0
        self._complete = False
        self._unnamed = False

    def follow(self, rows: Iterable[TrackedInput]) -> None:
        for row in rows:
            session_id = row.line.session
            self._sessions.setdefault(session_id, Followers(session_id)).open.append(row)
            self._dirty.add(session_id)
        self._changed.set()

    def complete(self) -> None:
        """There is nothing more to follow."""
        self._complete = True
        self._changed.set()

    async def until_settled(self, *, wait: bool) -> None:
        """Until all have ended, or none of the rest can end now."""
        listening = asyncio.create_task(self._listen())
        try:
            while True:
                await self._look()
                await self.report()
                now_ms = self._clock()
                open_ = [s for s in self._sessions.values() if s.open]
                if self._complete and all(s.stuck(now_ms, wait=wait) for s in open_):
                    return
                if not await self._pause() or self._unnamed:
                    self._unnamed = False
                    await self._feed()
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening

    async def look_at_all(self) -> None:
        """Whatever has ended is known then."""
        for session in list(self._sessions.values()):
            if session.open:
                with contextlib.suppress(UnreadableSession):
                    await self._ask_all(session)

    async def _listen(self) -> None:
        async for hint in self._store.store.hints():
            if not hint.session_id:  # something changed, nobody said where
                self._unnamed = True
                self._changed.set()
            elif hint.session_id in self._sessions:
                self._dirty.add(hint.session_id)
                self._changed.set()

    async def _pause(self) -> bool:
        """Wait for a hint; False: none came."""
        try:
            async with asyncio.timeout(LOOK_S):
                await self._changed.wait()
        except TimeoutError:
            return False
        await asyncio.sleep(TOGETHER_S)
        self._changed.clear()
        return True

    async def _feed(self) -> None:
        """Find the sessions that changed without a hint.  Clocks are set back: a sweep finds the rest."""
        moment, session_id = max(self._since_ms - OVERLAP_MS, 0), ""
        while True:
            try:
                found = await self._store.ask(ChangedSince(moment, session_id))
            except UnreadableSession:  # somebody's row: nobody's can be told from it
                self._dirty |= self._sessions.keys()
                return
            for row in found:
                mine = self._sessions.get(row.session_id)
                if mine is not None and mine.next_event != row.next_event:
                    self._dirty.add(row.session_id)
            if found:
                moment, session_id = found[-1].changed_at_ms, found[-1].session_id
                self._since_ms = max(self._since_ms, moment)
            if len(found) < BATCH:
                return

    async def _look(self) -> None:
        """The first inputs of sessions that change, all inputs of those that do not."""
        dirty, self._dirty = self._dirty, set()
        now_s = time.monotonic()
        for session in list(self._sessions.values()):  # more may come meanwhile
            if not session.open:
                continue
            if session.session_id in dirty:
                session.fresh = False
            swept_s = now_s - session.swept_at_s
            try:
                if swept_s > SWEEP_S or not (session.fresh or session.session_id in dirty):
                    session.swept_at_s = now_s
                    await self._ask_all(session)
                elif session.session_id in dirty:
                    await self._ask_heads(session)
            except UnreadableSession as error:
                if not session.unreadable:
                    log(f"session {session.session_id} is set aside: {error}")
                session.unreadable = True

    async def _ask_all(self, session: Followers) -> None:
        rows = list(session.open)
        for at in range(0, len(rows), BATCH):
            await self._ask(session, rows[at : at + BATCH])
        session.open = deque(row for row in session.open if not row.ended)
        session.fresh = True

    async def _ask_heads(self, session: Followers) -> None:
        """The first ones; more as long as all that were asked have ended, or are known to be delayed."""
        size = HEADS
        rows = [row for row in session.open if not delayed(row.status)]
        while rows:
            await self._ask(session, rows[:size])
            if not all(row.ended or delayed(row.status) for row in rows[:size]):
                break
            rows, size = rows[size:], min(2 * size, BATCH)
        session.open = deque(row for row in session.open if not row.ended)

    async def _ask(self, session: Followers, rows: Sequence[TrackedInput]) -> None:
        ids = tuple([row.input_id or "" for row in rows])
        progress = await self._store.ask(InputProgress(session.session_id, ids))
        for row, status in zip(rows, progress.statuses, strict=True):
            if status is None:
                raise store_lost(
                    self._store.url, f"input {row.input_id} of {row.line.session} is gone"
                )
            row.status = status
        if progress.session is not None:
            session.next_event = progress.session.next_event
            session.due_at_ms = progress.session.due_at_ms


async def nothing() -> None:
    """Nobody wants a report."""


def delayed(status: InputStatus | None) -> bool:
    return status is not None and status.status == "delayed"
