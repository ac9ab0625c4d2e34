"""Read-only questions to a store, each answered from one snapshot.

`core` serves holders and clients, `inspect` and `history` serve operators.
"""

from .core import (
    AllDeadLetters,
    DeadLetter,
    DeadLetters,
    EventsAfter,
    InputStatus,
    Journal,
    LoadedRun,
    LoadOverview,
    LoadRun,
    LoadTranscript,
    Overview,
    Result,
    Sessions,
    Status,
    Statuses,
    TranscriptLine,
)
from .inbox import Inbox, InboxItem, InboxPage
from .open_turn import LoadOpenTurn, OpenTurn

__all__ = [
    "AllDeadLetters",
    "DeadLetter",
    "DeadLetters",
    "EventsAfter",
    "Inbox",
    "InboxItem",
    "InboxPage",
    "InputStatus",
    "Journal",
    "LoadOpenTurn",
    "LoadOverview",
    "LoadRun",
    "LoadTranscript",
    "LoadedRun",
    "OpenTurn",
    "Overview",
    "Result",
    "Sessions",
    "Status",
    "Statuses",
    "TranscriptLine",
]
