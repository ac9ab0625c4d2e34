"""The commands that may be sent, and the form in which they are read again.  Spec: specs/outbound.md.

A command joins with `Sendable` in its class, and with its place here.
"""

from __future__ import annotations

from typing import Final

from ..outbound_records import Outbound
from .admit import Admit
from .cancel import RequestCancel
from .cancel_input import CancelInput
from .decide import Decide
from .encoding import decode
from .jobs.ask import CancelJob
from .jobs.handle import Revoke
from .jobs.register import Register
from .jobs.signal import Signal
from .sendable import Sendable, nth_id
from .settlement import Settle

__all__ = ["SENDABLE", "command_of"]


SENDABLE: Final[tuple[type[Sendable], ...]] = (
    Admit,
    CancelInput,
    CancelJob,
    Decide,
    Register,
    RequestCancel,
    Revoke,
    Settle,
    Signal,
)
BY_NAME: Final = {cls.__name__: cls for cls in SENDABLE}


def command_of(row: Outbound) -> Sendable:
    """OUTBOUND-4, OUTBOUND-5: return the command of a row, with its ids.  Raises UnreadableCommand."""
    command: Sendable = decode(row.command, BY_NAME)
    return command.identified(lambda n: nth_id(row.outbound_id, n))
