"""The asyncio host of a worker: looks, hints, timers and runners; it decides nothing."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from tenure.machines.lease import Evidence, Held, LocalProcess
from tenure.outcome import Hint
from tenure.runner.protocol import CancelSeen, Drain, RunnerStopReason
from tenure.worker import protocol
from tenure.worker.machine import step

from ..stores.base import Store, wall_clock_ms
from .process import evidence
from .runner_host import RunnerHost

log = logging.getLogger("tenure")
RECONNECT_S = 0.25


class WorkerHost:
    def __init__(
        self,
        store: Store,
        make: Callable[[str], RunnerHost],
        *,
        slots: int,
        process: LocalProcess | None,
        clock: Callable[[], int],
        on_hint: Callable[[Hint], None] = lambda hint: None,
    ) -> None:
        self.store, self.make, self.process, self.clock = store, make, process, clock
        self.on_hint = on_hint
        self.state: protocol.State = protocol.Serving(slots)
        self.runners: dict[str, RunnerHost] = {}
        self.finished = asyncio.Event()
        self.grace_ms = 0
        self._loop = asyncio.get_running_loop()
        self._events: deque[object] = deque()
        self._feeding = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._page: tuple[int, str] | None = None
        self._failure = ""  # why the last look failed

    def start(self) -> None:
        self._spawn(self._listen())

    def drain(self, grace_ms: int) -> None:
        self.grace_ms = grace_ms
        self.feed(protocol.Drain(self.clock()))

    async def stop(self) -> None:
        """Whatever is left is cut off; nothing of it runs when this returns."""
        if self._alarm is not None:
            self._alarm.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- the machine

    def feed(self, event: object) -> None:
        self._events.append(event)
        if self._feeding:
            return
        self._feeding = True
        try:
            while self._events:
                outcome = step(self.state, self._events.popleft())
                self.state = outcome.state
                for effect in outcome.effects:
                    self._perform(effect)
        finally:
            self._feeding = False

    def _perform(self, effect: protocol.Effect) -> None:
        match effect:
            case protocol.Take(session_id):
                self._spawn(self._run(session_id))
            case protocol.Look():
                self._spawn(self._look(effect))
            case protocol.SetTimer(id, at_ms):
                if self._alarm is not None:
                    self._alarm.cancel()
                delay = max(0, at_ms - self.clock()) / 1000
                self._alarm = self._loop.call_later(delay, self._ring, id)
            case protocol.DrainRunners():
                for runner in list(self.runners.values()):
                    runner.feed(Drain(self.clock(), self.grace_ms))
            case protocol.Finish():
                self.finished.set()

    def _ring(self, id: int) -> None:
        self.feed(protocol.TimerFired(self.clock(), id))

    def _spawn(self, coroutine: object) -> None:
        task: asyncio.Task[None] = self._loop.create_task(coroutine)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, session_id: str) -> None:
        runner = self.make(session_id)
        self.runners[session_id] = runner
        reason = RunnerStopReason.BROKEN
        try:
            if isinstance(self.state, protocol.Draining):
                self._loop.call_soon(runner.feed, Drain(self.clock(), self.grace_ms))
            reason = (await runner.run()).reason
        except Exception:
            log.exception("runner of session %s", session_id)
        finally:
            del self.runners[session_id]
            self.feed(protocol.RunnerStopped(self.clock(), session_id, reason))

    # -- looking

    async def _look(self, look: protocol.Look) -> None:
        try:
            due = await self.store.due(look.limit)
            dead = await self._dead() if look.thorough and self.process is not None else []
            horizon = await self.store.horizon()
        except Exception as error:
            if str(error) != self._failure:  # it looks again every moment: the same is said once
                log.warning("cannot look for work: %s", error)
            self._failure = str(error)
            self.feed(protocol.LookFailed(self.clock(), look.id))
            return
        self._failure = ""
        next_in = None if horizon is None else max(0, horizon - wall_clock_ms())
        ids = tuple([d.session_id for d in due] + dead)
        self.feed(protocol.Looked(self.clock(), look.id, ids, len(due) >= look.limit, next_in))

    async def _dead(self) -> list[str]:
        """Sessions held by processes that are certainly dead: all of them at first, then page by page."""
        dead: list[str] = []
        first = self._page is None
        while True:
            page = await self.store.ask(protocol.HeldLeases(self._page))
            for session in page:
                lease = session.lease
                if isinstance(lease, Held) and session.session_id not in self.runners:
                    if evidence(self.process, lease.owner.process) is Evidence.DEAD:
                        dead.append(session.session_id)
            if len(page) < protocol.LOOK_MAX:
                self._page = None
                return dead
            last = page[-1]
            assert last.lease_from_ms is not None
            self._page = (last.lease_from_ms, last.session_id)
            if not first:
                return dead

    async def _listen(self) -> None:
        while True:
            hints = self.store.hints()
            self.feed(protocol.Connected(self.clock()))
            try:
                async for hint in hints:
                    self._receive(hint)
            except Exception as error:
                log.warning("hints are lost: %s", error)
            await asyncio.sleep(RECONNECT_S)

    def _receive(self, hint: Hint) -> None:
        self.on_hint(hint)
        runner = self.runners.get(hint.session_id)
        if runner is not None and hint.cancel_run is not None:
            runner.feed(CancelSeen(self.clock(), hint.cancel_run))
        self.feed(protocol.Hinted(self.clock(), hint.session_id, hint.due_at_ms == 0))
