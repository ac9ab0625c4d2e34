"""Amend: import, edit, rewind or hide parts of the transcript of a session without an open turn.  Spec: specs/transcript.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import astuple, frozen

from ..event import EventKind
from ..frame import NewState, Switch, Switched
from ..limits import AMENDED_MAX, ATTACHED_MAX, CHECKPOINT_NODES_MAX
from ..machines import lease as lease_
from ..outcome import Decided, Insert, Refusal, Refused
from ..queries import Command, Each, Get, Reads, read
from ..records import Amended, Attachment, Blob, ExecutedCommand, Node, Profile, Session, Usage
from ..transcript import NewNode, Tip, UsageDelta, extend_path, hash_node, hash_parts
from .attach import forget
from .attached import attach, attachment_queries, refuse_unknown, validate_ids
from .checkpoint import check_fence
from .hiding import hide_and_show, node_queries, refuse_hiding
from .nodes import first_number, open_calls_after, validate_nodes
from .profile import NewProfile, change_profile, hash_profile, validate_change
from .replay import check_command_id, replay
from .send import NewOutbound, send, validate_outbound
from .session_view import SessionView, session_queries
from .states import blob_queries, hash_states, store_states, validate_states
from .switch import Found, apply_switch, check_switch, hash_switch, how_switched, switch_queries
from .transaction import Transaction
from .usage import count_usage, usage_queries, validate_usage

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
    marked: tuple[Node | None, ...]  # those to hide and to show
    profiles: tuple[Profile | None, ...]
    usage: tuple[Usage | None, ...]
    blobs: tuple[Blob | None, ...]
    switch: Found
    attachments: tuple[Attachment | None, ...]  # those to attach and to forget

    @property
    def profile(self) -> Profile | None:
        """The profile of the session, if the command changes it."""
        return self.profiles[0] if self.profiles else None


@frozen
class Amend(Command[AmendView, Amended]):
    """Add at most 64 nodes, move the leaf, set states, count usage, switch the frame, replace the profile.

    It needs a lease of Acquire.  `hide`, `show`: ids of at most 64 nodes (TRANSCRIPT-40).
    `attach`, `forget`: ids of at most 64 attachments.  `outbound`: at most 8 commands that are sent to other sessions.
    Refusals: UNKNOWN_SESSION, FENCED, OPEN_TURN, REVISION, ILLEGAL, FULL, PRUNED, UNKNOWN_NODE, UNKNOWN_ATTACHMENT.
    """

    added: ClassVar = {
        "profile": 2,
        "switch": 2,
        "states": 2,
        "usage": 2,
        "hide": 2,
        "show": 2,
        "attach": 2,
        "forget": 2,
        "outbound": 2,
    }
    session_id: str
    command_id: str
    fence: lease_.Fence
    expected_revision: int
    nodes: tuple[NewNode, ...] = ()
    rewind: Rewind | None = None
    profile: NewProfile | None = None
    switch: Switch | None = None
    states: tuple[NewState, ...] = ()
    usage: tuple[UsageDelta, ...] = ()
    hide: tuple[str, ...] = ()
    show: tuple[str, ...] = ()
    attach: tuple[str, ...] = ()
    forget: tuple[str, ...] = ()
    outbound: tuple[NewOutbound, ...] = ()

    def reads(self) -> Reads[AmendView]:
        s = self.session_id
        target = (self.rewind.node_id if self.rewind is not None else None) or ""
        return read(
            AmendView,
            *session_queries(s),
            Get(ExecutedCommand, (s, self.command_id)),
            Get(Node, (s, target)),
            node_queries(s, (*self.hide, *self.show)),
            Each(() if self.profile is None else (Get(Profile, (s,)),)),
            usage_queries(s, self.usage),
            blob_queries(s, self.states),
            switch_queries(s, self.switch, self.states),
            attachment_queries(s, (*self.attach, *self.forget)),
        )

    def decide(self, view: AmendView, now_ms: int) -> Decided[Amended] | Refused:
        session, executed = view.session, view.executed
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "LEASE-20", self.session_id)
        digest = self._digest()
        if refused := check_command_id("amend", self.command_id, executed, session, digest):
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
        if self.nodes:
            tx.update(next_node=first_number(session) + len(self.nodes))
        tx.append_event(EventKind.AMENDED, detail=str(revision))
        hide_and_show(tx, self.hide, self.show, view.marked)
        amended = Amended(revision, *self._change(tx, view))
        tx.remember(self.command_id, "amend", amended, digest)
        return tx.decided(amended, "COMMIT-23")

    def _digest(self) -> str:
        """STORE-56: return the digest of what is to be changed."""
        rewind = None if self.rewind is None else [self.rewind.node_id]
        return hash_parts(
            [(*hash_node(node), node.hidden) for node in self.nodes],
            rewind,
            None if self.profile is None else hash_profile(self.profile),
            None if self.switch is None else hash_switch(self.switch),
            hash_states(self.states),
            [astuple(usage) for usage in self.usage],
            [self.hide, self.show],
            [self.attach, self.forget],
        )

    def _change(self, tx: Transaction, view: AmendView) -> tuple[Tip | None, Switched | None]:
        """Store the states, count the usage, attach and forget, then switch the frame.  Return the leaf, and what the Switch did."""
        if self.states:
            stored, blobs = store_states(tx.session, self.states, view.blobs)
            tx.update(state_digest=stored.state_digest, current_frame=stored.current_frame)
            tx.write(*blobs)
        tx.write(*count_usage(self.session_id, self.usage, view.usage))
        tx.attach(attach(view.attachments[: len(self.attach)], tx.now_ms))
        forget(tx, view.attachments[len(self.attach) :])
        how = how_switched(tx.session, self.switch, view.switch)
        apply_switch(tx, self.switch, view.switch)
        for new in self.outbound:
            send(tx, new.command, new.peer)
        return tx.session.leaf, how

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
        return (
            validate_states(session, None, self.states)
            or check_switch(session, self.switch, view.switch)
            or refuse_hiding(self.hide, self.show, view.marked)
            or self._refuse_attachments(view)
        )

    def _refuse_attachments(self, view: AmendView) -> Refused | None:
        if problem := validate_ids((*self.attach, *self.forget), 2 * ATTACHED_MAX):
            return Refused(Refusal.ILLEGAL, "ATTACH-11", problem)
        marked, attachments = len(self.hide) + len(self.show), len(self.attach) + len(self.forget)
        count = len(self.nodes) + marked + attachments
        if count > AMENDED_MAX:
            problem = (
                f"{len(self.nodes)} nodes, {marked} to hide or show, {attachments} attachments"
            )
            return Refused(
                Refusal.ILLEGAL, "ATTACH-14", f"{problem}: at most {AMENDED_MAX} together"
            )
        return refuse_unknown(self.attach, view.attachments[: len(self.attach)])

    def _validate(self) -> str | None:
        """TRANSCRIPT-6: return what is wrong with the nodes and the usage.  No call may stay open."""
        problem = validate_nodes((), self.nodes) or validate_usage(self.usage)
        if problem := problem or validate_outbound(self.outbound):
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
                    tx.now_ms, new.body, new.form, open_calls, first_number(tx.session) + i,
                )
            )
        )  # fmt: skip
        return tip
