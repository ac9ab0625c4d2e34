"""The limits of open files and of threads, checked before a command needs more."""

from __future__ import annotations

import resource
import threading
from typing import Final

from .exit import CliExit, Exit

__all__ = ["FILES_MIN", "FILES_PER_WORKER", "check_threads", "raise_limit_of_open_files"]


FILES_MIN: Final = 64  # a store, an event loop, imports, and some room
FILES_PER_WORKER: Final = 4  # a worker process: its socket pair, and pipes while it starts

THREADS_MIN: Final = 8  # a store has up to four, and an event loop starts some


def raise_limit_of_open_files(needed: int = FILES_MIN) -> None:
    """Raise the soft limit to `needed` if it is lower.  Raises CliExit if the hard limit is lower too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise CliExit(
            Exit.LOST,
            f"this process may open {hard} files, and needs {needed}: raise the limit, for example with ulimit -n {needed}",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def check_threads(needed: int = THREADS_MIN) -> None:
    """Raise CliExit if this process may not start as many threads: no call could be answered later."""
    done = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(needed):
            thread = threading.Thread(target=done.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        raise CliExit(
            Exit.LOST,
            f"this process may start {len(started)} threads, and needs {needed}: raise the limit of processes and "
            "threads, for example with ulimit -u",
        ) from error
    finally:
        done.set()
        for thread in started:
            thread.join()
