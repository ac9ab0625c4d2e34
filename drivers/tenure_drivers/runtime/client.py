"""Client: submit inputs to a store, await their ends, cancel, interrupt and read.  Needs no runtime."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol, TypeVar

from tenure.commands import (
    Admit,
    Admitted,
    CancelRequested,
    IfIdle,
    Interrupt,
    Interrupted,
    NewInput,
    RequestCancel,
    Target,
)
from tenure.outcome import Refused
from tenure.policy import IfOver, Policy
from tenure.queries import Command, Question
from tenure.questions.core import EventsAfter, InputStatus
from tenure.records import EventBatch

from ..stores.base import Unavailable
from .changes import ReadableStore, SessionChanges
from .clock import boot_clock_ms, new_id
from .errors import CommandRefused, SubmissionRefused
from .input_waiter import InputWaiter
from .receipts import Receipt
from .retry import retry

__all__ = ["Client"]


A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")

PATIENCE_MS = 30_000  # how long a command is retried whose outcome is unknown
EVENTS_POLL_S = 3.0  # a change may be missed if a clock is set back


class ClientStore(ReadableStore, Protocol):
    """The part of a store that a client needs."""

    async def execute(self, command: Command[V, O], /) -> O | Refused:
        """As in Store."""
        ...


class Client:
    """Submits commands to one store and asks it questions.  Use it in one event loop."""

    clock: Callable[[], int] = staticmethod(boot_clock_ms)

    def __init__(self, store: ClientStore, *, changes: SessionChanges | None = None) -> None:
        self.store = store
        self.changes = SessionChanges(store) if changes is None else changes
        self._waiter = InputWaiter(store, self.changes)
        self._tasks: set[asyncio.Task[Any]] = set()

    def _retain(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def execute(self, command: Command[V, O]) -> O | Refused:
        """Execute a command.  If its outcome is unknown it is executed again, which is a replay if it was done.

        Cancelling the caller does not cancel the command.  Raises Unavailable if it certainly was not executed, and
        OutcomeUnknown if that is still unknown after 30 s.
        """
        task = asyncio.create_task(self._execute(command))
        self._retain(task)
        return await asyncio.shield(task)

    async def _execute(self, command: Command[V, O]) -> O | Refused:
        return await retry(
            lambda: self.store.execute(command),
            patience_ms=PATIENCE_MS,
            unavailable=False,
            clock=self.clock,
        )

    async def submit(
        self,
        session_id: str,
        text: str,
        *,
        key: str | None = None,
        priority: int | None = None,
        available_at_ms: int | None = None,
        kind: str = "prompt",
        input_id: str | None = None,
        policy: Policy | None = None,
        supersession_key: str | None = None,
        correlation_id: str | None = None,
        source: str = "api",
        target: str | Target | None = None,
        if_idle: IfIdle = IfIdle.QUEUE,
        if_over: IfOver = IfOver.QUEUE,
    ) -> Receipt:
        """Admit one input to a session, which is created if it does not exist.

        A second submission with the same `key` and text is the same input.  Raises SubmissionRefused.
        """
        new = NewInput(
            input_id or new_id(), kind, text, source, key, priority, available_at_ms,
            supersession_key, correlation_id, policy, target, if_idle, if_over,
        )  # fmt: skip
        return (await self.submit_many(session_id, (new,)))[0]

    async def submit_many(self, session_id: str, inputs: Sequence[NewInput]) -> tuple[Receipt, ...]:
        """Admit all of these inputs or none, at most 256.  Raises SubmissionRefused."""
        answer = await self.execute(Admit(session_id, tuple(inputs)))
        if isinstance(answer, Refused):
            raise SubmissionRefused(answer)
        assert isinstance(answer, Admitted)
        return tuple(
            [
                Receipt(self, session_id, r.input_id, r.how.value, r.run_id)
                for r in answer.admissions
            ]
        )

    async def steer(self, session_id: str, text: str, **more: Any) -> Receipt:
        """Submit an input for the turn that is at work: it enters before the next call of the model.

        `kind="follow_up"`: where the turn would end.  Without a turn it is an ordinary input.  `more` as in `submit`.
        """
        return await self.submit(session_id, text, **{"kind": "steering", **more})

    def receipt(self, session_id: str, input_id: str, how: str = "known") -> Receipt:
        """Return a receipt for an input that is in the store already."""
        return Receipt(self, session_id, input_id, how)

    def watch(self, session_id: str, input_id: str) -> asyncio.Future[InputStatus]:
        """Return a future of the status with which an input ends."""
        return self._waiter.wait(session_id, input_id)

    def watch_delivery(self, session_id: str, input_id: str) -> asyncio.Future[InputStatus]:
        """Return a future of the status of an input when a run has it, or when it has ended."""
        return self._waiter.wait(session_id, input_id, delivery=True)

    async def cancel(
        self, session_id: str, run_id: str, *, command_id: str | None = None
    ) -> CancelRequested:
        """Ask exactly this run to stop, in whichever process it runs.  Raises CommandRefused if it is unknown or done."""
        answer = await self.execute(RequestCancel(session_id, command_id or new_id(), run_id))
        if isinstance(answer, Refused):
            raise CommandRefused("cancel", answer)
        return answer

    async def interrupt(
        self,
        session_id: str,
        replacement: NewInput | str | None = None,
        *,
        command_id: str | None = None,
    ) -> Interrupted:
        """Supersede the inputs of the user that wait, ask the running turn to stop, and admit `replacement` if there is one."""
        if isinstance(replacement, str):
            replacement = NewInput(new_id(), "prompt", replacement)
        answer = await self.execute(Interrupt(session_id, command_id or new_id(), replacement))
        if isinstance(answer, Refused):
            raise CommandRefused("interrupt", answer)
        return answer

    async def events(self, session_id: str, after: int = 0) -> AsyncIterator[EventBatch]:
        """Yield the events of a session after number `after`, then new ones as they happen.  Never ends."""
        listener = _SessionListener()
        self.changes.subscribe(session_id, listener)
        try:
            while True:
                listener.woken.clear()
                try:
                    page = await self.ask(EventsAfter(session_id, after))
                except Unavailable:
                    page = ()
                for event in page:
                    yield event
                    after = event.seq + len(event.events) - 1
                if not page:
                    await listener.wait(EVENTS_POLL_S)
        finally:
            self.changes.unsubscribe(session_id, listener)

    async def ask(self, question: Question[A]) -> A:
        """Answer a question from one snapshot of the store."""
        return await self.store.ask(question)


class _SessionListener:
    """Wakes one task when a session changes."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()

    def changed(self, session_id: str) -> None:
        """Called by SessionChanges."""
        self.woken.set()

    async def wait(self, timeout_s: float) -> None:
        """Wait for a change, or for the time to pass."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.woken.wait()
