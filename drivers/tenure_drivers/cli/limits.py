"""The limit of open files: raised as far as this process may, and checked before a command needs more."""

from __future__ import annotations

import resource
from typing import Final

from .exit import CliExit, Exit

__all__ = ["FILES_MIN", "FILES_PER_WORKER", "raise_limit_of_open_files"]


FILES_MIN: Final = 64  # a store, an event loop, imports, and some room
FILES_PER_WORKER: Final = 4  # a worker process: its socket pair, and pipes while it starts


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
