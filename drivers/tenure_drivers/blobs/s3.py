"""Bytes in objects of a server that speaks S3: `s3://BUCKET/PREFIX`.  Needs the extra `s3`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import obstore
from obstore import exceptions
from obstore.store import S3Store as Server

from ..stores.base import Unavailable, Unusable
from .base import BlobCapability, check_whole, checked, session_key

__all__ = ["S3Store"]


WHOLE_BYTES_MAX: Final = 16_000_000  # more is uploaded in parts
PART_BYTES: Final = 8_000_000  # servers take parts of at least 5 MB
REFUSALS: Final = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
RETRY: Final[Any] = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}


class S3Store:
    """A bucket, or the part of it under a prefix.  Several processes may use it.

    `options` are those of obstore's S3Store, such as `endpoint` and `region`; credentials come from the environment
    (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or from the machine's role.  Parts of an upload that was interrupted are
    deleted by a lifecycle rule of the bucket alone (AbortIncompleteMultipartUpload).
    """

    def __init__(self, bucket: str, prefix: str = "", **options: Any) -> None:
        self.name = f"s3://{bucket}/{prefix}".rstrip("/")
        self._server = Server(bucket, prefix=prefix or None, retry_config=RETRY, **options)

    @property
    def capabilities(self) -> frozenset[BlobCapability]:
        return frozenset({BlobCapability.MANIFEST})

    async def put(self, session_id: str, digest: str, data: bytes | Path) -> None:
        """Store bytes as one object.  Raises DigestMismatch, and Unavailable if the file `data` cannot be read.

        Of a large file two pieces of PART_BYTES are in memory, read by threads beside the event loop.
        """
        path = path_of(session_id, digest)
        pieces = checked(data, digest)
        first = await next_part(pieces, data, WHOLE_BYTES_MAX)
        with self._errors():
            if len(first) < WHOLE_BYTES_MAX:
                with contextlib.suppress(exceptions.AlreadyExistsError):
                    await obstore.put_async(self._server, path, first, mode="create")
                return
            await self._put_in_parts(path, first, pieces, data)

    async def _put_in_parts(
        self, path: str, part: bytes, pieces: Iterator[bytes], data: bytes | Path
    ) -> None:
        """Upload an object of which `part` is the beginning.  It is found when all of it is there."""
        failed: list[BaseException] = []

        async def parts() -> AsyncIterator[bytes]:
            try:
                following = part
                while following:
                    yield following
                    following = await next_part(pieces, data, PART_BYTES)
            except BaseException as error:
                failed.append(error)
                raise

        try:
            await obstore.put_async(self._server, path, parts(), chunk_size=PART_BYTES)
        except Exception as error:
            if failed:  # the library wraps what the generator raises
                raise failed[0] from error
            raise

    async def get(self, session_id: str, digest: str) -> bytes | None:
        """Return the bytes; None if there is no such object."""
        path = path_of(session_id, digest)
        with self._errors():
            try:
                found = await obstore.get_async(self._server, path)
                data = bytes(await found.bytes_async())
            except FileNotFoundError as error:
                self._check_bucket(error)
                return None
        return check_whole(f"{self.name}/{path}", session_id, digest, data)

    async def delete(self, session_id: str, digest: str) -> None:
        """Delete an object."""
        await self._delete([path_of(session_id, digest)])

    async def delete_session(self, session_id: str) -> None:
        """Delete the objects of a session."""
        async for paths in self._listed(f"{session_key(session_id)}/"):
            await self._delete(paths)

    async def _delete(self, paths: list[str]) -> None:
        with self._errors():
            try:
                await obstore.delete_async(self._server, paths)
            except FileNotFoundError as error:
                self._check_bucket(error)

    async def digests(self, session_id: str) -> AsyncIterator[str]:
        """Yield the digests of a session."""
        async for paths in self._listed(f"{session_key(session_id)}/"):
            for path in paths:
                yield path.rpartition("/")[2]

    async def keys(self) -> AsyncIterator[tuple[str, str]]:
        """Yield the two parts of the name of every object."""
        async for paths in self._listed(None):
            for path in paths:
                key, _, digest = path.rpartition("/")
                yield key, digest

    async def aclose(self) -> None:
        """Do nothing: connections end with the process."""

    async def _listed(self, prefix: str | None) -> AsyncIterator[list[str]]:
        pages = obstore.list(self._server, prefix, chunk_size=1_000)
        while True:
            with self._errors():
                try:
                    page = await anext(pages)
                except StopAsyncIteration:
                    return
            yield [each["path"] for each in page]

    def _check_bucket(self, error: Exception) -> None:
        """Raise Unusable if what is missing is the bucket, not the object."""
        if "<Code>NoSuchBucket</Code>" in str(error):
            raise Unusable(f"{self.name}: there is no such bucket") from error

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except exceptions.AlreadyExistsError:
            raise
        except FileNotFoundError as error:
            self._check_bucket(error)
            raise
        except REFUSALS as error:
            raise Unusable(f"{self.name}: {first_line(error)}") from error
        except exceptions.BaseError as error:
            self._check_bucket(error)
            raise Unavailable(f"{self.name}: {first_line(error)}") from error


async def next_part(pieces: Iterator[bytes], data: bytes | Path, size: int) -> bytes:
    """Return the next pieces, together at least `size` bytes unless they end.  Raises Unavailable if a file cannot be read."""

    def read() -> bytes:
        found, left = list[bytes](), size
        while left > 0 and (piece := next(pieces, None)) is not None:
            found.append(piece)
            left -= len(piece)
        return b"".join(found)

    try:
        return await asyncio.to_thread(read)
    except OSError as error:
        raise Unavailable(f"{data!s}: {error}") from error


def path_of(session_id: str, digest: str) -> str:
    return f"{session_key(session_id)}/{digest}"


def first_line(error: Exception) -> str:
    """Return the first line of what the library says; the others are about its own values."""
    return str(error).strip().partition("\n")[0]
