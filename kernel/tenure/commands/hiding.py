"""Hide nodes of the transcript and show them again.  Spec: specs/transcript.md, TRANSCRIPT-40 to TRANSCRIPT-45."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..event import EventKind
from ..outcome import Refusal, Refused, Update
from ..queries import Each, Get
from ..records import Node
from ..replace import replace
from ..transcript import Role
from .transaction import Transaction

__all__ = ["HIDDEN_MAX", "hide_and_show", "node_queries", "refuse_hiding"]


HIDDEN_MAX: Final = 64  # nodes of one command


def node_queries(session_id: str, node_ids: Sequence[str]) -> Each[Node | None]:
    """Return the query of the nodes with these ids."""
    return Each(tuple([Get(Node, (session_id, node_id)) for node_id in node_ids]))


def refuse_hiding(
    hide: tuple[str, ...], show: tuple[str, ...], found: tuple[Node | None, ...]
) -> Refused | None:
    """TRANSCRIPT-42, TRANSCRIPT-44 to TRANSCRIPT-46: refuse ids that may not be hidden or shown together, or return None."""
    named = (*hide, *show)
    if len(named) > HIDDEN_MAX:
        problem = f"{len(named)} nodes to hide or show; at most {HIDDEN_MAX}"
        return Refused(Refusal.ILLEGAL, "TRANSCRIPT-44", problem)
    twice = [node_id for node_id in named if named.count(node_id) > 1]
    if twice:
        return Refused(Refusal.ILLEGAL, "TRANSCRIPT-44", f"node {twice[0]!r} is named twice")
    nodes: list[Node] = []
    for node_id, node in zip(named, found, strict=True):
        if node is None:
            return Refused(Refusal.UNKNOWN_NODE, "TRANSCRIPT-45", node_id)
        nodes.append(node)
    pruned = [node.node_id for node in nodes[len(hide) :] if node.pruned]
    if pruned:
        return Refused(Refusal.PRUNED, "TRANSCRIPT-46", pruned[0])
    for part in (nodes[: len(hide)], nodes[len(hide) :]):
        if torn := _torn(part):
            return Refused(Refusal.ILLEGAL, "TRANSCRIPT-42", torn)
    return None


def _torn(nodes: Sequence[Node]) -> str | None:
    """Return what separates a call from its result, or None.

    Between a call and its last result only results stand, each the child of the one before (TRANSCRIPT-6).
    """
    ids, parents = {node.node_id for node in nodes}, {node.parent for node in nodes}
    for node in nodes:
        if node.open_calls and node.node_id not in parents:
            return f"node {node.node_id!r} without the results of its calls {node.open_calls}"
        if node.role is Role.TOOL and node.call_ids and node.parent not in ids:
            return f"node {node.node_id!r} without node {node.parent!r}, whose calls it answers"
    return None


def hide_and_show(
    tx: Transaction, hide: tuple[str, ...], show: tuple[str, ...], found: tuple[Node | None, ...]
) -> None:
    """TRANSCRIPT-40: hide the first of these nodes, show the others, and say which have changed (EVENT-80)."""
    nodes = [node for node in found if node is not None]
    hidden = [node for node in nodes[: len(hide)] if not node.hidden]
    shown = [node for node in nodes[len(hide) :] if node.hidden]
    tx.write(*[Update(replace(n, hidden=True, hidden_at_ms=tx.now_ms)) for n in hidden])
    tx.write(*[Update(replace(n, hidden=False, hidden_at_ms=None)) for n in shown])
    for kind, changed in ((EventKind.NODES_HIDDEN, hidden), (EventKind.NODES_SHOWN, shown)):
        if changed:
            tx.via.append("TRANSCRIPT-40")
            tx.append_event(kind, detail=" ".join([node.node_id for node in changed]))
