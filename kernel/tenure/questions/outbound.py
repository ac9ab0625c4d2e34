"""Questions about outbound commands: what waits to be sent, and what could not be delivered.  Spec: specs/outbound.md."""

from __future__ import annotations

from attrs import frozen

from ..indexes import OUTBOUND, OUTBOUND_DUE, OUTBOUND_UNDELIVERABLE
from ..outbound_records import Due, Outbound
from ..queries import First, Question
from .core import PAGE, Steps

__all__ = ["OutboundPage", "SessionOutbound", "UndeliverableOutbound", "WaitingOutbound"]


@frozen
class OutboundPage:
    """Some rows in order, and the cursor of the next page; None: there are no more."""

    items: tuple[Outbound, ...]
    after: tuple[int, str, int] | None


@frozen
class SessionOutbound(Question[tuple[Outbound, ...]]):
    """The rows of a session in the order of their numbers, at most `limit`, after number `after`."""

    session_id: str
    limit: int = PAGE
    after: int = 0

    def steps(self) -> Steps:
        return (yield First(OUTBOUND, (self.session_id,), self.limit, after=(self.after,)))


@frozen
class UndeliverableOutbound(Question[OutboundPage]):
    """The undeliverable rows of all sessions, those that were refused first before the others."""

    limit: int = PAGE
    after: tuple[int, str, int] | None = None

    def steps(self) -> Steps:
        rows = yield First(OUTBOUND_UNDELIVERABLE, (), self.limit, after=self.after or ())
        return _page(rows, self.limit)


@frozen
class WaitingOutbound(Question[OutboundPage]):
    """The rows of all sessions that are due now or later, for one store: the first of each route, and those behind it that no relay has met.

    The earliest come first.
    """

    peer: str = ""
    limit: int = PAGE
    after: tuple[int, str, int] | None = None

    def steps(self) -> Steps:
        rows = yield First(OUTBOUND_DUE, (self.peer,), self.limit, after=self.after or ())
        return _page(rows, self.limit)


def _page(rows: tuple[Outbound, ...], limit: int) -> OutboundPage:
    if len(rows) < limit or not rows:
        return OutboundPage(rows, None)
    last = rows[-1]
    state = last.state
    at_ms = state.due_at_ms if isinstance(state, Due) else getattr(state, "refused_at_ms", 0)
    return OutboundPage(rows, (at_ms, last.session_id, last.number))
