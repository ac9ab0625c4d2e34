"""A job that is a child process.  Spec: specs/job-runner.md."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tenure.machines.job import Disposition

from ...stores.errors import TenureError
from ..errors import Cancelled, LeaseLost
from .child import Child
from .definition import JobDefinition, JobRequest, NewJob, event_type
from .work import Work, json_of

__all__ = ["PROCESS", "Process", "ProcessFailed", "Processes"]


PROCESS: Final = "process"
OUTPUT: Final = "output"
SCHEMA: Final = {"type": "string"}


class ProcessFailed(TenureError):
    """The process of a job has ended with another exit status than 0; -n after signal n."""

    def __init__(self, program: str, status: int) -> None:
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        super().__init__(f"{program}: {how}")
        self.status = status


class ProcessInput(msgspec.Struct, frozen=True):
    """The input of a job that is a process."""

    argv: list[str]
    env: dict[str, str] | None = None
    cwd: str | None = None


class Process(JobRequest):
    """A job that executes a program.  Give it to `start_job`; a worker needs `Processes()` among its jobs.

    `argv` is executed without a shell.  `env` replaces the environment of the worker.  It is owner-bound unless
    `rerunnable`: then it is executed again after a crash, so the program must bear that.
    """

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        *,
        rerunnable: bool = False,
    ) -> None:
        if isinstance(argv, str) or not argv:
            raise TypeError(f"argv {argv!r}: expected a program and its arguments")
        self.argv, self.env, self.cwd = list(argv), None if env is None else dict(env), cwd
        self.rerunnable = rerunnable

    def new(self, input: Any = None) -> NewJob:
        """Return the job to register."""
        if input is not None:
            raise TypeError("a process takes its input from its arguments")
        text = json_of("the process", ProcessInput(self.argv, self.env, self.cwd))
        how = Disposition.RERUNNABLE if self.rerunnable else Disposition.OWNER_BOUND
        return NewJob(PROCESS, text, how, (event_type(OUTPUT, SCHEMA),))


class Processes(JobDefinition):
    """The runner of `Process`: a worker that has it executes the programs that jobs name.

    The program runs in a process group of its own.  It waits until its pid and start time are stored.  When the job has
    to end it gets TERM, and KILL after the grace period.  The end of its output, at most 64 KiB, is emitted as `output`.
    """

    name = PROCESS
    description = 'Execute a program: {"argv": [...], "env": {...}, "cwd": "..."}.'

    def new(self, input: Any = None) -> NewJob:
        """Return the job to register for `input`, the fields of a `Process`."""
        return Process(**input).new()

    async def execute(self, work: Work) -> str:
        """Execute the program, and return its exit status.  Raises ProcessFailed."""
        given: ProcessInput = work.input_as(ProcessInput)
        child = Child.create(given.argv, given.env, given.cwd)
        try:
            await work.begin(child.process)
            child.go()
            status = await self._until_ended(work, child)
        finally:
            if not child.ended:
                child.signal_group(signal.SIGKILL)
        await self._emit_output(work, child)
        if status == 0:
            return json_of("the exit status", {"status": status})
        if work.cancelled:
            raise Cancelled(f"job {work.id} has to end")
        raise ProcessFailed(given.argv[0], status)

    async def _until_ended(self, work: Work, child: Child) -> int:
        ended = asyncio.ensure_future(child.wait())
        told = asyncio.ensure_future(work.notified())
        try:
            await asyncio.wait((ended, told), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                child.signal_group(signal.SIGTERM)
            return await asyncio.shield(ended)
        except asyncio.CancelledError:  # the grace period is over
            child.signal_group(signal.SIGKILL)
            return await asyncio.shield(ended)
        finally:
            told.cancel()

    async def _emit_output(self, work: Work, child: Child) -> None:
        if not child.written:
            return
        try:
            await work.emit(OUTPUT, child.tail)
        except (Cancelled, LeaseLost):
            pass  # nothing more is written for this job
