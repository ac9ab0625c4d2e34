"""What Prune removes of nodes that were hidden: their bodies (RETENTION-15).  Spec: specs/retention.md."""

from __future__ import annotations

from collections.abc import Sequence

from ..limits import PRUNE_ROWS_MAX
from ..outcome import Update, Write
from ..records import Node, PruneProgress
from ..replace import replace

__all__ = ["prune_hidden"]


def prune_hidden(
    progress: PruneProgress, nodes: Sequence[Node], cut_ms: int
) -> tuple[PruneProgress, list[Write], bool]:
    """Return how far a step over hidden nodes has come, its writes, and whether there is nothing else to remove.

    `nodes`: those that were hidden after the last step, oldest first.  A node whose body is empty loses nothing.
    """
    writes: list[Write] = []
    for node in nodes:
        assert node.hidden_at_ms is not None, node
        if node.hidden_at_ms > cut_ms:
            return progress, writes, True
        if node.body:
            writes.append(Update(replace(node, body="", pruned=True)))
        progress = replace(progress, hidden_at_ms=node.hidden_at_ms, hidden_id=node.node_id)
    return progress, writes, len(nodes) < PRUNE_ROWS_MAX
