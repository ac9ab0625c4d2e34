"""Drivers: everything with IO.  They carry decisions out and decide nothing."""

from .agents.chat import ChatAgent
from .agents.tools import ToolFailed, tool
from .runtime.errors import Cancelled, StepOutcomeUnknown, TurnFailed
from .runtime.runtime import Runtime
from .runtime.steps import Report
from .runtime.turn import Turn
from .stores.base import Corrupt, OutcomeUnknown, SchemaTooNew, Store, Unavailable
from .stores.registry import open_store

__all__ = [
    "Cancelled",
    "ChatAgent",
    "Corrupt",
    "OutcomeUnknown",
    "Report",
    "Runtime",
    "SchemaTooNew",
    "StepOutcomeUnknown",
    "Store",
    "Turn",
    "ToolFailed",
    "TurnFailed",
    "Unavailable",
    "open_store",
    "tool",
]
