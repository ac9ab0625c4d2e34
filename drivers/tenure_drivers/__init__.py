"""Drivers: everything with IO.  They carry decisions out and decide nothing."""

from .chat_agent import ChatAgent
from .chat_tool import ToolFailed, tool
from .contract import Corrupt, OutcomeUnknown, SchemaTooNew, Store, Unavailable, open_store
from .errors import Cancelled, StepOutcomeUnknown, TurnFailed
from .runtime import Runtime
from .steps import Report
from .turn import Turn

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
