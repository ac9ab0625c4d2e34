"""A decision of the session model with the rows before and after it, as the properties need it."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from ...machines import lease as lease_
from ...machines import run as run_
from ...outcome import Decided
from ...records import QueueEntry, Run
from .snapshot import Snapshot

__all__ = ["Step", "lease_id_of"]


@frozen
class Step:
    """A decision that writes, with the rows before and after it."""

    before: Snapshot
    after: Snapshot
    command: Any
    decided: Decided[Any]

    def runs_ended(self) -> list[Run]:
        return [
            run
            for name, run in self.after.runs.items()
            if isinstance(run.state, run_.Done) and self.was_unfinished(name)
        ]

    def was_unfinished(self, run_id: str) -> bool:
        before = self.before.runs.get(run_id)
        return before is None or not isinstance(before.state, run_.Done)

    def moved(self) -> list[tuple[QueueEntry, QueueEntry]]:
        """Return the queue entries that changed: before and after."""
        before = self.before.queue_entries
        return [
            (before[name], queue_entry)
            for name, queue_entry in self.after.queue_entries.items()
            if name in before and before[name] != queue_entry
        ]


def lease_id_of(lease: lease_.Lease) -> str:
    return lease.lease_id if isinstance(lease, lease_.Held) else ""
