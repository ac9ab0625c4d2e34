"""Frames and named states: what a command says about them, and what a session's row holds.  Specs: specs/frame.md, specs/state.md."""

from __future__ import annotations

import enum
from typing import ClassVar, Final

from attrs import field, frozen

__all__ = [
    "STATE",
    "CurrentFrame",
    "FrameStatus",
    "NamedState",
    "NewState",
    "Switch",
    "Switched",
]


STATE: Final = "state"  # the name of the state that `Commit.state` sets


class FrameStatus(enum.StrEnum):
    """Whether a frame is the one that the session is in."""

    ACTIVE = "active"
    SUPERSEDED = "superseded"  # it was left
    PRUNED = "pruned"  # it was left, and what it held was removed (RETENTION-14)
    since = enum.nonmember(2)


class Switched(enum.StrEnum):
    """FRAME-10: what a Switch did."""

    OPENED = "opened"
    BACK = "back"  # to a frame that was opened before
    CURRENT = "current"  # nothing: the session was in this frame
    since = enum.nonmember(2)


@frozen
class Switch:
    """FRAME-2, FRAME-4: go on in another frame.  If there is none with this id, it is opened.

    `agent`, `reason`, `inherit` and `options` are those of a frame that is opened.  `agent`: the name of the agent that
    goes on; None: the one that has the session now.  `inherit`: it begins with the states of the current frame, and with
    its options if `options` is None.  `own_path`: with the leaf of that frame, which is none if it is opened.
    """

    since: ClassVar = 2
    frame_id: str  # "" is the first frame
    agent: str | None = None
    reason: str = ""
    inherit: bool = True
    options: str | None = field(
        default=None, repr=lambda o: "None" if o is None else f"<{len(o)} characters>"
    )
    own_path: bool = False


@frozen
class NewState:
    """STATE-2: the text of a state, or None if the state ends."""

    since: ClassVar = 2
    name: str
    text: str | None = field(repr=lambda t: "None" if t is None else f"<{len(t)} characters>")


@frozen
class NamedState:
    """A state by its name, and the digest of its blob."""

    since: ClassVar = 2
    name: str
    digest: str


@frozen
class CurrentFrame:
    """What the row of a session has about its current frame, besides `frame` and `state_digest`.

    `states`: all but the one named `state`, by name.  `shared`: the digests named by the session's row that rows of
    frames name too (STATE-6).
    """

    since: ClassVar = 2
    frame_count: int = 0  # rows of frames
    agent: str | None = None  # None: the session's `frame` names it
    states: tuple[NamedState, ...] = ()
    shared: tuple[str, ...] = ()
