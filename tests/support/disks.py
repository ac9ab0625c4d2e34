"""Small file systems of our own, where we may mount one."""

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
    """Even if somebody still uses it."""
    subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of that size in a folder that it makes; the test is skipped where none may be mounted."""
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder):
        pytest.skip("may not mount a file system")
    try:
        yield folder
    finally:
        unmount(folder)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody may have a file of it open for writing."""
    assert mount("-o", "remount,ro", folder)
    try:
        yield
    finally:
        assert mount("-o", "remount,rw", folder)
