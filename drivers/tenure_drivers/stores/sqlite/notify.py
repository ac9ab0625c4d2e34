"""The other processes that have an SQLite file open: their pids, and hints to and from them.

Each open store binds a datagram socket in a folder beside the file, which is for this user alone.  Sending to the
socket of a dead process is refused, and the sender removes that socket.  All of this is optional, and a hint may be lost: a poll once a second
finds the same changes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import select
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from tenure.outcome import Hint

__all__ = ["FileProcesses", "HintListener", "lock_holder", "socket_folder"]


SOCKET_PATH_MAX = 103  # bytes; Linux allows 107
SOCKET_NAME = re.compile("[0-9]{1,10}-[0-9a-f]{8}")
DATAGRAM_HINTS_MAX = 64
POLL_S = 1.0
FRESH_NS = 50_000_000

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[Hint, ...]).decode


def socket_folder(file: Path) -> Path:
    """Return the folder for the sockets of a file: beside it."""
    real = Path(os.path.realpath(file))
    return real.with_name(real.name + "-peers")


def open_folder(folder: Path) -> int | None:
    """Return a descriptor of a folder for this user alone, which is created; None if it is not ours (STORE-24)."""
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        if found.st_uid == os.geteuid():
            if stat.S_IMODE(found.st_mode) != 0o700:
                os.fchmod(descriptor, 0o700)
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


class FileProcesses:
    """The processes that have a file open, including this one.

    No method raises OSError: hints are optional, and some are sent after a commit.
    """

    def __init__(self, file: Path) -> None:
        self.folder = socket_folder(file)
        self.name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.socket: socket.socket | None = None
        self._others: tuple[Path, ...] = ()
        self._seen_ns = -1
        self._descriptor = open_folder(self.folder)
        if self._descriptor is None:
            return
        try:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.socket.bind(self._address(self.name))
            self.socket.setblocking(False)
        except OSError:
            self._close_socket()
        self.prune()

    @property
    def alone(self) -> bool:
        """True if no other store has the file open.  False if that is unknown: the folder is not ours."""
        return self._descriptor is not None and not self.others()

    def others(self) -> tuple[Path, ...]:
        """Return the sockets of the other stores on the file; some may belong to dead processes."""
        if self._descriptor is None:
            return ()
        try:
            changed_ns = os.fstat(self._descriptor).st_mtime_ns
            if changed_ns != self._seen_ns:
                names = sorted(filter(SOCKET_NAME.fullmatch, os.listdir(self._descriptor)))
                self._others = tuple(self.folder / name for name in names if name != self.name)
                # A second change within one tick of the file system's clock leaves the same mtime.
                fresh = time.time_ns() - changed_ns < FRESH_NS
                self._seen_ns = -1 if fresh else changed_ns
        except OSError:
            self._others = ()
        return self._others

    def pids(self) -> tuple[int, ...]:
        """Return the pids of the other processes."""
        return tuple(int(path.name.partition("-")[0]) for path in self.others())

    def notify(self, hints: Iterable[Hint]) -> None:
        """Send hints to the other processes."""
        if not self.others():
            return
        some = tuple(hints)
        for at in range(0, len(some), DATAGRAM_HINTS_MAX):
            self._send(_encode(some[at : at + DATAGRAM_HINTS_MAX]))

    def prune(self) -> None:
        """Remove the sockets of dead processes."""
        self._send(b"")

    def _send(self, datagram: bytes) -> None:
        if self.socket is None:
            return
        for path in self.others():
            try:
                self.socket.sendto(datagram, self._address(path.name))
            except OSError as error:
                if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
                    self._remove_socket(path.name)
                # else its buffer is full or sending is not permitted: that process polls

    def _address(self, name: str) -> str:
        """Return the path of a socket: through the descriptor of the folder (Linux) if it is too long."""
        path = os.fspath(self.folder / name)
        if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
            return path
        return f"/proc/self/fd/{self._descriptor}/{name}"

    def _remove_socket(self, name: str) -> None:
        """Remove a socket of ours; leave anything else that has such a name."""
        try:
            found = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
            if stat.S_ISSOCK(found.st_mode) and found.st_uid == os.geteuid():
                os.unlink(name, dir_fd=self._descriptor)
        except OSError:  # another process was faster
            pass

    def close(self) -> None:
        """Remove the own socket, and the folder if it is empty."""
        if self.socket is not None:
            self._remove_socket(self.name)
        self._close_socket()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            try:
                self.folder.rmdir()
            except OSError:  # not empty
                pass

    def _close_socket(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None


class HintListener:
    """A thread that publishes the hints of other processes, and polls for their changes once a second.

    `changed` returns True if another process has written since its last call.
    """

    def __init__(
        self,
        processes: FileProcesses,
        publish: Callable[[Iterable[Hint]], None],
        changed: Callable[[], bool],
    ) -> None:
        self._processes = processes
        self._publish = publish
        self._changed = changed
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="tenure-hints", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop the thread and wait for it."""
        self._ended.set()
        own = self._processes.socket
        if own is not None:
            try:
                own.sendto(b"", own.getsockname())
            except OSError:
                pass
        self._thread.join()

    def _listen(self) -> None:
        own = self._processes.socket
        coming = select.poll()  # not `select`, which is limited to file descriptors below 1,024
        if own is not None:
            coming.register(own, select.POLLIN)
        while not self._ended.is_set():
            if own is None:
                self._ended.wait(POLL_S)
            elif coming.poll(POLL_S * 1000):
                self._receive(own)
                continue
            self._processes.prune()
            if not self._ended.is_set() and self._changed():
                self._publish((Hint("", None),))

    def _receive(self, own: socket.socket) -> None:
        try:
            datagram = own.recv(65536)
            if datagram:
                self._publish(_decode(datagram))
        except (OSError, msgspec.MsgspecError):  # the hint is lost
            return


def lock_holder(database: Path) -> int | None:
    """Return the pid of the process that holds the write lock of a WAL database; None if it is unknown.

    It is read from /proc/locks (Linux).  Opening and closing the -shm file here would drop the locks of this process.
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
