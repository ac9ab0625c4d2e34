"""Read-only questions to a store, each answered from one snapshot.

`core` serves holders and clients, `tickets` who is asked, `inspect` and `history` serve operators.
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
from .graph import Graph, GraphPage, LoadedSession, LoadSession, NodeOf
from .inbox import Inbox, InboxItem, InboxPage
from .open_turn import LoadOpenTurn, OpenTurn
from .path import LoadPage, TranscriptPage
from .tickets import AllOpenTickets, OpenTickets

__all__ = [
    "AllDeadLetters",
    "AllOpenTickets",
    "DeadLetter",
    "DeadLetters",
    "EventsAfter",
    "Graph",
    "GraphPage",
    "Inbox",
    "InboxItem",
    "InboxPage",
    "InputStatus",
    "Journal",
    "LoadOpenTurn",
    "LoadOverview",
    "LoadPage",
    "LoadRun",
    "LoadSession",
    "LoadTranscript",
    "LoadedRun",
    "LoadedSession",
    "NodeOf",
    "OpenTickets",
    "OpenTurn",
    "Overview",
    "Result",
    "Sessions",
    "Status",
    "Statuses",
    "TranscriptLine",
    "TranscriptPage",
]
