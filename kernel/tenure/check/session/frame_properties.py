"""Properties of frames, states and blobs, and of the decisions that change them.  Specs: specs/frame.md, specs/state.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from ... import commands as c
from ...frame import FrameStatus
from ...limits import FRAMES_MAX, STATES_MAX
from ...phase import Phase
from ...records import Blob, BlobHolders, Frame, Session
from ...transcript import hash_text
from .snapshot import Snapshot, rows_of
from .step import Step

__all__ = ["FRAME_PROPERTIES", "FRAME_STATES", "own_states"]


States = dict[str, str]


def own_states(session: Session) -> States:
    """Return the digests of the states on a session's row, by name."""
    current = session.current_frame
    found = {} if current is None else {each.name: each.digest for each in current.states}
    return found if session.state_digest is None else {**found, "state": session.state_digest}


def frames_of(b: Snapshot) -> dict[str, Frame]:
    return {frame.frame_id: frame for frame in rows_of(b.world, Frame).values()}


# -- of every state


def blobs_held(b: Snapshot) -> bool:
    """Every pointer has its blob, every blob a pointer, and the pointers of frames are counted."""
    if b.session.phase is Phase.DESTROYED:
        return True  # its rows may be removed table by table (RETENTION-8)
    held = Counter(each.digest for frame in frames_of(b).values() for each in frame.states)
    counted = {row.digest: row.holders for row in rows_of(b.world, BlobHolders).values()}
    own = set(own_states(b.session).values())
    if b.session.environment_digest is not None:
        own.add(b.session.environment_digest)
    stored = {blob.digest for blob in rows_of(b.world, Blob).values()}
    shared = [] if b.session.current_frame is None else list(b.session.current_frame.shared)
    return counted == held and shared == sorted(own & held.keys()) and stored == own | held.keys()


def one_active(b: Snapshot) -> bool:
    """If there are rows of frames, the current one is the only active one, and its row has no states."""
    if b.session.phase is Phase.DESTROYED:
        return True  # as above
    frames, current = frames_of(b), b.session.current_frame
    if not frames:
        return current is None or not current.frame_count
    active = [frame for frame in frames.values() if frame.status is FrameStatus.ACTIVE]
    if current is None or current.frame_count != len(frames) or len(frames) > FRAMES_MAX:
        return False
    alone = [frame.frame_id for frame in active] == [b.session.frame]
    return alone and not active[0].states and active[0].leaf is None


def few_states(b: Snapshot) -> bool:
    counts = [len(frame.states) for frame in frames_of(b).values()]
    return max([*counts, len(own_states(b.session))]) <= STATES_MAX


# -- of decisions


def switch_of(t: Step) -> c.Switch | None:
    """Return the Switch of a command that was done; None if there is none, or to the current frame."""
    switch = getattr(t.command, "switch", None)
    moved = t.before.session.frame_id != t.after.session.frame_id
    return switch if moved and isinstance(switch, c.Switch) else None


def told(t: Step) -> States:
    """Return the states of the frame in which a command found the session, as it must leave them."""
    states, session = own_states(t.before.session), t.before.session
    changes = list(getattr(t.command, "states", ()))
    if getattr(t.command, "state", None) is not None:
        changes.append(c.NewState("state", t.command.state))
    if session.cancel is not None and session.cancel.rollback:
        return states  # nothing of such a commit stays
    for change in changes:
        states.pop(change.name, None)
        if change.text is not None:
            states[change.name] = hash_text(change.text)
    return states


def states_as_told(t: Step) -> bool:
    """The states are those that the command sets, those of the frame that is entered, or as before."""
    if isinstance(t.command, c.Prune):
        return True  # CHANGES_NOTHING_ELSE
    switch, after = switch_of(t), own_states(t.after.session)
    if switch is None:
        return after == told(t)
    target = frames_of(t.before).get(switch.frame_id)
    if target is not None:
        return after == {each.name: each.digest for each in target.states}
    return after == (told(t) if switch.inherit else {})


def left_as_it_was(t: Step) -> bool:
    """The frame that is left keeps its states and its leaf; all others keep their rows."""
    if isinstance(t.command, c.Prune):
        return True  # NOTHING_LIVE, ERASES_ONLY
    before, after, switch = frames_of(t.before), frames_of(t.after), switch_of(t)
    if switch is None:
        return before == after and t.before.session.frame_id == t.after.session.frame_id
    here, there = t.before.session.frame_id, switch.frame_id
    left = {each.name: each.digest for each in after[here].states}
    others = all(
        after.get(name) == row for name, row in before.items() if name not in (here, there)
    )
    return left == told(t) and others and t.after.session.frame_id == there


def path_as_told(t: Step) -> bool:
    """After a Switch the leaf is the one that was left, or with own_path that of the frame."""
    switch = switch_of(t)
    if switch is None:
        return True
    before, leaf = frames_of(t.before), t.after.session.leaf
    if not switch.own_path:
        return leaf == frames_of(t.after)[t.before.session.frame_id].leaf
    known = before.get(switch.frame_id)
    return leaf == (None if known is None else known.leaf)


def as_answered(t: Step) -> bool:
    """The answer says what the Switch did."""
    switch = getattr(t.command, "switch", None)
    cancel = t.before.session.cancel
    if not isinstance(switch, c.Switch) or (cancel is not None and cancel.rollback):
        return True
    if switch_of(t) is None:
        how = c.Switched.CURRENT
    else:
        known = switch.frame_id in frames_of(t.before)
        how = c.Switched.BACK if known else c.Switched.OPENED
    return getattr(t.decided.outcome, "switched", None) is how


FRAME_STATES: Final[dict[str, Callable[[Snapshot], bool]]] = {
    "every blob is held, and its holders are counted": blobs_held,
    "exactly the current frame is active": one_active,
    "a frame has at most 8 states": few_states,
}
FRAME_PROPERTIES: Final[dict[str, Callable[[Step], bool]]] = {
    "states are those that were set, or those of the frame that is entered": states_as_told,
    "a frame that is left keeps its states, and a Switch leaves the others alone": left_as_it_was,
    "a Switch leaves the leaf where it is, or takes that of the frame": path_as_told,
    "the answer says what a Switch did": as_answered,
}
