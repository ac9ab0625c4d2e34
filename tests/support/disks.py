"""Small file systems for tests, where mounting is permitted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def mount(*words: object) -> bool:
    command = ["mount", *map(str, words)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def unmount(folder: Path) -> None:
    """Unmount a folder, even if a process still uses it."""
    subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of this size in a new folder; skip the test if mounting is not permitted."""
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder):
        pytest.skip("may not mount a file system")
    try:
        yield folder
    finally:
        unmount(folder)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Remount read-only; no process may have a file open for writing."""
    assert mount("-o", "remount,ro", folder)
    try:
        yield
    finally:
        assert mount("-o", "remount,rw", folder)
