"""The rows of one state of the session model, by kind.

The clock of the model always shows `NOW`.  Only the order of a time and the clock matters, not the distance.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import define, field

from ...machines import input as input_
from ...machines import lease as lease_
from ...machines import run as run_
from ...records import QueueEntry, Run, Session
from ...world import World

__all__ = [
    "EVENT",
    "LATER",
    "NOW",
    "REVISION",
    "S",
    "TTL",
    "UNUSED_LEASE",
    "Snapshot",
    "rank_of",
    "rows_of",
    "snapshot_of",
    "wakes_at",
]


S: Final = "s"  # the session
NOW: Final = 1_000_000_000_000
TTL: Final = 30_000
LATER: Final = NOW + 1
REVISION: Final = 5
EVENT: Final = 100  # above the event number of every admission
UNUSED_LEASE: Final = "l-"  # stands for all lease ids that no later command presents


@define(eq=False)
class Snapshot:
    """The rows of one state, with caches of what was computed from them."""

    number: int
    world: World
    session: Session
    runs: dict[str, Run]
    queue_entries: dict[str, QueueEntry]
    now_ms: int = NOW
    transitions: dict[Any, Any] = field(factory=dict)  # by command
    canonical: dict[Any, int] = field(factory=dict)  # by what is retained
    known: dict[str, Any] = field(factory=dict)  # other cached results

    def unfinished(self) -> list[Run]:
        return [r for r in self.runs.values() if not isinstance(r.state, run_.Done)]

    def live(self) -> bool:
        """Return True if only its holder may end the lease.

        This repeats the rule independently of the kernel, so that the kernel is checked.
        """
        lease = self.session.lease
        if not isinstance(lease, lease_.Held) or lease.ttl_ms <= 0:
            return False
        return self.now_ms <= lease.expires_at_ms <= self.now_ms + 2 * lease.ttl_ms

    def sleeping(self, run: Run) -> bool:
        """Return whether a run waits for a time in the future."""
        return isinstance(run.state, run_.Rescheduled) and wakes_at(run, self.now_ms) > self.now_ms


def wakes_at(run: Run, now_ms: int | None) -> int:
    """Return when a run that waits for a time may go on: at once also if the clock was set back by more than its backoff.

    `now_ms` None: no time has come, and the clock was not set back.  This repeats the rule independently of the kernel, so that the kernel is checked.
    """
    due: int | None = getattr(run.state, "due_at_ms", None)
    since: int | None = getattr(run.state, "since_ms", None)
    if due is None:
        return 0
    if now_ms is None:
        return due
    if due <= now_ms:
        return 0
    if since is not None and since - now_ms > due - since:
        return 0
    return due


def snapshot_of(number: int, world: World, now_ms: int = NOW) -> Snapshot:
    (session,) = rows_of(world, Session).values()
    runs = {run.run_id: run for run in rows_of(world, Run).values()}
    queue_entries = {
        queue_entry.input_id: queue_entry for queue_entry in rows_of(world, QueueEntry).values()
    }
    return Snapshot(number, world, session, runs, queue_entries, now_ms)


def rank_of(queue_entry: QueueEntry) -> int | None:
    state = queue_entry.state
    if isinstance(state, input_.Ready):
        return state.ready_rank
    return state.rank if isinstance(state, input_.Bound) else None


def rows_of(world: World, kind: type[Any]) -> dict[Any, Any]:
    rows = world.tables.get(kind)
    return {} if rows is None else rows.by_key
