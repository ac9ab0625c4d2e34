"""The runtime for code without an event loop: a thread runs the loop, and each call waits for its result.

The blocking portal of anyio 4.16 is not used.  Its `call` does not cancel the coroutine on Ctrl-C.  Its wrapper of a
context manager raises CancelledError where a turn raises LeaseLost or Cancelled.  It doubles the time to import asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from tenure.commands import (
    Amended,
    CancelRequested,
    Committed,
    DecisionTaken,
    ImportNode,
    Interrupted,
    NewInput,
    PhaseChanged,
    Readmitted,
    Reordered,
    Replaced,
    Withdrawn,
)
from tenure.limits import RUN_INPUTS_MAX
from tenure.machines.ticket import Action
from tenure.messages.types import Attachment as MessageAttachment
from tenure.queries import Question
from tenure.questions import Conversation, TranscriptLine
from tenure.questions.core import InputStatus
from tenure.questions.events import LoadEvents
from tenure.questions.retention import PrunePass
from tenure.records import EventBatch, Input, Outbound, Ticket
from tenure.retention import Retention
from tenure.transcript import NewNode

from .drained import Drained
from .errors import EventsPruned, describe
from .importing import Imported
from .receipts import Receipt
from .runtime import Runtime
from .steps import Passes
from .turn import Probe, Turn
from .user_code import as_exception
from .waiting import Decision, Waited

__all__ = ["SyncReceipt", "SyncRuntime", "SyncTurn"]


A = TypeVar("A")


class LoopThread:
    """A daemon thread that runs an event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._serve, name="tenure-loop", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def call(self, coroutine: Coroutine[Any, Any, A]) -> A:
        """Run a coroutine in the loop and return its result.  Ctrl-C while waiting cancels the coroutine."""
        if threading.current_thread() is self.thread:
            coroutine.close()
            raise RuntimeError(
                "SyncRuntime was called from its own event loop: use Runtime and await instead"
            )
        answer: Future[A] = Future()
        tasks: list[asyncio.Task[A]] = []

        def begin() -> None:
            tasks.append(self.loop.create_task(coroutine))
            tasks[0].add_done_callback(lambda ended: _copy(ended, answer))

        def stop() -> None:
            if not tasks:
                coroutine.close()
            for task in tasks:
                task.cancel()

        # Not `run_coroutine_threadsafe`: after a Ctrl-C inside it, the coroutine would run and nobody could cancel it.
        try:
            self.loop.call_soon_threadsafe(begin)
            return answer.result()
        except BaseException:
            if not answer.done():
                self.loop.call_soon_threadsafe(stop)
            raise

    def close(self) -> None:
        """Stop the loop and join the thread."""
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()


