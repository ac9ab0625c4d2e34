"""Evidence about processes: identify this process, and find out if another one is dead.  Spec: specs/lease.md."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from tenure.machines.lease import Evidence, LocalProcess

__all__ = ["evidence", "local_process"]


PROC = Path("/proc")


def local_process() -> LocalProcess | None:
    """Identify this process.  None if /proc cannot be read: then its leases end only by time."""
    start = _start(os.getpid())
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink(PROC / "self/ns/pid")
    except OSError:
        return None
    if start is None or not boot:
        return None
    return LocalProcess(platform.node(), boot, space, os.getpid(), start)


def evidence(mine: LocalProcess | None, other: LocalProcess | None) -> Evidence:
    """Return DEAD only for certain: same host, boot and pid namespace, and the pid is free or was reused."""
    if mine is None or other is None:
        return Evidence.UNKNOWN
    scope = (mine.host, mine.boot, mine.pid_namespace)
    if scope != (other.host, other.boot, other.pid_namespace):
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
