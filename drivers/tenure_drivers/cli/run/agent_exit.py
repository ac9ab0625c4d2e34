"""What code of an agent does to the end of its process: `os._exit` in the middle of a turn, and threads that go on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Final, NoReturn

from ..exit import Exit

__all__ = ["end_without_threads", "exit_now", "report_exits"]


exit_now: Final = os._exit  # as it was before `report_exits`
THREADS_S: Final = 1.0  # for threads of the agent to end by themselves


def report_exits(say: Callable[[str], None]) -> None:
    """Make `os._exit` of this process say that it was called, and exit with UNFINISHED.

    Any other code has a meaning of its own: 0 that the work is done, 4 that the store is lost.  A forked child process exits as before.
    """
    pid = os.getpid()

    def told(status: Any = 0) -> NoReturn:
        if os.getpid() == pid:
            say(f"code of the agent called os._exit({status!r})")
            exit_now(Exit.UNFINISHED)
        exit_now(status)

    os._exit = told


def end_without_threads(code: int, say: Callable[[str], None]) -> None:
    """End this process with a code although threads of the agent go on; call it when nothing else is left to do.

    The interpreter would wait for each thread that is not a daemon thread.
    """
    others = [
        each.name
        for each in threading.enumerate()
        if not each.daemon and each is not threading.current_thread()
    ]
    if not others:
        return

    def end() -> None:
        left = [t.name for t in threading.enumerate() if not t.daemon and t.name in others]
        say(
            f"code of the agent left threads running, which end with the process: {', '.join(left)}"
        )
        exit_now(code)

    timer = threading.Timer(THREADS_S, end)
    timer.daemon = True
    timer.start()
