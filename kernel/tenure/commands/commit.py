"""Commit: end a turn in one transaction.  Spec: specs/commit.md.

It ends the inputs, moves the transcript, and releases the lease or keeps it for the next run.
"""

from __future__ import annotations

import enum
from typing import ClassVar, Final

from attrs import field, frozen

from .. import scheduling
from ..failure import others_max
from ..frame import NewState, Switch, Switched
from ..limits import (
    BEGIN_PROMOTED_MAX,
    COMMIT_ATTACHED_MAX,
    COMMIT_NODES_MAX,
    RUN_BYTES_DEFAULT,
    RUN_INPUTS_DEFAULT,
    RUN_INPUTS_MAX,
)
from ..machines import lease as lease_
from ..machines import run as run_
from ..outcome import Decided, Insert, Refusal, Refused
from ..policy import Boundary, Lane
from ..queries import Command, Each, Get, Reads, read
from ..records import (
    Attachment,
    Blob,
    Cancel,
    Contributor,
    Input,
    QueueEntry,
    Run,
    Session,
    Stamp,
    Usage,
)
from ..replace import replace
from ..transcript import NewNode, UsageDelta, hash_content, hash_node, hash_parts
from .admit import AdmitView, admit_into
from .attached import attach, attachment_queries, refuse_unknown, validate_ids
from .checkpoint import check_fence
from .grant import Begun, begun_of, bind, take_up
from .nodes import (
    append_nodes,
    closing_nodes,
    first_number,
    open_calls_after,
    validate_body,
    validate_nodes,
)
from .replay import not_found
from .send import NewOutbound, hash_outbound, send, validate_outbound
from .session_view import SessionView, session_queries
from .states import all_changes, blob_queries, hash_states, store_states, validate_states
from .steering import no_targets, takeable, targeted_queries
from .submission import NewInput
from .switch import (
    AGENT_MAX,
    Found,
    apply_switch,
    check_switch,
    hash_switch,
    how_switched,
    set_agent,
    switch_queries,
)
from .transaction import Transaction
from .usage import count_usage, usage_queries, validate_usage
from .validation import validate_id, validate_limits, validate_text

__all__ = ["Commit", "Committed", "Then"]


KERNEL_ONLY: Final = (
    run_.Termination.SPLIT,
    run_.Termination.SUPERSEDED,
    run_.Termination.ROLLED_BACK,
)


class Then(enum.StrEnum):
    """What happens to the lease after the commit."""

    RELEASE = "release"
    NEXT = "next"  # keep the lease if a run can begin


@frozen
class Committed:
    """The new revision.  `next`: the run that begins under the same lease, if `then` is NEXT and the fence is valid.

    `switched`: what the Switch of the commit did.
    """

    revision: int
    next: Begun | None = None
    held: bool = False
    switched: Switched | None = None


@frozen
class CommitView(SessionView):
    """The session, the run, and the rows that the commit may change."""

    run: Run | None
    usage: tuple[Usage | None, ...]
    blobs: tuple[Blob | None, ...]
    handed: tuple[Input | None, ...]
    successors: tuple[Run | None, ...]
    targeted: tuple[tuple[QueueEntry, ...], ...]
    switch: Found
    attached: tuple[Attachment | None, ...]


