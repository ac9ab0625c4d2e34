"""The asyncio host of one runner of a job: it performs the effects, reports their results, and decides nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from tenure.job_runner.machine import JobRunnerConfig, State, start, step
from tenure.job_runner.protocol import (
    Effect,
    Event,
    InterruptWork,
    JobHinted,
    NotifyWork,
    ObserveOwners,
    OwnersObserved,
    StartWork,
    Stop,
    WorkRequest,
    WorkRequested,
)
from tenure.machines.lease import Evidence, LocalProcess
from tenure.outcome import Hint
from tenure.runner.protocol import Ask, Drain, Execute, Reply, RunnerStopReason, SetTimer

from ...stores import base
from ..clock import boot_clock_ms
from ..machine_host import MachineHost
from ..process import evidence

__all__ = ["JobCode", "JobHost"]


log = logging.getLogger("tenure")


class JobCode(Protocol):
    """The code of a job: `begin` starts it, `notify` reports that it has to end, `interrupt` interrupts it."""

    def begin(self, host: JobHost, effect: StartWork, /) -> None: ...
    def notify(self, effect: NotifyWork, /) -> None: ...
    def interrupt(self, work_id: int, /) -> None: ...


class JobHost(MachineHost[State, Event, Effect]):
    """The runner of one job.  `on_stop` is told once how it has ended."""

    def __init__(
        self,
        store: base.Store,
        config: JobRunnerConfig,
        code: JobCode,
        *,
        clock: Callable[[], int] = boot_clock_ms,
        on_stop: Callable[[str, Stop], None] = lambda job_id, stop: None,
    ) -> None:
        super().__init__(store, f"job {config.job_id}", step, clock=clock)
        self.config, self.code, self.on_stop = config, code, on_stop
        self.watch: Callable[[LocalProcess], None] = lambda process: None  # an owner that may live

    async def run(self) -> Stop:
        """Run until the machine has stopped and no call is in progress."""
        stopped: Stop = await self.run_from(start(self.config, self.clock()))
        return stopped

    def drain(self, grace_ms: int) -> asyncio.Future[None]:
        """Drain the runner.  The future is done when the runner has stopped."""
        self.feed(Drain(self.clock(), grace_ms))
        return self._closed

    def hinted(self, hint: Hint) -> None:
        """Pass on a hint: the job may have been asked to end, or a signal may have come."""
        if hint.cancel_run is not None or hint.steer_run is not None or hint.due_at_ms == 0:
            self.feed(JobHinted(self.clock()))

    async def request(self, work_id: int, request: WorkRequest) -> Any:
        """Make a request for the work, and wait for the reply."""
        return await self.await_reply(lambda id: WorkRequested(self.clock(), work_id, id, request))

    def _stop_broken(self, error: Exception) -> None:
        log.error("runner of job %s", self.config.job_id, exc_info=error)
        self._perform(Stop(RunnerStopReason.BROKEN, repr(error)))

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Execute() | Ask():
                self.send(effect)
            case Reply(id, answer):
                self.reply(id, answer)
            case ObserveOwners(id, processes):
                found = tuple([self._observe(process) for process in processes])
                self.feed(OwnersObserved(self.clock(), id, found))
            case StartWork():
                self.code.begin(self, effect)
            case NotifyWork():
                self.code.notify(effect)
            case InterruptWork(work_id):
                self.code.interrupt(work_id)
            case SetTimer(id, at_ms):
                self._machine.set_timer(id, at_ms)
            case Stop():
                self.stop(effect)

    def _observe(self, process: LocalProcess | None) -> Evidence:
        found = evidence(self.config.owner.process, process)
        if found is not Evidence.DEAD and process is not None:
            self.watch(process)
        return found

    def _close(self) -> None:
        if not self._closed.done() and self.stopped is not None:
            self.on_stop(self.config.job_id, self.stopped)
        super()._close()
