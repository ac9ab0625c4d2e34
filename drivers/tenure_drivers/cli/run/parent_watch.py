"""A worker's tie to the process that started it: when that ends, however it ends, the worker ends at once."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
from typing import Final

PR_SET_PDEATHSIG: Final = 1


class ParentWatch:
    """Standard input is one end of a socket pair: words go up, its end means that nobody is there any more."""

    def __init__(self, parent_pid: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C, and drains
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        _die_with_parent()
        self._end = socket.socket(fileno=os.dup(0))
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)  # an agent that reads standard input finds it empty
        os.close(null)
        if os.getppid() != parent_pid:  # it died before we could ask to die with it
            os._exit(1)
        threading.Thread(target=self._wait_for_the_end, name="parent-watch", daemon=True).start()

    def send(self, message: str) -> None:
        try:
            self._end.sendall(" ".join(message.split()).encode("utf-8", "backslashreplace") + b"\n")
        except OSError:
            pass

    def _wait_for_the_end(self) -> None:
        try:
            while self._end.recv(64):
                pass
        except OSError:
            pass
        os.kill(os.getpid(), signal.SIGKILL)  # as the parent: in the middle of anything


def _die_with_parent() -> None:
    """Linux can do it even to a process that is stopped."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        except (OSError, AttributeError):
            pass
