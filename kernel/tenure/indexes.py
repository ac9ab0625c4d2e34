"""The indexes: every order in which a decision or a question may read records.  Spec: specs/store.md."""

from __future__ import annotations

from typing import Any, Final

from .queries import Index
from .records import (
    RECORDS,
    Attachment,
    Blob,
    BlobHolders,
    Emission,
    EventBatch,
    ExecutedCommand,
    Frame,
    ImportedPage,
    Input,
    Job,
    JobGrant,
    JobSignal,
    JournalEntry,
    Label,
    MarkRaise,
    Node,
    Occurrence,
    OpenKey,
    Outbound,
    Profile,
    QueueEntry,
    Run,
    Session,
    Subscription,
    Ticket,
    Trigger,
    Usage,
)

__all__ = [
    "AGED",
    "ASKING",
    "ATTACHMENTS",
    "ATTACHMENT_BYTES",
    "ATTACHMENT_STAGES",
    "BLOBS",
    "BLOB_HOLDERS",
    "BY_KEY",
    "CHANGED",
    "CREATED",
    "DEAD",
    "DELAYED",
    "DUE",
    "ENABLED",
    "EMISSIONS",
    "EMISSION_KEY",
    "EVENT_BATCHES",
    "EXECUTED_COMMANDS",
    "FROM_SESSION",
    "FRAMES",
    "FUTURE",
    "IMPORTED_PAGES",
    "INDEXES",
    "JOB_CHANGED",
    "JOB_GRANTEES",
    "JOB_GRANTS",
    "JOB_LEFT",
    "JOB_OPEN",
    "JOB_ORIGIN",
    "JOB_STARTER",
    "JOURNAL_ENTRIES",
    "LABELLED",
    "LABELS",
    "MARK_RAISES",
    "NODES",
    "NODE_IDS",
    "OCCURRENCES",
    "OPEN_KEYS",
    "OPEN_RUNS",
    "OPEN_TICKETS",
    "OUTBOUND",
    "OUTBOUND_DUE",
    "OUTBOUND_ROUTE",
    "OUTBOUND_UNDELIVERABLE",
    "PRIMARY",
    "PRUNABLE",
    "QUEUE_ENTRIES",
    "READY",
    "SCRAPS",
    "SESSIONS",
    "SIGNALS",
    "SIGNAL_ID",
    "SLOT",
    "SUBSCRIPTIONS",
    "TARGETED",
    "TICKET_DEADLINES",
    "TRIGGERS",
    "UNPUBLISHED",
    "USAGES",
]


