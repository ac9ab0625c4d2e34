"""A file with one line for each input, to which several processes append.  Each may crash at any point."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["LedgerFile", "one_line"]


BLOCK: Final = 1 << 20
ESCAPED: Final = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\\\\]")
NAMED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}


def one_line(text: str) -> str:
    """Return the text with line ends, control characters and backslashes escaped as in JSON."""
    return ESCAPED.sub(lambda found: NAMED.get(found[0], f"\\u{ord(found[0]):04x}"), text)


class LedgerFile:
    """Lines `input_id text`, unique by input id.

    A writer takes the file's lock, checks whether the line exists, and appends it.  A last line without an end was torn
    by a crash during the write.  Its writer cannot be alive, since the lock is held, so the line is removed.  Every
    answer is given after an fsync.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_to = 0
        self._seen: set[str] = set()
        self._inode = -1
        self._guard = threading.Lock()
        os.close(self._open())  # report an unusable path now, not in every turn

    def append(self, input_id: str, text: str) -> bool:
        """Append the line.  Return False if it exists already."""
        with self._locked(fcntl.LOCK_EX) as fd:
            fresh = input_id not in self._seen
            if fresh:
                self._cut_torn(fd)
                _write(fd, f"{input_id} {one_line(text)}\n".encode())
                self._catch_up(fd)
        return fresh

    def holds(self, input_id: str) -> bool:
        """Return True if the file has a line for this input."""
        with self._locked(fcntl.LOCK_SH):
            return input_id in self._seen

    @contextmanager
    def _locked(self, how: int) -> Iterator[int]:
        """Lock the file, read the new lines, and fsync after the unlock: a writer may have crashed before its fsync."""
        fd = self._open()
        try:
            with self._guard:
                fcntl.flock(fd, how)
                try:
                    self._catch_up(fd)
                    yield fd
                finally:
                    fcntl.flock(fd, fcntl.LOCK_UN)
            os.fsync(fd)
        finally:
            os.close(fd)

    def _open(self) -> int:
        existed = self.path.exists()
        fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if not stat.S_ISREG(os.fstat(fd).st_mode):  # reading a device may never end
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file")
        if not existed:
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        return fd

    def _catch_up(self, fd: int) -> None:
        """Read the complete lines that were added since the last call."""
        found = os.fstat(fd)
        if found.st_ino != self._inode or found.st_size < self._read_to:
            self._inode, self._read_to, self._seen = found.st_ino, 0, set()
        start, name = True, b""
        at = self._read_to
        while block := os.pread(fd, BLOCK, at):
            at += len(block)
            *ended, rest = block.split(b"\n")
            for piece in ended:
                whole = name + piece.split(b" ", 1)[0] if start else name
                self._seen.add(whole.decode("utf-8", "replace"))
                start, name = True, b""
            if ended:
                self._read_to = at - len(rest)
            if start:
                name += rest.split(b" ", 1)[0]
                start = b" " not in rest

    def _cut_torn(self, fd: int) -> None:
        if os.fstat(fd).st_size > self._read_to:
            os.ftruncate(fd, self._read_to)


def _write(fd: int, line: bytes) -> None:
    """Write the line at once; if the disk is full, remove the part that was written."""
    size = os.fstat(fd).st_size
    if os.write(fd, line) != len(line):
        os.ftruncate(fd, size)
        raise OSError(f"only a part of a line of {len(line)} bytes was written")
