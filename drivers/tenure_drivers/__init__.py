"""Drivers of tenure: stores, the asyncio runtime, agents and the command line.  They decide nothing.

Import what you need from here, or from a module that the API reference lists.  All other modules may change between
releases.  A name is imported when it is used first, so a program loads only what it needs.
"""

import ast
import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenure.commands import IfIdle, NewInput, NewProfile, Parent, Target
    from tenure.failure import ErrorKind, Failure, LastFailure, RetryLimits
    from tenure.frame import Switch
    from tenure.machines.run import Termination, WaitReason
    from tenure.machines.ticket import Action
    from tenure.messages.types import Delta
    from tenure.policy import (
        Audience,
        Delivery,
        IfOver,
        Lane,
        OnRetry,
        OnSameSlot,
        Policy,
        WhileWaiting,
    )
    from tenure.publisher.protocol import PublishedEvent
    from tenure.questions.core import InputStatus
    from tenure.records import Ticket
    from tenure.retention import Keep, Retention
    from tenure.transcript import NewNode
    from tenure.trigger_records import Missed, Schedule, StartsInput, StartsJob
    from tenure.turn.protocol import HandOff
    from tenure.turn.shortening import drop_turns, shorten, shorten_results

    from .agents.base import Agent, UnknownAgent
    from .agents.chat import ChatAgent
    from .agents.job_tools import job_tools
    from .agents.registry import find_agent
    from .agents.tools import ToolFailed, tool
    from .runtime.client import Client
    from .runtime.drained import Drained
    from .runtime.errors import (
        AlreadyCommitted,
        BaseExceptionRaised,
        Busy,
        Cancelled,
        CommandRefused,
        EventsPruned,
        IllegalResult,
        LeaseLost,
        NotAnswered,
        NotEnded,
        NothingDue,
        Parked,
        Steered,
        StepFailed,
        StepOutcomeUnknown,
        StillRunning,
        SubmissionRefused,
        TurnFailed,
    )
    from .runtime.feed import Change
    from .runtime.jobs.definition import JobDefinition, job
    from .runtime.jobs.handle import (
        JobEvent,
        JobHandle,
        JobNotCompleted,
        JobNotEnded,
        JobResult,
    )
    from .runtime.jobs.process_job import Process, Processes
    from .runtime.jobs.session_job import ChildSession, ChildSessions
    from .runtime.jobs.work import BlockingWork, Work
    from .runtime.limits import Limit
    from .runtime.publisher_host import Sink
    from .runtime.receipts import Receipt
    from .runtime.runtime import Runtime
    from .runtime.steps import Report
    from .runtime.streaming.broadcast import Gap, Observer, Settled
    from .runtime.streaming.log import Channel, StreamMessage
    from .runtime.sync import SyncReceipt, SyncRuntime, SyncTurn
    from .runtime.triggers.handle import TriggerHandle
    from .runtime.turn import Turn
    from .runtime.versions import AgentRegistry, AgentVersions
    from .runtime.waiting import Decision, Waited
    from .stores.base import (
        Capability,
        Corrupt,
        Due,
        Durability,
        OutcomeUnknown,
        SchemaTooNew,
        SchemaTooOld,
        Store,
        Unavailable,
        Unusable,
    )
    from .stores.errors import TenureError
    from .stores.registry import open_store
    from .stores.url import StoreUrl

__all__ = [
    "Action",
    "Agent",
    "AgentRegistry",
    "AgentVersions",
    "AlreadyCommitted",
    "Audience",
    "BaseExceptionRaised",
    "BlockingWork",
    "Busy",
    "Cancelled",
    "Capability",
    "Change",
    "Channel",
    "ChatAgent",
    "ChildSession",
    "ChildSessions",
    "Client",
    "CommandRefused",
    "Corrupt",
    "Decision",
    "Delivery",
    "Delta",
    "Drained",
    "Due",
    "Durability",
    "ErrorKind",
    "EventsPruned",
    "Failure",
    "Gap",
    "HandOff",
    "IfIdle",
    "IfOver",
    "IllegalResult",
    "InputStatus",
    "JobDefinition",
    "JobEvent",
    "JobHandle",
    "JobNotCompleted",
    "JobNotEnded",
    "JobResult",
    "Keep",
    "Lane",
    "LastFailure",
    "LeaseLost",
    "Limit",
    "Missed",
    "NewInput",
    "NewNode",
    "NewProfile",
    "NotAnswered",
    "NotEnded",
    "NothingDue",
    "Observer",
    "OnRetry",
    "OnSameSlot",
    "OutcomeUnknown",
    "Parent",
    "Parked",
    "Policy",
    "Process",
    "Processes",
    "PublishedEvent",
    "Receipt",
    "Report",
    "Retention",
    "RetryLimits",
    "Runtime",
    "Schedule",
    "SchemaTooNew",
    "SchemaTooOld",
    "Settled",
    "Sink",
    "StartsInput",
    "StartsJob",
    "Steered",
    "StepFailed",
    "StepOutcomeUnknown",
    "StillRunning",
    "Store",
    "StoreUrl",
    "StreamMessage",
    "SubmissionRefused",
    "Switch",
    "SyncReceipt",
    "SyncRuntime",
    "SyncTurn",
    "Target",
    "TenureError",
    "Termination",
    "Ticket",
    "ToolFailed",
    "TriggerHandle",
    "Turn",
    "TurnFailed",
    "Unavailable",
    "UnknownAgent",
    "Unusable",
    "WaitReason",
    "Waited",
    "WhileWaiting",
    "Work",
    "drop_turns",
    "find_agent",
    "job",
    "job_tools",
    "open_store",
    "shorten",
    "shorten_results",
    "tool",
]


def _modules() -> dict[str, str]:
    """Return the module of each exported name, as the imports above say."""
    source = pkgutil.get_data(__name__, "__init__.py")
    assert source is not None
    (block,) = [node for node in ast.parse(source).body if isinstance(node, ast.If)]
    return {
        alias.name: f"{'.' * node.level}{node.module}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


_MODULES = _modules()


def __getattr__(name: str) -> Any:
    """Import an exported name.  Raises AttributeError for any other."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_MODULES[name], __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
