"""Questions about the frames and the states of a session.  Specs: specs/frame.md, specs/state.md."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from attrs import field, frozen

from ..frame import STATE, FrameStatus, NamedState
from ..indexes import FRAMES
from ..limits import FRAMES_MAX
from ..queries import Each, First, Get, Query, Question, all_existing
from ..records import Blob, Frame, Session

__all__ = ["LoadFrames", "LoadStates", "StateText", "named_states", "state_steps"]


Steps = Generator[Query[Any], Any, Any]
EVERY_FRAME: Final = FRAMES_MAX + 1


@frozen
class StateText:
    """A state by its name."""

    name: str
    text: str = field(repr=lambda t: repr(t) if len(t) < 80 else f"<{len(t)} characters>")


@frozen
class LoadFrames(Question[tuple[Frame, ...]]):
    """The frames of a session, in the order in which they were opened; empty if there is no such session.

    The current one has the states and the leaf of the session.  A session in which none was opened has the first one.
    """

    session_id: str

    def steps(self) -> Steps:
        session = yield Get(Session, (self.session_id,))
        if session is None:
            return ()
        rows = yield First(FRAMES, (self.session_id,), EVERY_FRAME)
        if not rows:
            first = (FrameStatus.ACTIVE, "", None, session.leaf, named_states(session), None, 0)
            return (Frame(self.session_id, "", session.agent, None, *first),)
        return tuple(sorted([_shown(session, row) for row in rows], key=_age))


def _age(frame: Frame) -> tuple[int, int, str]:
    return (frame.opened_at_ms is not None, frame.revision, frame.frame_id)


def _shown(session: Session, row: Frame) -> Frame:
    if row.status is not FrameStatus.ACTIVE:
        return row
    return Frame(
        row.session_id, row.frame_id, session.agent, row.previous, row.status, row.reason, row.options,
        session.leaf, named_states(session), row.opened_at_ms, row.revision,
    )  # fmt: skip


@frozen
class LoadStates(Question[tuple[StateText, ...]]):
    """The states of a frame, by name; empty if there is no such session or frame.  `frame_id` None: the current one."""

    session_id: str
    frame_id: str | None = None

    def steps(self) -> Steps:
        session = yield Get(Session, (self.session_id,))
        if session is None:
            return ()
        if self.frame_id in (None, session.frame_id):
            return (yield from state_steps(self.session_id, named_states(session)))
        row = yield Get(Frame, (self.session_id, self.frame_id))
        return (yield from state_steps(self.session_id, () if row is None else row.states))


def named_states(session: Session) -> tuple[NamedState, ...]:
    """Return the states of the current frame, by name."""
    current = session.current_frame
    found = () if current is None else current.states
    if session.state_digest is not None:
        found = (*found, NamedState(STATE, session.state_digest))
    return tuple(sorted(found, key=lambda each: each.name))


def state_steps(session_id: str, states: tuple[NamedState, ...]) -> Steps:
    """Load the texts of states, in their order."""
    if not states:
        return ()
    blobs = yield Each(tuple([Get(Blob, (session_id, each.digest)) for each in states]))
    found = all_existing(blobs, f"blob of a state of session {session_id}")
    return tuple([StateText(s.name, b.body) for s, b in zip(states, found, strict=True)])
