"""Pruning of frames that were left: which ones may go, and what goes with them.  Spec: specs/retention.md, RETENTION-14."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from attrs import frozen

from ..frame import FrameStatus
from ..limits import PRUNE_ROWS_MAX, STATES_MAX
from ..outcome import Drop, Update, Write
from ..records import Blob, BlobHolders, Frame, Session
from ..replace import replace
from ..retention import Keep
from .states import digests_of, with_current_frame
from .switch import count_holders

__all__ = ["FRAMES_A_STEP", "PrunableFrames", "holders_of", "prunable_frames", "prune_frames"]


# each is its own row, and for each state a count and a blob
FRAMES_A_STEP: Final = PRUNE_ROWS_MAX // (1 + 2 * STATES_MAX)


@frozen
class PrunableFrames:
    """The frames that may be pruned now, the one that was left first before the others.

    `next_ms`: when another one may be, if none is left or entered until then.
    """

    now: tuple[Frame, ...]
    next_ms: int | None


def prunable_frames(rows: Iterable[Frame], keep: Keep, now_ms: int) -> PrunableFrames:
    """Return which of all frames of a session a policy does not keep: never the current one."""
    left = [(row.left_at_ms, row.frame_id, row) for row in rows if row.left_at_ms is not None]
    left = sorted([each for each in left if each[2].status is FrameStatus.SUPERSEDED])
    surplus = left[: max(0, len(left) - keep.last)]
    cut_ms = now_ms - keep.for_ms
    now = tuple([row for left_at_ms, _, row in surplus if left_at_ms <= cut_ms])
    later = surplus[len(now) :]
    return PrunableFrames(now, later[0][0] + keep.for_ms if later else None)


def prune_frames(
    session: Session, frames: Sequence[Frame], holders: dict[str, int]
) -> tuple[Session, list[Write]]:
    """Return the session without the pointers of some frames, and the writes.

    `holders`: how many states of frames name a blob, of those that these name; it is changed.  The row of a frame stays
    without what it holds: it says that the id was used (FRAME-12).
    """
    writes: list[Write] = [Update(_pruned(frame)) for frame in frames]
    given = tuple([each for frame in frames for each in frame.states])
    writes += count_holders(session.session_id, holders, (), given)
    released = dict.fromkeys([each.digest for each in given if not holders[each.digest]])
    own = digests_of(session)
    gone = [digest for digest in released if digest not in own]
    writes += [Drop(Blob, (session.session_id, digest)) for digest in gone]
    return _without_shared(session, released.keys()), writes


def _pruned(frame: Frame) -> Frame:
    status = FrameStatus.PRUNED
    return replace(frame, status=status, reason="", options=None, leaf=None, states=())


def holders_of(found: Sequence[Sequence[BlobHolders]]) -> dict[str, int]:
    """Return how many states of frames name a blob, from the rows that were read for some frames."""
    return {row.digest: row.holders for rows in found for row in rows}


def _without_shared(session: Session, released: Collection[str]) -> Session:
    """STATE-6: return the session whose row no longer says that frames hold these."""
    current = session.current_frame
    if current is None:
        return session
    shared = tuple([digest for digest in current.shared if digest not in released])
    return with_current_frame(session, replace(current, shared=shared))
