"""Switching frames, as a part of Commit and Amend.  Spec: specs/frame.md."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from ..event import EventKind
from ..frame import CurrentFrame, FrameStatus, NamedState, NewState, Switch, Switched
from ..limits import FRAME_OPTIONS_BYTES_MAX, FRAMES_MAX
from ..outcome import Drop, Insert, Refusal, Refused, Update, Write
from ..queries import Each, Get, Named
from ..records import BlobHolders, Frame, Session
from ..replace import replace
from ..transcript import Tip, hash_text
from .states import digests_of, states_of, with_current_frame, with_states
from .transaction import Transaction
from .validation import size_of, validate_id, validate_text

__all__ = [
    "AGENT_MAX",
    "Found",
    "apply_switch",
    "check_switch",
    "count_holders",
    "hash_switch",
    "how_switched",
    "set_agent",
    "switch_queries",
]


AGENT_MAX = 200
Found = tuple[Any, ...]  # the answers to `switch_queries`


def switch_queries(
    session_id: str, switch: Switch | None, changes: tuple[NewState, ...]
) -> Each[Any]:
    """Return the query of the rows that a Switch needs; it asks nothing if there is none.

    These are the rows of both frames, and how many frames hold what the session's row has, what it will have, and what
    the command sets.
    """
    if switch is None:
        return Each(())
    row, target = Get(Session, (session_id,)), Get(Frame, (session_id, switch.frame_id))
    texts = [change.text for change in changes if change.text is not None]
    return Each(
        (
            target,
            Named(row, "frame_id", Frame),
            Named(row, "shared_digests", BlobHolders),
            Named(target, "digests", BlobHolders),
            Each(tuple([Get(BlobHolders, (session_id, hash_text(text))) for text in texts])),
        )
    )


def hash_switch(switch: Switch) -> list[object]:
    """Return the part of a stamp about a Switch."""
    options = None if switch.options is None else hash_text(switch.options)
    return [
        *("switch", switch.frame_id, switch.agent, switch.reason),
        *(switch.inherit, options, switch.own_path),
    ]


def check_switch(session: Session, switch: Switch | None, found: Found) -> Refused | None:
    """FRAME-6, FRAME-7, FRAME-12: refuse a Switch with illegal values, to one frame too many, or to one that was pruned."""
    if switch is None:
        return None
    if problem := _problem(switch):
        return Refused(Refusal.ILLEGAL, "FRAME-7", problem)
    target: Frame | None = found[0]
    if target is not None and target.status is FrameStatus.PRUNED:
        return Refused(Refusal.PRUNED, "FRAME-12", switch.frame_id)
    if how_switched(session, switch, found) is Switched.OPENED:
        count = _count(session) + 1
        if count > FRAMES_MAX:
            return Refused(Refusal.FULL, "FRAME-6", count - 1)
    return None


def _problem(switch: Switch) -> str | None:
    problem = validate_id("frame_id", switch.frame_id) if switch.frame_id else None
    problem = problem or validate_text("agent", switch.agent or "", AGENT_MAX)
    problem = problem or validate_text("reason", switch.reason)
    if problem or switch.options is None:
        return problem
    if size_of(switch.options) > FRAME_OPTIONS_BYTES_MAX:
        return f"options of {size_of(switch.options)} bytes; at most {FRAME_OPTIONS_BYTES_MAX}"
    return validate_text("options", switch.options, FRAME_OPTIONS_BYTES_MAX)


def how_switched(session: Session, switch: Switch | None, found: Found) -> Switched | None:
    """FRAME-10: return what a Switch does to a session; None without one."""
    if switch is None:
        return None
    if switch.frame_id == session.frame_id:
        return Switched.CURRENT
    return Switched.OPENED if found[0] is None else Switched.BACK


def _count(session: Session) -> int:
    """Return how many frames there are, with the first one, which may have no row."""
    current = session.current_frame
    return max(1, 0 if current is None else current.frame_count)


def set_agent(session: Session, agent: str) -> Session:
    """FRAME-9: return the session with another agent in the current frame."""
    current = session.current_frame
    if current is None or not current.frame_count:
        return replace(session, frame=agent)
    return with_current_frame(session, replace(current, agent=agent))


@frozen
class _Move:
    """A Switch between two frames: their rows after it, and what the session's row has then."""

    left: Frame  # as it is stored
    entered: Frame
    states: dict[str, str]
    leaf: Tip | None


