"""A file with one line per input, appended by several processes that may die at any instant."""

from __future__ import annotations

import fcntl
import os
import re
import threading
from pathlib import Path
from typing import Final

BLOCK: Final = 1 << 20
ESCAPED: Final = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\\\\]")
NAMED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}


def one_line(text: str) -> str:
    """The text with line ends, control characters and backslashes escaped as in JSON."""
    return ESCAPED.sub(lambda found: NAMED.get(found[0], f"\\u{ord(found[0]):04x}"), text)


class LedgerFile:
    """Lines `input_id text`.  Whoever appends holds the file's lock, looks whether the line is there, and writes.

    A last line without its end was torn by a death in the middle of a write: under the lock its writer must be
    dead, so it is cut off.  What is found or written is on the disk before that is answered.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_to = 0
        self._seen: set[str] = set()
        self._inode = -1
        self._guard = threading.Lock()
        os.close(self._open())  # an unusable path is said at once, not in every turn

    def append(self, input_id: str, text: str) -> bool:
        """Append the line; False: it was there already."""
        fd = self._open()
        try:
            with self._guard:
                fcntl.flock(fd, fcntl.LOCK_EX)
                try:
                    self._catch_up(fd)
                    fresh = input_id not in self._seen
                    if fresh:
                        self._cut_torn(fd)
                        _write(fd, f"{input_id} {one_line(text)}\n".encode())
                        self._catch_up(fd)
                finally:
                    fcntl.flock(fd, fcntl.LOCK_UN)
            os.fsync(fd)
            return fresh
        finally:
            os.close(fd)

    def holds(self, input_id: str) -> bool:
        fd = self._open()
        try:
            with self._guard:
                fcntl.flock(fd, fcntl.LOCK_SH)
                try:
                    self._catch_up(fd)
                    found = input_id in self._seen
                finally:
                    fcntl.flock(fd, fcntl.LOCK_UN)
            os.fsync(fd)  # who wrote it may have died before it was on the disk
            return found
        finally:
            os.close(fd)

    def _open(self) -> int:
        existed = self.path.exists()
        fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if not existed:
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        return fd

    def _catch_up(self, fd: int) -> None:
        """Read the whole lines that are new since the last look."""
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
    """One write; where the disk took less, the line is taken back."""
    size = os.fstat(fd).st_size
    if os.write(fd, line) != len(line):
        os.ftruncate(fd, size)
        raise OSError(f"the disk took a part of a line of {len(line)} bytes")
