"""Properties of the stored rows of a session.  `tenure store check` checks them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Final

from attrs import frozen

from ..attachment_records import Stage
from ..commands.states import digests_of
from ..indexes import (
    ATTACHMENT_BYTES,
    ATTACHMENT_STAGES,
    BLOB_HOLDERS,
    BLOBS,
    EMISSIONS,
    EVENT_BATCHES,
    FRAMES,
    IMPORTED_PAGES,
    LABELS,
    NODES,
    OPEN_RUNS,
    OPEN_TICKETS,
    OUTBOUND,
    SIGNALS,
    SUBSCRIPTIONS,
)
from ..kind import Kind
from ..limits import LABELS_MAX
from ..machines.subscription import Live
from ..outbound_records import Due, Outbound
from ..phase import Phase
from ..queries import Each, First, Get, Query, Question, Record
from ..questions.history import all_rows, load_session_rows
from ..records import (
    Attachment,
    Blob,
    Frame,
    ImportProgress,
    Job,
    JobPart,
    JobText,
    Label,
    Node,
    Profile,
    Run,
    Session,
    Subscription,
    Ticket,
    Trigger,
)
from ..world import world_of
from .jobs.properties import violated
from .session.snapshot import Snapshot, snapshot_of
from .session.state_properties import STATE_PROPERTIES, WRITTEN_PROPERTIES

__all__ = ["PROPERTIES", "TRIGGER_PROPERTIES", "Rows", "violations"]


PAGE: Final = 256
EVERY_ROW: Final = 1_000_000_000


def events_numbered(b: Snapshot) -> bool:
    """Return True if the stored events are numbered without gaps up to next_event."""
    rows = b.world.answer(First(EVENT_BATCHES, (b.session.session_id,), EVERY_ROW))
    number = rows[0].seq if rows else b.session.next_event
    for row in rows:
        if row.seq != number:
            return False
        number += len(row.events)
    return number == b.session.next_event


def published_exists(b: Snapshot) -> bool:
    """Return True if only existing events are marked as published."""
    published = b.session.published
    return published is None or 0 <= published < b.session.next_event


def leaf_stored(b: Snapshot) -> bool:
    """Return True if the node of the leaf is stored, with the path of the leaf and without open tool calls."""
    tip, s = b.session.leaf, b.session.session_id
    if tip is None:
        return True
    node = b.world.answer(Get(Node, (s, tip.node_id)))
    return node is not None and not node.open_calls and node.path_digest == tip.path_digest


def nodes_numbered(b: Snapshot) -> bool:
    """Return True if the last number of a node is below the next one, which the open turn counts on from."""
    last = b.world.answer(First(NODES, (b.session.session_id,), 1, backwards=True))
    if not last or last[0].seq is None:
        return True
    written = sum([run.node_count or 0 for run in b.unfinished()])
    return last[0].seq < (b.session.next_node or 0) + written


def labels_stored(b: Snapshot) -> bool:
    """Return True if the rows of labels are those of the profile, with its time."""
    if b.session.phase is Phase.DESTROYED:
        return True  # its rows may be removed table by table (RETENTION-8)
    s = b.session.session_id
    profile = b.world.answer(Get(Profile, (s,)))
    rows = b.world.answer(First(LABELS, (s,), 1_000_000_000))
    if profile is None:
        return not rows
    expected = [Label(s, name, value, profile.created_at_ms) for name, value in profile.labels]
    return list(rows) == expected and len(rows) <= LABELS_MAX


def frame_leaves_stored(b: Snapshot) -> bool:
    """Return True if the leaf of every frame is stored, with its path and without open tool calls."""
    if b.session.phase is Phase.DESTROYED:
        return True  # as above
    for frame in b.world.all(Frame):
        if frame.leaf is not None:
            node = b.world.answer(Get(Node, (frame.session_id, frame.leaf.node_id)))
            if node is None or node.open_calls or node.path_digest != frame.leaf.path_digest:
                return False
    return True


def outbound_numbered(b: Snapshot) -> bool:
    """Return True if the counter of the session is above the number of every row."""
    following = b.session.next_outbound or 1
    return all(0 < row.number < following for row in b.world.all(Outbound))


def routes_move(b: Snapshot) -> bool:
    """Return True if the first row of every route is due, now or later."""
    met: set[str] = set()
    for row in sorted(b.world.all(Outbound), key=lambda row: row.number):
        route = row.waiting_route
        if route is not None and route not in met:
            met.add(route)
            if not isinstance(row.state, Due):
                return False
    return True


def trigger_agrees(b: Snapshot) -> bool:
    """Return True if a trigger is due at its next time, and counts its subscriptions that are not deleted."""
    session = b.session
    if session.phase is Phase.DESTROYED:
        return session.due_at_ms is None  # its rows may be removed table by table (RETENTION-8)
    trigger = b.world.answer(Get(Trigger, (session.session_id,)))
    live = [isinstance(row.state, Live) for row in b.world.all(Subscription)]
    return trigger is not None and (trigger.next_at_ms, trigger.subscription_count) == (
        session.due_at_ms,
        sum(live),
    )


PROPERTIES: Final[dict[str, Callable[[Snapshot], bool]]] = {
    "events are numbered without gaps": events_numbered,
    "only existing events are published": published_exists,
    "the leaf of the transcript is stored, and has no open calls": leaf_stored,
    "the number of every node is below the next one": nodes_numbered,
    "the rows of labels are those of the profile, at most 16": labels_stored,
    "the leaf of every frame is stored, and has no open calls": frame_leaves_stored,
    "the number of every outbound command is below the next one": outbound_numbered,
    "the first outbound command of every route is due": routes_move,
    **WRITTEN_PROPERTIES,
    **STATE_PROPERTIES,
}


# of sessions as well as of triggers
SHARED: Final = (
    "events are numbered without gaps",
    "only existing events are published",
    "unpublished_since_ms is set exactly if there are events after the cursor",
    "the number of every outbound command is below the next one",
    "the first outbound command of every route is due",
)
TRIGGER_PROPERTIES: Final[dict[str, Callable[[Snapshot], bool]]] = {
    **{name: PROPERTIES[name] for name in SHARED},
    "a trigger is due at its next time, and counts its subscriptions": trigger_agrees,
}


@frozen
class Rows(Question[tuple[Record, ...]]):
    """Ask for the rows that the properties need: all but journals and the transcript before its leaf and its last node.

    The answer is empty if there is no such session.
    """

    session_id: str

    def steps(self) -> Generator[Query[Any], Any, tuple[Record, ...]]:
        s = self.session_id
        rows = yield from load_session_rows(s)
        if rows is None:
            return ()
        session, queue_entries, inputs, events = rows
        if session.kind is Kind.JOB:
            return (yield from job_rows_of(session))
        runs: tuple[Run, ...] = yield First(OPEN_RUNS, (s,), PAGE)
        found: list[Record] = [session, *queue_entries, *runs, *events]
        if session.open_ticket_count or session.asking_since_ms is not None:
            found += yield from tickets_of(s, runs)
        if session.intent_count or session.scrap_count:
            found += yield from attachments_of(s)
        if session.kind is Kind.TRIGGER:
            trigger = yield Get(Trigger, (s,))
            found += [] if trigger is None else [trigger]
            found += yield from all_rows(SUBSCRIPTIONS, s)
        if session.next_outbound is not None:
            found += yield from all_rows(OUTBOUND, s)
        found += [entered for entered in inputs if entered is not None]
        profile = yield Get(Profile, (s,))
        found += [] if profile is None else [profile]
        found += yield First(LABELS, (s,), PAGE)
        progress = yield Get(ImportProgress, (s,))
        if progress is not None:
            found.append(progress)
            found += yield from all_rows(IMPORTED_PAGES, s)
        frames: tuple[Frame, ...] = yield First(FRAMES, (s,), EVERY_ROW)
        tips = {tip.node_id for tip in (session.leaf, *[f.leaf for f in frames]) if tip is not None}
        numbered: tuple[Node, ...] = yield First(NODES, (s,), 1, backwards=True)
        tips |= {node.node_id for node in numbered}
        nodes = yield Each(tuple([Get(Node, (s, node_id)) for node_id in sorted(tips)]))
        found += [*frames, *[node for node in nodes if node is not None]]
        found += yield First(BLOB_HOLDERS, (s,), EVERY_ROW)
        blobs: tuple[Blob, ...] = yield First(BLOBS, (s,), EVERY_ROW)
        # While release 1 is active there is no such index (SCHEMA-4): what the session names is found without it.
        named = sorted(digests_of(session) - {blob.digest for blob in blobs})
        more = yield Each(tuple([Get(Blob, (s, digest)) for digest in named]))
        found += [*blobs, *[blob for blob in more if blob is not None]]
        return tuple(found)


def attachments_of(session_id: str) -> Generator[Query[Any], Any, list[Attachment]]:
    """Load the intents and scraps of a session, and what holds the bytes of the scraps."""
    found: list[Attachment] = []
    for stage in (Stage.INTENT, Stage.SCRAP, Stage.CLAIMED):
        found += yield First(ATTACHMENT_STAGES, (session_id, stage.value), 1_000_000_000)
    digests = {row.digest for row in found if not row.held}
    held = yield Each(
        tuple([First(ATTACHMENT_BYTES, (session_id, digest), 1) for digest in sorted(digests)])
    )
    known = {row.attachment_id for row in found}
    return found + [row for (row,) in held if row.attachment_id not in known]


def tickets_of(
    session_id: str, runs: Sequence[Run]
) -> Generator[Query[Any], Any, tuple[Ticket, ...]]:
    """Load the open tickets of a session, and the settled ones that a waiting run names."""
    opened: tuple[Ticket, ...] = yield First(OPEN_TICKETS, (session_id,), EVERY_ROW)
    known = {ticket.ticket_id for ticket in opened}
    named = [name for run in runs for name in getattr(run.state, "tickets", ())]
    settled = yield Each(tuple([Get(Ticket, (session_id, n)) for n in named if n not in known]))
    return (*opened, *[ticket for ticket in settled if ticket is not None])


def violations(rows: Sequence[Record]) -> Iterator[str]:
    """Yield a text for each property that the rows of a session, a job or a trigger violate."""
    if any(isinstance(row, Session) and row.kind is Kind.JOB for row in rows):
        yield from _violations_of_job(rows)
        return
    try:
        snapshot = snapshot_of(0, world_of(rows))
    except Exception as error:  # damaged rows may fail anywhere
        yield f"the rows contradict each other: {error}"
        return
    of_trigger = snapshot.session.kind is Kind.TRIGGER
    for name, holds in (TRIGGER_PROPERTIES if of_trigger else PROPERTIES).items():
        try:
            held = holds(snapshot)
        except Exception as error:
            yield f"violated: {name} ({error!r})"
        else:
            if not held:
                yield f"violated: {name}"


def _violations_of_job(rows: Sequence[Record]) -> Iterator[str]:
    try:
        for name in violated(world_of(rows)):
            yield f"violated: {name}"
    except Exception as error:  # damaged rows may fail anywhere
        yield f"the rows contradict each other: {error}"


def job_rows_of(session: Session) -> Generator[Query[Any], Any, tuple[Record, ...]]:
    """Load the rows of a job."""
    s = session.session_id
    job: Job | None = yield Get(Job, (s,))
    texts = yield Each(tuple([Get(JobText, (s, part)) for part in JobPart]))
    emissions = yield from all_rows(EMISSIONS, s)
    signals = yield from all_rows(SIGNALS, s)
    events = yield from all_rows(EVENT_BATCHES, s)
    found = [row for row in (job, *texts) if row is not None]
    return (session, *found, *emissions, *signals, *events)
