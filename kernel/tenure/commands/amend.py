"""Amend: import, edit or rewind the transcript of a session without an open turn.  Spec: specs/transcript.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from ..event import EventKind
from ..limits import CHECKPOINT_NODES_MAX
from ..machines import lease as lease_
from ..outcome import Decided, Insert, Refusal, Refused
from ..queries import Command, Each, Get, Reads, read
from ..records import Amended, ExecutedCommand, Node, Profile, Session
from ..transcript import NewNode, Tip, extend_path, hash_node
from .checkpoint import check_fence
from .nodes import open_calls_after, validate_nodes
from .profile import NewProfile, change_profile, validate_change
from .replay import check_command_id, replay
from .session_view import SessionView, session_queries
from .transaction import Transaction

__all__ = ["Amend", "Rewind"]


@frozen
class Rewind:
    """The node that becomes the leaf before nodes are added; None: before the first node."""

    node_id: str | None


@frozen
class AmendView(SessionView):
    """The session, the node to rewind to, and the row of the command if it was executed before."""

    executed: ExecutedCommand | None
    target: Node | None
    profiles: tuple[Profile | None, ...]

    @property
    def profile(self) -> Profile | None:
        """The profile of the session, if the command changes it."""
        return self.profiles[0] if self.profiles else None


@frozen
class Amend(Command[AmendView, Amended]):
    """Add at most 64 nodes, move the leaf or replace the profile, under a lease of Acquire.

    Refusals: UNKNOWN_SESSION, FENCED, OPEN_TURN, REVISION, ILLEGAL.
    """

    added: ClassVar = {"profile": 2}
    session_id: str
    command_id: str
    fence: lease_.Fence
    expected_revision: int
    nodes: tuple[NewNode, ...] = ()
    rewind: Rewind | None = None
    profile: NewProfile | None = None

    def reads(self) -> Reads[AmendView]:
        s = self.session_id
        target = (self.rewind.node_id if self.rewind is not None else None) or ""
        return read(
            AmendView,
            *session_queries(s),
            Get(ExecutedCommand, (s, self.command_id)),
            Get(Node, (s, target)),
            Each(() if self.profile is None else (Get(Profile, (s,)),)),
        )

    def decide(self, view: AmendView, now_ms: int) -> Decided[Amended] | Refused:
        session, executed = view.session, view.executed
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "LEASE-20", self.session_id)
        if refused := check_command_id("amend", self.command_id, executed):
            return refused
        if executed is not None:
            return replay(executed, Amended, "COMMIT-20")
        if refused := self._refused(view, session):
            return refused
        tx = Transaction.on(view, session, now_ms, self.command_id)
        leaf = session.leaf
        if self.rewind is not None:
            node = view.target
            leaf = None if node is None else Tip(node.node_id, node.path_digest)
        revision = session.revision + 1
        open_calls: tuple[str, ...] = ()
        for i, new in enumerate(self.nodes):
            open_calls = open_calls_after(open_calls, (new,))
            leaf = self._add(tx, leaf, i, new, revision, open_calls)
        if self.profile is not None:
            change_profile(tx, self.profile, view.profile)
        tx.update(revision=revision, leaf=leaf)
        tx.append_event(EventKind.AMENDED, detail=str(revision))
        amended = Amended(revision, leaf)
        tx.remember(self.command_id, "amend", amended)
        return tx.decided(amended, "COMMIT-23")

    def _refused(self, view: AmendView, session: Session) -> Refused | None:
        if refused := check_fence(session, self.fence, None):
            return refused
        if session.revision != self.expected_revision:
            return Refused(Refusal.REVISION, "COMMIT-7", session.revision)
        if len(self.nodes) > CHECKPOINT_NODES_MAX:
            return Refused(Refusal.ILLEGAL, "COMMIT-22", f"{len(self.nodes)} nodes; at most 64")
        if problem := self._validate():
            return Refused(Refusal.ILLEGAL, "COMMIT-22", problem)
        if view.target is not None and view.target.open_calls:
            problem = f"calls are open at {view.target.node_id!r}: {view.target.open_calls}"
            return Refused(Refusal.ILLEGAL, "COMMIT-22", problem)
        if self.rewind is not None and self.rewind.node_id is not None and view.target is None:
            return Refused(Refusal.ILLEGAL, "COMMIT-22", f"no node {self.rewind.node_id!r}")
        if self.profile is not None:
            if problem := validate_change(self.profile, self.session_id, view.profile):
                return Refused(Refusal.ILLEGAL, "PROFILE-4", problem)
        return None

    def _validate(self) -> str | None:
        """TRANSCRIPT-6: return what is wrong with the nodes.  No call may stay open."""
        if problem := validate_nodes((), self.nodes):
            return problem
        left = open_calls_after((), self.nodes)
        return f"calls without a result: {left}" if left else None

    def _add(
        self,
        tx: Transaction,
        parent: Tip | None,
        i: int,
        new: NewNode,
        revision: int,
        open_calls: tuple[str, ...],
    ) -> Tip:
        tip = Tip(f"{self.command_id}/{i}", extend_path(parent, (), hash_node(new)))
        tx.write(
            Insert(
                Node(
                    self.session_id, tip.node_id, parent.node_id if parent else None, None,
                    revision, new.role, (), new.call_ids, tip.path_digest, new.hidden,
                    tx.now_ms, new.body, new.form, open_calls,
                )
            )
        )  # fmt: skip
        return tip
