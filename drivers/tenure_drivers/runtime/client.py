"""What a client asks of a store: submit, wait, cancel, interrupt, read.  Who only does this needs no runtime."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from tenure.commands import (
    Admit,
    Admitted,
    CancelRequested,
    Interrupt,
    Interrupted,
    NewInput,
    RequestCancel,
)
from tenure.outcome import Refused
from tenure.policy import Policy
from tenure.queries import Command, Question
from tenure.questions.core import EventsAfter, InputStatus
from tenure.records import EventBatch

from ..stores.base import OutcomeUnknown, Store, Unavailable
from .clock import boot_clock_ms, new_id
from .errors import CommandRefused, SubmissionRefused
from .receipts import InputWaiters, Receipt

A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")

PATIENCE_MS = 30_000  # with a store that does not say whether it has done something
EVENTS_POLL_S = 0.2


class Client:
    """A store as seen by those who submit to it."""

    clock: Callable[[], int] = staticmethod(boot_clock_ms)

    def __init__(self, store: Store) -> None:
        self.store = store
        self._watches = InputWaiters(store)
        self._tasks: set[asyncio.Task[Any]] = set()

    def _retain(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def execute(self, command: Command[V, O]) -> O | Refused:
        """Carry a command out; one whose outcome is unknown is executed again until it is known.

        Whoever waits may be cancelled: the command is not.
        """
        task = asyncio.create_task(self._execute(command))
        self._retain(task)
        return await asyncio.shield(task)

    async def _execute(self, command: Command[V, O]) -> O | Refused:
        unsure, pause = False, 0.005
        until = self.clock() + PATIENCE_MS
        while True:
            try:
                return await self.store.execute(command)
            except (OutcomeUnknown, Unavailable) as error:
                unsure = unsure or isinstance(error, OutcomeUnknown)
                if not unsure:
                    raise
                if self.clock() > until:
                    raise OutcomeUnknown(str(error)) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

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
    ) -> Receipt:
        """Put one input into a session, which is opened if need be; the same `key` again is the same input."""
        new = NewInput(
            input_id or new_id(), kind, text, source, key, priority, available_at_ms,
            supersession_key, correlation_id, policy,
        )  # fmt: skip
        return (await self.submit_many(session_id, (new,)))[0]

    async def submit_many(self, session_id: str, inputs: Sequence[NewInput]) -> tuple[Receipt, ...]:
        """All of them or none, at most 256."""
        answer = await self.execute(Admit(session_id, tuple(inputs)))
        if isinstance(answer, Refused):
            raise SubmissionRefused(answer)
        assert isinstance(answer, Admitted)
        return tuple([self.receipt(session_id, r.input_id, r.how.value) for r in answer.admissions])

    def receipt(self, session_id: str, input_id: str, how: str = "known") -> Receipt:
        """For an input that was submitted before, here or anywhere."""
        return Receipt(self, session_id, input_id, how)

    def watch(self, session_id: str, input_id: str) -> asyncio.Future[InputStatus]:
        return self._watches.watch(session_id, input_id)

    async def cancel(
        self, session_id: str, run_id: str, *, command_id: str | None = None
    ) -> CancelRequested:
        """Ask exactly this run to stop, wherever it is carried out.  Raises CommandRefused if it is unknown or over."""
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
        """Take back what users have said to this session so far, and perhaps say something else."""
        if isinstance(replacement, str):
            replacement = NewInput(new_id(), "prompt", replacement)
        answer = await self.execute(Interrupt(session_id, command_id or new_id(), replacement))
        if isinstance(answer, Refused):
            raise CommandRefused("interrupt", answer)
        return answer

    async def events(self, session_id: str, after: int = 0) -> AsyncIterator[EventBatch]:
        """The events of a session behind number `after`, then those to come, for ever."""
        while True:
            try:
                page = await self.ask(EventsAfter(session_id, after))
            except Unavailable:
                page = ()
            for event in page:
                yield event
                after = event.seq + len(event.events) - 1
            if not page:
                await asyncio.sleep(EVENTS_POLL_S)

    async def ask(self, question: Question[A]) -> A:
        return await self.store.ask(question)
