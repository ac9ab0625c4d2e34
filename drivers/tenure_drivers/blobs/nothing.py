"""A store that keeps no bytes: `nothing:`.  For runtimes that keep the bytes of attachments themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from .base import BlobCapability

__all__ = ["NothingStore"]


NONE: Final[tuple[str, ...]] = ()


class NothingStore:
    """Drops what is put, finds nothing, and has no manifest: it cannot tell what is missing."""

    @property
    def capabilities(self) -> frozenset[BlobCapability]:
        return frozenset()

    async def put(self, session_id: str, digest: str, data: bytes | Path) -> None:
        """Drop the bytes."""

    async def get(self, session_id: str, digest: str) -> bytes | None:
        """Return None."""
        return None

    async def delete(self, session_id: str, digest: str) -> None:
        """Do nothing."""

    async def delete_session(self, session_id: str) -> None:
        """Do nothing."""

    async def digests(self, session_id: str) -> AsyncIterator[str]:
        """Yield nothing."""
        for digest in NONE:
            yield digest

    async def keys(self) -> AsyncIterator[tuple[str, str]]:
        """Yield nothing."""
        for digest in NONE:
            yield "", digest

    async def aclose(self) -> None:
        """Do nothing."""
