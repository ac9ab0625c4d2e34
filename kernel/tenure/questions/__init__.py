"""Read-only questions to a store, each answered from one snapshot.

`core` serves holders and clients, `tickets` who is asked, `sessions` finds sessions, `inspect` and `history` serve operators.
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
    Status,
    Statuses,
    TranscriptLine,
)
from .imports import LoadImport
from .inbox import Inbox, InboxItem, InboxPage
from .open_turn import LoadOpenTurn, OpenTurn
from .sessions import SessionItem, Sessions, SessionsPage
from .tickets import AllOpenTickets, OpenTickets

__all__ = [
    "AllDeadLetters",
    "AllOpenTickets",
    "DeadLetter",
    "DeadLetters",
    "EventsAfter",
    "Inbox",
    "InboxItem",
    "InboxPage",
    "InputStatus",
    "Journal",
    "LoadImport",
    "LoadOpenTurn",
    "LoadOverview",
    "LoadRun",
    "LoadTranscript",
    "LoadedRun",
    "OpenTickets",
    "OpenTurn",
    "Overview",
    "Result",
    "SessionItem",
    "Sessions",
    "SessionsPage",
    "Status",
    "Statuses",
    "TranscriptLine",
]
