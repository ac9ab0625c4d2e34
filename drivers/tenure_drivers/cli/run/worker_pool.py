"""Worker processes: started, watched, started again when they die, and drained.

A worker holds one end of a socket pair, its parent watch: it says there that it is ready, or what is wrong, and ends
when the other end is closed, however this process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ..exit import CliExit, Exit
from .parent_watch import ALIVE, ALIVE_S, DRAIN

__all__ = ["BLOBS", "STORE", "WorkerPool"]


FRUITLESS_MAX: Final = 5  # exits in a row of workers that never became ready
AGAIN_S: Final = 0.05
AGAIN_S_MAX: Final = 2.0
LIVED_S: Final = 5.0
LAST_MESSAGE_S: Final = 1.0
SILENT_S: Final = 90.0  # three times as long as a lease lasts
STORE: Final = "TENURE_WORKER_STORE"  # not an argument: other users can read process arguments, passwords included
BLOBS: Final = "TENURE_WORKER_BLOBS"  # for the same reason
MODULE: Final = "tenure_drivers.cli.run.worker_process"


class WorkerPool:
    """A number of worker processes for one store and agent."""

    def __init__(
        self,
        store_url: str,
        arguments: Sequence[str],
        count: int,
        *,
        log_line: Callable[[str], None],
        blobs_url: str | None = None,
    ) -> None:
        self._environment = {**os.environ, STORE: store_url}
        if blobs_url is not None:
            self._environment[BLOBS] = blobs_url
        self._arguments = arguments
        self._count = count
        self._log_line = log_line
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._ends: dict[int, socket.socket] = {}  # our ends of the parent watches
        self._ready: set[int] = set()
        self._heard_s: dict[
            int, float
        ] = {}  # when the event loop of a worker last said that it runs
        self._draining = False
        self._fruitless = 0

    async def work(self) -> None:
        """Run until drained.

        Raises CliExit if no worker can be started (one running worker is enough), or if a worker has lost the store.
        """
        async with asyncio.TaskGroup() as group:
            for _ in range(self._count):
                group.create_task(self._keep_running())

    def drain(self) -> None:
        """Ask every worker to finish its turns and exit.  One that is not ready has no turns."""
        self._draining = True
        for pid, end in self._ends.items():
            with contextlib.suppress(OSError):
                end.send(DRAIN, socket.MSG_DONTWAIT)
            if pid not in self._ready:
                self._signal(signal.SIGTERM, pid)

    def kill(self) -> None:
        self._draining = True
        self._signal(signal.SIGKILL, *self._running)

    def _signal(self, number: signal.Signals, *pids: int) -> None:
        for pid in pids:
            _send(self._running[pid], number)

    async def _keep_running(self) -> None:
        """Keep one worker running: start another when it exits."""
        pause_s = 0.0
        while not self._draining:
            started = time.monotonic()
            await self._run_worker()
            if self._draining:
                return
            lived_s = time.monotonic() - started
            pause_s = 0.0 if lived_s > LIVED_S else min(max(2 * pause_s, AGAIN_S), AGAIN_S_MAX)
            await asyncio.sleep(pause_s)

    async def _run_worker(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs, _without_interrupts():
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-P", "-m", MODULE, str(os.getpid()), *self._arguments),
                env=self._environment,
                stdin=theirs.fileno(),
                stdout=2,  # standard output is for answers
            )
        self._running[process.pid], self._ends[process.pid] = process, ours
        if self._draining:
            _send(process, signal.SIGTERM)
        messages: list[str] = []
        listening = asyncio.create_task(
            _listen(ours, messages, lambda message: self._read_message(process.pid, message))
        )
        watching = asyncio.create_task(self._kill_if_silent(process))
        try:
            code = await process.wait()
            # A child process of the worker may keep the other end open.
            await asyncio.wait((listening,), timeout=LAST_MESSAGE_S)
        except asyncio.CancelledError:
            _send(process, signal.SIGKILL)
            raise
        finally:
            listening.cancel()
            watching.cancel()
            self._heard_s.pop(process.pid, None)
            del self._running[process.pid], self._ends[process.pid]
            self._ready.discard(process.pid)
        if not self._draining:
            self._judge(process.pid, code, messages)

    async def _kill_if_silent(self, process: asyncio.subprocess.Process) -> None:
        """Kill a worker whose event loop stands still: it loses its leases, and its sessions would wait for ever."""
        looked_s = time.monotonic()
        while True:
            await asyncio.sleep(ALIVE_S)
            before_s, looked_s = looked_s, time.monotonic()
            heard_s = self._heard_s.get(process.pid)
            if heard_s is None or self._draining:
                continue
            if looked_s - before_s > 10 * ALIVE_S:  # this process stood still too
                self._heard_s[process.pid] = looked_s
            elif looked_s - heard_s > SILENT_S:
                self._log_line(
                    f"worker {process.pid}: its event loop has not run for {SILENT_S:.0f} s: killed"
                )
                _send(process, signal.SIGKILL)
                return

    def _read_message(self, pid: int, message: str) -> None:
        self._heard_s[pid] = time.monotonic()
        if message == "ready":
            self._ready.add(pid)
            self._fruitless = 0

    def _judge(self, pid: int, code: int, messages: list[str]) -> None:
        what = messages[-1] if messages and messages[-1] != "ready" else _ended(code)
        said = (
            bool(messages) and messages[-1] != "ready"
        )  # the exit code alone may be that of an agent
        if "ready" in messages and said and code == Exit.LOST:  # its patience has ended
            raise CliExit(Exit.LOST, what)
        if "ready" in messages:
            self._fruitless = 0
            self._log_line(f"worker {pid}: {what}; starting another")
            return
        self._fruitless += 1
        if self._fruitless <= FRUITLESS_MAX:
            self._log_line(f"worker {pid}: {what}; starting another")
        if self._fruitless >= FRUITLESS_MAX and not self._ready:
            raise CliExit(Exit.LOST, f"no worker can be started: {what}")
        if self._fruitless == FRUITLESS_MAX:
            self._log_line(
                f"{len(self._ready)} of {self._count} workers running; retrying the others"
            )


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Send a signal to a process unless it has ended.

    The methods of the process would reap it if it has just ended, and asyncio logs that somebody else did.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _ended(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


async def _listen(
    end: socket.socket, messages: list[str], on_message: Callable[[str], None]
) -> None:
    """Read the worker's status lines until end-of-file."""
    reader, writer = await asyncio.open_connection(sock=end)
    try:
        while line := await reader.readline():
            message = line.decode("utf-8", "replace").strip()
            if message != ALIVE:
                messages.append(message)
            on_message(message)
    except OSError:  # it exited with unread data on our end
        pass
    finally:
        writer.close()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block SIGINT while a worker starts: only this process handles Ctrl-C."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