def apply_switch(tx: Transaction, switch: Switch | None, found: Found) -> None:
    """FRAME-8: switch the session after everything else.  `check_switch` has allowed it."""
    session, how = tx.session, how_switched(tx.session, switch, found)
    if switch is None or how is None:
        return
    if how is Switched.CURRENT:
        tx.via.append("FRAME-3")
        return
    tx.via.append("FRAME-2" if how is Switched.OPENED else "FRAME-4")
    target, here, *counted, texts = found
    known = here[0] if here else None
    left = _left(session, known, tx.now_ms)
    move = _opened(tx, switch, left) if target is None else _back(session, switch, target, left)
    tx.write(Insert(move.left) if known is None else Update(move.left))
    tx.write(Insert(move.entered) if target is None else Update(move.entered))
    holders = {row.digest: row.holders for row in (*counted[0], *counted[1])}
    holders |= {row.digest: row.holders for row in texts if row is not None}
    given = () if target is None else target.states
    tx.write(*count_holders(session.session_id, holders, move.left.states, given))
    _enter(tx, move, _count(session) + (how is Switched.OPENED), holders)
    tx.append_event(EventKind.FRAME_SWITCHED, detail=f"{how.value} {switch.frame_id}".rstrip())
    if move.leaf != session.leaf:  # EVENT-81
        leaf = "" if move.leaf is None else move.leaf.node_id
        tx.append_event(EventKind.LEAF_MOVED, detail=leaf)


def _left(session: Session, known: Frame | None, now_ms: int) -> Frame:
    """Return the row of the frame that is left: it gets the states, the agent and the leaf of the session."""
    states = states_of(session)
    named = tuple([NamedState(name, states[name]) for name in sorted(states)])
    row = known or Frame(
        session.session_id, session.frame_id, "", None, FrameStatus.ACTIVE, "", None, None, (), None, 0
    )  # fmt: skip
    return replace(
        row,
        agent=session.agent,
        status=FrameStatus.SUPERSEDED,
        leaf=session.leaf,
        states=named,
        left_at_ms=now_ms,
    )


def _opened(tx: Transaction, switch: Switch, left: Frame) -> _Move:
    """FRAME-2, FRAME-5: open a frame behind the current one."""
    session, inherited = tx.session, left.options if switch.inherit else None
    entered = Frame(
        session.session_id,
        switch.frame_id,
        left.agent if switch.agent is None else switch.agent,
        left.frame_id,
        FrameStatus.ACTIVE,
        switch.reason,
        inherited if switch.options is None else switch.options,
        None,
        (),
        tx.now_ms,
        session.revision,
    )
    states = states_of(session) if switch.inherit else {}
    return _Move(left, entered, states, None if switch.own_path else session.leaf)


def _back(session: Session, switch: Switch, target: Frame, left: Frame) -> _Move:
    """FRAME-4, FRAME-5: go back to a frame: its states move to the session's row."""
    entered = replace(target, status=FrameStatus.ACTIVE, leaf=None, states=(), left_at_ms=None)
    states = {each.name: each.digest for each in target.states}
    return _Move(left, entered, states, target.leaf if switch.own_path else session.leaf)


def count_holders(
    session_id: str,
    holders: dict[str, int],
    taken: tuple[NamedState, ...],
    given: tuple[NamedState, ...],
) -> list[Write]:
    """STATE-5: count the pointers that a frame's row takes and gives, in `holders`, and return the writes."""
    before = dict(holders)
    for each in taken:
        holders[each.digest] = holders.get(each.digest, 0) + 1
    for each in given:
        holders[each.digest] = holders.get(each.digest, 0) - 1
    writes: list[Write] = []
    for digest, count in holders.items():
        was = before.get(digest, 0)
        assert count >= 0, f"blob {digest}: a frame names it, and {was} pointers are counted"
        if count == was:
            continue
        row = BlobHolders(session_id, digest, count)
        if not count:
            writes.append(Drop(BlobHolders, (session_id, digest)))
        else:
            writes.append(Update(row) if was else Insert(row))
    return writes


def _enter(tx: Transaction, move: _Move, count: int, holders: dict[str, int]) -> None:
    """Put the frame that is entered on the session's row."""
    session = replace(tx.session, frame=move.entered.frame_id, leaf=move.leaf)
    session = with_states(session, move.states)
    shared = tuple(sorted([d for d in digests_of(session) if holders.get(d)]))
    current = replace(
        session.current_frame or CurrentFrame(),
        frame_count=count,
        agent=move.entered.agent,
        shared=shared,
    )
    session = with_current_frame(session, current)
    tx.update(
        frame=session.frame,
        leaf=session.leaf,
        state_digest=session.state_digest,
        current_frame=session.current_frame,
    )
