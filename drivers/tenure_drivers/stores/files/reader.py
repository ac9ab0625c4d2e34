"""A read-only reader of a files store: answers questions, never changes, creates, cuts or syncs a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from tenure.queries import Question, Record

from ..base import Quarantined, answer_of
from ..ordered_tables import MemoryTables
from ..payloads import PayloadHook
from .disk import LOCK, Disk, no_owner, not_opened
from .recovery import Recovery

__all__ = ["FilesReader"]


A = TypeVar("A")

Sizes = dict[str, int]


class FilesReader:
    """Answers questions from the files of a folder that no process owns.  An incomplete last write is not read.

    The files are read again when they have changed.
    All methods raise Unavailable while a process owns the folder, Corrupt or SchemaTooNew if it cannot be read, and
    ValueError if it is empty.
    """

    def __init__(self, folder: str | os.PathLike[str], payloads: PayloadHook | None = None) -> None:
        self.folder = Path(folder)
        self._payloads = payloads
        self._sizes: Sizes = {}
        self._tables = MemoryTables()
        self.active = 0  # the release whose rows the newest log has
        self._read_if_changed()

    async def ask(self, question: Question[A]) -> A:
        """Answer a question from one snapshot."""
        self._read_if_changed()
        return answer_of(question, self._tables.answer)

    async def dump(self) -> tuple[Record, ...]:
        """Return all records, in no order."""
        self._read_if_changed()
        return self._tables.all()

    async def quarantined(self) -> tuple[Quarantined, ...]:
        """Return no session: a files store has no quarantine."""
        return ()

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _read_if_changed(self) -> None:
        try:
            with no_owner(self.folder):
                sizes = _sizes_of(self.folder)
                if not sizes or sizes != self._sizes:
                    self._read()
                    self._sizes = sizes
        except OSError as error:
            raise not_opened(self.folder, error) from error

    def _read(self) -> None:
        found = Recovery(Disk(), self.folder, self._payloads).read()
        if found is None:
            raise ValueError(f"{self.folder} holds no store: the folder is empty")
        self._tables = MemoryTables()
        self._tables.fill(found.rows)
        self.active = found.heading.release


def _sizes_of(folder: Path) -> Sizes:
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.name != LOCK}
