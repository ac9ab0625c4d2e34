"""Read-only questions to a store, each answered from one snapshot.

`core` and `frames` serve holders and clients, `tickets` who is asked, `sessions` finds sessions, `inspect` and `history` serve
operators.
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
from .frames import LoadFrames, LoadStates, StateText
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
    "LoadFrames",
    "LoadOpenTurn",
    "LoadOverview",
    "LoadRun",
    "LoadStates",
    "LoadTranscript",
    "LoadedRun",
    "OpenTickets",
    "OpenTurn",
    "Overview",
    "Result",
    "SessionItem",
    "Sessions",
    "SessionsPage",
    "StateText",
    "Status",
    "Statuses",
    "TranscriptLine",
]
