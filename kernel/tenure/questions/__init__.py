"""Read-only questions to a store, each answered from one snapshot.

`core` and `frames` serve holders and clients, `jobs` those of jobs, `tickets` who is asked, `sessions` finds sessions, `inspect` and `history` serve
operators.
"""

from .attachments import HeldAttachments, Scraps, ScrapSessions, SessionAttachments
from .awaited import WorkCanEnd
from .changes import (
    ChangeCursor,
    ChangesPage,
    FrameSwitched,
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
from .events import EventsPage, LoadEvents
from .frames import LoadFrames, LoadStates, StateText
from .graph import Graph, GraphPage, LoadedSession, LoadSession, NodeOf
from .handles import Grantees, Grants, Orphans
from .imports import LoadImport
from .inbox import Inbox, InboxItem, InboxPage
from .jobs import Emissions, JobItem, Jobs, JobsPage, JobStatus, LoadedJob, LoadJob, StartedBy
from .open_turn import LoadOpenTurn, OpenTurn
from .outbound import (
    OutboundPage,
    SessionOutbound,
    UndeliverableOutbound,
    WaitingOutbound,
)
from .path import LoadPage, TranscriptPage
from .sealable import SealablePage, SealableRows, SealedUpTo
from .sessions import SessionItem, Sessions, SessionsPage
from .tickets import AllOpenTickets, LoadTickets, OpenTickets
from .triggers import LoadTrigger, Occurrences, TriggerItem, Triggers, TriggersPage

__all__ = [
    "WorkCanEnd",
    "AllDeadLetters",
    "AllOpenTickets",
    "OutboundPage",
    "SessionOutbound",
    "UndeliverableOutbound",
    "WaitingOutbound",
    "ChangeCursor",
    "ChangesPage",
    "Conversation",
    "DeadLetter",
    "DeadLetters",
    "Emissions",
    "EndedInput",
    "EnteredInput",
    "EventsAfter",
    "EventsPage",
    "FrameSwitched",
    "Graph",
    "GraphPage",
    "Grantees",
    "Grants",
    "HeldAttachments",
    "Inbox",
    "InboxInput",
    "InboxItem",
    "InboxPage",
    "InputEnded",
    "InputStatus",
    "JobItem",
    "JobStatus",
    "Jobs",
    "JobsPage",
    "Journal",
    "LoadJob",
    "LoadedJob",
    "StartedBy",
    "LeafMoved",
    "LoadChanges",
    "LoadConversation",
    "LoadEvents",
    "LoadImport",
    "LoadFrames",
    "LoadOpenTurn",
    "LoadOverview",
    "LoadPage",
    "LoadRun",
    "LoadSession",
    "LoadStates",
    "LoadTickets",
    "LoadTrigger",
    "LoadTranscript",
    "LoadedRun",
    "LoadedSession",
    "NodeOf",
    "NodesHidden",
    "NodesShown",
    "Occurrences",
    "OpenCall",
    "OpenTickets",
    "OpenTurn",
    "Orphans",
    "Overview",
    "Result",
    "RunEnd",
    "Said",
    "ScrapSessions",
    "Scraps",
    "SealablePage",
    "SealableRows",
    "SealedUpTo",
    "SessionAttachments",
    "SessionItem",
    "Sessions",
    "SessionsPage",
    "StateText",
    "Status",
    "Statuses",
    "TranscriptLine",
    "TranscriptPage",
    "TriggerItem",
    "Triggers",
    "TriggersPage",
]
