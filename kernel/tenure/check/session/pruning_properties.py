"""Properties of Prune: what it may remove.  Written from the design, over all rows, without the table of the kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ... import commands as c
from ...frame import FrameStatus
from ...limits import COMMANDS_FOR_MS_MIN
from ...machines import input as input_
from ...machines import run as run_
from ...outcome import Drop, Update
from ...records import (
    Blob,
    BlobHolders,
    EventBatch,
    ExecutedCommand,
    Frame,
    Input,
    JournalEntry,
    Node,
    Phase,
    PruneProgress,
    Session,
    Ticket,
)
from ...replace import replace
from ...retention import PruneKind
from .snapshot import Snapshot, rows_of
from .step import Step, lease_id_of

__all__ = ["NEVER_BACK", "NOTHING_LIVE", "NOT_EMPTY", "PRUNING_PROPERTIES", "path_inputs"]


NOTHING_LIVE: Final = "nothing live is pruned"
ONLY_PUBLISHED: Final = "an event is pruned only after it was published"
CHANGES_NOTHING_ELSE: Final = "a Prune changes nothing that a decision about work reads"
NEVER_BACK: Final = "a pruned frame is never entered again, and no other one is opened under its id"
NOT_EMPTY: Final = "a node whose body was pruned is never shown"
ERASES_ONLY: Final = "texts are erased only in a destroyed session, where that was asked"


def path_inputs(b: Snapshot) -> set[str]:
    """Return the inputs that the transcript names, and those of nodes that are not visible yet."""
    nodes = {node.node_id: node for node in rows_of(b.world, Node).values()}
    frames = rows_of(b.world, Frame).values()
    tips = [b.session.leaf, *(f.leaf for f in frames), *(run.tip for run in b.unfinished())]
    named: set[str] = set()
    for tip in tips:
        node = None if tip is None else nodes.get(tip.node_id)
        while node is not None:
            named.update(node.inputs)
            node = nodes.get(node.parent or "")
    return named


def nothing_live(t: Step) -> bool:
    if not isinstance(t.command, c.Prune):
        return True
    rows = [(w.record, w.key) for w in t.decided.writes if isinstance(w, Drop)]
    return all(_may_go(t, kind, rows_of(t.before.world, kind).get(key)) for kind, key in rows) and (
        _may_change(t)
    )


def _may_go(t: Step, kind: Any, row: Any) -> bool:
    """Return whether a row may be removed.  In a destroyed session that is at rest, every row but two."""
    b, session = t.before, t.before.session
    if row is None:
        return True
    if kind in (Session, PruneProgress):
        return False
    if kind is EventBatch:
        return True
    if kind in (Blob, BlobHolders) and t.command.kind is PruneKind.FRAMES:
        return True  # that nothing names them is a property of states
    if kind is ExecutedCommand:
        old = t.after.now_ms - row.at_ms >= COMMANDS_FOR_MS_MIN
        return bool(old and row.command_id != lease_id_of(session.lease))
    if session.phase is Phase.DESTROYED and not session.sweep and not b.unfinished():
        return True
    if kind in (JournalEntry, Ticket):
        run = b.runs.get(row.run_id)
        return run is None or isinstance(run.state, run_.Done)
    if kind is Input:
        return _input_may_go(t, row)
    entry = b.queue_entries.get(getattr(row, "input_id", ""))
    return entry is not None and entry is row and isinstance(entry.state, input_.Ended)


def _input_may_go(t: Step, row: Input) -> bool:
    entry = t.before.queue_entries.get(row.input_id)
    ended = entry is not None and isinstance(entry.state, input_.Ended)
    key_kept = (
        row.key_value is not None
        and t.after.now_ms - row.admitted_at_ms < t.command.policy.keys_for_ms
    )
    return ended and not key_kept and row.input_id not in path_inputs(t.before)


def _may_change(t: Step) -> bool:
    """A run loses its stamp, and an input its payload, no earlier than allowed; before that nothing of them changes."""
    if t.before.session.phase is Phase.DESTROYED:
        return True
    for name, run in t.after.runs.items():
        old = t.before.runs[name]
        if old == run:
            continue
        if not isinstance(old.state, run_.Done):
            return False
        stamped = (old.stamp, old.last_end) != (run.stamp, run.last_end)
        if stamped and not _is_two_days_old(t, name):
            return False
    for key, given in rows_of(t.after.world, Input).items():
        before = rows_of(t.before.world, Input)[key]
        if before != given and not _input_may_go(t, before):
            return False
    return _frames_may_change(t) and _nodes_may_change(t)


def _frames_may_change(t: Step) -> bool:
    """A frame loses what it holds only as long after it was left as the policy says, and never the current one."""
    before, after = rows_of(t.before.world, Frame), rows_of(t.after.world, Frame)
    left = sorted([f.left_at_ms for f in before.values() if f.status is FrameStatus.SUPERSEDED])
    for key, frame in before.items():
        if after.get(key) == frame:
            continue
        keep = t.command.policy.frames
        if keep is None or frame.status is not FrameStatus.SUPERSEDED:
            return False
        later = sum([at_ms > frame.left_at_ms for at_ms in left])
        if frame.left_at_ms > t.after.now_ms - keep.for_ms or later < keep.last:
            return False
    return before.keys() == after.keys()


def _nodes_may_change(t: Step) -> bool:
    """A node loses its body, and nothing else, only as long after it was hidden as the policy says."""
    before, after = rows_of(t.before.world, Node), rows_of(t.after.world, Node)
    for key, node in before.items():
        if after.get(key) == node:
            continue
        keep_ms = t.command.policy.hidden_for_ms
        if keep_ms is None or not node.hidden or node.hidden_at_ms is None:
            return False
        old = node.hidden_at_ms <= t.after.now_ms - keep_ms
        if not old or after.get(key) != replace(node, body="", pruned=True):
            return False
    return before.keys() == after.keys()


def _is_two_days_old(t: Step, run_id: str) -> bool:
    """Return whether the event that has ended a run is so old, or is gone."""
    for batch in rows_of(t.before.world, EventBatch).values():
        for event in batch.events:
            if event.kind.value == "run_finished" and event.run_id == run_id:
                return bool(t.after.now_ms - batch.at_ms >= COMMANDS_FOR_MS_MIN)
    return True


def only_published(t: Step) -> bool:
    if not isinstance(t.command, c.Prune):
        return True
    left, published = rows_of(t.after.world, EventBatch), t.before.session.published
    gone = [row for key, row in rows_of(t.before.world, EventBatch).items() if key not in left]
    return published is None or all(b.seq + len(b.events) - 1 <= published for b in gone)


def changes_nothing_else(t: Step) -> bool:
    if not isinstance(t.command, c.Prune):
        return True
    before, after = t.before.session, t.after.session
    own = replace(after, prune_at_ms=before.prune_at_ms, pruned_before_ms=before.pruned_before_ms)
    if t.command.kind is PruneKind.FRAMES and after.current_frame is not None:
        shared = () if before.current_frame is None else before.current_frame.shared
        own = replace(own, current_frame=replace(after.current_frame, shared=shared))
    if before.phase is Phase.DESTROYED:
        own = replace(
            own, erased=before.erased, leaf=before.leaf, state_digest=before.state_digest,
            environment_digest=before.environment_digest,
            current_frame=before.current_frame, scrap_count=before.scrap_count,
            intent_count=before.intent_count, intents_at_ms=before.intents_at_ms,
            due_at_ms=before.due_at_ms,
            scraps_since_ms=before.scraps_since_ms, next_event=before.next_event,
            changed_at_ms=before.changed_at_ms, unpublished_since_ms=before.unpublished_since_ms,
        )  # fmt: skip
    return own == before


def erases_only(t: Step) -> bool:
    without = (PruneKind.FRAMES, PruneKind.HIDDEN)  # they have properties of their own
    if not isinstance(t.command, c.Prune) or t.command.kind in without:
        return True
    kinds = (Node, JournalEntry, EventBatch, Frame)
    changed = [w for w in t.decided.writes if isinstance(w, Update) and isinstance(w.record, kinds)]
    return not changed or t.before.session.erased is False


def shown_as_written(t: Step) -> bool:
    """A node that can be seen has the body that it was written with."""
    nodes = rows_of(t.after.world, Node)
    gone = t.after.session.phase is Phase.DESTROYED
    return gone or not any(node.pruned and not node.hidden for node in nodes.values())


def never_back(t: Step) -> bool:
    """What is left of a pruned frame stays as it is, so it is neither entered nor opened."""
    if t.before.session.phase is Phase.DESTROYED:
        return True  # its rows may be removed
    before, after = rows_of(t.before.world, Frame), rows_of(t.after.world, Frame)
    pruned = [key for key, frame in before.items() if frame.status is FrameStatus.PRUNED]
    return all(after.get(key) == before[key] for key in pruned)


PRUNING_PROPERTIES: Final[dict[str, Callable[[Step], bool]]] = {
    NOTHING_LIVE: nothing_live,
    ONLY_PUBLISHED: only_published,
    CHANGES_NOTHING_ELSE: changes_nothing_else,
    ERASES_ONLY: erases_only,
    NEVER_BACK: never_back,
    NOT_EMPTY: shown_as_written,
}
