"""The entries of a run's journal.  Spec: specs/journal.md."""

from __future__ import annotations

import enum
from typing import ClassVar

from attrs import frozen

from .queries import Record

__all__ = ["EntryKind", "JournalEntry"]


class EntryKind(enum.StrEnum):
    """What a journal entry records."""

    START = "start"  # a once step is about to run
    REPORT = "report"
    UNKNOWN = "unknown"  # a once step was started, and its outcome is unknown
    NODE = "node"
    TAKEN = "taken"  # inputs that the checkpoint has taken: their ids, with blanks between them
    NOTE = "note"  # a message for people; also appended as an event
    TICKET = "ticket"  # a ticket was opened: its id
    WAIT = "wait"  # the run has parked
    added = enum.nonmember({"TAKEN": 2, "TICKET": 2, "WAIT": 2})


@frozen
class JournalEntry(Record):
    """One entry of a run's journal, with the lease and the digest of its checkpoint."""

    key: ClassVar = ("session_id", "run_id", "turn", "n", "i")
    payloads: ClassVar = ("body",)
    session_id: str
    run_id: str
    turn: int
    n: int
    i: int
    kind: EntryKind
    effect_id: str
    lease_id: str
    digest: str
    node_id: str | None = None
    body: str = ""
