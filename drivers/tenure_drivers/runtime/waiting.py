"""Waiting in a turn: questions, decisions and pauses.  Spec: specs/ticket.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from attrs import frozen

from tenure.commands import NewTicket
from tenure.machines.run import Mode, WaitReason
from tenure.machines.ticket import Action, Settled, TicketKind
from tenure.policy import WhileWaiting
from tenure.queries import Question
from tenure.questions.core import LoadedRun
from tenure.questions.tickets import LoadTickets
from tenure.records import EntryKind, Input, Ticket
from tenure.turn_end import Record, TurnWait

from .clock import new_id

__all__ = ["Decision", "Waited", "Waits", "decision_of"]


ANSWER: Final = (Action.ANSWER,)


@frozen
class Decision:
    """How a ticket was settled: the action, the text that came with it, and who decided."""

    action: Action
    body: str = ""
    by: str = ""

    @property
    def approved(self) -> bool:
        """Whether what was asked for may be done, as it is or with other arguments."""
        return self.action in (Action.APPROVE, Action.EDIT)


def decision_of(settled: Settled) -> Decision:
    """Return the decision that has settled a ticket."""
    return Decision(settled.how, settled.body, settled.by)


@frozen
class Waited:
    """What has come: the decision on each ticket, None while it is open, and the inputs that entered the turn."""

    decisions: tuple[Decision | None, ...]
    inputs: tuple[Input, ...] = ()


class WaitingTurn(Protocol):
    """What a wait needs of its turn."""

    session_id: str

    async def record(self, record: Record, /) -> tuple[Input, ...]: ...
    async def park(self, wait: TurnWait, /) -> None: ...
    async def read(self, question: Question[Any], /) -> Any: ...
    def entered(self, effect_id: str, /) -> tuple[Input, ...]: ...


class Waits:
    """The tickets and waits of one attempt of a turn."""

    def __init__(self, turn: WaitingTurn, loaded: LoadedRun) -> None:
        self.turn = turn
        self.ids: dict[str, str] = {}  # of tickets, by effect id
        self.decisions: dict[str, Decision] = {}  # by ticket id
        self.parked = {
            e.effect_id
            for e in loaded.entries
            if e.kind is EntryKind.WAIT and e.turn == loaded.run.turn
        }
        for entry in loaded.entries:
            if entry.kind is EntryKind.TICKET and entry.turn == loaded.run.turn:
                self.ids[entry.effect_id] = entry.body
        self.note(loaded.tickets)

    def note(self, tickets: Iterable[Ticket]) -> None:
        """Keep the settlements of tickets."""
        for each in tickets:
            if isinstance(each.state, Settled):
                self.decisions[each.ticket_id] = decision_of(each.state)

    def new(
        self,
        effect_id: str,
        kind: TicketKind,
        prompt: str,
        offers: Sequence[Action | str],
        within_s: float | None,
    ) -> NewTicket | None:
        """Return the ticket to open; None: an earlier attempt has opened it."""
        if effect_id in self.ids:
            return None
        within = None if within_s is None else max(round(within_s * 1000), 0)
        self.ids[effect_id] = new_id()
        actions = tuple(map(Action, offers))
        return NewTicket(self.ids[effect_id], effect_id, kind, prompt, actions, within)

    async def open(self, new: NewTicket | None) -> None:
        """Open a ticket without waiting for it."""
        if new is not None:
            await self.turn.record(Record(tickets=(new,)))

    async def wait(
        self,
        effect_id: str,
        ticket_ids: Sequence[str],
        reason: WaitReason,
        mode: Mode,
        on_input: WhileWaiting | None,
        new: NewTicket | None = None,
    ) -> Waited:
        """Return what the turn waits for if it has come, else park: raise Parked."""
        found = self._found(ticket_ids)
        enough = any(found) if mode is Mode.ANY else all(found)
        inputs = self.turn.entered(effect_id)
        if inputs or (ticket_ids and enough):
            return Waited(found, inputs)
        opened = () if new is None else (new,)
        named = tuple([each for each in ticket_ids if new is None or each != new.ticket_id])
        await self.turn.park(TurnWait(effect_id, reason, named, mode, on_input, opened))
        self.note(await self.turn.read(LoadTickets(self.turn.session_id, tuple(ticket_ids))))
        return Waited(self._found(ticket_ids))

    def _found(self, ticket_ids: Sequence[str]) -> tuple[Decision | None, ...]:
        return tuple([self.decisions.get(each) for each in ticket_ids])
