"""What a store of files does to its folder, and who owns it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import weakref
from pathlib import Path
from typing import Final

from ..base import Unavailable

LOCK: Final = "lock"
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Disk:
    """Every change of a folder goes through here; a test puts a disk that fails or loses power in its place.

    All methods raise OSError.
    """

    def create(self, path: Path) -> int:
        """A new file to append to; what had this name is gone."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        return os.open(path, flags, 0o666)

    def reopen(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def append(self, file: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]

    def cut(self, file: int, size: int) -> None:
        os.ftruncate(file, size)

    def sync(self, file: int) -> None:
        """Returns when everything appended so far survives a power cut."""
        if hasattr(fcntl, "F_FULLFSYNC"):  # on macOS fsync leaves it in the cache of the device
            fcntl.fcntl(file, fcntl.F_FULLFSYNC)
        elif hasattr(os, "fdatasync"):  # with the size of the file, without its times
            os.fdatasync(file)
        else:
            os.fsync(file)

    def rename(self, old: Path, new: Path) -> None:
        os.replace(old, new)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def make_folder(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.sync_folder(folder.absolute().parent)

    def sync_folder(self, folder: Path) -> None:
        """Returns when the names in the folder survive a power cut."""
        found = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(found)
        finally:
            os.close(found)

    def close(self, file: int) -> None:
        os.close(file)

    def gone(self, file: int) -> bool:
        """Whether somebody has removed the file that we append to."""
        return os.fstat(file).st_nlink == 0


# -- who owns a folder


class Ownership:
    """A lock that ends with its process, however that ends.  Raises Unavailable with the owner's pid."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(self._file, 300).decode(errors="replace").strip()
            os.close(self._file)
            whom = f"process {owner}" if owner else "another process"
            raise Unavailable(
                f"{folder} is in use by {whom}: it has one owner at a time"
            ) from error
        except BaseException:
            os.close(self._file)
            raise
        with contextlib.suppress(OSError):  # a full disk: the second owner is told less
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        _OWNED.add(self)

    def give_up(self) -> None:
        _OWNED.discard(self)
        os.ftruncate(self._file, 0)
        fcntl.flock(self._file, fcntl.LOCK_UN)
        os.close(self._file)

    def leave_to_parent(self) -> None:
        os.close(self._file)


_OWNED: weakref.WeakSet[Ownership] = weakref.WeakSet()


def _after_fork() -> None:
    """A child shares the lock as long as it has the file open, and would keep it when its parent is gone."""
    for ownership in list(_OWNED):
        ownership.leave_to_parent()
    _OWNED.clear()


os.register_at_fork(after_in_child=_after_fork)
