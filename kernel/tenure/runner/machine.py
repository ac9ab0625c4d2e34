"""The runner: one session, from Begin to the end of the lease.  Spec: specs/runner.md.

A machine like any other, whose commands are events and whose effects a host carries out and reports by id.
"""

from __future__ import annotations

from ..rules import Table
from .acquire import ACQUIRE_ROWS, CurrentLease, start
from .ending import ENDING_ROWS
from .execute import EXECUTE_ROWS
from .recovery import BROKEN_ROWS, DEADLINE_ROWS, DRAIN_ROWS, RETRY_ROWS, STALE_ROWS
from .renewal import RENEWAL_ROWS
from .states import Outcome, RunnerConfig, State, Stopped

RULES: Table[Outcome] = Table(
    (
        *ACQUIRE_ROWS,
        *ENDING_ROWS,
        *EXECUTE_ROWS,
        *RENEWAL_ROWS,
        *RETRY_ROWS,
        *BROKEN_ROWS,
        *DEADLINE_ROWS,
        *DRAIN_ROWS,
        *STALE_ROWS,
    )
)
step = RULES.step

__all__ = ["RULES", "Outcome", "RunnerConfig", "State", "Stopped", "CurrentLease", "start", "step"]
