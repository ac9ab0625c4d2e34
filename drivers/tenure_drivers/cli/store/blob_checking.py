"""`tenure store check --blobs`: the attachments of sessions and their bytes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from tenure.questions import SessionAttachments
from tenure.questions.core import PAGE
from tenure.records import Attached, Attachment

from ...blobs.base import BlobCapability, BlobStore, session_key
from ...blobs.registry import open_blobs
from ...redaction import without_secrets
from ...stores.base import Corrupt, Unavailable, Unusable
from ..exit import store_lost, usage_error
from ..open_store import Reader

__all__ = ["BlobCheck", "opened_blobs"]


@contextlib.asynccontextmanager
async def opened_blobs(url: str | None, store: str) -> AsyncIterator[BlobCheck | None]:
    """Open a store of bytes that can list what it holds; None: no one was named."""
    if url is None:
        yield None
        return
    shown = without_secrets(url)
    try:
        blobs = open_blobs(url, store)
    except ValueError as error:
        raise usage_error(str(error)) from error
    try:
        if BlobCapability.MANIFEST not in blobs.capabilities:
            raise usage_error(f"{shown} cannot list what it holds")
        yield BlobCheck(blobs)
    except (Unavailable, Unusable, Corrupt) as error:
        raise store_lost(shown, error) from error
    finally:
        await blobs.aclose()


class BlobCheck:
    """Compares attachments with what a store of bytes holds, also while both change."""

    def __init__(self, blobs: BlobStore) -> None:
        self.blobs = blobs
        self._known: set[str] = set()  # the session keys that were checked

    async def session(self, store: Reader, session_id: str) -> list[str]:
        """Return what is wrong with the attachments of a session.

        Bytes are stored after their row is written and deleted before it is dropped, so they are listed first, and what
        seems wrong is looked up again.
        """
        self._known.add(session_key(session_id))
        stored = {digest async for digest in self.blobs.digests(session_id)}
        rows = await _attachments(store, session_id)
        missing = [
            row
            for row in rows
            if isinstance(row.state, Attached) and row.digest not in stored
            if await self.blobs.get(session_id, row.digest) is None
        ]
        if missing:
            held = {row.attachment_id for row in await _attachments(store, session_id)}
            missing = [row for row in missing if row.attachment_id in held]
        wrong = [f"attachment {r.attachment_id}: no bytes with digest {r.digest}" for r in missing]
        nobody = stored - {row.digest for row in rows}
        if nobody:
            again = {digest async for digest in self.blobs.digests(session_id)}
            known = {row.digest for row in await _attachments(store, session_id)}
            nobody = (nobody & again) - known
        return wrong + [f"bytes of no attachment: digest {digest}" for digest in sorted(nobody)]

    async def others(self) -> list[str]:
        """Return what is stored for sessions that do not exist, if all sessions were checked."""
        found = {key async for key, _ in self.blobs.keys() if key not in self._known}
        return [f"bytes of no session: key {key}" for key in sorted(found)]


async def _attachments(store: Reader, session_id: str) -> list[Attachment]:
    rows: list[Attachment] = []
    while True:
        page = await store.ask(
            SessionAttachments(session_id, rows[-1].attachment_id if rows else "")
        )
        rows += page
        if len(page) < PAGE:
            return rows
