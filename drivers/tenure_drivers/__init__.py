"""Drivers: everything with IO.  They carry decisions out and decide nothing."""

from .contract import Corrupt, OutcomeUnknown, SchemaTooNew, Store, Unavailable, open_store
from .errors import Cancelled, StepOutcomeUnknown, TurnFailed
from .runtime import Runtime
from .steps import Report
from .turn import Turn

__all__ = [
    "Cancelled",
    "Corrupt",
    "OutcomeUnknown",
    "Report",
    "Runtime",
    "SchemaTooNew",
    "StepOutcomeUnknown",
    "Store",
    "Turn",
    "TurnFailed",
    "Unavailable",
    "open_store",
]
