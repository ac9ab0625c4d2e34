"""Reading a path of the transcript, node by node (READ-7): what stands on it, and pages of it.  Spec: specs/reading.md."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from typing import Any, Final

from attrs import frozen

from ..queries import Chain, Each, Get, Query, Question, all_existing, existing
from ..records import Input, Node, Session
from ..replace import replace
from ..transcript import Form, Role

__all__ = ["LoadPage", "LoadTranscript", "TranscriptLine", "TranscriptPage", "lines_of", "on_path"]


PAGE: Final = 256
FIRST_PAGE: Final = 32  # nodes of a path; each further page is twice as large
Steps = Generator[Query[Any], Any, Any]


@frozen
class TranscriptLine:
    """One node of the transcript, with the inputs that precede it."""

    inputs: tuple[Input, ...]
    node: Node


@frozen
class TranscriptPage:
    """A part of a path, in order.

    `before`: the node before which the path goes on towards its beginning; None: the page has the first node.
    `after`: the node after which it goes on; None: the page has the last one.
    """

    lines: tuple[TranscriptLine, ...]
    before: str | None
    after: str | None


@frozen
class LoadTranscript(Question[tuple[TranscriptLine, ...]]):
    """READ-1: the path to a node, in order: what stands on its last `limit` nodes.

    `leaf`: the last node of the path; None is the leaf of the session.  A path to an unknown node is empty.
    `compacted`: leave out nodes that a compaction replaces.
    """

    session_id: str
    limit: int = 10_000
    compacted: bool = False
    leaf: str | None = None

    def steps(self) -> Steps:
        s = self.session_id
        if self.leaf is None:
            last = leaf_of((yield Get(Session, (s,))))
        else:
            named = yield Get(Node, (s, self.leaf))
            last = None if named is None else named.node_id
        lines, _ = yield from path_to(s, last, self.limit, self.compacted)
        return lines


@frozen
class LoadPage(Question[TranscriptPage | None]):
    """READ-6: a page of a path; None if the node that it names is not there.

    `before`: the nodes before this one.  `after`: the nodes of the session's path after this one; its cost is the
    distance of the node from the leaf.  Without either: the end of the session's path.  `limit`: how many nodes are
    looked at, at most 256; those that are hidden are left out.
    """

    session_id: str
    before: str | None = None
    after: str | None = None
    limit: int = PAGE

    def steps(self) -> Steps:
        if self.before is not None and self.after is not None:
            raise ValueError(f"before={self.before!r}, after={self.after!r}: expected one of them")
        s, limit = self.session_id, max(1, min(self.limit, PAGE))
        session = yield Get(Session, (s,))
        if session is None:
            return None
        if self.after is not None:
            return (yield from self._after(leaf_of(session), self.after, limit))
        last = leaf_of(session)
        if self.before is not None:
            named = yield Get(Node, (s, self.before))
            if named is None:
                return None
            last = named.parent
        lines, earlier = yield from path_to(s, last, limit)
        before = None if earlier is None else earlier.node_id
        return TranscriptPage(lines, before, self._end(last))

    def _end(self, last: str | None) -> str | None:
        """Return the last node of a page, if it has others after it."""
        return None if self.before is None else last

    def _after(self, leaf: str | None, after: str, limit: int) -> Steps:
        """Walk back from the leaf to the node, and keep the nodes that are next to it."""
        near: deque[Node] = deque(maxlen=limit + 1)
        next_ = leaf
        while next_ is not None and next_ != after:
            nodes = yield Chain(Node, (self.session_id, next_), "parent", PAGE)
            existing(nodes[0] if nodes else None, f"node {next_} of the transcript")
            for node in nodes:
                if node.node_id == after:
                    next_ = after
                    break
                near.append(node)
                next_ = node.parent
        if next_ is None:
            return None
        found = list(reversed(near))
        lines = yield from lines_of(self.session_id, found[:limit])
        more = len(found) > limit
        first = found[0].node_id if found else None
        return TranscriptPage(lines, first, found[limit - 1].node_id if more else None)


def leaf_of(session: Session | None) -> str | None:
    """Return the id of the last visible node."""
    return None if session is None or session.leaf is None else session.leaf.node_id


def path_to(session_id: str, last: str | None, limit: int, compacted: bool = False) -> Steps:
    """Load what stands on the last `limit` nodes of a path, in order, and the first node of them if others precede it."""
    read: list[Node] = []
    page = FIRST_PAGE
    while last is not None and len(read) < limit:
        nodes = yield Chain(Node, (session_id, last), "parent", min(page, limit - len(read)))
        existing(nodes[0] if nodes else None, f"node {last} of the transcript")
        nodes = _wanted(nodes) if compacted else nodes
        read += nodes
        replaced = compacted and _replaces(nodes[-1])
        last, page = None if replaced else nodes[-1].parent, min(2 * page, PAGE)
    read.reverse()
    lines = yield from lines_of(session_id, read)
    return lines, read[0] if read and last is not None else None


def lines_of(session_id: str, nodes: Sequence[Node]) -> Steps:
    """Load what is shown of these nodes: each with its inputs, and nothing of those that are hidden."""
    shown = [node for node in map(on_path, nodes) if node is not None]
    found: list[Input | None] = []
    keys = [(session_id, each) for node in shown for each in node.inputs]
    for at in range(0, len(keys), PAGE):
        found += yield Each(tuple([Get(Input, key) for key in keys[at : at + PAGE]]))
    if None in found:
        session: Session | None = yield Get(Session, (session_id,))
        if session is None or session.pruned_before_ms is None:
            all_existing(found, "input of a node")  # raises
    rows = iter(found)
    lines = []
    for node in shown:  # RETENTION-6: one that was rolled back may name an input that was removed
        own = [next(rows) for _ in node.inputs]
        lines.append(TranscriptLine(tuple([row for row in own if row is not None]), node))
    return tuple(lines)


def on_path(node: Node) -> Node | None:
    """TRANSCRIPT-40, TRANSCRIPT-41: return what is shown of a node; None if it is hidden.

    A node that was written hidden shows the inputs before it, as a node of form `inputs` does.
    """
    if not node.hidden:
        return node
    if node.hidden_at_ms is not None or not node.inputs:
        return None
    return replace(node, role=Role.USER, form=Form.INPUTS, body="", call_ids=(), hidden=False)


def _wanted(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Return the nodes up to the first compaction, which replaces those before it."""
    ends = [at for at, node in enumerate(nodes, 1) if _replaces(node)]
    return nodes[: ends[0]] if ends else nodes


def _replaces(node: Node) -> bool:
    """TRANSCRIPT-43: return whether a node stands for those before it: a compaction that is not hidden."""
    return node.form is Form.COMPACTION and not node.hidden