def _copy(ended: asyncio.Task[A], answer: Future[A]) -> None:
    """Give the end of a task to a thread that waits for it."""
    if ended.cancelled():
        answer.cancel()
    elif (error := ended.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(ended.result())


class SyncReceipt:
    """A Receipt whose methods block."""

    def __init__(self, loop: LoopThread, receipt: Receipt) -> None:
        self._loop, self._receipt = loop, receipt
        self.session_id, self.input_id = receipt.session_id, receipt.input_id
        self.how, self.run_id = receipt.how, receipt.run_id

    def status(self) -> InputStatus | None:
        """As Receipt.status."""
        return self._loop.call(self._receipt.status())

    def ended(self, timeout: float | None = None) -> InputStatus:
        """As Receipt.ended."""
        return self._loop.call(self._receipt.ended(timeout))

    def delivered(self, timeout: float | None = None) -> InputStatus:
        """As Receipt.delivered."""
        return self._loop.call(self._receipt.delivered(timeout))

    def result(self, timeout: float | None = None) -> str | None:
        """As Receipt.result."""
        return self._loop.call(self._receipt.result(timeout))


class SyncTurn:
    """A Turn whose methods block; call them from any thread but the loop's."""

    def __init__(self, loop: LoopThread, turn: Turn) -> None:
        self._loop, self._turn = loop, turn

    @property
    def session_id(self) -> str:
        """The id of the session."""
        return self._turn.session_id

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self._turn.run_id

    @property
    def inputs(self) -> tuple[Input, ...]:
        """As Turn.inputs."""
        return self._turn.inputs

    @property
    def text(self) -> str:
        """As Turn.text."""
        return self._turn.text

    @property
    def state(self) -> str | None:
        """As Turn.state."""
        return self._turn.state

    @property
    def states(self) -> Mapping[str, str]:
        """As Turn.states."""
        return self._turn.states

    @property
    def frame(self) -> str:
        """As Turn.frame."""
        return self._turn.frame

    @property
    def agent(self) -> str:
        """As Turn.agent."""
        return self._turn.agent

    @property
    def cancelled(self) -> bool:
        """As Turn.cancelled."""
        return self._turn.cancelled

    def step(self, name: str, f: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        """As Turn.step."""
        return self._loop.call(self._turn.step(name, f, *args, **kw))

    def once(
        self,
        name: str,
        f: Callable[..., Any],
        *args: Any,
        probe: Probe | None = None,
        passes: Passes = (),
        version: str | int | None = None,
    ) -> Any:
        """As Turn.once."""
        once = self._turn.once(name, f, *args, probe=probe, passes=passes, version=version)
        return self._loop.call(once)

    def checkpoint(self, *, at_end: bool = False, most: int = RUN_INPUTS_MAX) -> tuple[Input, ...]:
        """As Turn.checkpoint."""
        return self._loop.call(self._turn.checkpoint(at_end=at_end, most=most))

    def ask(self, name: str, prompt: str, **options: Any) -> Decision:
        """As Turn.ask."""
        return self._loop.call(self._turn.ask(name, prompt, **options))

    def ticket(self, name: str, prompt: str, **options: Any) -> str:
        """As Turn.ticket."""
        return self._loop.call(self._turn.ticket(name, prompt, **options))

    def wait(self, *ticket_ids: str, **options: Any) -> Waited:
        """As Turn.wait."""
        return self._loop.call(self._turn.wait(*ticket_ids, **options))

    def send(self, to: str, submit: NewInput | str, **options: Any) -> None:
        """As Turn.send."""
        self._loop.call(self._turn.send(to, submit, **options))

    def start_run(self, to: str, submit: NewInput | str, **options: Any) -> str:
        """As Turn.start_run."""
        return self._loop.call(self._turn.start_run(to, submit, **options))

    def join(self, *ticket_ids: str, **options: Any) -> Waited:
        """As Turn.join."""
        return self._loop.call(self._turn.join(*ticket_ids, **options))

    def attach(self, data: bytes | Path, media_type: str, name: str = "") -> MessageAttachment:
        """As Turn.attach."""
        return self._loop.call(self._turn.attach(data, media_type, name))

    def attachment(self, named: str) -> bytes | None:
        """As Turn.attachment."""
        return self._loop.call(self._turn.attachment(named))

    def pause(self, seconds: float) -> None:
        """As Turn.pause."""
        self._loop.call(self._turn.pause(seconds))

    def commit(self, text: str | None = None, **kw: Any) -> Committed:
        """As Turn.commit."""
        return self._loop.call(self._turn.commit(text, **kw))


class SyncRuntime:
    """A Runtime whose methods block.

    `with SyncRuntime(runtime)` starts it, and at the end stops the runtime and the thread of its event loop.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._loop = LoopThread()

    def __enter__(self) -> SyncRuntime:
        try:
            self.start()
        except BaseException:
            self._loop.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self, within_s: float | None = None) -> None:
        """As Runtime.start."""
        self._loop.call(self._runtime.start(within_s))

    def drain(self, grace_ms: int | None = None) -> Drained:
        """As Runtime.drain."""
        return self._loop.call(self._runtime.drain(grace_ms))

    def stop(self) -> Drained:
        """Stop the runtime, then the thread.  Turns in progress have the runtime's `grace_ms`; answers as Runtime.stop."""
        try:
            return self._loop.call(self._runtime.stop(self._runtime.grace_ms))
        finally:
            self._loop.close()

    def submit(self, session_id: str | None, text: str, **kw: Any) -> SyncReceipt:
        """As Client.submit."""
        return SyncReceipt(
            self._loop, self._loop.call(self._runtime.submit(session_id, text, **kw))
        )

    def steer(self, session_id: str, text: str, **kw: Any) -> SyncReceipt:
        """As Client.steer."""
        return SyncReceipt(self._loop, self._loop.call(self._runtime.steer(session_id, text, **kw)))

    def submit_many(self, session_id: str, inputs: Sequence[NewInput]) -> tuple[SyncReceipt, ...]:
        """As Client.submit_many."""
        found = self._loop.call(self._runtime.submit_many(session_id, inputs))
        return tuple([SyncReceipt(self._loop, s) for s in found])

    def run(
        self, session_id: str, text: str, within_s: float | None = None, **options: Any
    ) -> str | None:
        """As Client.run, with its options."""
        return self._loop.call(self._runtime.run(session_id, text, within_s, **options))

    def abort(self, session_id: str, input_id: str) -> Withdrawn | CancelRequested:
        """As Client.abort."""
        return self._loop.call(self._runtime.abort(session_id, input_id))

    def cancel(self, session_id: str, run_id: str) -> CancelRequested:
        """As Client.cancel."""
        return self._loop.call(self._runtime.cancel(session_id, run_id))

    def tickets(self, session_id: str | None = None) -> tuple[Ticket, ...]:
        """As Client.tickets."""
        return self._loop.call(self._runtime.tickets(session_id))

    def decide(
        self, session_id: str, ticket_id: str, action: Action | str, body: str = "", *, by: str = ""
    ) -> DecisionTaken:
        """As Client.decide."""
        return self._loop.call(self._runtime.decide(session_id, ticket_id, action, body, by=by))

    def outbox(self, session_id: str | None = None) -> tuple[Outbound, ...]:
        """As Client.outbox."""
        return self._loop.call(self._runtime.outbox(session_id))

    def resend(self, session_id: str, number: int, **options: Any) -> int:
        """As Client.resend."""
        return self._loop.call(self._runtime.resend(session_id, number, **options))

    def interrupt(
        self,
        session_id: str,
        replacement: NewInput | str | None = None,
        *,
        rollback: bool = False,
    ) -> Interrupted:
        """As Client.interrupt."""
        interrupt = self._runtime.interrupt(session_id, replacement, rollback=rollback)
        return self._loop.call(interrupt)

    def withdraw(self, session_id: str, input_id: str) -> Withdrawn:
        """As Client.withdraw."""
        return self._loop.call(self._runtime.withdraw(session_id, input_id))

    def replace(self, session_id: str, input_id: str, new: NewInput | str) -> Replaced:
        """As Client.replace."""
        return self._loop.call(self._runtime.replace(session_id, input_id, new))

    def reorder(self, session_id: str, input_ids: Sequence[str], **kw: Any) -> Reordered:
        """As Client.reorder."""
        return self._loop.call(self._runtime.reorder(session_id, input_ids, **kw))

    def readmit(self, session_id: str, input_id: str) -> Readmitted:
        """As Client.readmit."""
        return self._loop.call(self._runtime.readmit(session_id, input_id))

    def retire(self, session_id: str, *, abandon_queued: bool = False) -> PhaseChanged:
        """As Client.retire."""
        retire = self._runtime.retire(session_id, abandon_queued=abandon_queued)
        return self._loop.call(retire)

    def stop_session(self, session_id: str, *, abandon: bool = False) -> PhaseChanged:
        """As Client.stop_session."""
        return self._loop.call(self._runtime.stop_session(session_id, abandon=abandon))

    def reset(self, session_id: str) -> PhaseChanged:
        """As Client.reset."""
        return self._loop.call(self._runtime.reset(session_id))

    def reopen(self, session_id: str) -> PhaseChanged:
        """As Client.reopen."""
        return self._loop.call(self._runtime.reopen(session_id))

    def destroy(self, session_id: str, *, erase_payloads: bool = False) -> PhaseChanged:
        """As Client.destroy."""
        done = self._runtime.destroy(session_id, erase_payloads=erase_payloads)
        return self._loop.call(done)

    def erase(self, session_id: str) -> PhaseChanged:
        """As Client.erase."""
        return self._loop.call(self._runtime.erase(session_id))

    def prune(self, session_id: str, retention: Retention) -> PrunePass:
        """As Client.prune."""
        return self._loop.call(self._runtime.prune(session_id, retention))

    def attach(
        self, session_id: str, data: bytes | Path, media_type: str, name: str = "", **kw: Any
    ) -> MessageAttachment:
        """As Client.attach."""
        return self._loop.call(self._runtime.attach(session_id, data, media_type, name, **kw))

    def attachment(self, session_id: str, named: str) -> bytes | None:
        """As Client.attachment."""
        return self._loop.call(self._runtime.attachment(session_id, named))

    def forget(self, session_id: str, *named: str) -> None:
        """As Client.forget."""
        self._loop.call(self._runtime.forget(session_id, *named))

    def fork(self, session_id: str, new_session_id: str | None = None, **kw: Any) -> Imported:
        """As Client.fork."""
        return self._loop.call(self._runtime.fork(session_id, new_session_id, **kw))

    def import_session(self, session_id: str, nodes: Sequence[ImportNode], **kw: Any) -> Imported:
        """As Client.import_session."""
        return self._loop.call(self._runtime.import_session(session_id, nodes, **kw))

    def amend(self, session_id: str, nodes: Sequence[NewNode] = (), **kw: Any) -> Amended:
        """As Client.amend."""
        return self._loop.call(self._runtime.amend(session_id, nodes, **kw))

    def conversation(self, session_id: str, **kw: Any) -> Conversation | None:
        """As Client.conversation."""
        return self._loop.call(self._runtime.conversation(session_id, **kw))

    def transcript(self, session_id: str, **kw: Any) -> tuple[TranscriptLine, ...]:
        """As Client.transcript."""
        return self._loop.call(self._runtime.transcript(session_id, **kw))

    def ask(self, question: Question[A]) -> A:
        """As Client.ask."""
        return self._loop.call(self._runtime.ask(question))

    def events(self, session_id: str, after: int = 0) -> tuple[EventBatch, ...]:
        """Return the events after number `after` that exist now, at most 256 batches.  Raises EventsPruned as Client.events."""
        page = self.ask(LoadEvents(session_id, after))
        if page.pruned_to is not None:
            raise EventsPruned(session_id, after, page.pruned_to)
        return page.batches

    @contextlib.contextmanager
    def turn(self, session_id: str, submit: NewInput | str | None = None) -> Iterator[SyncTurn]:
        """As Runtime.turn.  The body runs in this thread; the lease is renewed in the thread of the loop."""
        held = TurnTask(self._runtime, session_id, submit)
        turn = self._loop.call(held.open())
        try:
            yield SyncTurn(self._loop, turn)
        except BaseException as error:
            self._loop.call(held.close(error))
            raise
        self._loop.call(held.close(None))


class TurnTask:
    """A task in the loop that keeps a turn open while its body runs in another thread."""

    def __init__(
        self, runtime: Runtime, session_id: str, submit: NewInput | str | None = None
    ) -> None:
        self.runtime, self.session_id, self.submit = runtime, session_id, submit
        self.done: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None

    async def open(self) -> Turn:
        """Begin the turn.  Raises as Runtime.turn."""
        loop = asyncio.get_running_loop()
        self.done = loop.create_future()
        taken: asyncio.Future[Turn] = loop.create_future()
        self.task = loop.create_task(self._hold(taken, self.done))
        either: set[asyncio.Future[Any]] = {taken, self.task}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not taken.done():
            self.task.result()  # raises why
        return taken.result()

    async def _hold(self, taken: asyncio.Future[Turn], done: asyncio.Future[None]) -> None:
        async with self.runtime.turn(self.session_id, self.submit) as turn:
            taken.set_result(turn)
            await done

    async def close(self, error: BaseException | None) -> None:
        """End the turn as its body has ended."""
        assert self.done is not None and self.task is not None
        failed: BaseException | None = None
        if not self.done.done():
            if error is None:
                self.done.set_result(None)
            elif issubclass(type(error), (KeyboardInterrupt, GeneratorExit)):
                self.task.cancel()  # the program ends, or the generator around the body is closed
            else:
                failed = _for_task(error)
                self.done.set_exception(failed)
        try:
            await self.task
        except BaseException as raised:
            if error is None or not (
                raised is failed or isinstance(raised, asyncio.CancelledError)
            ):
                raise


def _for_task(error: BaseException) -> Exception:
    """Return an exception that a task can raise for this error of a thread."""
    if issubclass(type(error), StopIteration):  # no future takes it
        return RuntimeError(describe(error))
    return as_exception(error)
