"""Parent watch: a worker process exits as soon as its parent exits."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
import threading
from typing import Final

from ...runtime.steps import in_thread

__all__ = ["ALIVE", "ALIVE_S", "DRAIN", "ParentWatch"]


PR_SET_PDEATHSIG: Final = 1
ALIVE: Final = "alive"
DRAIN: Final = b"drain\n"
ALIVE_S: Final = 1.0


class ParentWatch:
    """Reports status over the socket at standard input; end-of-file on it means that the parent has exited.

    The parent asks on it to drain, so that code of the agent which handles SIGTERM itself does not matter.
    """

    def __init__(self, parent_pid: int) -> None:
        self._asked_to_drain = threading.Event()
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # the parent handles Ctrl-C, and drains the workers
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        _die_with_parent()
        self._end = socket.socket(fileno=os.dup(0))
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)  # an agent that reads standard input finds it empty
        os.close(null)
        if os.getppid() != parent_pid:  # the parent exited before PR_SET_PDEATHSIG was set
            os._exit(1)
        threading.Thread(target=self._wait_for_the_end, name="parent-watch", daemon=True).start()

    def send(self, message: str) -> None:
        try:
            self._end.sendall(" ".join(message.split()).encode("utf-8", "backslashreplace") + b"\n")
        except OSError:
            pass

    async def drain_asked(self) -> None:
        """Return when the parent has asked to drain."""
        await in_thread(self._asked_to_drain.wait)

    async def say_alive(self) -> None:
        """Say every second that the event loop runs."""
        while True:
            try:
                self._end.send(ALIVE.encode() + b"\n", socket.MSG_DONTWAIT)
            except OSError:  # also if the parent stands still and reads nothing
                pass
            await asyncio.sleep(ALIVE_S)

    def _wait_for_the_end(self) -> None:
        try:
            while self._end.recv(64):
                self._asked_to_drain.set()
        except OSError:
            pass
        os.kill(os.getpid(), signal.SIGKILL)  # at once, even if the event loop is blocked


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent exits.  Works for a stopped process too."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        except (OSError, AttributeError):
            pass
