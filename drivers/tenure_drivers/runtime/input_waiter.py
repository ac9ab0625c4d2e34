"""Wait for inputs to end: reads the status of inputs in batches, of the sessions that have changed."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Final

from attrs import Factory, define, frozen

from tenure.queries import Get, Query, Question
from tenure.questions.core import InputStatus, Statuses
from tenure.records import Session

from ..stores.base import Unavailable
from .changes import ReadableStore, SessionChanges
from .errors import NotEnded

__all__ = ["InputWaiter", "SessionInputs", "TrackedInput"]


HEADS: Final = (
    8  # inputs of a changed session that are read first; more only if all of them have ended
)
BATCH: Final = 256
GATHER_S: Final = 0.02  # changes within this time are read together
QUIET_S: Final = 0.5  # after it, all inputs of a session that changes no more are read
SWEEP_S: Final = 3.0  # a change may be missed if a clock is set back

log = logging.getLogger("tenure")


@define(eq=False)
class TrackedInput:
    """An input that somebody waits for, with its status when it was read last."""

    session_id: str
    input_id: str
    status: InputStatus | None = None
    future: asyncio.Future[InputStatus] | None = None  # gets the status when the input has ended
    delivery: bool = False  # or as soon as a run has it

    @property
    def ended(self) -> bool:
        """Return True if the input has ended, or if its future is done and nobody waits any more."""
        if self.future is not None and self.future.done():
            return True
        return self.status is not None and self.status.ended

    @property
    def delayed(self) -> bool:
        """Return True if the input was not due yet when it was read last."""
        return self.status is not None and self.status.status == "delayed"

    def update(self, status: InputStatus | None) -> None:
        """Take a status from the store.  Raises LookupError for None: the store has no such input."""
        if status is None:
            missing = LookupError(f"no input {self.input_id} in {self.session_id}")
            if self.future is None:
                raise missing
            self.fail(missing)
            return
        self.status = status
        over = status.delivered if self.delivery else status.ended
        if over and self.future is not None and not self.future.done():
            self.future.set_result(status)

    def fail(self, error: Exception) -> None:
        """Raise an error in the code that awaits this input."""
        if self.future is not None and not self.future.done():
            self.future.set_exception(error)


@frozen
class Progress:
    """A session's row and the status of some of its inputs, from one snapshot."""

    session: Session | None
    statuses: tuple[InputStatus | None, ...]


@frozen
class InputProgress(Question[Progress]):
    """The status of these inputs of a session, with the session's row."""

    session_id: str
    input_ids: tuple[str, ...]

    def steps(self) -> Generator[Query[Any], Any, Progress]:
        """Read the session, then each input."""
        session = yield Get(Session, (self.session_id,))
        statuses = yield from Statuses(self.session_id, self.input_ids).steps()
        return Progress(session, statuses)


@define(eq=False)
class SessionInputs:
    """The inputs of one session that have not ended, by id, in the order in which they were tracked."""

    session_id: str
    open: dict[str, list[TrackedInput]] = Factory(dict)
    first: dict[str, None] = Factory(dict)  # ids that are to be read before the heads
    current: bool = False  # all of them were read, and the session has not changed since
    swept_at_s: float = 0.0
    due_at_ms: int | None = None  # of the session, when it was read last
    unreadable: bool = False

    def tracked(self) -> list[TrackedInput]:
        """Return all tracked inputs that have not ended."""
        return [tracked for several in self.open.values() for tracked in several]

    def heads(self, count: int) -> list[str]:
        """Return the first ids, without those of inputs that are known to be delayed."""
        ids = (input_id for input_id in self.open if not self.delayed(input_id))
        return list(itertools.islice(ids, count))

    def delayed(self, input_id: str) -> bool:
        """Return True if the input has ended, or was not due yet when it was read last."""
        return all(tracked.delayed for tracked in self.open.get(input_id, ()))

    def update(self, input_id: str, status: InputStatus | None) -> None:
        """Take a status from the store; forget the input if it has ended."""
        left = []
        for tracked in self.open.get(input_id, ()):
            tracked.update(status)
            if not tracked.ended:
                left.append(tracked)
        if left:
            self.open[input_id] = left
        else:
            self.open.pop(input_id, None)


