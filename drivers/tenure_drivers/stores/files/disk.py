"""The file operations of a files store, and the lock that gives its folder one owner."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..base import Unavailable, Unusable

__all__ = ["LOCK", "NO_ROOM", "OBSTACLES", "Disk", "Ownership", "no_owner", "not_opened"]


LOCK: Final = "lock"
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OBSTACLES: Final = (  # which a person has to remove
    *(errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
    errno.ENOENT,  # there is no folder to make it in
)


def not_opened(folder: Path, error: OSError) -> Unavailable:
    """Return the error for a folder that cannot be opened; Unusable if a person has to remove the obstacle."""
    kind = Unusable if error.errno in OBSTACLES else Unavailable
    return kind(f"{folder} cannot be opened: {error}")


class Disk:
    """Every change of a folder; tests replace it by a disk that fails or loses power.

    All methods raise OSError.
    """

    def create(self, path: Path) -> int:
        """Create a file to append to, or empty the one of this name; return its descriptor."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        return os.open(path, flags, 0o666)

    def reopen(self, path: Path) -> int:
        """Open a file to append to; return its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def append(self, file: int, data: bytes) -> None:
        """Write all bytes at the end."""
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]

    def cut(self, file: int, size: int) -> None:
        """Truncate a file to `size` bytes."""
        os.ftruncate(file, size)

    def sync(self, file: int) -> None:
        """Return when all appended bytes survive a power cut."""
        if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync leaves data in the drive's cache
            fcntl.fcntl(file, fcntl.F_FULLFSYNC)
        elif hasattr(os, "fdatasync"):  # writes the size of the file too, but not its times
            os.fdatasync(file)
        else:
            os.fsync(file)

    def rename(self, old: Path, new: Path) -> None:
        """Rename a file, replacing `new`."""
        os.replace(old, new)

    def remove(self, path: Path) -> None:
        """Remove a file, if it exists."""
        path.unlink(missing_ok=True)

    def make_folder(self, folder: Path) -> None:
        """Create a folder, durably."""
        folder.mkdir(exist_ok=True)
        self.sync_folder(folder.absolute().parent)

    def sync_folder(self, folder: Path) -> None:
        """Return when the names in the folder survive a power cut."""
        found = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(found)
        finally:
            os.close(found)

    def close(self, file: int) -> None:
        """Close a descriptor."""
        os.close(file)

    def gone(self, file: int) -> bool:
        """Return True if an open file no longer has a name."""
        return os.fstat(file).st_nlink == 0


# -- the owner of a folder


class Ownership:
    """A lock on a folder that the operating system releases when the process ends.

    The folder itself is locked, and the file with the pid of the owner, which somebody may remove.
    Raises Unavailable, with the pid of the owner, if another process holds one of them.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self._files: list[int] = []
        try:
            for path, flags in ((self.path, os.O_RDWR | os.O_CREAT), (folder, os.O_RDONLY)):
                self._files.append(os.open(path, flags | os.O_CLOEXEC, 0o666))
            for file in self._files:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException as error:
            found = _in_use(folder, self._files[0]) if isinstance(error, BlockingIOError) else error
            self.close_in_child()
            raise found from error.__cause__
        with contextlib.suppress(OSError):  # on a full disk, messages lack the owner's pid
            os.ftruncate(self._files[0], 0)
            os.pwrite(self._files[0], f"{os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        _OWNED.add(self)

    def release(self) -> None:
        """Release the lock."""
        _OWNED.discard(self)
        os.ftruncate(self._files[0], 0)
        for file in self._files:
            fcntl.flock(file, fcntl.LOCK_UN)
        self.close_in_child()

    def close_in_child(self) -> None:
        """Close the descriptors of a forked child; the parent keeps the lock."""
        while self._files:
            os.close(self._files.pop())


def _in_use(folder: Path, file: int | None) -> Unavailable:
    owner = "" if file is None else os.read(file, 300).decode(errors="replace").strip()
    whom = f"process {owner}" if owner else "another process"
    return Unavailable(
        f"{folder} is in use by {whom}: one process at a time may open a files store"
    )


@contextlib.contextmanager
def no_owner(folder: Path) -> Iterator[None]:
    """Keep a folder without an owner while it is read.  Creates no lock file.

    Raises Unavailable, with the pid of the owner, if a process owns the folder.
    """
    with contextlib.ExitStack() as stack:
        files = []
        for path in (folder / LOCK, folder):
            with contextlib.suppress(FileNotFoundError):
                files.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
                stack.callback(os.close, files[-1])
        try:
            for file in files:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _in_use(folder, files[0] if len(files) > 1 else None) from error
        yield


_OWNED: weakref.WeakSet[Ownership] = weakref.WeakSet()


def _after_fork() -> None:
    """Close the locks in a forked child, which would otherwise keep them after its parent has ended."""
    for ownership in list(_OWNED):
        ownership.close_in_child()
    _OWNED.clear()


os.register_at_fork(after_in_child=_after_fork)
