"""Methods of a client that store, read and forget attachments.  Spec: specs/attachment.md."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from tenure.commands import Forget
from tenure.messages.types import Attachment as MessageAttachment
from tenure.outcome import Refused
from tenure.queries import Command, Question

from ..blobs.base import BlobStore
from .attachments import AttachmentFiles, NoBlobStore, ScrapCollector, ids_of
from .clock import new_id
from .errors import CommandRefused

__all__ = ["AttachmentMethods"]


A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")


class AttachmentMethods:
    """Methods of a client that has a store of bytes.  Without one they raise NoBlobStore."""

    blobs: BlobStore | None = None

    async def execute(self, command: Command[V, O]) -> O | Refused:
        """As Client.execute."""
        raise NotImplementedError

    async def ask(self, question: Question[A]) -> A:
        """As Client.ask."""
        raise NotImplementedError

    @property
    def _files(self) -> AttachmentFiles:
        if self.blobs is None:
            raise NoBlobStore
        return AttachmentFiles(self, self.blobs)

    async def attach(
        self,
        session_id: str,
        data: bytes | Path,
        media_type: str,
        name: str = "",
        *,
        attachment_id: str | None = None,
    ) -> MessageAttachment:
        """Store bytes, or those of a file, as an attachment of a session, which is opened if it does not exist.

        Returns how messages refer to it; `submit(attachments=...)` puts it into a prompt.  A turn that reads the prompt
        attaches it.  What no turn has attached after 24 hours is deleted.  With an `attachment_id` the call may be
        repeated.  Raises CommandRefused, OSError, and what the store of bytes raises.
        """
        return await self._files.store(
            session_id, data, media_type, name, make_id=lambda _: attachment_id or new_id()
        )

    async def attachment(self, session_id: str, named: str) -> bytes | None:
        """Return the bytes of an attachment, named by its URI or id; None: the session does not hold it."""
        return await self._files.read(session_id, named)

    async def forget(self, session_id: str, *named: str) -> None:
        """Let go of attachments, named by their URIs or ids; their bytes are deleted soon.  Raises CommandRefused."""
        answer = await self.execute(Forget(session_id, ids_of(named)))
        if isinstance(answer, Refused):
            raise CommandRefused("forget", answer)

    async def erase_attachments(self, session_id: str) -> None:
        """Delete all bytes of a session whose texts were erased; without a store of bytes do nothing.

        A destroyed session gets no new attachments (ATTACH-2), so what is left without a row goes too.
        """
        if self.blobs is not None:
            await ScrapCollector(self, self.blobs).collect(session_id)
            await self.blobs.delete_session(session_id)
