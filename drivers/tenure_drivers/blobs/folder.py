"""Bytes in files: `folder:PATH`.  A file is written under another name, synced, renamed, and its folder is synced."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from ..stores.base import Unavailable
from .base import BlobCapability, check_whole, checked, session_key

__all__ = ["FolderStore"]


T = TypeVar("T")
UNFINISHED: Final = "unfinished"  # the folder of files that are being written
KEPT_S: Final = 86_400  # an unfinished file that is older belongs to a process that has ended


class FolderStore:
    """A folder with a folder for each session.  Several processes may use it.

    Raises Unavailable if the folder cannot be made.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()  # agents may change the working folder
        with self._errors():
            (self.folder / UNFINISHED).mkdir(parents=True, exist_ok=True)
            self._drop_unfinished()

    @property
    def capabilities(self) -> frozenset[BlobCapability]:
        return frozenset({BlobCapability.MANIFEST})

    async def put(self, session_id: str, digest: str, data: bytes | Path) -> None:
        """Store bytes.  Raises DigestMismatch, and Unavailable if the file `data` cannot be read."""
        await self._do(lambda: self._put(session_id, digest, data))

    def _put(self, session_id: str, digest: str, data: bytes | Path) -> None:
        place = self._file(session_id, digest)
        new = self.folder / UNFINISHED / f"{digest}.{secrets.token_hex(8)}"
        try:
            with new.open("xb") as file:
                for piece in checked(data, digest):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            if not place.parent.exists():
                place.parent.mkdir(exist_ok=True)
                sync_folder(self.folder)
            new.replace(place)
        finally:
            new.unlink(missing_ok=True)
        sync_folder(place.parent)

    async def get(self, session_id: str, digest: str) -> bytes | None:
        """Return the bytes; None if there is no such file."""
        place = self._file(session_id, digest)

        def read() -> bytes | None:
            try:
                return check_whole(str(place), session_id, digest, place.read_bytes())
            except FileNotFoundError:
                return None

        return await self._do(read)

    async def delete(self, session_id: str, digest: str) -> None:
        """Delete a file."""
        place = self._file(session_id, digest)

        def unlink() -> None:
            with contextlib.suppress(FileNotFoundError):
                place.unlink()
                sync_folder(place.parent)

        await self._do(unlink)

    async def delete_session(self, session_id: str) -> None:
        """Delete the folder of a session."""
        place = self.folder / session_key(session_id)

        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(place)
                sync_folder(self.folder)

        await self._do(remove)

    async def digests(self, session_id: str) -> AsyncIterator[str]:
        """Yield the names of the files of a session."""
        place = self.folder / session_key(session_id)
        for name in await self._do(lambda: names_in(place)):
            yield name

    async def keys(self) -> AsyncIterator[tuple[str, str]]:
        """Yield folder and name of every file."""
        for key in await self._do(lambda: names_in(self.folder)):
            if key != UNFINISHED:
                place = self.folder / key
                for name in await self._do(lambda place=place: names_in(place)):  # type: ignore[misc]
                    yield key, name

    async def aclose(self) -> None:
        """Do nothing: no file stays open."""

    def _file(self, session_id: str, digest: str) -> Path:
        return self.folder / session_key(session_id) / digest

    def _drop_unfinished(self) -> None:
        """Delete what processes that were killed have left."""
        for left in (self.folder / UNFINISHED).iterdir():
            with contextlib.suppress(FileNotFoundError):
                if left.stat().st_mtime < time.time() - KEPT_S:
                    left.unlink()

    async def _do(self, work: Callable[[], T]) -> T:
        with self._errors():
            return await asyncio.to_thread(work)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Unavailable(f"folder {self.folder}: {error}") from error


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder survive a power cut."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder; none if there is no folder."""
    try:
        return [entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return []
