"""What has changed in a session for its readers, after a cursor: only what no later command takes back.  Spec: specs/reading.md."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final, TypeAlias

from attrs import frozen

from ..event import Event, EventKind
from ..indexes import NODES
from ..machines.input import Ended, How
from ..queries import Chain, Each, First, Get, Query, Question
from ..records import (
    Amended,
    EventBatch,
    ExecutedCommand,
    ImportProgress,
    Node,
    QueueEntry,
    Run,
    Session,
)
from ..transcript import Tip
from .events import EventsPage, LoadEvents
from .path import leaf_of

__all__ = [
    "ChangeCursor",
    "ChangesPage",
    "FrameSwitched",
    "InputEnded",
    "LeafMoved",
    "LoadChanges",
    "NodesHidden",
    "NodesShown",
    "SettledChange",
]


BATCHES: Final = 64
PAGE: Final = 256
Steps: TypeAlias = Generator[Query[Any], Any, Any]
ENDS: Final = (EventKind.INPUT_ENDED, EventKind.RUN_FINISHED)


@frozen
class ChangeCursor:
    """How far a reader has read: the revision of the transcript, and the number of the last event."""

    revision: int = 0
    event: int = 0


@frozen
class LeafMoved:
    """The path goes on after `keep`, up to `leaf`.

    A reader forgets what it has after `keep`; everything if that is None, or if the reader does not have it, because the
    leaf has gone to another branch.  Then it reads the nodes from there to `leaf`; None: there are none.
    """

    event: int
    revision: int
    keep: str | None
    leaf: str | None


@frozen
class NodesHidden:
    """These nodes have left the path, or would be on none."""

    event: int
    node_ids: tuple[str, ...]


@frozen
class NodesShown:
    """These nodes are shown again, each at its place."""

    event: int
    node_ids: tuple[str, ...]


@frozen
class InputEnded:
    """An input has ended.  `how`: as in `InputStatus.status`; `by`: the run, input or command that ended it."""

    event: int
    input_id: str
    how: How
    by: str


@frozen
class FrameSwitched:
    """Another frame is the current one; "" is the first one."""

    event: int
    frame_id: str


SettledChange: TypeAlias = LeafMoved | NodesHidden | NodesShown | InputEnded | FrameSwitched


@frozen
class ChangesPage:
    """READ-22: changes in the order in which they happened.  `after`: where the next page begins; `more`: there may be one now.

    `complete` (READ-23): no event between the cursor and the first change is missing.  If it is False, retention has removed some:
    the reader must forget what it has, and read the session anew.
    """

    changes: tuple[SettledChange, ...]
    after: ChangeCursor
    more: bool
    complete: bool = True


@frozen
class LoadChanges(Question[ChangesPage | None]):
    """READ-20: the settled changes of a session after a cursor; None if there is no such session.

    At most `limit` commands are read, at most 64; a page without changes need not be the last one.
    """

    session_id: str
    after: ChangeCursor = ChangeCursor()
    limit: int = BATCHES

    def steps(self) -> Steps:
        s, limit = self.session_id, max(1, min(self.limit, BATCHES))
        session = yield Get(Session, (s,))
        if session is None:
            return None
        revision, event = self.after.revision, self.after.event
        found: list[SettledChange] = []
        page: EventsPage = yield from LoadEvents(s, event, limit).steps()
        if page.pruned_to is not None and not page.batches:
            revision, event = session.revision, page.pruned_to
        for batch in page.batches[:limit]:
            elsewhere = any(told.kind is EventKind.LEAF_MOVED for told in batch.events)  # READ-24
            for number, told in enumerate(batch.events, batch.seq):
                if number <= event:
                    continue
                revision = yield from self._revision(revision, told)
                if told.kind is EventKind.LEAF_MOVED:
                    found.append(LeafMoved(number, revision, None, told.detail or None))
                elif not elsewhere:
                    moved = yield from self._moved(session, batch, number, told)
                    found += [] if moved is None else [moved]
                found += yield from self._others(number, told)
            event = max(event, batch.seq + len(batch.events) - 1)
        more = event < session.next_event - 1
        after = ChangeCursor(revision, event)
        return ChangesPage(tuple(found), after, more, page.pruned_to is None)

    def _revision(self, revision: int, told: Event) -> Steps:
        """Return the revision after an event."""
        if told.kind is EventKind.AMENDED:
            return int(told.detail)
        if told.kind is not EventKind.RUN_FINISHED:
            return revision
        run = yield Get(Run, (self.session_id, told.run_id or ""))
        if run is None:
            return revision
        if run.stamp is not None:
            return run.stamp.revision
        last = None if run.tip is None else (yield Get(Node, (self.session_id, run.tip.node_id)))
        return revision if last is None else last.revision

    def _others(self, number: int, told: Event) -> Steps:
        """Return what an event says of hidden nodes and of inputs."""
        if told.kind is EventKind.NODES_HIDDEN:
            return [NodesHidden(number, tuple(told.detail.split(" ")))]
        if told.kind is EventKind.NODES_SHOWN:
            return [NodesShown(number, tuple(told.detail.split(" ")))]
        if told.kind is EventKind.FRAME_SWITCHED:
            return [FrameSwitched(number, told.detail.partition(" ")[2])]
        if told.kind not in ENDS:
            return []
        keys = [(self.session_id, input_id) for input_id in told.input_ids]
        entries = yield Each(tuple([Get(QueueEntry, key) for key in keys]))
        return [
            InputEnded(number, entry.input_id, entry.state.how, entry.state.by)
            for entry in entries
            if entry is not None and isinstance(entry.state, Ended)
        ]

    def _moved(self, session: Session, batch: EventBatch, number: int, told: Event) -> Steps:
        """READ-21: return how an event has moved the leaf; None if it has not."""
        if told.kind is EventKind.RUN_FINISHED:
            run = yield Get(Run, (self.session_id, told.run_id or ""))
            if run is None or run.tip is None:
                return None
            last = yield Get(Node, (self.session_id, run.tip.node_id))
            if last is None:
                return self._anew(session, number)
            keep = yield from self._before_run(run, last)
            return LeafMoved(number, last.revision, keep, last.node_id)
        if told.kind is not EventKind.AMENDED:
            return None
        done = yield Get(ExecutedCommand, (self.session_id, batch.causation_id))
        if done is None or not isinstance(done.outcome, Amended):
            imported = yield Get(ImportProgress, (self.session_id,))
            if imported is not None and imported.tip is not None and told.detail == "1":
                return LeafMoved(number, 1, None, imported.tip.node_id)  # IMPORT-9
            return self._anew(session, number)
        leaf = done.outcome.leaf
        keep = yield from self._before_amend(batch.causation_id, leaf)
        return LeafMoved(
            number, done.outcome.revision, keep, None if leaf is None else leaf.node_id
        )

    def _anew(self, session: Session, number: int) -> LeafMoved:
        """Return the move to the leaf of today: rows that say where it was have been removed."""
        return LeafMoved(number, session.revision, None, leaf_of(session))

    def _before_run(self, run: Run, last: Node) -> Steps:
        """Return the node before the first one of a run.  Its numbered nodes have numbers in a row (READ-2)."""
        first = last
        if last.seq is not None and run.node_count:
            after = (last.seq - run.node_count,)
            found = yield First(NODES, (self.session_id,), 1, after)
            first = found[0] if found and found[0].run_id == run.run_id else last
        while first.parent is not None:
            nodes = yield Chain(Node, (self.session_id, first.parent), "parent", PAGE)
            for node in nodes:
                if node.run_id != run.run_id:
                    return node.node_id
                first = node
            if not nodes:
                return first.parent
        return None

    def _before_amend(self, command_id: str, leaf: Tip | None) -> Steps:
        """Return the node before the first one that an Amend has added: the node to which it moved the leaf."""
        next_ = None if leaf is None else leaf.node_id
        while next_ is not None and next_.rpartition("/")[0] == command_id:
            node = yield Get(Node, (self.session_id, next_))
            if node is None:
                return None
            next_ = node.parent
        return next_
