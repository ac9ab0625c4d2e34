"""Forks: which nodes a copy of a path has, read twice: from its end for their outlines, then page by page.  Spec: specs/import.md."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final, TypeAlias, TypeGuard

from attrs import frozen

from .imports import ImportNode, NodeOutline, outline_of, size_of_body
from .limits import BODY_BYTES_MAX
from .messages.codec import node_of
from .outcome import Refusal, Refused
from .policy import Audience
from .queries import Chain, Each, Get, Query, Question, all_existing, existing
from .questions.path import on_path
from .records import Fork, ImportProgress, Input, Node, Phase, Profile, Session
from .transcript import Form, Role, hash_parts
from .turn.chat_policy import message_of_input

__all__ = [
    "CopyOf",
    "ForkPart",
    "ForkStart",
    "LoadCopies",
    "LoadForkPart",
    "LoadForkStart",
]


Steps: TypeAlias = Generator[Query[Any], Any, Any]

PART: Final = 256  # nodes that are read together
ID_LENGTH: Final = 32  # of 64 digits; equal ids would be refused (IMPORT-10)


@frozen
class CopyOf:
    """What a node of a fork is a copy of: an input, or a node."""

    node_id: str
    is_input: bool = False

    @property
    def new_id(self) -> str:
        """IMPORT-21: the id of the copy."""
        kind = "input" if self.is_input else "node"
        return f"{kind}-{hash_parts(self.node_id)[3 : 3 + ID_LENGTH]}"


@frozen
class ForkPart:
    """A part of the path that is copied, from its end on: what each copy is of, and its outline.

    `before`: the node at which the next part begins; None: this is the last part.
    """

    copies: tuple[CopyOf, ...]
    outlines: tuple[NodeOutline, ...]
    before: str | None


@frozen
class LoadForkPart(Question[ForkPart]):
    """Load a part of a path, from a node, which exists, towards its beginning.

    `whole`: also what the last compaction replaces.
    """

    session_id: str
    node_id: str
    whole: bool = False

    def steps(self) -> Steps:
        s = self.session_id
        nodes = yield Chain(Node, (s, self.node_id), "parent", PART)
        existing(nodes[0] if nodes else None, f"node {self.node_id} of the transcript")
        copies: list[CopyOf] = []
        outlines: list[NodeOutline] = []
        before: str | None = nodes[-1].parent
        for node in filter(None, map(on_path, nodes)):
            begins = node.form is Form.COMPACTION and not self.whole
            found = yield from _inputs_of(s, () if begins else node.inputs)
            made = [*map(copy_of_input, found), copy_of_node(node)]
            for of, copy in reversed([each for each in made if each is not None]):
                copies.append(of)
                outlines.append(outline_of(copy))
            if begins:
                before = None
                break
        return ForkPart(tuple(copies), tuple(outlines), before)


@frozen
class LoadCopies(Question[tuple[ImportNode, ...]]):
    """Load the nodes of a page of a fork.  Raises RowsContradict if what they are copies of is gone."""

    session_id: str
    copies: tuple[CopyOf, ...]

    def steps(self) -> Steps:
        s = self.session_id
        nodes = yield Each(
            tuple([Get(Node, (s, c.node_id)) for c in self.copies if not c.is_input])
        )
        inputs = yield from _inputs_of(s, [c.node_id for c in self.copies if c.is_input])
        found = [
            *map(copy_of_node, all_existing(nodes, "node of a fork")),
            *map(copy_of_input, inputs),
        ]
        known = dict([each for each in found if each is not None])
        return all_existing([known.get(of) for of in self.copies], "node of a fork")


@frozen
class ForkStart:
    """The node up to which a fork copies; None: there is nothing to copy.

    `done`: the fork is whole, with so many nodes, in so many pages; None: it is not.
    """

    node_id: str | None
    done: tuple[int, int] | None = None


@frozen
class LoadForkStart(Question[ForkStart | Refused]):
    """Where the fork `new_id` of a session ends: at the node that its profile names, else at `at`, else at the leaf (IMPORT-22).

    Refusals: UNKNOWN_SESSION, UNKNOWN_NODE, ILLEGAL, PHASE if the fork was destroyed, and KEY_CONFLICT if the session exists and is another one.
    """

    session_id: str
    new_id: str
    at: str | None = None

    def steps(self) -> Steps:
        origin = yield Get(Session, (self.session_id,))
        if origin is None:
            return Refused(Refusal.UNKNOWN_SESSION, "IMPORT-23", self.session_id)
        node_id = None if origin.leaf is None else origin.leaf.node_id
        if self.at is not None:
            node_id = self.at
        new = yield Get(Session, (self.new_id,))
        if new is not None:
            profile = yield Get(Profile, (self.new_id,))
            relation = None if profile is None else profile.relation
            if not self._is_begun(relation):
                detail = f"session {self.new_id} exists: {relation}"
                return Refused(Refusal.KEY_CONFLICT, "IMPORT-22", detail)
            if new.phase is Phase.DESTROYED:
                return Refused(Refusal.PHASE, "IMPORT-22", new.phase.value)
            node_id = relation.node
            if new.phase is not Phase.IMPORTING:
                progress = yield Get(ImportProgress, (self.new_id,))
                done = (0, 0) if progress is None else (progress.node_count, progress.pages)
                return ForkStart(node_id, done)
        if node_id is None:
            return ForkStart(None)
        node = yield Get(Node, (self.session_id, node_id))
        if node is None:
            return Refused(Refusal.UNKNOWN_NODE, "IMPORT-23", node_id)
        if node.open_calls:
            problem = f"calls without a result at node {node_id!r}: {node.open_calls}"
            return Refused(Refusal.ILLEGAL, "IMPORT-23", problem)
        return ForkStart(node_id)

    def _is_begun(self, relation: object) -> TypeGuard[Fork]:
        """Return whether the relation of a session says that it is this fork."""
        if not isinstance(relation, Fork) or relation.origin != self.session_id:
            return False
        return self.at in (None, relation.node)


def _inputs_of(session_id: str, input_ids: Any) -> Steps:
    found = yield Each(tuple([Get(Input, (session_id, each)) for each in input_ids]))
    return all_existing(found, "input of a node")


def copy_of_node(node: Node) -> tuple[CopyOf, ImportNode] | None:
    """IMPORT-20: return the copy of a node; None if it only names inputs."""
    if node.form is Form.INPUTS:
        return None
    of = CopyOf(node.node_id)
    return of, ImportNode(of.new_id, node.role, node.body, node.at_ms, node.call_ids, node.form)


def copy_of_input(entered: Input) -> tuple[CopyOf, ImportNode] | None:
    """IMPORT-20: return the copy of an input as a node of role user; None if nobody reads the input."""
    if entered.policy.audience is Audience.NOBODY:
        return None
    of, message = CopyOf(entered.input_id, is_input=True), message_of_input(entered)
    body, form = message.text, Form.TEXT
    if message.attachments or size_of_body(body) > BODY_BYTES_MAX:
        body, form = node_of(message).body, Form.CHAT
    return of, ImportNode(of.new_id, Role.USER, body, entered.admitted_at_ms, (), form)
