"""The contract of every store of bytes.  Spec: specs/attachment.md.

Bytes are named by session and SHA-256.  Equal bytes are shared within a session, never between sessions, so bytes are
deleted without a look at any other session, and those of a session are erased as a whole.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final, Protocol

from ..stores.base import Corrupt
from ..stores.errors import TenureError

__all__ = [
    "PIECE_BYTES",
    "BlobCapability",
    "BlobStore",
    "DigestMismatch",
    "check_whole",
    "checked",
    "digest_of",
    "pieces_of",
    "session_key",
]


PIECE_BYTES: Final = 1_000_000


class BlobCapability(enum.StrEnum):
    """What a store of bytes can do beyond the contract."""

    MANIFEST = "manifest"  # it can list what it holds


class DigestMismatch(TenureError):
    """The bytes are not those that the digest names, for instance because a file has changed.  Nothing was stored."""

    def __init__(self, digest: str, found: str) -> None:
        super().__init__(digest, found)
        self.digest, self.found = digest, found

    def __str__(self) -> str:
        return f"the bytes have the digest {self.found}, expected {self.digest}: nothing was stored"


class BlobStore(Protocol):
    """A store of bytes.  Its methods may be called from any event loop; each may be repeated.

    Raises Unavailable if it cannot be reached, Unusable if a person has to change something, Corrupt if stored bytes are
    not those that were put.
    """

    @property
    def capabilities(self) -> frozenset[BlobCapability]:
        """What the store can do beyond the contract."""
        ...

    async def put(self, session_id: str, digest: str, data: bytes | Path) -> None:
        """Store bytes, durably: all of them, or after an error or a crash none that `get` finds.

        Raises DigestMismatch if the bytes have another digest, and Unavailable if the file `data` cannot be read.
        """
        ...

    async def get(self, session_id: str, digest: str) -> bytes | None:
        """Return the bytes; None if the store does not hold them."""
        ...

    async def delete(self, session_id: str, digest: str) -> None:
        """Delete bytes, and what an interrupted `put` of them has left."""
        ...

    async def delete_session(self, session_id: str) -> None:
        """Delete all bytes of a session, and what interrupted `put`s have left."""
        ...

    def digests(self, session_id: str) -> AsyncIterator[str]:
        """Yield the digests of a session, in no order; of a store with MANIFEST."""
        ...

    def keys(self) -> AsyncIterator[tuple[str, str]]:
        """Yield the session key and the digest of everything, in no order; of a store with MANIFEST."""
        ...

    async def aclose(self) -> None:
        """Close.  A second call does nothing."""
        ...


def session_key(session_id: str) -> str:
    """Return the name under which the bytes of a session are kept.

    It is a hash: session ids may differ in case alone, which some file systems ignore, may be longer than a name of a file,
    and may name people, which the listing of a bucket should not.
    """
    return hashlib.sha256(session_id.encode()).hexdigest()


def pieces_of(data: bytes | Path) -> Iterator[bytes]:
    """Yield the bytes in pieces of at most PIECE_BYTES.  Raises OSError if the file cannot be read."""
    if isinstance(data, Path):
        with data.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
    else:
        for at in range(0, len(data), PIECE_BYTES):
            yield data[at : at + PIECE_BYTES]


def digest_of(data: bytes | Path) -> tuple[str, int]:
    """Return the SHA-256 of bytes, or of those of a file, in hex digits, and their number.  Raises OSError."""
    found, size = hashlib.sha256(), 0
    for piece in pieces_of(data):
        found.update(piece)
        size += len(piece)
    return found.hexdigest(), size


def checked(data: bytes | Path, digest: str) -> Iterator[bytes]:
    """Yield the pieces; raises DigestMismatch after the last one if they are not those that the digest names."""
    found = hashlib.sha256()
    for piece in pieces_of(data):
        found.update(piece)
        yield piece
    if found.hexdigest() != digest:
        raise DigestMismatch(digest, found.hexdigest())


def check_whole(where: str, session_id: str, digest: str, data: bytes) -> bytes:
    """Return stored bytes.  Raises Corrupt if they are not those that the digest names."""
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise Corrupt(where, (session_id, digest), f"its bytes have the digest {found}")
    return data
