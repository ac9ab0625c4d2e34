"""New nodes of the transcript: validation, parents, and results for open tool calls.  Spec: specs/transcript.md.

While tool calls are open, only their results may follow.  A run that ends with open calls gets results from here.
"""

from __future__ import annotations

from typing import Final

from ..limits import BODY_BYTES_MAX, CHECKPOINT_NODES_MAX
from ..machines.run import Termination
from ..outcome import Insert, Write
from ..records import Node, OpenTicket, Run, Session
from ..replace import replace
from ..transcript import Form, NewNode, Role, Tip, extend_path, hash_node
from .validation import validate_id

__all__ = [
    "append_nodes",
    "close_open_calls",
    "closing_nodes",
    "first_number",
    "open_calls_after",
    "validate_body",
    "validate_nodes",
]


UNSEEN: Final = (
    "the turn ended before a result was written down; whether the call took effect is not known"
)
UNDECIDED: Final = "not carried out: nobody decided"


def validate_body(body: str) -> str | None:
    """Return what is wrong with the body of a node, journal entry or blob, or None."""
    if "\x00" in body:
        return "body with a NUL character"
    if body.isascii():
        size = len(body)
    else:
        try:
            size = len(body.encode())
        except UnicodeEncodeError as error:
            return f"body with a lone surrogate at {error.start}"
    return f"body of {size} bytes; at most {BODY_BYTES_MAX}" if size > BODY_BYTES_MAX else None


def validate_nodes(open_calls: tuple[str, ...], nodes: tuple[NewNode, ...]) -> str | None:
    """TRANSCRIPT-6, TRANSCRIPT-28: return what is wrong with new nodes, or None.

    Each call gets one result, before anything else.
    """
    for node in nodes:
        if node.form is Form.INPUTS:
            return "node of form inputs: only a checkpoint that takes inputs makes it"
        found = open_calls_after_node(open_calls, node)
        if isinstance(found, str):
            return found
        open_calls = found
        if problem := validate_body(node.body):
            return problem
    return None


def open_calls_after_node(open_calls: tuple[str, ...], node: NewNode) -> tuple[str, ...] | str:
    """Return the ids of the calls that are open after a node, or what is wrong with it."""
    ids = node.call_ids
    if not ids and not open_calls:
        return ()
    if node.hidden and ids:
        return f"hidden node with calls {ids}"
    if node.role is Role.TOOL:
        return _answered(open_calls, ids)
    if open_calls:
        return f"node of role {node.role.value} while calls are open: {open_calls}"
    if node.role is not Role.ASSISTANT:
        return f"node of role {node.role.value} with calls {ids}"
    if len(ids) > CHECKPOINT_NODES_MAX or len(set(ids)) < len(ids):
        return f"{len(ids)} calls, {len(set(ids))} ids; at most {CHECKPOINT_NODES_MAX}, each with an id of its own"
    problems = (validate_id("call_id", each) for each in ids)
    return next((p for p in problems if p), None) or ids


def _answered(open_calls: tuple[str, ...], ids: tuple[str, ...]) -> tuple[str, ...] | str:
    if not ids or not set(ids) <= set(open_calls) or len(set(ids)) < len(ids):
        return f"results of {ids} while these calls are open: {open_calls}"
    return tuple([each for each in open_calls if each not in ids])


def closing_nodes(
    open_calls: tuple[str, ...], termination: Termination, tickets: tuple[OpenTicket, ...] | None
) -> tuple[NewNode, ...]:
    """TRANSCRIPT-7, TRANSCRIPT-60: return nodes with the results that a run which ends did not write.

    `tickets`: those of the run that are open.
    """
    asked = {each.call_id for each in tickets or ()}
    undecided = tuple([each for each in open_calls if each in asked])
    others = tuple([each for each in open_calls if each not in asked])
    prefix = "cancelled" if termination is Termination.CANCELLED else "interrupted"
    return (
        *((NewNode(Role.TOOL, UNDECIDED, undecided),) if undecided else ()),
        *((NewNode(Role.TOOL, f"{prefix}: {UNSEEN}", others),) if others else ()),
    )


def close_open_calls(
    session: Session, run: Run, termination: Termination, now_ms: int
) -> tuple[Run, list[Write]]:
    """Write results for the open calls of a run that ends."""
    new = closing_nodes(run.open_calls, termination, run.open_tickets)
    if not new:
        return run, []
    run, nodes = append_nodes(
        session, run, run.next_checkpoint, new, [hash_node(node) for node in new], now_ms
    )
    return run, [Insert(node) for node in nodes]


def open_calls_after(open_calls: tuple[str, ...], nodes: tuple[NewNode, ...]) -> tuple[str, ...]:
    """Return the ids of the calls that are open after these nodes, which must be valid."""
    for node in nodes:
        found = open_calls_after_node(open_calls, node)
        assert not isinstance(found, str), found
        open_calls = found
    return open_calls


def append_nodes(
    session: Session,
    run: Run,
    n: int,
    new: tuple[NewNode, ...],
    contents: list[tuple[object, ...]],
    now_ms: int,
    taken: tuple[str, ...] = (),
) -> tuple[Run, tuple[Node, ...]]:
    """TRANSCRIPT-2, TRANSCRIPT-3: return the run with its new tip, and the nodes, each the child of the one before.

    The first node of a run carries the inputs that the run answers, and a node of form `inputs` those that were `taken`.
    READ-2: the numbers go on from the session's, which the command must store if it has none.
    """
    tip, open_calls = run.tip, run.open_calls
    seq = first_number(session) + (run.node_count or 0)
    nodes: list[Node] = []
    for i, node in enumerate(new):
        inputs = tuple([c.input_id for c in run.contributors]) if tip is None else ()
        if node.form is Form.INPUTS:
            inputs = (*inputs, *taken)
        parent = tip or session.leaf
        path = extend_path(parent, inputs, contents[i])
        open_calls = open_calls_after(open_calls, (node,))
        node_id = f"{run.run_id}:{run.turn}:{n}:{i}"
        nodes.append(
            Node(
                session.session_id, node_id, parent.node_id if parent else None, run.run_id,
                session.revision + 1, node.role, inputs, node.call_ids, path, node.hidden,
                now_ms, node.body, node.form, open_calls, seq + i,
            )
        )  # fmt: skip
        tip = Tip(node_id, path)
    if not nodes:
        return run, ()
    count = (run.node_count or 0) + len(nodes)
    return replace(run, tip=tip, open_calls=open_calls, node_count=count), tuple(nodes)


def first_number(session: Session) -> int:
    """READ-2: return the number from which the nodes of the open turn, or of the next one, are counted.

    A session that may have nodes of release 1, which have no numbers, begins at 2: so readers know that they must look
    for those too.
    """
    if session.next_node is not None:
        return session.next_node
    return 1 if not session.revision and session.open_run is None else 2