# Workers find sessions by these two (STORE-5), also after a clock was set back (DUE-8).
DUE: Final = Index("session_due", Session, ("due_at_ms", "session_id"), for_workers=True)
FUTURE: Final = Index(
    "session_future_lease", Session, ("lease_from_ms", "session_id"), for_workers=True
)
CHANGED: Final = Index(
    "session_changed", Session, ("changed_at_ms", "session_id"), for_workers=True
)  # FEED-6
SESSIONS: Final = Index("session_pk", Session, ("session_id",), unique=True)
BY_KEY: Final = Index("input_key", Input, ("session_id", "key_value"), unique=True)
READY: Final = Index(
    "queue_entry_ready",
    QueueEntry,
    ("session_id", "lane", "mark", "priority", "ready_rank"),
    descending=("mark",),
)
DELAYED: Final = Index("queue_entry_delayed", QueueEntry, ("session_id", "until_ms", "seq"))
AGED: Final = Index("queue_entry_aged", QueueEntry, ("session_id", "lane", "mark", "seq"))
SLOT: Final = Index("queue_entry_slot", QueueEntry, ("session_id", "slot", "seq"))
# Inputs of an older mark come last, and within a lane each delivery has an order of its own: so inputs that wait for the
# end of the turn do not stand before those that may be taken earlier.
TARGETED: Final = Index(
    "queue_entry_targeted",
    QueueEntry,
    ("session_id", "target_run", "lane", "delivery", "mark", "priority", "ready_rank"),
    descending=("mark",),
    since=2,
)
DEAD: Final = Index("queue_entry_dead", QueueEntry, ("session_id", "dead_seq"))
QUEUE_ENTRIES: Final = Index("queue_entry_pk", QueueEntry, ("session_id", "input_id"), unique=True)
OPEN_RUNS: Final = Index("run_open", Run, ("session_id", "unfinished", "run_id"))
JOURNAL_ENTRIES: Final = Index("journal_entry_pk", JournalEntry, JournalEntry.key, unique=True)
EVENT_BATCHES: Final = Index("event_batch_pk", EventBatch, EventBatch.key, unique=True)
OPEN_KEYS: Final = Index("open_key_pk", OpenKey, OpenKey.key, unique=True)
MARK_RAISES: Final = Index("mark_raise_pk", MarkRaise, MarkRaise.key, unique=True)
ASKING: Final = Index("session_asking", Session, ("asking_since_ms", "session_id"), since=2)
# Publishers find sessions by it (EVENT-66).
UNPUBLISHED: Final = Index(
    "session_unpublished",
    Session,
    ("unpublished_since_ms", "session_id"),
    since=2,
    for_workers=True,
)
# Whoever prunes finds sessions by it (RETENTION-12).
PRUNABLE: Final = Index(
    "session_prunable", Session, ("prune_at_ms", "session_id"), since=2, for_workers=True
)
EXECUTED_COMMANDS: Final = Index(
    "executed_command_age", ExecutedCommand, ("session_id", "at_ms", "command_id"), since=2
)
OPEN_TICKETS: Final = Index("ticket_open", Ticket, ("session_id", "open_run", "ticket_id"), since=2)
TICKET_DEADLINES: Final = Index(
    "ticket_deadline", Ticket, ("session_id", "open_until_ms", "ticket_id"), since=2
)
# Nodes in the order of writing; those of release 1 have no number, and are found by their ids (READ-3).
NODES: Final = Index("node_seq", Node, ("session_id", "seq"), since=2)
# Whoever prunes finds hidden nodes by it (RETENTION-15).
HIDDEN: Final = Index("node_hidden", Node, ("session_id", "hidden_at_ms", "node_id"), since=2)
NODE_IDS: Final = Index("node_pk", Node, Node.key, unique=True, since=2)
# For people (PROFILE-6): no decision reads them, and a session without a profile is in none (PROFILE-2).
CREATED: Final = Index("profile_created", Profile, ("created_at_ms", "session_id"), since=2)
FROM_SESSION: Final = Index(
    "profile_from_session", Profile, ("from_session", "created_at_ms", "session_id"), since=2
)
LABELLED: Final = Index(
    "label_value", Label, ("name", "value", "created_at_ms", "session_id"), since=2
)
IMPORTED_PAGES: Final = Index(
    "imported_page_pk", ImportedPage, ImportedPage.key, unique=True, since=2
)
LABELS: Final = Index("label_pk", Label, Label.key, unique=True, since=2)
ATTACHMENTS: Final = Index("attachment_pk", Attachment, Attachment.key, unique=True, since=2)
ATTACHMENT_STAGES: Final = Index(
    "attachment_stage", Attachment, ("session_id", "stage", "at_ms", "attachment_id"), since=2
)
# Who has or deletes the same bytes; those that hold them come first.
ATTACHMENT_BYTES: Final = Index(
    "attachment_digest", Attachment, ("session_id", "digest", "stage", "attachment_id"), since=2
)
# Whoever deletes bytes finds sessions by it (ATTACH-40).
SCRAPS: Final = Index(
    "session_scraps", Session, ("scraps_since_ms", "session_id"), since=2, for_workers=True
)
# JOB-80: jobs in the order of their changes, those that have not ended, those of a session, those that were left, and
# the owner-bound work that an owner has started.
JOB_CHANGED: Final = Index("job_changed", Job, ("changed_at_ms", "session_id"), since=2)
JOB_OPEN: Final = Index("job_open", Job, ("open_since_ms", "session_id"), since=2)
JOB_ORIGIN: Final = Index("job_origin", Job, ("origin", "registered_at_ms", "session_id"), since=2)
JOB_STARTER: Final = Index("job_starter", Job, ("started_by", "session_id"), since=2)
JOB_GRANTS: Final = Index("job_grant_pk", JobGrant, JobGrant.key, unique=True, since=2)
JOB_GRANTEES: Final = Index("job_grantee", JobGrant, ("job_id", "session_id"), since=2)
EMISSIONS: Final = Index("emission_pk", Emission, Emission.key, unique=True, since=2)
EMISSION_KEY: Final = Index(
    "emission_key", Emission, ("session_id", "key_value"), unique=True, since=2
)
SIGNALS: Final = Index("job_signal_pk", JobSignal, JobSignal.key, unique=True, since=2)
SIGNAL_ID: Final = Index(
    "job_signal_id", JobSignal, ("session_id", "signal_id"), unique=True, since=2
)
JOB_LEFT: Final = Index("session_left", Session, ("left_since_ms", "session_id"), since=2)
# TRIGGER-33, RETENTION-16: what gets the occurrences of a trigger, and its occurrences, the oldest first.
ENABLED: Final = Index("subscription_enabled", Subscription, ("session_id", "enabled_id"), since=2)
SUBSCRIPTIONS: Final = Index(
    "subscription_pk", Subscription, Subscription.key, unique=True, since=2
)
OCCURRENCES: Final = Index(
    "occurrence_age", Occurrence, ("session_id", "recorded_at_ms", "source", "key_value"), since=2
)
TRIGGERS: Final = Index("trigger_pk", Trigger, Trigger.key, unique=True, since=2)
FRAMES: Final = Index("frame_pk", Frame, Frame.key, unique=True, since=2)
BLOBS: Final = Index("blob_pk", Blob, Blob.key, unique=True, since=2)
BLOB_HOLDERS: Final = Index("blob_holders_pk", BlobHolders, BlobHolders.key, unique=True, since=2)
OUTBOUND: Final = Index("outbound_pk", Outbound, Outbound.key, unique=True, since=2)
# Relays find what may be sent by it, for each store to which they send (OUTBOUND-20).
OUTBOUND_DUE: Final = Index(
    "outbound_due",
    Outbound,
    ("peer", "due_at_ms", "session_id", "number"),
    since=2,
    for_workers=True,
)
OUTBOUND_ROUTE: Final = Index(
    "outbound_route", Outbound, ("session_id", "waiting_route", "number"), since=2
)
OUTBOUND_UNDELIVERABLE: Final = Index(
    "outbound_undeliverable", Outbound, ("refused_at_ms", "session_id", "number"), since=2
)
USAGES: Final = Index("usage_pk", Usage, Usage.key, unique=True)