@frozen
class Commit(Command[CommitView, Committed]):
    """End the turn of a run.

    The same commit again is a replay, whatever the lease is by then.  Another commit of the turn is refused with
    STAMP_CONFLICT.  A finished turn that `yields` is refused with STEERED while it could take inputs instead.  Writes at most 64 queue entries with their keys, 32 nodes, 8 usage rows, and 64 queue entries of the
    next run.  `attach`: at most 8 attachments.
    `outbound`: at most 8 commands that are sent to other sessions (OUTBOUND-1).  Other refusals: UNKNOWN_RUN, FENCED, STALE, CANCELLED, REVISION, ILLEGAL,
    UNKNOWN_ATTACHMENT.
    """

    added: ClassVar = {
        "yields": 2,
        "resolution": 2,
        "switch": 2,
        "states": 2,
        "attach": 2,
        "outbound": 2,
    }
    ignorable: ClassVar = ("yields", "resolution")
    session_id: str
    fence: lease_.Fence
    run_id: str
    turn: int
    n: int
    expected_revision: int
    termination: run_.Termination = run_.Termination.FINISHED
    reason: str = ""
    nodes: tuple[NewNode, ...] = ()
    usage: tuple[UsageDelta, ...] = ()
    state: str | None = field(default=None, repr=lambda s: "None" if s is None else f"<{len(s)}>")
    then: Then = Then.RELEASE
    next_run_id: str | None = None
    limit: int = RUN_INPUTS_DEFAULT
    limit_bytes: int = RUN_BYTES_DEFAULT
    hand_off: NewInput | None = None
    frame: str | None = None
    yields: bool = False
    resolution: str | None = None  # for the next run, as in Begin
    switch: Switch | None = None
    states: tuple[NewState, ...] = ()
    attach: tuple[str, ...] = ()
    outbound: tuple[NewOutbound, ...] = ()

    def reads(self) -> Reads[CommitView]:
        s, changes = self.session_id, self._changes
        more = self.then is Then.NEXT
        ready = min(max(self.limit, 1), RUN_INPUTS_MAX) + 1 if more else 1
        return read(
            CommitView,
            *session_queries(s, ready=ready, delayed=BEGIN_PROMOTED_MAX + 1 if more else 1),
            Get(Run, (s, self.run_id)),
            usage_queries(s, self.usage),
            blob_queries(s, changes),
            Each(tuple([Get(Input, (s, new.input_id)) for new in self._handed])),
            Each(() if self.next_run_id is None else (Get(Run, (s, self.next_run_id)),)),
            targeted_queries(s, self.run_id, Boundary.BEFORE_COMPLETION, 1)
            if self._yields
            else no_targets(),
            switch_queries(s, self.switch, changes),
            attachment_queries(s, self.attach),
        )

    @property
    def _changes(self) -> tuple[NewState, ...]:
        return all_changes(self.state, self.states)

    @property
    def _yields(self) -> bool:
        return self.yields and self.termination is run_.Termination.FINISHED

    @property
    def _handed(self) -> tuple[NewInput, ...]:
        return () if self.hand_off is None else (self.hand_off,)

    def decide(self, view: CommitView, now_ms: int) -> Decided[Committed] | Refused:
        session, run = view.session, view.run
        if session is None or run is None:
            return not_found(session, Refusal.UNKNOWN_RUN, "COMMIT-1", self.run_id)
        contents = [hash_node(node) for node in self.nodes]
        digest = self.digest(run.contributors, contents)
        if run.stamp is not None and run.stamp.turn == self.turn:
            return self._replay(view, session, run.stamp, digest)
        if run.pruned:
            return Refused(Refusal.PRUNED, "RETENTION-10", self.run_id)
        if refused := self._refused(session, run, view):
            return refused
        tx = Transaction.on(view, session, now_ms, self.fence.lease_id)
        tx.via.append("LEASE-7")
        cancel = session.cancel
        if cancel is not None and cancel.rollback:
            return self._roll_back(tx, view, run, cancel, digest)
        left = open_calls_after(run.open_calls, self.nodes)
        closed = closing_nodes(left, self.termination, run.open_tickets)
        new, contents = (*self.nodes, *closed), [*contents, *map(hash_node, closed)]
        run, nodes = append_nodes(session, run, self.n, new, contents, now_ms)
        revision = session.revision + 1
        tx.update(revision=revision, leaf=run.tip or session.leaf)
        if nodes:
            tx.update(next_node=first_number(session))
        tx.write(*[Insert(node) for node in nodes])
        if changes := self._changes:
            stored, blobs = store_states(tx.session, changes, view.blobs)
            tx.update(state_digest=stored.state_digest, current_frame=stored.current_frame)
            tx.write(*blobs)
        tx.write(*count_usage(self.session_id, self.usage, view.usage))
        tx.attach(attach(view.attached, now_ms))
        if refused := self._admit_hand_off(tx, view):
            return refused
        lease_id = self.fence.lease_id
        switched = how_switched(tx.session, self.switch, view.switch)
        stamp = Stamp(self.turn, digest, revision, lease_id, self.next_run_id, switched)
        stamped = replace(run, stamp=stamp, open_calls=())
        if cancel is not None and not run.progress and run.tip is None:
            tx.end_cancelled(stamped, cancel.how, cancel.by)
        else:
            tx.finish(stamped, self.termination, self.reason)
        apply_switch(tx, self.switch, view.switch)
        for each in self.outbound:
            send(tx, each.command, each.peer)
        return self._hand_over(tx, revision, switched)

    def _roll_back(
        self, tx: Transaction, view: CommitView, run: Run, cancel: Cancel, digest: str
    ) -> Decided[Committed]:
        """COMMIT-24: end a run that is rolled back.  Only its usage stays; the transcript and the state do not change."""
        tx.via.append("COMMIT-24")
        tx.write(*count_usage(self.session_id, self.usage, view.usage))
        revision = tx.session.revision
        stamp = Stamp(self.turn, digest, revision, self.fence.lease_id, self.next_run_id)
        tx.close(replace(run, stamp=stamp), cancel)
        return self._hand_over(tx, revision)

    def digest(
        self, contributors: tuple[Contributor, ...], contents: list[tuple[object, ...]]
    ) -> str:
        """COMMIT-2: return the stamp.  It leaves out node ids, times, usage, the lease and the next run."""
        handed = [hash_content(new.kind, new.payload) for new in self._handed]
        frame = self.frame if self.switch is None else hash_switch(self.switch)
        continued = frame is not None or handed
        state, named = hash_states(self._changes)
        return hash_parts(
            self.run_id,
            self.turn,
            [c.input_id for c in contributors],
            [self.termination.value, self.reason],
            contents,
            state,
            *([[frame, *handed]] if continued else ()),
            *([["states", named]] if named else ()),
            *([["attach", list(self.attach)]] if self.attach else ()),  # ATTACH-13
            *([["outbound", hash_outbound(self.outbound)]] if self.outbound else ()),
        )

    def _replay(
        self, view: CommitView, session: Session, stamp: Stamp, digest: str
    ) -> Decided[Committed] | Refused:
        if stamp.digest != digest:
            return Refused(Refusal.STAMP_CONFLICT, "COMMIT-4", stamp)
        next_ = next((r for r in view.runs if r.run_id == session.lease_run), None)
        lease = session.lease
        held = (
            next_ is not None
            and stamp.lease_id == self.fence.lease_id
            and isinstance(lease, lease_.Held)
            and lease.lease_id == self.fence.lease_id
        )
        if not held or next_ is None:
            again = Committed(stamp.revision, switched=stamp.switched)
            return Decided(again, "COMMIT-3", replayed=True)
        resumed = next_.run_id != stamp.next_run or next_.next_checkpoint > 0
        begun = begun_of(session, next_, resumed=resumed)
        again = Committed(stamp.revision, begun, True, stamp.switched)
        return Decided(again, "COMMIT-3", replayed=True)

    def _refused(self, session: Session, run: Run, view: CommitView) -> Refused | None:
        if refused := check_fence(session, self.fence, self.run_id):
            return refused
        if (self.turn, self.n) != (run.turn, run.next_checkpoint):
            return Refused(Refusal.STALE, "COMMIT-5", (run.turn, run.next_checkpoint))
        cancel = session.cancel
        if cancel is not None and self.termination is not run_.Termination.CANCELLED:
            return Refused(Refusal.CANCELLED, "COMMIT-6", cancel)
        if self.expected_revision != session.revision:
            return Refused(Refusal.REVISION, "COMMIT-7", session.revision)
        if problem := self._validate(run.open_calls):
            return Refused(Refusal.ILLEGAL, "COMMIT-8", problem)
        if any(view.successors):
            return Refused(Refusal.ILLEGAL, "COMMIT-8", f"run {self.next_run_id} exists already")
        if refused := validate_states(session, self.state, self.states):
            return refused
        if refused := check_switch(session, self.switch, view.switch):
            return refused
        if refused := refuse_unknown(self.attach, view.attached):
            return refused
        return self._steered(session, run, view) if self._yields else None

    def _steered(self, session: Session, run: Run, view: CommitView) -> Refused | None:
        """COMMIT-43: refuse the end of a turn that a checkpoint before completion would continue."""
        heads = {Lane.USER: view.users, Lane.SYSTEM: view.systems}
        open_calls = open_calls_after(run.open_calls, self.nodes)
        boundary = Boundary.BEFORE_COMPLETION
        found = takeable(session, run, open_calls, boundary, view.targeted, heads)
        if not found:
            return None
        return Refused(Refusal.STEERED, "COMMIT-43", tuple([e.input_id for e in found]))

    def _validate(self, open_calls: tuple[str, ...]) -> str | None:
        if self.termination in KERNEL_ONLY:
            return f"termination {self.termination.value}: only the kernel ends a run like this"
        if self.termination is run_.Termination.ERROR:
            return "termination error: use Fail"
        if self.then is Then.NEXT and self.next_run_id is None:
            return "then=NEXT without next_run_id"
        if self.next_run_id is not None and (
            problem := validate_id("next_run_id", self.next_run_id)
        ):
            return problem
        if len(self.nodes) > COMMIT_NODES_MAX:
            return f"{len(self.nodes)} nodes; at most {COMMIT_NODES_MAX}"
        if self.frame is not None and self.switch is not None:
            return f"frame {self.frame!r} and a switch to {self.switch.frame_id!r}: expected one"
        return (
            validate_text("reason", self.reason)
            or validate_limits(self.limit, self.limit_bytes)
            or (None if self.resolution is None else validate_id("resolution", self.resolution))
            or validate_nodes(open_calls, self.nodes)
            or validate_usage(self.usage)
            or validate_ids(self.attach, COMMIT_ATTACHED_MAX)
            or validate_outbound(self.outbound)
            or validate_text("frame", self.frame or "", AGENT_MAX)
            or (validate_body(self.state) if self.state else None)
        )

    def _admit_hand_off(self, tx: Transaction, view: CommitView) -> Refused | None:
        """COMMIT-13: admit the handed-off input, and set the agent."""
        if self.frame is not None:
            changed = set_agent(tx.session, self.frame)
            tx.update(frame=changed.frame, current_frame=changed.current_frame)
        for new, known in zip(self._handed, view.handed, strict=True):
            if known is not None or new.key is not None or new.supersession_key is not None:
                return Refused(Refusal.ILLEGAL, "COMMIT-8", f"hand-off {new.input_id}: not new")
            ingress = AdmitView(tx.session, (), (), (), (), (), (), (), ())
            digest = hash_content(new.kind, new.payload)
            admitted = admit_into(tx, ingress, (new,), [digest])
            if isinstance(admitted, Refused):
                return admitted
        return None

    def _hand_over(
        self, tx: Transaction, revision: int, switched: Switched | None = None
    ) -> Decided[Committed]:
        """COMMIT-10, COMMIT-11: release the lease, or keep it for the run that comes next."""
        held = tx.session.lease
        if self.then is Then.NEXT and self.next_run_id is not None:
            if tx.session.phase in scheduling.BEGINNING_PHASES:
                tx.promote(BEGIN_PROMOTED_MAX)
            step = scheduling.next_work(tx.session, tx.runs, tx.ready, tx.now_ms)
            if isinstance(step, scheduling.TakeUp | scheduling.NewRun) and not _is_apart(step):
                tx.update(lease_run=None)
                resumed = isinstance(step, scheduling.TakeUp)
                if isinstance(step, scheduling.TakeUp):
                    run = take_up(tx, step.run)
                else:
                    group = scheduling.take_group(
                        tx.ready[step.lane], self.limit, self.limit_bytes, tx.runs
                    )
                    run = bind(tx, group, self.next_run_id, self.resolution)
                tx.update(lease_run=run.run_id)
                begun = begun_of(tx.session, run, resumed=resumed)
                return tx.decided(Committed(revision, begun, True, switched), "COMMIT-11")
        fence = self.fence
        tx.vacate(lease_.step(held, lease_.Release(fence.generation, fence.lease_id)))
        return tx.decided(Committed(revision, switched=switched), "COMMIT-10")


def _is_apart(step: scheduling.Next) -> bool:
    """COMMIT-14: return whether a run comes next that not every owner may run."""
    return isinstance(step, scheduling.TakeUp) and others_max(step.run.retry) is not None
