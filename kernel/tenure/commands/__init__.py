"""The commands: everything that can be asked of a session, each a frozen class with `reads` and `decide`."""

from .acquire import Acquire, Acquired
from .admit import Admit, Open, Opened
from .amend import Amend, Amended, Rewind
from .begin import Begin, NothingDue
from .cancel import CancelRequested, Interrupt, Interrupted, RequestCancel
from .checkpoint import Checkpoint, Checkpointed, NewEntry
from .commit import Commit, Committed, Then
from .fence import FencedOff, FenceOff
from .grant import Begun, BegunBefore
from .holder import Ended, Fail, Reclaim, Reclaimed, Release, ReleaseSession, Renew, Renewed
from .phase import Destroy, PhaseChanged, Reopen, Reset, Retire, Stop
from .submission import Admission, Admitted, Conflict, HowAdmitted, NewInput
from .sweep import Sweep, Swept
from .withdraw import Withdraw, WithdrawFrom, Withdrawn, WithdrawnCount

__all__ = [
    "Acquire",
    "Acquired",
    "Admit",
    "Admitted",
    "Amend",
    "Amended",
    "Begin",
    "Begun",
    "BegunBefore",
    "CancelRequested",
    "Checkpoint",
    "Checkpointed",
    "Commit",
    "Committed",
    "Conflict",
    "WithdrawnCount",
    "Destroy",
    "Ended",
    "Fail",
    "FenceOff",
    "FencedOff",
    "HowAdmitted",
    "Interrupt",
    "Interrupted",
    "NewEntry",
    "NewInput",
    "NothingDue",
    "Open",
    "Opened",
    "PhaseChanged",
    "Admission",
    "Reclaim",
    "Reclaimed",
    "Release",
    "ReleaseSession",
    "Renew",
    "Renewed",
    "Reopen",
    "RequestCancel",
    "Reset",
    "Retire",
    "Rewind",
    "Stop",
    "Sweep",
    "Swept",
    "Then",
    "Withdraw",
    "WithdrawFrom",
    "Withdrawn",
]
