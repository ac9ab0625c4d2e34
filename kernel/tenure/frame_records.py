"""The records of frames, and of the pointers of frames to blobs.  Specs: specs/frame.md, specs/state.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen

from .frame import FrameStatus, NamedState
from .queries import Record
from .transcript import Tip

__all__ = ["BlobHolders", "Frame"]


@frozen
class Frame(Record):
    """A frame of a session.  While it is active, its states and its leaf are on the session's row (FRAME-11)."""

    since: ClassVar = 2
    key: ClassVar = ("session_id", "frame_id")
    payloads: ClassVar = ("options",)
    session_id: str
    frame_id: str  # "" is the first frame
    agent: str
    previous: str | None  # the frame that was left when it was opened; None: it is the first one
    status: FrameStatus
    reason: str
    options: str | None = field(
        repr=lambda o: "None" if o is None else f"<{len(o)} characters>"
    )  # opaque to tenure
    leaf: Tip | None
    states: tuple[NamedState, ...]
    opened_at_ms: int | None  # None: of the first frame it is not known
    revision: int  # of the session when it was opened
    left_at_ms: int | None = None  # None: it is the current one

    @property
    def digests(self) -> tuple[str, ...]:
        """The digests that its row names, each once."""
        return tuple(dict.fromkeys([each.digest for each in self.states]))


@frozen
class BlobHolders(Record):
    """STATE-5: how many states of frames that are not active name a blob.  There is no row if none does."""

    since: ClassVar = 2
    key: ClassVar = ("session_id", "digest")
    session_id: str
    digest: str
    holders: int
