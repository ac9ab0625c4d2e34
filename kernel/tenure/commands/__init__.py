"""The commands: one frozen class per command, with `reads` and `decide`.

A command is decided over a view of the rows of one session.  Modules here import no store, clock or IO.
"""

from ..event import Parent
from ..frame import NewState, Switch, Switched
from ..imports import Import, ImportNode
from ..records import (
    Admission,
    Amended,
    CancelRequested,
    Child,
    FencedOff,
    Fork,
    HowAdmitted,
    Interrupted,
    JobAsked,
    PhaseChanged,
    Readmitted,
    Reclaimed,
    Reordered,
    Replaced,
    Resent,
    Root,
    TicketName,
    WithdrawnCount,
)
from ..stored_outcomes import SubscriptionChanged, TriggerChanged
from .acquire import Acquire, Acquired
from .admit import Admit
from .amend import Amend, Rewind
from .attach import Forget, Forgotten, Intend, Intended, NewAttachment
from .begin import Begin, NothingDue
from .busy import BusyWith
from .cancel import Interrupt, RequestCancel
from .cancel_input import CancelInput
from .checkpoint import Checkpoint, Checkpointed, NewEntry
from .commit import Commit, Committed, Then
from .decide import Decide, DecisionTaken
from .edit import NotReady, Reorder, Replace
from .fence import FenceOff
from .grant import Begun, BegunBefore
from .holder import Ended, Fail, Reclaim, Release, ReleaseSession, Renew, Renewed
from .import_page import ImportPage, PageImported
from .jobs.ask import CancelJob, Drain, RequestAbandon
from .jobs.destroy import DestroyJob
from .jobs.emit import Emit, Emitted
from .jobs.end import Complete, FailJob, JobReleased, LetGo
from .jobs.handle import CancelOrphans, Grant, Granted, Revoke, Transfer
from .jobs.journal import JobCheckpoint, JobCheckpointed
from .jobs.register import EventType, Register, Registered
from .jobs.signal import NotSignalled, Signal, Signalled, SignalStored, Wait
from .jobs.start import JobStarted, Start
from .jobs.take import Deferred, JobEnded, Left, NotDue, Take, Taken, TakenBefore
from .open import Open, Opened
from .park import GoOn, Park, Parked
from .phase import Destroy, Reopen, Reset, Retire, Stop
from .profile import NewProfile
from .prune import Prune, Pruned
from .publish import Publish, Published
from .readmit import Readmit
from .reseal import Reseal, RowName
from .resend import Resend
from .restore import Restore
from .scraps import ClaimScraps, DropScraps, ScrapsClaimed, ScrapsDropped
from .send import NewOutbound
from .sendable import Sendable
from .sent import LineUp, OutboundDelayed, OutboundSettled, SendFailed, SendRefused, Sent
from .settlement import EndNoted, Settle
from .submission import Admitted, Conflict, IfIdle, NewInput, Target
from .sweep import Sweep, Swept
from .tickets import NewTicket
from .triggers.occur import Fire, Fired, Occur, Occurred
from .triggers.schedule import DeleteTrigger, SetTrigger
from .triggers.subscribe import ChangeSubscription, Subscribe, SubscriptionChange
from .withdraw import Withdraw, WithdrawFrom, Withdrawn

__all__ = [
    "CancelOrphans",
    "Grant",
    "Granted",
    "Revoke",
    "Transfer",
    "DestroyJob",
    "Emit",
    "Emitted",
    "EventType",
    "NotSignalled",
    "Signal",
    "SignalStored",
    "Signalled",
    "Wait",
    "CancelJob",
    "Drain",
    "JobAsked",
    "JobCheckpoint",
    "JobCheckpointed",
    "RequestAbandon",
    "Complete",
    "Deferred",
    "FailJob",
    "JobEnded",
    "JobReleased",
    "JobStarted",
    "Left",
    "LetGo",
    "NotDue",
    "Register",
    "Registered",
    "Start",
    "Take",
    "Taken",
    "TakenBefore",
    "Acquire",
    "Acquired",
    "Admit",
    "Admitted",
    "Amend",
    "Amended",
    "Begin",
    "Begun",
    "BegunBefore",
    "BusyWith",
    "CancelInput",
    "CancelRequested",
    "Child",
    "ChangeSubscription",
    "Checkpoint",
    "ClaimScraps",
    "DeleteTrigger",
    "DropScraps",
    "Forget",
    "Forgotten",
    "Intend",
    "Intended",
    "NewAttachment",
    "ScrapsClaimed",
    "ScrapsDropped",
    "Checkpointed",
    "LineUp",
    "NewOutbound",
    "OutboundDelayed",
    "OutboundSettled",
    "Commit",
    "Committed",
    "Conflict",
    "WithdrawnCount",
    "Decide",
    "DecisionTaken",
    "Destroy",
    "EndNoted",
    "Ended",
    "Fail",
    "FenceOff",
    "Fire",
    "Fired",
    "FencedOff",
    "Fork",
    "GoOn",
    "HowAdmitted",
    "IfIdle",
    "Import",
    "ImportNode",
    "ImportPage",
    "Interrupt",
    "Interrupted",
    "NewEntry",
    "NewInput",
    "NewProfile",
    "NewState",
    "NewTicket",
    "NotReady",
    "NothingDue",
    "Occur",
    "Occurred",
    "Open",
    "Opened",
    "PageImported",
    "Parent",
    "Park",
    "Parked",
    "PhaseChanged",
    "Admission",
    "Prune",
    "Pruned",
    "Publish",
    "Published",
    "Readmit",
    "Readmitted",
    "Reclaim",
    "Reclaimed",
    "Release",
    "ReleaseSession",
    "Renew",
    "Renewed",
    "Reorder",
    "Reordered",
    "Replace",
    "Replaced",
    "Reopen",
    "RequestCancel",
    "Reseal",
    "Reset",
    "Resend",
    "Resent",
    "Restore",
    "SendFailed",
    "SendRefused",
    "Sendable",
    "Sent",
    "Retire",
    "Root",
    "Rewind",
    "RowName",
    "SetTrigger",
    "Settle",
    "Stop",
    "Subscribe",
    "SubscriptionChange",
    "SubscriptionChanged",
    "TriggerChanged",
    "Sweep",
    "Swept",
    "Switch",
    "Switched",
    "Target",
    "TicketName",
    "Then",
    "Withdraw",
    "WithdrawFrom",
    "Withdrawn",
]
