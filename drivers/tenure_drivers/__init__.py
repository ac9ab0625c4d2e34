"""Drivers of tenure: stores, the asyncio runtime, agents and the command line.  They decide nothing.

Import what you need from here.  Modules below this package may change between releases.
"""

from tenure.commands import NewInput
from tenure.failure import ErrorKind, Failure
from tenure.policy import Delivery, Lane, Policy
from tenure.questions.core import InputStatus
from tenure.turn.shortening import drop_turns, shorten, shorten_results

from .agents.base import Agent, UnknownAgent
from .agents.chat import ChatAgent
from .agents.registry import find_agent
from .agents.tools import ToolFailed, tool
from .runtime.client import Client
from .runtime.errors import (
    AlreadyCommitted,
    Cancelled,
    CommandRefused,
    IllegalResult,
    LeaseLost,
    NothingDue,
    StepFailed,
    StepOutcomeUnknown,
    SubmissionRefused,
    TurnFailed,
)
from .runtime.receipts import Receipt
from .runtime.runtime import Runtime
from .runtime.steps import Report
from .runtime.streaming.broadcast import Gap, Observer, Settled
from .runtime.sync import SyncReceipt, SyncRuntime, SyncTurn
from .runtime.turn import Turn
from .stores.base import (
    Capability,
    Corrupt,
    Due,
    Durability,
    OutcomeUnknown,
    SchemaTooNew,
    Store,
    Unavailable,
)
from .stores.errors import TenureError
from .stores.registry import open_store
from .stores.url import StoreUrl

__all__ = [
    "Agent",
    "AlreadyCommitted",
    "Cancelled",
    "Capability",
    "ChatAgent",
    "Client",
    "CommandRefused",
    "Corrupt",
    "Delivery",
    "Due",
    "Durability",
    "ErrorKind",
    "Failure",
    "Gap",
    "IllegalResult",
    "InputStatus",
    "Lane",
    "LeaseLost",
    "NewInput",
    "NothingDue",
    "Observer",
    "OutcomeUnknown",
    "Policy",
    "Receipt",
    "Report",
    "Runtime",
    "SchemaTooNew",
    "Settled",
    "StepFailed",
    "StepOutcomeUnknown",
    "Store",
    "StoreUrl",
    "SubmissionRefused",
    "SyncReceipt",
    "SyncRuntime",
    "SyncTurn",
    "TenureError",
    "ToolFailed",
    "Turn",
    "TurnFailed",
    "Unavailable",
    "UnknownAgent",
    "drop_turns",
    "find_agent",
    "open_store",
    "shorten",
    "shorten_results",
    "tool",
]
