"""Attachments: bytes that a session holds and that are stored outside its records.  Spec: specs/attachment.md."""

from __future__ import annotations

import enum
from typing import ClassVar, TypeAlias

from attrs import frozen

from .queries import Record

__all__ = ["Attached", "Attachment", "AttachmentState", "Intent", "Scrap", "Stage"]


class Stage(enum.IntEnum):
    """The states of an attachment, in the order in which an index has them."""

    INTENT = 0
    ATTACHED = 1
    SCRAP = 2
    CLAIMED = 3  # a scrap whose bytes are being deleted


@frozen
class Intent:
    """Its bytes are being stored.  `run_id`: the run that does it; None: a client, or a holder without a run."""

    since: ClassVar = 2
    run_id: str | None = None


@frozen
class Attached:
    """The session holds it until it is forgotten."""

    since: ClassVar = 2


@frozen
class Scrap:
    """The session has let go of it, and its bytes are still to be deleted.

    `claim_id`: who deletes them now, until `until_ms`; None: nobody.
    """

    since: ClassVar = 2
    claim_id: str | None = None
    until_ms: int | None = None


AttachmentState: TypeAlias = Intent | Attached | Scrap


@frozen
class Attachment(Record):
    """Bytes that a session holds, or that are still to be deleted.

    `digest`: the SHA-256 of the bytes, as 64 hexadecimal digits.  `at_ms`: when it got its state, without claims.
    """

    since: ClassVar = 2
    key: ClassVar = ("session_id", "attachment_id")
    flat: ClassVar = ("state",)
    derived: ClassVar = ("stage",)
    session_id: str
    attachment_id: str
    digest: str
    size: int  # bytes
    media_type: str
    at_ms: int
    state: Intent | Attached | Scrap

    @property
    def stage(self) -> int:
        """The state as a number, for the indexes."""
        match self.state:
            case Intent():
                return Stage.INTENT.value
            case Attached():
                return Stage.ATTACHED.value
            case Scrap(None):
                return Stage.SCRAP.value
            case _:
                return Stage.CLAIMED.value

    @property
    def held(self) -> bool:
        """Whether the session holds it, so that its bytes may be read."""
        return not isinstance(self.state, Scrap)
