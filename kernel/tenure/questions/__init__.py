"""Read-only questions to a store, each answered from one snapshot.

`core` and `frames` serve holders and clients, `tickets` who is asked, `sessions` finds sessions, `inspect` and `history` serve
operators.
"""

from .changes import (
    ChangeCursor,
    ChangesPage,
    InputEnded,
    LeafMoved,
    LoadChanges,
    NodesHidden,
    NodesShown,
)
from .conversation import (
    Conversation,
    EndedInput,
    EnteredInput,
    InboxInput,
    LoadConversation,
    OpenCall,
    RunEnd,
    Said,
)
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
from .graph import Graph, GraphPage, LoadedSession, LoadSession, NodeOf
from .imports import LoadImport
from .inbox import Inbox, InboxItem, InboxPage
from .open_turn import LoadOpenTurn, OpenTurn
from .path import LoadPage, TranscriptPage
from .sessions import SessionItem, Sessions, SessionsPage
from .tickets import AllOpenTickets, OpenTickets

__all__ = [
    "AllDeadLetters",
    "AllOpenTickets",
    "ChangeCursor",
    "ChangesPage",
    "Conversation",
    "DeadLetter",
    "DeadLetters",
    "EndedInput",
    "EnteredInput",
    "EventsAfter",
    "Graph",
    "GraphPage",
    "Inbox",
    "InboxInput",
    "InboxItem",
    "InboxPage",
    "InputEnded",
    "InputStatus",
    "Journal",
    "LoadFrames",
    "LeafMoved",
    "LoadChanges",
    "LoadConversation",
    "LoadImport",
    "LoadOpenTurn",
    "LoadOverview",
    "LoadPage",
    "LoadRun",
    "LoadStates",
    "LoadSession",
    "LoadTranscript",
    "LoadedRun",
    "LoadedSession",
    "NodeOf",
    "NodesHidden",
    "NodesShown",
    "OpenCall",
    "OpenTickets",
    "OpenTurn",
    "Overview",
    "Result",
    "RunEnd",
    "Said",
    "SessionItem",
    "Sessions",
    "SessionsPage",
    "StateText",
    "Status",
    "Statuses",
    "TranscriptLine",
    "TranscriptPage",
]
