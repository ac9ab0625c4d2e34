"""The attachments that the messages of a chat turn refer to: sent to the model, and attached with the turn."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from attrs import evolve

from tenure.failure import ErrorKind
from tenure.limits import ATTACHED_MAX, COMMIT_ATTACHED_MAX
from tenure.messages.types import Attachment, Message, Request
from tenure.questions import HeldAttachments
from tenure.records import Input, Intent
from tenure.turn.chat_policy import read_prompt
from tenure.turn_end import Record, TurnEnd

from ..runtime.attachments import attachment_id_of
from ..runtime.errors import TurnFailed
from ..runtime.turn import Turn
from ..stores.base import Unavailable

__all__ = ["References"]


class References:
    """The references of one turn.  A turn whose messages have none asks nothing."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self._named: set[str] = set()
        self._settled: set[str] = set()  # attached, or not held
        self._uris: dict[str, str | None] = {}  # what the model is sent
        self.note_inputs(turn.inputs)

    def note_inputs(self, inputs: Iterable[Input]) -> None:
        """Note what these inputs refer to."""
        for entered in inputs:
            self._note(read_prompt(entered.payload)[1])

    def _note(self, attachments: Iterable[Attachment]) -> None:
        ids = map(attachment_id_of, [each.uri for each in attachments])
        self._named.update([each for each in ids if each is not None])

    # -- to the model

    async def resolved(self, request: Request) -> Request:
        """Return a request with the bytes in the place of references.

        What the session does not hold any more is named in the text instead.  Raises NoBlobStore, and what the store of
        bytes raises.
        """
        if not any(attachment_id_of(a.uri) for m in request.messages for a in m.attachments):
            return request
        return evolve(request, messages=tuple([await self._message(m) for m in request.messages]))

    async def _message(self, message: Message) -> Message:
        self._note(message.attachments)
        shown: list[Attachment] = []
        text = message.text
        for each in message.attachments:
            uri = await self._uri(each)
            if uri is None:
                text = f"{text}\n[{each.name or each.media_type}: not stored any more]".lstrip()
            else:
                shown.append(each if uri == each.uri else evolve(each, uri=uri))
        return evolve(message, text=text, attachments=tuple(shown))

    async def _uri(self, attachment: Attachment) -> str | None:
        if attachment_id_of(attachment.uri) is None:
            return attachment.uri
        if attachment.uri not in self._uris:
            data = await self.turn.attachment(attachment.uri)
            encoded = None if data is None else base64.b64encode(data).decode()
            uri = None if encoded is None else f"data:{attachment.media_type};base64,{encoded}"
            self._uris[attachment.uri] = uri
        return self._uris[attachment.uri]

    # -- to the session

    async def with_record(self, record: Record) -> Record:
        """Return a record that also attaches what the messages refer to."""
        if not record.entries and not record.nodes:
            return record
        found = await self._intents(ATTACHED_MAX)
        return evolve(record, attach=found) if found else record

    async def with_end(self, end: TurnEnd) -> TurnEnd:
        """Return the end of a turn that also attaches what the messages refer to."""
        found = await self._intents(COMMIT_ATTACHED_MAX)
        return evolve(end, attach=found) if found else end

    async def _intents(self, most: int) -> tuple[str, ...]:
        """Return at most so many attachments that the messages refer to and that are not attached."""
        left = tuple(sorted(self._named - self._settled))
        if not left:
            return ()
        try:
            held = await self.turn.read(HeldAttachments(self.turn.session_id, left))
        except Unavailable as error:
            raise TurnFailed(ErrorKind.UNAVAILABLE, str(error)) from error
        intents = [row.attachment_id for row in held if isinstance(row.state, Intent)]
        self._settled.update(set(left) - set(intents))
        return tuple(intents[:most])
