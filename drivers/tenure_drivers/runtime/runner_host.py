"""The asyncio host of one runner: it performs the effects, reports their results, and decides nothing."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from tenure.machines.lease import Evidence, LocalProcess
from tenure.messages.types import Delta
from tenure.runner.machine import RunnerConfig, State, start, step
from tenure.runner.protocol import (
    Answered,
    Ask,
    CheckProcess,
    Drain,
    Effect,
    Event,
    Execute,
    InterruptTurn,
    Left,
    NotifyTurn,
    OutcomeUnknown,
    ProcessChecked,
    Reply,
    RunFinished,
    RunnerStopReason,
    SetTimer,
    StartTurn,
    Stop,
    StoreBroken,
    StoreUnavailable,
    TimerFired,
    TurnRequest,
    TurnRequested,
)
from tenure.runner.states import HOLDING, LeaseLost

from ..blobs.base import BlobStore
from ..stores import base
from .clock import boot_clock_ms, new_id
from .effect_loop import EffectLoop
from .process import evidence
from .user_code import log as turn_log

__all__ = ["RunnerHost", "TurnCode"]


log = logging.getLogger("tenure")


class Show(Protocol):
    """Show a piece of a reply to the observers of a session.  It must not block."""

    def __call__(
        self, session_id: str, run_id: str, attempt: int, delta: Delta, /, *, generation: int
    ) -> None: ...


class TurnCode(Protocol):
    """The code of turns: an agent, or the body of `Runtime.turn`.

    `begin` starts the code, `notify` reports that the turn has to end, `cancel` interrupts the code.
    """

    def begin(self, host: RunnerHost, effect: StartTurn, /) -> None: ...
    def notify(self, effect: NotifyTurn, /) -> None: ...
    def cancel(self, turn_id: int, /) -> None: ...


class RunnerHost:
    """One runner.  The task of `run` executes its calls one after the other; renewals run in tasks of their own.

    The turn code waits for replies, not for calls.  So cancelling the code never cancels a command.
    """

    def __init__(
        self,
        store: base.Store,
        config: RunnerConfig,
        code: TurnCode,
        *,
        clock: Callable[[], int] = boot_clock_ms,
        on_run_finished: Callable[[str, RunFinished], None] | None = None,
        on_left: Callable[[Left], None] = lambda left: None,
        show: Show | None = None,
        blobs: BlobStore | None = None,
        on_sent: Callable[[], None] = lambda: None,
    ) -> None:
        self.store, self.config, self.code, self.clock = store, config, code, clock
        self.blobs, self.on_sent = blobs, on_sent
        self.on_run_finished, self.on_left, self.show = on_run_finished, on_left, show
        self.watch: Callable[[LocalProcess], None] = lambda process: None  # a holder that may live
        self.stopped: Stop | None = None
        self._loop = asyncio.get_running_loop()
        self._machine: EffectLoop[State, Event, Effect] = EffectLoop(
            step, self._perform, TimerFired, clock=clock, on_error=self._stop_broken
        )
        # A renewal is due after a third of the lease, so the lease has ended this much later.
        self._machine.watch_timers(2 * config.ttl_ms // 3, self._warn_of_block)
        self._run_id: str | None = None  # of the turn that was started last
        self.unanswered: dict[str, str] = {}  # what the store said, by the kind of the failed call
        self._calls: deque[Execute | Ask] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._request_id = 0
        self._closed: asyncio.Future[None] = self._loop.create_future()

    # -- the machine

    async def run(self) -> Stop:
        """Run until the machine has stopped and no call is in progress."""
        try:
            self._machine.start(start(self.config, self.clock()))
            while self.stopped is None:
                if self._calls:
                    await self._call(self._calls.popleft())
                    continue
                self._wake = self._loop.create_future()
                await self._wake
            if self._machine.tasks:
                await asyncio.wait(self._machine.tasks)
            return self.stopped
        finally:
            self._close()

    def drain(self, grace_ms: int) -> asyncio.Future[None]:
        """Drain the runner.  The future is done when the runner has stopped."""
        self.feed(Drain(self.clock(), grace_ms))
        return self._closed

    @property
    def closed(self) -> bool:
        """True if the runner has stopped, so that no event changes anything."""
        return self._closed.done()

    def feed(self, event: Event) -> None:
        """Report an event to the machine."""
        self._machine.check_timers(event.now_ms)
        self._machine.feed(event)

    def _warn_of_block(self, late_ms: int) -> None:
        if self._run_id is not None:
            turn_log.warning(
                "session %s, run %s: the event loop did not run for %.1f s, and the lease of %.1f s has lapsed meanwhile."
                " Another worker may have taken over. Call functions that block in a step or in a thread",
                self.config.session_id, self._run_id, late_ms / 1000, self.config.ttl_ms / 1000,
                extra={"session_id": self.config.session_id, "run_id": self._run_id},
            )  # fmt: skip

    def _stop_broken(self, error: Exception) -> None:
        # A bug in the kernel stops this session; the others continue.
        log.error("runner of session %s", self.config.session_id, exc_info=error)
        self._perform(Stop(RunnerStopReason.BROKEN, repr(error)))

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Execute() if getattr(effect.command, "urgent", False):
                self._machine.spawn(self._call(effect))
            case Execute() | Ask():
                self._calls.append(effect)
                self._resume()
            case Reply(id, answer):
                reply = self._replies.pop(id, None)
                if reply is not None and not reply.done():
                    reply.set_result(answer)
            case StartTurn():
                self._run_id = effect.begun.run_id
                self.code.begin(self, effect)
            case NotifyTurn():
                self.code.notify(effect)
            case InterruptTurn(turn_id):
                self.code.cancel(turn_id)
            case SetTimer(id, at_ms):
                self._machine.set_timer(id, at_ms)
            case CheckProcess(id, process):
                found = evidence(self.config.owner.process, process)
                if found is not Evidence.DEAD:
                    self.watch(process)
                self.feed(ProcessChecked(self.clock(), id, found, new_id()))
            case RunFinished():
                if self.on_run_finished is not None:
                    self.on_run_finished(self.config.session_id, effect)
            case Stop():
                self.stopped = effect
                self._resume()

    def _resume(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _close(self) -> None:
        if not self._closed.done():
            if (left := self._left()) is not None:
                self.on_left(left)
            self._closed.set_result(None)
        self._machine.close()
        for reply in self._replies.values():
            reply.cancel()

    def _left(self) -> Left | None:
        """Return how the last turn was left; one that was cancelled together with its runner is given up."""
        state = self._machine.state
        stop = state.stop if isinstance(state, LeaseLost) else self.stopped
        if stop is not None:
            return stop.left
        return Left.GIVEN_UP if isinstance(state, HOLDING) else None

    # -- the store

    async def _call(self, effect: Execute | Ask) -> None:
        event: Event
        what = effect.command if isinstance(effect, Execute) else effect.question
        try:
            if isinstance(effect, Execute):
                answer: Any = await self.store.execute(effect.command)
            else:
                answer = await self.store.ask(effect.question)
        except base.Unavailable as error:
            self._log_unanswered(what, error)
            event = StoreUnavailable(self.clock(), effect.id)
        except base.OutcomeUnknown as error:
            self._log_unanswered(what, error)
            event = OutcomeUnknown(self.clock(), effect.id)
        except Exception as error:
            log.error("session %s: %s", self.config.session_id, error)
            event = StoreBroken(self.clock(), effect.id, f"{type(error).__name__}: {error}")
        else:
            self.unanswered.pop(type(what).__name__, None)
            event = Answered(self.clock(), effect.id, answer)
            if getattr(what, "outbound", ()):
                self.on_sent()
        self.feed(event)

    def _log_unanswered(self, what: object, error: Exception) -> None:
        """Log what the store said, once for each kind of call until one of this kind is answered."""
        kind = type(what).__name__
        if kind not in self.unanswered:
            log.warning("session %s: %s: %s; trying again", self.config.session_id, kind, error)
        self.unanswered[kind] = str(error)

    # -- the turn code

    def publish(
        self, session_id: str, run_id: str, attempt: int, delta: Delta, generation: int
    ) -> None:
        """Show a piece of a reply to the observers of the session."""
        if self.show is not None:
            self.show(session_id, run_id, attempt, delta, generation=generation)

    async def request(self, turn_id: int, request: TurnRequest) -> Any:
        """Make a request for the turn code, and wait for the reply."""
        self._request_id += 1
        id = self._request_id
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._replies[id] = reply
        self.feed(TurnRequested(self.clock(), turn_id, id, request))
        if reply.done():
            return reply.result()
        try:
            return await reply
        finally:
            self._replies.pop(id, None)
