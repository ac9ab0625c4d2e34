"""Read-only questions to a store, each answered from one snapshot.

`core` serves holders and clients, `tickets` who is asked, `inspect` and `history` serve operators.
"""

from .core import (
    DeadLetters,
    EventsAfter,
    InputStatus,
    Journal,
    LoadedRun,
    LoadOverview,
    LoadRun,
    LoadTranscript,
    Overview,
    Sessions,
    Status,
    Statuses,
    TranscriptLine,
)
from .open_turn import LoadOpenTurn, OpenTurn
from .tickets import AskingSessions, OpenTickets

__all__ = [
    "AskingSessions",
    "DeadLetters",
    "EventsAfter",
    "InputStatus",
    "Journal",
    "LoadOpenTurn",
    "LoadOverview",
    "LoadRun",
    "LoadTranscript",
    "LoadedRun",
    "OpenTickets",
    "OpenTurn",
    "Overview",
    "Sessions",
    "Status",
    "Statuses",
    "TranscriptLine",
]
