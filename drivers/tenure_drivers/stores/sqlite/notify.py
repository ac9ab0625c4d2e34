"""The other processes on a file: who they are, and wake-ups to and from them.

Each open store binds a datagram socket in a folder beside the file.  Sending to the socket of a dead process is
refused; whoever notices removes it.  All of this is lossy and optional: without it, a poll once a second remains.
"""

from __future__ import annotations

import errno
import os
import secrets
import select
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from tenure.outcome import Hint

SOCKET_PATH_MAX = 104  # bytes; Linux allows 107, macOS 103 and a terminator
DATAGRAM_HINTS_MAX = 64
POLL_S = 1.0
FRESH_NS = 50_000_000

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[Hint, ...]).decode


def socket_folder(file: Path) -> Path:
    """The folder for the sockets of a file: beside it, or, where that path is too long, in the temporary folder."""
    real = Path(os.path.realpath(file))
    beside = real.with_name(real.name + "-peers")
    if len(os.fsencode(beside)) + 24 <= SOCKET_PATH_MAX:
        return beside
    found = os.stat(real)
    return Path(tempfile.gettempdir(), f"tenure-{found.st_dev:x}-{found.st_ino:x}")


class FileProcesses:
    """Everybody who has a file open, and us among them."""

    def __init__(self, file: Path) -> None:
        self.folder = socket_folder(file)
        self.name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.socket: socket.socket | None = None
        self._others: tuple[Path, ...] = ()
        self._seen_ns = -1
        try:
            self.folder.mkdir(exist_ok=True)
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.socket.bind(os.fspath(self.folder / self.name))
            self.socket.setblocking(False)
        except OSError:
            self._close_socket()
        self.prune()

    def others(self) -> tuple[Path, ...]:
        """Sockets of the other stores on the file; some may be of the dead."""
        try:
            changed_ns = os.stat(self.folder).st_mtime_ns
            if changed_ns != self._seen_ns:
                names = sorted(os.listdir(self.folder))
                self._others = tuple(self.folder / name for name in names if name != self.name)
                # A second change in the same tick of the file system's clock would not show.
                fresh = time.time_ns() - changed_ns < FRESH_NS
                self._seen_ns = -1 if fresh else changed_ns
        except OSError:
            self._others = ()
        return self._others

    def pids(self) -> tuple[int, ...]:
        found = (path.name.partition("-")[0] for path in self.others())
        return tuple(int(pid) for pid in found if pid.isdigit())

    def notify(self, hints: Iterable[Hint]) -> None:
        if not self.others():
            return
        some = tuple(hints)
        for at in range(0, len(some), DATAGRAM_HINTS_MAX):
            self._send(_encode(some[at : at + DATAGRAM_HINTS_MAX]))

    def prune(self) -> None:
        """Notice who has died."""
        self._send(b"")

    def _send(self, datagram: bytes) -> None:
        if self.socket is None:
            return
        for path in self.others():
            try:
                self.socket.sendto(datagram, os.fspath(path))
            except OSError as error:
                if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
                    path.unlink(missing_ok=True)
                # else its buffer is full or we may not: it polls

    def close(self) -> None:
        if self.socket is not None:
            (self.folder / self.name).unlink(missing_ok=True)
        self._close_socket()
        try:
            self.folder.rmdir()
        except OSError:  # others are there
            pass

    def _close_socket(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None


class HintListener:
    """A thread that passes on what other processes say, and once a second looks for itself.

    `look` says whether somebody else has written since the last look.
    """

    def __init__(
        self,
        peers: FileProcesses,
        publish: Callable[[Iterable[Hint]], None],
        look: Callable[[], bool],
    ) -> None:
        self._peers = peers
        self._publish = publish
        self._look = look
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="tenure-ear", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        own = self._peers.socket
        if own is not None:
            try:
                own.sendto(b"", own.getsockname())
            except OSError:
                pass
        self._thread.join()

    def _listen(self) -> None:
        own = self._peers.socket
        coming = select.poll()  # `select` knows the first 1,024 files of a process alone
        if own is not None:
            coming.register(own, select.POLLIN)
        while not self._ended.is_set():
            if own is None:
                self._ended.wait(POLL_S)
            elif coming.poll(POLL_S * 1000):
                self._receive(own)
                continue
            self._peers.prune()
            if not self._ended.is_set() and self._look():
                self._publish((Hint("", None),))

    def _receive(self, own: socket.socket) -> None:
        try:
            datagram = own.recv(65536)
            if datagram:
                self._publish(_decode(datagram))
        except (OSError, msgspec.MsgspecError):  # a hint may be lost, and is then
            return


def lock_holder(database: Path) -> int | None:
    """The process that holds the write lock of a WAL database; None if that cannot be seen here.

    Read from the kernel's table: opening and closing the -shm file ourselves would drop the locks of this process.
    """
    try:
        found = os.stat(f"{database}-shm")
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        words = line.split()
        if len(words) == 8 and words[1] == "POSIX" and words[3] == "WRITE" and words[6] == "120":
            if words[5].endswith(f":{found.st_ino}"):
                return int(words[4])
    return None
