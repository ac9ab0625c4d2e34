"""A pure kernel for durable agent sessions: records, commands that decide, and machines of rules.  It does no IO.

A driver loads what `command.reads()` names, calls `command.decide(view, now_ms)`, commits the writes of a `Decided`,
and answers its outcome.  Commands are in `tenure.commands`, questions in `tenure.questions`, messages of models in
`tenure.messages`, machines with effects in `tenure.runner`, `tenure.turn` and `tenure.worker`, the explorer in
`tenure.check`.
"""

from .failure import ErrorKind, Failure, RetryLimits
from .outcome import Decided, Hint, Refusal, Refused, Write
from .policy import (
    POLICIES,
    Audience,
    Boundary,
    Delivery,
    IfOver,
    Lane,
    OnRetry,
    OnSameSlot,
    Policy,
)
from .queries import Command, Query, Question, Record
from .records import RECORDS
from .world import EMPTY, World, ask, evolve, world_of

__all__ = [
    "EMPTY",
    "POLICIES",
    "RECORDS",
    "Audience",
    "Boundary",
    "Command",
    "Decided",
    "Delivery",
    "ErrorKind",
    "Failure",
    "Hint",
    "IfOver",
    "Lane",
    "OnRetry",
    "OnSameSlot",
    "Policy",
    "Query",
    "Question",
    "Record",
    "Refusal",
    "Refused",
    "RetryLimits",
    "World",
    "Write",
    "ask",
    "evolve",
    "world_of",
]
