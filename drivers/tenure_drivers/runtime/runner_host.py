"""The asyncio host of one runner: it performs the effects, reports their results, and decides nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from tenure.machines.lease import Evidence, LocalProcess
from tenure.messages.types import Delta
from tenure.outcome import Hint
from tenure.runner.machine import RunnerConfig, State, start, step
from tenure.runner.protocol import (
    Ask,
    CancelSeen,
    CheckProcess,
    Drain,
    Effect,
    Event,
    Execute,
    InterruptTurn,
    Left,
    NotifyTurn,
    ProcessChecked,
    Reply,
    RunFinished,
    RunnerStopReason,
    SetTimer,
    StartTurn,
    SteeringSeen,
    Stop,
    TurnRequest,
    TurnRequested,
)
from tenure.runner.states import HOLDING, LeaseLost

from ..blobs.base import BlobStore
from ..stores import base
from .clock import boot_clock_ms, new_id
from .machine_host import MachineHost
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


class RunnerHost(MachineHost[State, Event, Effect]):
    """The runner of one session."""

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
        super().__init__(store, f"session {config.session_id}", step, clock=clock)
        self.config, self.code = config, code
        self.blobs, self.on_sent = blobs, on_sent
        self.on_run_finished, self.on_left, self.show = on_run_finished, on_left, show
        self.watch: Callable[[LocalProcess], None] = lambda process: None  # a holder that may live
        # A renewal is due after a third of the lease, so the lease has ended this much later.
        self._machine.watch_timers(2 * config.ttl_ms // 3, self._warn_of_block)
        self._run_id: str | None = None  # of the turn that was started last

    # -- the machine

    async def run(self) -> Stop:
        """Run until the machine has stopped and no call is in progress."""
        stopped: Stop = await self.run_from(start(self.config, self.clock()))
        return stopped

    def drain(self, grace_ms: int) -> asyncio.Future[None]:
        """Drain the runner.  The future is done when the runner has stopped."""
        self.feed(Drain(self.clock(), grace_ms))
        return self._closed

    def hinted(self, hint: Hint) -> None:
        """Pass on a hint about the session."""
        if hint.cancel_run is not None:
            self.feed(CancelSeen(self.clock(), hint.cancel_run))
        if hint.steer_run is not None:
            self.feed(SteeringSeen(self.clock(), hint.steer_run))

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
            case Execute() | Ask():
                self.send(effect)
            case Reply(id, answer):
                self.reply(id, answer)
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
                self.stop(effect)

    def _close(self) -> None:
        if not self._closed.done() and (left := self._left()) is not None:
            self.on_left(left)
        super()._close()

    def _left(self) -> Left | None:
        """Return how the last turn was left; one that was cancelled together with its runner is given up."""
        state = self._machine.state
        stop = state.stop if isinstance(state, LeaseLost) else self.stopped
        if stop is not None:
            return stop.left
        return Left.GIVEN_UP if isinstance(state, HOLDING) else None

    # -- the turn code

    def publish(
        self, session_id: str, run_id: str, attempt: int, delta: Delta, generation: int
    ) -> None:
        """Show a piece of a reply to the observers of the session."""
        if self.show is not None:
            self.show(session_id, run_id, attempt, delta, generation=generation)

    async def request(self, turn_id: int, request: TurnRequest) -> Any:
        """Make a request for the turn code, and wait for the reply."""
        return await self.await_reply(lambda id: TurnRequested(self.clock(), turn_id, id, request))
