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
    Sessions,
    Status,
    Statuses,
    TranscriptLine,
)
from .open_turn import LoadOpenTurn, OpenTurn

__all__ = [
    "AllDeadLetters",
    "DeadLetter",
    "DeadLetters",
    "EventsAfter",
    "InputStatus",
    "Journal",
    "LoadOpenTurn",
    "LoadOverview",
    "LoadRun",
    "LoadTranscript",
    "LoadedRun",
    "OpenTurn",
    "Overview",
    "Sessions",
    "Status",
    "Statuses",
    "TranscriptLine",
]