class InputWaiter:
    """Reads tracked inputs until each has ended.

    A changed session costs one read of its first inputs, which are likely to end first.  All its inputs are read when
    it has not changed for a while, and every SWEEP_S seconds.
    """

    def __init__(
        self,
        store: ReadableStore,
        changes: SessionChanges,
        *,
        gather_s: float = GATHER_S,
        on_error: Callable[[SessionInputs, Exception], None] | None = None,
    ) -> None:
        """`on_error` is called if a session's inputs cannot be read; the default fails their futures."""
        self._store, self._changes, self._gather_s = store, changes, gather_s
        self._on_error = self._fail if on_error is None else on_error
        self.sessions: dict[str, SessionInputs] = {}  # those with inputs that have not ended
        self._changed: dict[str, None] = {}
        self._woken = asyncio.Event()
        self._urgent = asyncio.Event()
        self._quiet_at_s = 0.0
        self._task: asyncio.Task[None] | None = None

    # -- inputs

    def track(self, inputs: Iterable[TrackedInput]) -> None:
        """Read these inputs from now on."""
        for tracked in inputs:
            session = self.sessions.get(tracked.session_id)
            if session is None:
                session = self.sessions[tracked.session_id] = SessionInputs(tracked.session_id)
                self._changes.subscribe(tracked.session_id, self)
            session.open.setdefault(tracked.input_id, []).append(tracked)
            if tracked.future is not None:  # it may have ended already
                session.first[tracked.input_id] = None
                self._urgent.set()
            self.changed(tracked.session_id)

    def follow(self, session_id: str, input_id: str, *, delivery: bool = False) -> TrackedInput:
        """Track an input; its future gets the status with which it ends, or with `delivery` when a run has it.

        `status` is as it was read last.  Needs no call of `look`.
        """
        future: asyncio.Future[InputStatus] = asyncio.get_running_loop().create_future()
        tracked = TrackedInput(session_id, input_id, future=future, delivery=delivery)
        self.track((tracked,))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return tracked

    def changed(self, session_id: str) -> None:
        """Read the session at the next look, if one of its inputs is tracked."""
        session = self.sessions.get(session_id)
        if session is not None:
            session.current = False
            self._changed[session_id] = None
            self._woken.set()

    def ended(self, session_id: str, input_ids: Iterable[str]) -> None:
        """Read these inputs at once: their run has ended in this process."""
        session = self.sessions.get(session_id)
        if session is not None:
            session.first.update(dict.fromkeys(input_ids))
            self._urgent.set()
            self.changed(session_id)

    def wake(self) -> None:
        """End a `pause`."""
        self._woken.set()

    async def stop(self) -> None:
        """Raise NotEnded in all who wait, and track nothing any more."""
        for session in self.sessions.values():
            for tracked in session.tracked():
                stopped = "the runtime was stopped"
                tracked.fail(
                    NotEnded(tracked.session_id, tracked.input_id, tracked.status, stopped)
                )
        self.sessions.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # -- reading

    async def _run(self) -> None:
        try:
            while self.sessions:
                await self.look()
                if self.sessions:
                    await self.pause()
        finally:
            self._task = None

    async def pause(self) -> None:
        """Wait until a tracked session changes, or until it is time to look at those that do not."""
        try:
            async with asyncio.timeout(QUIET_S):
                await self._woken.wait()
        except TimeoutError:
            return
        try:
            async with asyncio.timeout(self._gather_s):
                await self._urgent.wait()
        except TimeoutError:
            pass

    async def look(self) -> None:
        """Read the first inputs of sessions that have changed, and all inputs of those that change no more."""
        self._woken.clear()
        self._urgent.clear()
        changed, self._changed = self._changed, {}
        for session_id in changed:
            if (session := self.sessions.get(session_id)) is not None:
                await self._attempt(session, self._read_heads)
        now_s = time.monotonic()
        if now_s - self._quiet_at_s < QUIET_S:
            return
        self._quiet_at_s = now_s
        for session in list(self.sessions.values()):  # others may be added meanwhile
            stale = not session.current and session.session_id not in changed
            if stale or now_s - session.swept_at_s > SWEEP_S:
                session.swept_at_s = now_s
                await self._attempt(session, self._read_all)

    async def look_at_all(self) -> None:
        """Read every tracked input once."""
        for session in list(self.sessions.values()):
            await self._attempt(session, self._read_all)

    async def _attempt(self, session: SessionInputs, read: Callable[[SessionInputs], Any]) -> None:
        try:
            await read(session)
        except Exception as error:
            session.current = False
            self._on_error(session, error)
        if not session.open:
            self._drop(session)

    def _drop(self, session: SessionInputs) -> None:
        if self.sessions.get(session.session_id) is session:
            del self.sessions[session.session_id]
            self._changes.unsubscribe(session.session_id, self)

    def _fail(self, session: SessionInputs, error: Exception) -> None:
        if isinstance(error, Unavailable):
            return  # it is read again after QUIET_S seconds at the latest
        log.error("cannot read the inputs of session %s: %s", session.session_id, error)
        for tracked in session.tracked():
            tracked.fail(error)
        session.open.clear()

    async def _read_all(self, session: SessionInputs) -> None:
        session.first.clear()
        session.current = True  # a change while it is read makes it False again
        ids = list(session.open)
        for at in range(0, len(ids), BATCH):
            await self._read(session, ids[at : at + BATCH])

    async def _read_heads(self, session: SessionInputs) -> None:
        """Read the first inputs; more as long as all that were read have ended or are known to be delayed."""
        while session.first:
            ids = list(itertools.islice(session.first, BATCH))
            for input_id in ids:
                del session.first[input_id]
            await self._read(session, [i for i in ids if i in session.open])
        size = HEADS
        while ids := session.heads(size):
            await self._read(session, ids)
            if not all(session.delayed(input_id) for input_id in ids):
                break
            size = min(2 * size, BATCH)

    async def _read(self, session: SessionInputs, ids: Sequence[str]) -> None:
        if not ids:
            return
        progress = await self._store.ask(InputProgress(session.session_id, tuple(ids)))
        if progress.session is not None:
            session.due_at_ms = progress.session.due_at_ms
        for input_id, status in zip(ids, progress.statuses, strict=True):
            session.update(input_id, status)
