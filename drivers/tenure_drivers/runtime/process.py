"""Evidence about processes: identify this process, and find out if another one is dead.  Spec: specs/lease.md."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tenure.machines.lease import Evidence, LocalProcess

__all__ = ["ProcessWatch", "evidence", "local_process", "process_of"]


PROC = Path("/proc")
WATCHED_MAX: Final = 256  # a file descriptor each


def local_process() -> LocalProcess | None:
    """Identify this process.  None if /proc cannot be read: then its leases end only by time."""
    return process_of(os.getpid())


def process_of(pid: int) -> LocalProcess | None:
    """Identify a process of this pid namespace; None if /proc cannot be read."""
    start = _start(pid)
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink(PROC / "self/ns/pid")
    except OSError:
        return None
    if start is None or not boot:
        return None
    return LocalProcess(platform.node(), boot, space, pid, start)


def same_scope(mine: LocalProcess, other: LocalProcess) -> bool:
    """Return whether this process can find out if the other one is alive."""
    scope = (mine.host, mine.boot, mine.pid_namespace)
    return scope == (other.host, other.boot, other.pid_namespace)


def evidence(mine: LocalProcess | None, other: LocalProcess | None) -> Evidence:
    """Return DEAD only for certain: same host, boot and pid namespace, and the pid is free or was reused."""
    if mine is None or other is None or not same_scope(mine, other):
        return Evidence.UNKNOWN
    try:
        os.kill(other.pid, 0)
    except ProcessLookupError:
        return Evidence.DEAD
    except (OSError, OverflowError):
        pass  # a process with this pid exists, but it may not be signalled
    start = _start(other.pid)
    return Evidence.DEAD if start is not None and start != other.start else Evidence.UNKNOWN


def _start(pid: int) -> str | None:
    """Return the start time of a process in ticks since boot; "dead" for a zombie, None if it cannot be read."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text[
        text.rindex(")") + 2 :
    ].split()  # the name before it may contain spaces and brackets
    return "dead" if fields[0] in "ZX" else fields[19]


class ProcessWatch:
    """Calls `on_end` as soon as a watched process has ended.  Without pidfd (Linux 5.3) it does nothing."""

    def __init__(self, mine: LocalProcess | None, on_end: Callable[[], None]) -> None:
        self._mine, self._on_end = mine, on_end
        self._open: dict[LocalProcess, int] = {}
        self._loop = asyncio.get_running_loop()

    def watch(self, process: LocalProcess | None) -> None:
        """Watch a process of this machine that may be alive.  Watching it again has no further effect."""
        if process is None or process == self._mine or process in self._open:
            return
        if (
            self._mine is None
            or len(self._open) >= WATCHED_MAX
            or not same_scope(self._mine, process)
        ):
            return
        try:
            opened = os.pidfd_open(process.pid)
        except (AttributeError, OSError):  # not supported, or it has ended: a look finds it
            return
        if evidence(self._mine, process) is Evidence.DEAD:  # the pid may be of another process
            os.close(opened)
            return
        self._open[process] = opened
        self._loop.add_reader(opened, self._ended, process)

    def close(self) -> None:
        """Watch nothing more."""
        for process in list(self._open):
            self._forget(process)

    def _ended(self, process: LocalProcess) -> None:
        self._forget(process)
        self._on_end()

    def _forget(self, process: LocalProcess) -> None:
        opened = self._open.pop(process)
        self._loop.remove_reader(opened)
        os.close(opened)
