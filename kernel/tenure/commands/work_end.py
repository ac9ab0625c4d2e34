"""The end of an input, sent to the ticket that awaits it.  Spec: specs/ticket.md, TICKET-40 to TICKET-43.

Every way in which an input ends writes its queue entry with `write_end`, in its own transaction.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Protocol

from attrs import field, frozen

from ..limits import TICKET_BYTES_MAX
from ..machines import input as input_
from ..machines import run as run_
from ..machines import ticket as ticket_
from ..messages.codec import text_of
from ..outcome import Update
from ..records import Node, QueueEntry, Run
from ..transcript import Form
from .send import Sending, send
from .sendable import Sendable
from .validation import sanitize, size_of

__all__ = ["WorkEnd", "how_ended", "write_end"]


BY_HOW: Final = {
    input_.How.DEAD_LETTERED: ticket_.Action.FAILED,
    input_.How.ABANDONED: ticket_.Action.ABANDONED,
}
BY_TERMINATION: Final = {
    run_.Termination.FINISHED: ticket_.Action.COMPLETED,
    run_.Termination.ERROR: ticket_.Action.FAILED,
}


@frozen
class WorkEnd(Sendable):
    """What a Settle says.  Here, and not there, so that the unit of work can send it."""

    since: ClassVar = 2
    sent_as: ClassVar = "Settle"
    session_id: str
    command_id: str
    ticket_id: str
    how: ticket_.Action
    body: str = field(default="", repr=lambda b: repr(b) if len(b) < 80 else f"<{len(b)}>")
    by: str = ""


class Ending(Sending, Protocol):
    """A unit of work in which inputs end."""

    def get(self, record: type[Node], /, *key: str | int) -> Node | None:
        """Return what this decision has written under a key of the session."""


def how_ended(state: input_.Ended, run: Run | None) -> ticket_.Action:
    """TICKET-42: return how the work of an input has ended.  `run`: that has ended with it."""
    if state.how is input_.How.CONSUMED and run is not None and isinstance(run.state, run_.Done):
        return BY_TERMINATION.get(run.state.termination, ticket_.Action.CANCELLED)
    return BY_HOW.get(state.how, ticket_.Action.CANCELLED)


def write_end(tx: Any, queue_entry: QueueEntry, run: Run | None = None) -> None:
    """Write an input that has ended, and send its end to the ticket that it settles.  `run`: that has ended with it."""
    tx.write(Update(queue_entry))
    settles, state = queue_entry.settles, queue_entry.state
    if settles is None:
        return
    assert isinstance(state, input_.Ended), queue_entry
    how = how_ended(state, run)
    body = _answer(tx, run) if how is ticket_.Action.COMPLETED else _reason(state, run)
    end = WorkEnd(settles.asked_by, "", settles.ticket_id, how, body, tx.session.session_id)
    send(tx, end, settles.peer)
    tx.via.append("TICKET-41")


def _answer(tx: Ending, run: Run | None) -> str:
    """TICKET-43: return the text of the last node, if this decision has written it and a ticket can hold it."""
    node = None if run is None or run.tip is None else tx.get(Node, run.tip.node_id)
    if node is None or node.hidden or node.form is Form.INPUTS:
        return ""
    text = text_of(node.form, node.body)
    return text if size_of(text) <= TICKET_BYTES_MAX else ""


def _reason(state: input_.Ended, run: Run | None) -> str:
    done = None if run is None else run.state
    if isinstance(done, run_.Done):
        return f"{done.termination.value} {done.reason}".strip()
    return sanitize(f"{state.how.value} {state.by}".strip())
