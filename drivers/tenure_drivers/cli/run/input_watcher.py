"""Follow the inputs of a prompt file until each has ended, or until none of the rest can end now."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from attrs import define

from tenure.questions.awaited import WorkCanEnd
from tenure.questions.core import InputStatus

from ...runtime.changes import SessionChanges
from ...runtime.input_waiter import InputWaiter, SessionInputs, TrackedInput
from ...stores.base import Clock
from ..exit import UnreadableSession
from ..moments import moment
from ..output import log
from ..retrying_store import RetryingStore
from .prompt_file import PromptLine

__all__ = ["FileInput", "InputWatcher"]


GATHER_S: Final = 0.05  # changes within this time are read and reported together
QUARANTINE_S: Final = 0.5  # between two reads of the quarantine
LONG_MS: Final = (
    61_000  # a retry that is later was asked for: the usual backoff with its jitter is shorter
)
SHOWN_RETRIES_MAX: Final = 20


@define(eq=False)
class FileInput:
    """One line of the file, and the input that it became."""

    line: PromptLine
    tracked: TrackedInput | None = None  # None until it is admitted
    refused: str | None = (
        None  # why the store refused it, although the check before admission had passed
    )

    @property
    def input_id(self) -> str | None:
        """Return the id of the input in the store."""
        return self.tracked.input_id if self.tracked is not None else None

    @property
    def status(self) -> InputStatus | None:
        """Return the status when it was read last."""
        return self.tracked.status if self.tracked is not None else None

    @property
    def ended(self) -> bool:
        """Return True if the line needs no more work."""
        return self.refused is not None or (self.tracked is not None and self.tracked.ended)


class InputWatcher:
    """Reads the inputs of a file and calls `report` after each look."""

    def __init__(self, store: RetryingStore, changes: SessionChanges, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._quarantine_at_s = 0.0
        self.report: Callable[[], Awaitable[None]] = no_report
        self._waiter = InputWaiter(store, changes, gather_s=GATHER_S, on_error=self._failed)
        self._complete = False
        self._retries: set[tuple[str | None, int | None]] = set()  # runs that were told about

    def follow(self, rows: Iterable[FileInput]) -> None:
        """Follow these lines, which have been admitted."""
        self._waiter.track([row.tracked for row in rows if row.tracked is not None])

    def complete(self) -> None:
        """All lines have been admitted or refused: `follow` is not called any more."""
        self._complete = True
        self._waiter.wake()

    async def until_settled(self, *, wait: bool) -> None:
        """Return when all have ended, or none of the rest can end now.  `wait`: wait for delayed inputs and for people too."""
        while True:
            await self._look_at_quarantine()
            await self._waiter.look()
            await self.report()
            now_ms = self._clock()
            self._tell_of_retries(now_ms)
            sessions = self._waiter.sessions.values()
            if self._complete and all(stuck(s, now_ms, wait=wait) for s in sessions):
                if not await self._work_can_end():
                    return
            await self._waiter.pause()

    async def _work_can_end(self) -> bool:
        """Return True if an input waits for inputs of other sessions, and one of them can end by itself."""
        for session in self._waiter.sessions.values():
            waits = [each.status.wait for each in session.tracked() if each.status is not None]
            for wait in waits:
                if wait is None or not wait.awaits:
                    continue
                if await self._store.ask(WorkCanEnd(session.session_id, wait.awaits)):
                    return True
        return False

    def _tell_of_retries(self, now_ms: int) -> None:
        """Log which runs wait long for their next attempt, and why: otherwise the command would seem to hang."""
        for session in self._waiter.sessions.values():
            for status in (each.status for each in session.tracked()):
                if len(self._retries) == SHOWN_RETRIES_MAX:
                    return
                if status is None or status.status != "bound" or status.last_failure is None:
                    continue
                wait_ms = (status.due_at_ms or 0) - now_ms
                told = status.run_id, status.due_at_ms
                if wait_ms > LONG_MS and told not in self._retries:
                    self._retries.add(told)
                    more = len(self._retries) == SHOWN_RETRIES_MAX
                    log(
                        f"session {session.session_id}: next attempt at {moment(status.due_at_ms or 0)}, "
                        f"in {round(wait_ms / 60_000)} min: {status.last_failure}"
                        + "; further waits are not shown"
                        * more
                    )

    async def look_at_all(self) -> None:
        """Read the status of every input that has not ended."""
        await self._waiter.look_at_all()

    async def _look_at_quarantine(self) -> None:
        """Wait for no session that a worker has put into quarantine."""
        now_s = time.monotonic()
        if now_s - self._quarantine_at_s < QUARANTINE_S:
            return
        self._quarantine_at_s = now_s
        for aside in await self._store.quarantined():
            if (session := self._waiter.sessions.get(aside.session_id)) is not None:
                self._set_aside(session, aside.reason)

    def _set_aside(self, session: SessionInputs, why: object) -> None:
        if not session.unreadable:
            log(f"session {session.session_id} quarantined: {why}")
        session.unreadable = True

    def _failed(self, session: SessionInputs, error: Exception) -> None:
        if not isinstance(error, UnreadableSession | LookupError):
            raise error
        self._set_aside(session, error)


async def no_report() -> None:
    """Report nothing."""


def stuck(session: SessionInputs, now_ms: int, *, wait: bool) -> bool:
    """Return True if no input of the session can end now: each is delayed or waits for people, or there is no work."""
    if session.unreadable or not session.current:
        return session.unreadable
    due = session.due_at_ms
    return due is None or all(
        not wait and (is_later(each.status, now_ms) or (due > now_ms and is_asked(each.status)))
        for each in session.tracked()
    )


def is_later(status: InputStatus | None, now_ms: int) -> bool:
    """Return True if an input is delayed to a time that has not come."""
    if status is None or status.status != "delayed" or status.due_at_ms is None:
        return False
    return status.due_at_ms > now_ms


def is_asked(status: InputStatus | None) -> bool:
    """Return True if somebody has to decide before the input can end."""
    return status is not None and status.wait is not None and not status.wait.ends_by_itself
