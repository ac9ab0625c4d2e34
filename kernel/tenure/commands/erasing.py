"""The texts of a session that Prune erases after Destroy(erase_payloads=True): a table with a row for each record.

Digests and ids stay.  Spec: specs/retention.md, RETENTION-11.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from ..event import Event, EventKind
from ..kind import Kind
from ..machines import input as input_
from ..machines import job as job_
from ..machines import run as run_
from ..machines import ticket as ticket_
from ..outbound_records import Undeliverable
from ..outcome import Key
from ..queries import Record
from ..records import (
    Attachment,
    Blob,
    BlobHolders,
    Emission,
    EntryKind,
    EventBatch,
    ExecutedCommand,
    Frame,
    ImportedPage,
    ImportProgress,
    Input,
    Job,
    JobEventType,
    JobGrant,
    JobSignal,
    JobText,
    JournalEntry,
    Label,
    MarkRaise,
    Node,
    Occurrence,
    OpenKey,
    Outbound,
    Profile,
    PruneProgress,
    QueueEntry,
    Run,
    Scrap,
    Session,
    Subscription,
    Ticket,
    Trigger,
    Usage,
)
from ..replace import replace

__all__ = ["ERASED", "WITHOUT_TEXTS", "place_after", "place_of", "table_after"]


NAMING: Final = (EntryKind.TAKEN, EntryKind.TICKET)  # the body has ids
FREE_TEXTS: Final = (
    EventKind.RUN_FAILED,
    EventKind.REPLAY_DIFFERED,
    EventKind.JOB_ENDED,
    EventKind.JOB_RESCHEDULED,
    EventKind.ABANDON_REQUESTED,
)


def _input(row: Input) -> Input:
    return replace(row, payload="", origin=None, key_value=None, correlation_id=None)


def _queue_entry(row: QueueEntry) -> QueueEntry:
    state = row.state
    if not isinstance(state, input_.Ended) or state.how is not input_.How.DEAD_LETTERED:
        return row
    return replace(row, state=replace(state, by=""))


def _run(row: Run) -> Run:
    state = replace(row.state, reason="") if isinstance(row.state, run_.Done) else row.state
    contributors = tuple([replace(each, open_key=None) for each in row.contributors])
    retry = replace(row.retry, last=None)
    return replace(row, state=state, contributors=contributors, retry=retry)


def _entry(row: JournalEntry) -> JournalEntry:
    return row if row.kind in NAMING else replace(row, body="")


def _node(row: Node) -> Node:
    return replace(row, body="")


def _batch(row: EventBatch) -> EventBatch:
    return replace(row, events=tuple(map(_event, row.events)), origins=None)


def _event(event: Event) -> Event:
    split = event.kind is EventKind.RUN_FINISHED and event.detail.startswith("split: ")
    detail = "" if event.kind in FREE_TEXTS else "split: " if split else event.detail
    return replace(event, detail=detail, correlation_id=None)


def _ticket(row: Ticket) -> Ticket:
    state = row.state
    if isinstance(state, ticket_.Settled):
        state = replace(state, by="", body="")
    return replace(row, prompt="", state=state)


def _job(row: Job) -> Job:
    """JOB-93: what people and runners have written."""
    state = row.state
    if isinstance(state, job_.Ended):
        state = replace(state, reason="")
    request = None if row.request is None else replace(row.request, reason="")
    failures = replace(row.failures, last=None)
    return replace(row, state=state, request=request, failures=failures)


def _body(row: JobText | Emission | JobSignal) -> JobText | Emission | JobSignal:
    return replace(row, body="")


def _event_type(row: JobEventType) -> JobEventType:
    return replace(row, schema=None)


def _outbound(row: Outbound) -> Outbound:
    """OUTBOUND-50: what was not sent yet cannot be sent any more."""
    state = row.state
    if not isinstance(state, Undeliverable):
        state = Undeliverable(row.at_ms, "pruned", "OUTBOUND-50", "")
    return replace(row, command="", error=None, state=replace(state, detail=""))


def _blob(row: Blob) -> Blob:
    return replace(row, body="")


def _frame(row: Frame) -> Frame:
    return replace(row, reason="", options=None)


def _profile(row: Profile) -> Profile:
    labels = tuple([(name, "") for name, _ in row.labels])
    return replace(row, name=None, data=None, labels=labels)


def _label(row: Label) -> Label:
    return replace(row, value="")


def _attachment(row: Attachment) -> Attachment:
    """ATTACH-23: let go of it, so that its bytes are deleted."""
    return replace(row, state=Scrap()) if row.held else row


def _subscription(row: Subscription) -> Subscription:
    return replace(row, text=None)


def _occurrence(row: Occurrence) -> Occurrence:
    return replace(row, body="")


def _progress(row: ImportProgress) -> ImportProgress:
    return replace(row, origin=None)


ERASED: Final[dict[type[Record], Callable[[Any], Any]]] = {
    Input: _input,
    QueueEntry: _queue_entry,
    Run: _run,
    JournalEntry: _entry,
    Node: _node,
    EventBatch: _batch,
    Ticket: _ticket,
    Blob: _blob,
    Frame: _frame,
    Profile: _profile,
    Label: _label,
    Attachment: _attachment,
    ImportProgress: _progress,
    Subscription: _subscription,
    Occurrence: _occurrence,
    Outbound: _outbound,
    Job: _job,
    JobText: _body,
    Emission: _body,
    JobSignal: _body,
    JobEventType: _event_type,
}
# open keys end with their inputs
WITHOUT_TEXTS: Final[tuple[type[Record], ...]] = (
    JobGrant,
    *(BlobHolders, ExecutedCommand, MarkRaise, OpenKey, Usage),
    *(Session, PruneProgress, ImportedPage, Trigger),
)


# what a session has not, and what a job has
OF_JOBS: Final = (Job, JobText, Emission, JobSignal, JobEventType)
OF_A_JOB: Final = (Input, JournalEntry, EventBatch, Outbound, *OF_JOBS)


def table_after(table: type[Record], kind: Kind | None = None) -> type[Record] | None:
    """Return the table that is erased after another one, of those that a kind has; None after the last."""
    tables = list(ERASED)
    for following in tables[tables.index(table) + 1 :]:
        if following in OF_A_JOB if kind is Kind.JOB else following not in OF_JOBS:
            return following
    return None


def place_of(text: str) -> tuple[type[Record], Key] | None:
    """Return the table that is erased next, and the key after which; None for a text that names none."""
    name, _, rest = text.partition(" ")
    for table in ERASED:
        if table.__name__ == name:
            try:
                key = json.loads(rest or "[]")
            except ValueError:
                return None
            fits = isinstance(key, list) and all(each.__class__ in (str, int) for each in key)
            return (table, tuple(key)) if fits else None
    return None


def place_after(table: type[Record], key: Key = ()) -> str:
    """Return the text of a place.  `key`: the columns after the session's."""
    return f"{table.__name__} {json.dumps(key)}" if key else table.__name__
