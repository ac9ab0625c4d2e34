"""The runtime for code without an event loop: one thread runs the loop, and everything is asked of it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from tenure.commands import CancelRequested, Committed, Interrupted, NewInput
from tenure.queries import Question
from tenure.questions.core import EventsAfter, InputStatus
from tenure.records import EventBatch, Input

from .receipts import Receipt
from .runtime import Runtime
from .turn import Probe, Turn

A = TypeVar("A")


class Portal:
    """A daemon thread with an event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._serve, name="tenure-portal", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def call(self, coroutine: Coroutine[Any, Any, A]) -> A:
        """Run it there and wait for it; if this is interrupted, so is that."""
        if threading.current_thread() is self.thread:
            coroutine.close()
            raise RuntimeError("the sync face was called from its own event loop; await instead")
        future: Future[A] = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()


class SyncReceipt:
    def __init__(self, portal: Portal, submission: Receipt) -> None:
        self._portal, self._submission = portal, submission
        self.session_id, self.input_id = submission.session_id, submission.input_id
        self.how = submission.how

    def status(self) -> InputStatus | None:
        return self._portal.call(self._submission.status())

    def ended(self, timeout: float | None = None) -> InputStatus:
        return self._portal.call(self._submission.ended(timeout))


class SyncTurn:
    """A turn whose steps are called from a thread; see Turn."""

    def __init__(self, portal: Portal, turn: Turn) -> None:
        self._portal, self._turn = portal, turn

    @property
    def session_id(self) -> str:
        return self._turn.session_id

    @property
    def run_id(self) -> str:
        return self._turn.run_id

    @property
    def inputs(self) -> tuple[Input, ...]:
        return self._turn.inputs

    @property
    def text(self) -> str:
        return self._turn.text

    @property
    def state(self) -> str | None:
        return self._turn.state

    @property
    def cancelled(self) -> bool:
        return self._turn.cancelled

    def step(self, name: str, f: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        return self._portal.call(self._turn.step(name, f, *args, **kw))

    def once(self, name: str, f: Callable[..., Any], *args: Any, probe: Probe | None = None) -> Any:
        return self._portal.call(self._turn.once(name, f, *args, probe=probe))

    def checkpoint(self) -> tuple[Input, ...]:
        return self._portal.call(self._turn.checkpoint())

    def commit(self, text: str | None = None, **kw: Any) -> Committed:
        return self._portal.call(self._turn.commit(text, **kw))


class SyncRuntime:
    """Starts when it is entered or first used; leaving it stops the runtime and the thread."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._portal = Portal()

    def __enter__(self) -> SyncRuntime:
        try:
            self.start()
        except BaseException:
            self._portal.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        self._portal.call(self._runtime.start())

    def drain(self, grace_ms: int | None = None) -> None:
        self._portal.call(self._runtime.drain(grace_ms))

    def stop(self) -> None:
        try:
            self._portal.call(self._runtime.stop())
        finally:
            self._portal.close()

    def submit(self, session_id: str, text: str, **kw: Any) -> SyncReceipt:
        return SyncReceipt(
            self._portal, self._portal.call(self._runtime.submit(session_id, text, **kw))
        )

    def submit_many(self, session_id: str, inputs: Sequence[NewInput]) -> tuple[SyncReceipt, ...]:
        found = self._portal.call(self._runtime.submit_many(session_id, inputs))
        return tuple([SyncReceipt(self._portal, s) for s in found])

    def cancel(self, session_id: str, run_id: str) -> CancelRequested:
        return self._portal.call(self._runtime.cancel(session_id, run_id))

    def interrupt(self, session_id: str, replacement: NewInput | str | None = None) -> Interrupted:
        return self._portal.call(self._runtime.interrupt(session_id, replacement))

    def ask(self, question: Question[A]) -> A:
        return self._portal.call(self._runtime.ask(question))

    def events(self, session_id: str, after: int = 0) -> tuple[EventBatch, ...]:
        """Those that there are by now."""
        return self.ask(EventsAfter(session_id, after))

    @contextlib.contextmanager
    def turn(self, session_id: str) -> Iterator[SyncTurn]:
        """The body runs in this thread, the renewals in the other one."""
        loan = Loan(self._runtime, session_id)
        turn = self._portal.call(loan.take())
        try:
            yield SyncTurn(self._portal, turn)
        except BaseException as error:
            self._portal.call(loan.give_back(error))
            raise
        self._portal.call(loan.give_back(None))


class Loan:
    """A turn whose body runs elsewhere; a task of its own stands for it in the loop."""

    def __init__(self, runtime: Runtime, session_id: str) -> None:
        self.runtime, self.session_id = runtime, session_id
        self.done: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None

    async def take(self) -> Turn:
        loop = asyncio.get_running_loop()
        self.done = loop.create_future()
        taken: asyncio.Future[Turn] = loop.create_future()
        self.task = loop.create_task(self._stand(taken, self.done))
        either: set[asyncio.Future[Any]] = {taken, self.task}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not taken.done():
            self.task.result()  # raises why
        return taken.result()

    async def _stand(self, taken: asyncio.Future[Turn], done: asyncio.Future[None]) -> None:
        async with self.runtime.turn(self.session_id) as turn:
            taken.set_result(turn)
            await done

    async def give_back(self, error: BaseException | None) -> None:
        assert self.done is not None and self.task is not None
        if not self.done.done():
            if isinstance(error, Exception):
                self.done.set_exception(error)
            elif error is not None:
                self.task.cancel()
            else:
                self.done.set_result(None)
        try:
            await self.task
        except BaseException as raised:
            if error is None or not (raised is error or isinstance(raised, asyncio.CancelledError)):
                raise