DECLARED: Final[tuple[Index[Any], ...]] = (
    DUE,
    FUTURE,
    CHANGED,
    SESSIONS,
    BY_KEY,
    READY,
    DELAYED,
    AGED,
    SLOT,
    TARGETED,
    DEAD,
    OPEN_RUNS,
    QUEUE_ENTRIES,
    JOURNAL_ENTRIES,
    EVENT_BATCHES,
    OPEN_KEYS,
    MARK_RAISES,
    USAGES,
    ASKING,
    OPEN_TICKETS,
    TICKET_DEADLINES,
    UNPUBLISHED,
    PRUNABLE,
    EXECUTED_COMMANDS,
    NODES,
    NODE_IDS,
    HIDDEN,
    CREATED,
    FROM_SESSION,
    LABELLED,
    LABELS,
    ATTACHMENTS,
    ATTACHMENT_STAGES,
    ATTACHMENT_BYTES,
    SCRAPS,
    FRAMES,
    BLOBS,
    BLOB_HOLDERS,
    IMPORTED_PAGES,
    OUTBOUND,
    OUTBOUND_DUE,
    OUTBOUND_ROUTE,
    OUTBOUND_UNDELIVERABLE,
    JOB_CHANGED,
    JOB_OPEN,
    JOB_ORIGIN,
    JOB_STARTER,
    JOB_LEFT,
    ENABLED,
    SUBSCRIPTIONS,
    OCCURRENCES,
    TRIGGERS,
    JOB_GRANTS,
    JOB_GRANTEES,
    EMISSIONS,
    EMISSION_KEY,
    SIGNALS,
    SIGNAL_ID,
)


def _primary(record: type[Any]) -> Index[Any]:
    """Return the index of a record's primary key, which a store need not build (RETENTION-8)."""
    declared = [i for i in DECLARED if i.record is record and i.columns == record.key]
    name = "".join(["_" + c.lower() if c.isupper() else c for c in record.__name__])[1:]
    made = Index(f"{name}_pk", record, record.key, unique=True, since=max(record.since, 2))
    return next(iter(declared), made)


PRIMARY: Final[dict[type[Any], Index[Any]]] = {record: _primary(record) for record in RECORDS}

INDEXES: Final[tuple[Index[Any], ...]] = tuple(dict.fromkeys((*DECLARED, *PRIMARY.values())))
