"""The asyncio host of one runner: it carries effects out, reports how they went, and decides nothing."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

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

from ..stores import base
from .clock import boot_clock_ms, new_id
from .process import evidence

log = logging.getLogger("tenure")


class Show(Protocol):
    """Show a piece of a reply to whoever observes the session; never waits."""

    def __call__(
        self, session_id: str, run_id: str, attempt: int, delta: Delta, /, *, generation: int
    ) -> None: ...


class TurnCode(Protocol):
    """The code of turns: an agent's, or somebody's own loop."""

    def begin(self, host: RunnerHost, effect: StartTurn, /) -> None: ...
    def notify(self, effect: NotifyTurn, /) -> None: ...
    def cancel(self, turn_id: int, /) -> None: ...


class RunnerHost:
    """Orders are executed one after the other by the task that calls `run`, renewals beside it.

    Cancelling somebody who waits for an order never cancels the order: the two are different tasks.
    """

    def __init__(
        self,
        store: base.Store,
        plan: RunnerConfig,
        code: TurnCode,
        *,
        clock: Callable[[], int] = boot_clock_ms,
        on_run_finished: Callable[[str, RunFinished], None] | None = None,
        show: Show | None = None,
    ) -> None:
        self.store, self.plan, self.code, self.clock = store, plan, code, clock
        self.on_run_finished, self.show = on_run_finished, show
        self.state: State | None = None
        self.stopped: Stop | None = None
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._feeding = False
        self._orders: deque[Execute | Ask] = deque()
        self._beside: set[asyncio.Task[None]] = set()
        self._wake: asyncio.Future[None] | None = None
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._asked = 0
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._timers: dict[int, int] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_ms = 0

    # -- the machine

    async def run(self) -> Stop:
        """Until the machine stops, and nothing that it ordered is under way any more."""
        try:
            first = start(self.plan, self.clock())
            self.state = first.state
            for effect in first.effects:
                self._perform(effect)
            while self.stopped is None:
                if self._orders:
                    await self._execute(self._orders.popleft())
                    continue
                self._wake = self._loop.create_future()
                await self._wake
            if self._beside:
                await asyncio.wait(self._beside)
            return self.stopped
        finally:
            self._close()

    def drain(self, grace_ms: int) -> asyncio.Future[None]:
        """Done when the runner has stopped."""
        self.feed(Drain(self.clock(), grace_ms))
        return self._gone

    def feed(self, event: Event) -> None:
        self._events.append(event)
        if self._feeding:
            return
        self._feeding = True
        try:
            while self._events:
                self._step(self._events.popleft())
        finally:
            self._feeding = False

    def _step(self, event: Event) -> None:
        if self.state is None:
            return
        try:
            outcome = step(self.state, event)
        except Exception as error:  # a bug in the kernel: this session stops, the others go on
            log.exception("runner of session %s", self.plan.session_id)
            self._perform(Stop(RunnerStopReason.BROKEN, repr(error)))
            return
        self.state = outcome.state
        for effect in outcome.effects:
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Execute() if getattr(effect.command, "urgent", False):
                task = self._loop.create_task(self._execute(effect))
                self._beside.add(task)
                task.add_done_callback(self._beside.discard)
            case Execute() | Ask():
                self._orders.append(effect)
                self._resume()
            case Reply(id, answer):
                reply = self._replies.pop(id, None)
                if reply is not None and not reply.done():
                    reply.set_result(answer)
            case StartTurn():
                self.code.begin(self, effect)
            case NotifyTurn():
                self.code.notify(effect)
            case InterruptTurn(turn_id):
                self.code.cancel(turn_id)
            case SetTimer(id, at_ms):
                self._timers[id] = at_ms
                self._set_alarm()
            case CheckProcess(id, process):
                found = evidence(self.plan.owner.process, process)
                self.feed(ProcessChecked(self.clock(), id, found, new_id()))
            case RunFinished():
                if self.on_run_finished is not None:
                    self.on_run_finished(self.plan.session_id, effect)
            case Stop():
                self.stopped = effect
                self._resume()

    def _resume(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # -- the store

    async def _execute(self, effect: Execute | Ask) -> None:
        event: Event
        try:
            if isinstance(effect, Execute):
                answer: Any = await self.store.execute(effect.command)
            else:
                answer = await self.store.ask(effect.question)
        except base.Unavailable:
            event = StoreUnavailable(self.clock(), effect.id)
        except base.OutcomeUnknown:
            event = OutcomeUnknown(self.clock(), effect.id)
        except Exception as error:
            log.error("session %s: %s", self.plan.session_id, error)
            event = StoreBroken(self.clock(), effect.id, f"{type(error).__name__}: {error}")
        else:
            event = Answered(self.clock(), effect.id, answer)
        self.feed(event)

    # -- the turn's code

    def publish(
        self, session_id: str, run_id: str, attempt: int, delta: Delta, generation: int
    ) -> None:
        if self.show is not None:
            self.show(session_id, run_id, attempt, delta, generation=generation)

    async def request(self, turn_id: int, request: TurnRequest) -> Any:
        self._asked += 1
        asked = self._asked
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._replies[asked] = reply
        self.feed(TurnRequested(self.clock(), turn_id, asked, request))
        if reply.done():
            return reply.result()
        try:
            return await reply
        finally:
            self._replies.pop(asked, None)

    # -- timers

    def _set_alarm(self) -> None:
        if not self._timers:
            return
        at_ms = min(self._timers.values())
        if self._alarm is not None:
            if self._alarm_ms <= at_ms:
                return
            self._alarm.cancel()
        self._alarm_ms = at_ms
        delay = max(0, at_ms - self.clock()) / 1000
        self._alarm = self._loop.call_later(delay, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        now = self.clock()
        for id in [id for id, at_ms in self._timers.items() if at_ms <= now]:
            if self._timers.pop(id, None) is not None:
                self.feed(TimerFired(now, id))
        if self.stopped is None:
            self._set_alarm()

    def _close(self) -> None:
        if not self._gone.done():
            self._gone.set_result(None)
        if self._alarm is not None:
            self._alarm.cancel()
        self._timers.clear()
        for reply in self._replies.values():
            reply.cancel()
        for task in self._beside:
            task.cancel()
