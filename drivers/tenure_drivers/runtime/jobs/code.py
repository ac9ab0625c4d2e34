"""Runs the code of a job for its JobHost, in a task of its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

from tenure.job_runner.protocol import (
    Abandoned,
    NotifyWork,
    Raised,
    Returned,
    StartWork,
    WorkEnded,
    WorkExit,
)

from ..errors import Cancelled, LeaseLost, Parked, describe, failure_of
from ..user_code import log, must_propagate, traceback_of
from .definition import JobDefinition
from .host import JobHost
from .work import Work

__all__ = ["DefinedWork"]


JITTER_MS = 100


class DefinedWork:
    """Executes the definition that has the name of the job's runner."""

    def __init__(
        self, definitions: Mapping[str, JobDefinition], tasks: set[asyncio.Task[None]]
    ) -> None:
        self._definitions, self._tasks = definitions, tasks
        self._work: Work | None = None
        self._task: asyncio.Task[None] | None = None
        self._work_id = 0
        self._interrupted = False

    def begin(self, host: JobHost, effect: StartWork) -> None:
        """Start the work."""
        self._work_id, self._work = effect.id, Work(host, effect)
        self._task = asyncio.create_task(self._run(host, self._work))
        self._tasks.add(self._task)
        self._task.add_done_callback(self._tasks.discard)

    def notify(self, effect: NotifyWork) -> None:
        """Notify the work that it has to end."""
        if self._work is not None and effect.work_id == self._work_id:
            self._work.notify(effect.reply)

    def interrupt(self, work_id: int) -> None:
        """Interrupt the work."""
        if self._task is not None and work_id == self._work_id:
            self._interrupted = True
            self._task.cancel()

    async def _run(self, host: JobHost, work: Work) -> None:
        work_exit: WorkExit = Abandoned()
        try:
            work_exit = Returned(await self._definitions[work.runner].execute(work))
        except BaseException as error:
            stopped = isinstance(error, asyncio.CancelledError) and self._interrupted
            if not stopped:
                cancelled = isinstance(error, asyncio.CancelledError)
                if must_propagate(error, self._task) and not cancelled:
                    raise
                if not must_propagate(error, self._task):
                    work_exit = self._failed(work, error)
        finally:
            host.feed(WorkEnded(host.clock(), self._work_id, work_exit))

    def _failed(self, work: Work, error: BaseException) -> WorkExit:
        if isinstance(error, LeaseLost | Parked) or (
            isinstance(error, Cancelled) and work.cancelled
        ):
            return Abandoned()  # the runner knows why
        log.warning(
            "job %s (%s): attempt %d failed: %s%s",
            work.id, work.runner, work.attempt, describe(error), traceback_of(error),
            extra={"job_id": work.id},
        )  # fmt: skip
        return Raised(failure_of(error, random.randrange(JITTER_MS)))
