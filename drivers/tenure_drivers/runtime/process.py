"""Evidence about processes: where this one runs, and whether another one is dead.  Spec: specs/lease.md."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from tenure.machines.lease import Evidence, LocalProcess

PROC = Path("/proc")


def local_process() -> LocalProcess | None:
    """This process; None where that cannot be read, so that only time can tell about it."""
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
    """Dead only if it certainly is: same host, boot and pid namespace, and its pid is gone or another's."""
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
        pass  # it is there, and not ours
    start = _start(other.pid)
    return Evidence.DEAD if start is not None and start != other.start else Evidence.UNKNOWN


def _start(pid: int) -> str | None:
    """When it was started, in ticks since boot; None: cannot be read; "dead": it only waits to be buried."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # its name may hold blanks and brackets
    return "dead" if fields[0] in "ZX" else fields[19]
