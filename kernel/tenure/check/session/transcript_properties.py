"""Properties of decisions about nodes: their numbers, who hides them, and what a path shows afterwards.

They are written from the design (specs/transcript.md, specs/reading.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ... import commands as c
from ...outcome import Insert, Update
from ...queries import Get
from ...questions.core import LoadTranscript, TranscriptLine
from ...records import Node
from ...replace import replace
from ...transcript import Form, Role
from ...world import ask
from .snapshot import Snapshot, rows_of
from .step import Step

__all__ = ["TRANSCRIPT_PROPERTIES"]


def numbered_in_order(t: Step) -> bool:
    """New nodes have the numbers that follow those of all others, in the order of writing."""
    new = [n.record for n in t.decided.writes if isinstance(n, Insert) and _is_node(n.record)]
    if not new:
        return True
    known = [n.seq for n in rows_of(t.before.world, Node).values() if n.seq is not None]
    first = max(known, default=0) + 1 if known else new[0].seq
    return first >= 1 and [node.seq for node in new] == [*range(first, first + len(new))]


def hidden_by_amend(t: Step) -> bool:
    """A stored node changes only by an Amend that names it, and only in whether it is hidden."""
    if isinstance(t.command, c.Prune):
        return True  # ERASES_ONLY
    hide, show = (t.command.hide, t.command.show) if isinstance(t.command, c.Amend) else ((), ())
    before = rows_of(t.before.world, Node)
    for write in t.decided.writes:
        if not isinstance(write, Update) or not _is_node(write.record):
            continue
        after: Any = write.record
        old = before[after.session_id, after.node_id]
        if after == old and isinstance(t.command, c.Reseal):
            continue  # it writes rows as they are
        if replace(after, hidden=old.hidden, hidden_at_ms=old.hidden_at_ms) != old:
            return False
        if after.node_id not in (*hide, *show) or after.hidden is not (after.node_id in hide):
            return False
    return True


def path_shown(t: Step) -> bool:
    """After an Amend a reader is shown what is not hidden, from the last compaction that is not hidden."""
    if not isinstance(t.command, c.Amend):
        return True
    expected = _expected(t.after)
    if expected is None:
        return True
    shown = [(line.node.node_id, line.node.form) for line in _asked(t.after, compacted=False)]
    if [(node.node_id, node.form) for node in expected] != shown:
        return False
    last = [at for at, node in enumerate(expected) if node.form is Form.COMPACTION]
    compacted = [line.node.node_id for line in _asked(t.after, compacted=True)]
    return compacted == [node.node_id for node in expected[last[-1] if last else 0 :]]


def path_legal(t: Step) -> bool:
    """After an Amend, each call of what a reader is shown has its result, and nothing stands between them."""
    if not isinstance(t.command, c.Amend):
        return True
    open_calls: set[str] = set()
    for node in _expected(t.after) or ():
        ids = set(node.call_ids)
        if open_calls or node.role is Role.TOOL:
            if node.role is not Role.TOOL or not ids <= open_calls:
                return False
            open_calls -= ids
        else:
            open_calls = ids
    return not open_calls


def _is_node(record: object) -> bool:
    return record.__class__ is Node


def _expected(b: Snapshot) -> list[Node] | None:
    """Return what a reader is to be shown of the path of the leaf; None if an explored state has dropped nodes of it."""
    path: list[Node] = []
    leaf = b.session.leaf
    last = None if leaf is None else leaf.node_id
    while last is not None:
        node = b.world.answer(Get(Node, (b.session.session_id, last)))
        if node is None:
            return None
        path.append(node)
        last = node.parent
    shown = []
    for node in reversed(path):
        if not node.hidden:
            shown.append(node)
        elif node.inputs and node.hidden_at_ms is None:
            shown.append(replace(node, role=Role.USER, form=Form.INPUTS, call_ids=()))
    return shown


def _asked(b: Snapshot, *, compacted: bool) -> tuple[TranscriptLine, ...]:
    return ask(LoadTranscript(b.session.session_id, 1_000_000, compacted), b.world.answer)


TRANSCRIPT_PROPERTIES: Final[dict[str, Callable[[Step], bool]]] = {
    "nodes are numbered in the order of writing": numbered_in_order,
    "only an Amend that names a node hides or shows it": hidden_by_amend,
    "a reader is shown what is not hidden": path_shown,
    "each call that is shown has its result": path_legal,
}
