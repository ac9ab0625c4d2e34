"""The runner: one session, from Begin to the end of the lease.  Spec: specs/runner.md.

A machine like any other, whose commands are events and whose effects a host carries out and reports by id.
"""

from __future__ import annotations

from ..rules import Table
from .acquire import TAKE, CurrentLease, start
from .ending import CLOSE
from .execute import WORK
from .recovery import AGAIN, BROKEN, DRAIN, REST, TIME
from .renewal import KEEP
from .states import Outcome, RunnerConfig, State, Stopped

RULES: Table[Outcome] = Table((*TAKE, *CLOSE, *WORK, *KEEP, *AGAIN, *BROKEN, *TIME, *DRAIN, *REST))
step = RULES.step

__all__ = ["RULES", "Outcome", "RunnerConfig", "State", "Stopped", "CurrentLease", "start", "step"]
