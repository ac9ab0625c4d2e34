"""Resend: send a command again that could not be delivered.  Spec: specs/outbound.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from ..event import EventKind
from ..machines import outbound as outbound_
from ..outbound_records import Due, Outbound, Undeliverable
from ..outcome import Decided, Drop, Hint, Insert, Refusal, Refused, Update, Write
from ..queries import Command, Get, Reads, read
from ..records import ExecutedCommand, Resent, Session
from ..replace import replace
from .hints import hints_of
from .replay import check_command_id, replay
from .sendable import id_of_row
from .sent import with_event

__all__ = ["Resend"]


@frozen
class ResendView:
    """The session, the row of the command if it was executed before, and the row that is sent again."""

    session: Session | None
    executed: ExecutedCommand | None
    row: Outbound | None


@frozen
class Resend(Command[ResendView, Resent]):
    """Send a command again that is undeliverable, behind all that its session has sent since.

    It keeps its id, unless its target does not remember so old ids: then it may have been executed before.
    One that waits for its time is due at once, and keeps its number.  Writes at most five rows.
    Refusals: UNKNOWN_SESSION, UNKNOWN_OUTBOUND, PRUNED.
    """

    since: ClassVar = 2
    serves_all: ClassVar = True
    session_id: str
    command_id: str
    number: int

    def reads(self) -> Reads[ResendView]:
        s = self.session_id
        return read(
            ResendView,
            Get(Session, (s,)),
            Get(ExecutedCommand, (s, self.command_id)),
            Get(Outbound, (s, self.number)),
        )

    def decide(self, view: ResendView, now_ms: int) -> Decided[Resent] | Refused:
        session, executed, row = view.session, view.executed, view.row
        if refused := check_command_id("resend", self.command_id, executed, session):
            return refused
        if executed is not None:
            return replay(executed, Resent, "OUTBOUND-40")
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "OUTBOUND-30", self.session_id)
        if row is None:
            return Refused(Refusal.UNKNOWN_OUTBOUND, "OUTBOUND-41", self.number)
        if isinstance(row.state, Undeliverable):
            if not row.command:
                return Refused(Refusal.PRUNED, "OUTBOUND-50", self.number)
            return self._again(session, row, row.state, now_ms)
        hints = (Hint(self.session_id, session.due_at_ms, outbound=True),)
        resent, via = Resent(self.number), list[str]()
        writes = [self._remember(resent, now_ms)]
        if isinstance(row.state, Due):
            stepped = outbound_.step(row.state, outbound_.Promote())
            writes.insert(0, Update(replace(row, state=stepped.state)))
            via.append(stepped.clause)
        return Decided(resent, "OUTBOUND-43", tuple(writes), hints, via=tuple(via))

    def _again(
        self, session: Session, row: Outbound, how: Undeliverable, now_ms: int
    ) -> Decided[Resent]:
        """OUTBOUND-42: write the command as a new row, in the place of the old one."""
        number, outbound_id = session.next_outbound or 1, row.outbound_id
        if how.refusal == Refusal.PRUNED.value:
            outbound_id = id_of_row(self.session_id, number, self.command_id, now_ms)
        new = Outbound(self.session_id, number, row.peer, row.to, outbound_id, now_ms, row.command)
        after = replace(session, next_outbound=number + 1)
        words = f"{self.number} {number}"
        after, batch = with_event(after, EventKind.RESENT, words, self.command_id, now_ms)
        resent = Resent(number)
        drop = Drop(Outbound, (self.session_id, self.number))
        writes = (Update(after), drop, Insert(new), self._remember(resent, now_ms), batch)
        return Decided(resent, "OUTBOUND-42", writes, hints_of(session, after))

    def _remember(self, resent: Resent, now_ms: int) -> Write:
        return Insert(ExecutedCommand(self.session_id, self.command_id, "resend", now_ms, resent))
