"""A child process of a job: it waits before its first instruction, and its group ends when its worker does.

Spec: specs/job-runner.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import Final

from tenure.failure import ErrorKind
from tenure.machines.lease import LocalProcess

from ...stores.errors import TenureError
from ..process import process_of

__all__ = ["TAIL_BYTES", "Child", "ChildNotStarted"]


TAIL_BYTES: Final = 65_536
READ_BYTES: Final = 65_536
DRAIN_S: Final = 1.0  # for output that a process outside of the group still holds open

# It waits for a line, and is then replaced by the program.  If its worker ends before that, it ends too.
GATE: Final = 'read -r go || exit 125; exec "$@" </dev/null'
# It waits for a line.  If its worker ends without one, however it ends, it kills the group of the child.
GUARD: Final = 'trap "" HUP INT TERM; read -r done || kill -s KILL -- "-$1"'
SHELL: Final = "/bin/sh"


class ChildNotStarted(TenureError):
    """The program cannot be executed."""

    kind = ErrorKind.INVALID_REQUEST


class Child:
    """A child process in a process group of its own, and the last 64 KiB of what it has written.

    `create` starts a process that waits; `go` lets it execute the program.  When its worker ends, however that happens,
    a second process kills the group.  A process that has left the group (`setsid`) survives.
    """

    def __init__(self, popen: subprocess.Popen[bytes], guard: subprocess.Popen[bytes]) -> None:
        self._popen, self._guard = popen, guard
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._lock = threading.Lock()
        self._reaped = False
        self._tail = bytearray()
        self.written = 0  # bytes
        self.process: LocalProcess | None = process_of(popen.pid)
        self._reader = threading.Thread(target=self._read, name="tenure-output", daemon=True)
        self._reader.start()
        threading.Thread(target=self._wait, name="tenure-child", daemon=True).start()

    @classmethod
    def create(cls, argv: Sequence[str], env: Mapping[str, str] | None, cwd: str | None) -> Child:
        """Create the process.  It executes nothing before `go`.  Raises ChildNotStarted."""
        if os.name != "posix":
            raise ChildNotStarted(f"a job that is a process needs POSIX; this is {os.name}")
        environment = dict(os.environ if env is None else env)
        if not argv or shutil.which(argv[0], path=_path(environment, cwd, argv[0])) is None:
            raise ChildNotStarted(f"{list(argv)[:1]}: no such program")
        try:
            popen = subprocess.Popen(
                [SHELL, "-c", GATE, "sh", *argv], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=cwd,
                start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise ChildNotStarted(str(error)) from error
        try:
            guard = subprocess.Popen(
                [SHELL, "-c", GUARD, "sh", str(popen.pid)], stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            popen.kill()
            popen.wait()
            raise ChildNotStarted(str(error)) from error
        return cls(popen, guard)

    def go(self) -> None:
        """Let it execute the program."""
        self._say(self._popen)

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the group, unless the child has ended."""
        with self._lock:
            if not self._reaped:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._popen.pid, number)

    async def wait(self) -> int:
        """Wait for its end, and return its exit status; -n after signal n.  What is left of its group is then killed."""
        return await asyncio.shield(self._ended)

    @property
    def ended(self) -> bool:
        """True after its end."""
        return self._ended.done()

    @property
    def tail(self) -> str:
        """The end of what it has written, at most 64 KiB as UTF-8."""
        text = bytes(self._tail).decode(errors="replace")
        while len(encoded := text.encode()) > TAIL_BYTES:
            text = text[len(encoded) - TAIL_BYTES :]
        return text

    # -- in threads

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as output:
            while chunk := os.read(output.fileno(), READ_BYTES):
                self.written += len(chunk)
                self._tail += chunk
                del self._tail[:-TAIL_BYTES]

    def _wait(self) -> None:
        if hasattr(os, "waitid"):  # while it is not reaped, its pid and its group are not used anew
            os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._popen.wait()
        with self._lock:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)
            self._say(self._guard)
            status = self._popen.wait()
            self._reaped = True
        self._guard.wait()
        for pipe in (self._popen.stdin, self._guard.stdin):
            if pipe is not None:
                pipe.close()
        self._reader.join(DRAIN_S)
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(self._settle, status)

    def _settle(self, status: int) -> None:
        if not self._ended.done():
            self._ended.set_result(status)

    def _say(self, popen: subprocess.Popen[bytes]) -> None:
        assert popen.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            os.write(popen.stdin.fileno(), b"\n")


def _path(environment: Mapping[str, str], cwd: str | None, program: str) -> str | None:
    if os.sep in program and cwd is not None and not os.path.isabs(program):
        return os.path.dirname(os.path.join(cwd, program))
    return environment.get("PATH")
