"""Waiting in a turn: questions, decisions and pauses.  Spec: specs/ticket.md."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, Final, Protocol

from attrs import frozen

from tenure.commands import Admit, NewInput, NewOutbound, NewTicket, Register, Sendable, TicketName
from tenure.commands.send import validate_outbound
from tenure.machines.run import WaitReason
from tenure.machines.ticket import ACTIONS, Action, Rest, Settled, TicketKind
from tenure.policy import WhileWaiting
from tenure.queries import Question
from tenure.questions.core import LoadedRun, Status
from tenure.questions.jobs import LoadJob
from tenure.questions.tickets import LoadTickets
from tenure.records import EntryKind, Input, Ticket, Work
from tenure.replace import replace
from tenure.turn_end import Record, TurnWait
from tenure.waits import given_entry, given_id, given_tickets, question_id

from .clock import new_id
from .errors import IllegalResult

__all__ = ["Decision", "Waited", "Waits", "actions_of", "decision_of", "milliseconds_of"]


ANSWER: Final = (Action.ANSWER,)
WITHIN_MAX_S: Final = 100 * 365 * 86_400


@frozen
class Decision:
    """The decision on a ticket: the action, its text, and who decided.

    `action` is None if inputs have entered the turn instead (`on_input="fold"`): then `inputs` has them.
    """

    action: Action | None
    body: str = ""
    by: str = ""
    inputs: tuple[Input, ...] = ()

    @property
    def completed(self) -> bool:
        """Whether the work that was awaited has been completed: `body` is its result."""
        return self.action is Action.COMPLETED

    @property
    def approved(self) -> bool:
        """Whether what was asked for may be done, as it is or with other arguments."""
        return self.action in (Action.APPROVE, Action.EDIT)


def decision_of(settled: Settled) -> Decision:
    """Return the decision that has settled a ticket."""
    return Decision(settled.how, settled.body, settled.by)


@frozen
class Waited:
    """The result of `wait` and `join`: the decision on each ticket (None while it is open), and the inputs that entered."""

    decisions: tuple[Decision | None, ...]
    inputs: tuple[Input, ...] = ()

    @property
    def in_time(self) -> tuple[Decision, ...]:
        """The decisions on the tickets that were settled before the rest was superseded."""
        return tuple([d for d in self.decisions if d and d.action is not Action.SUPERSEDED])


def actions_of(offers: Sequence[Action | str]) -> tuple[Action, ...]:
    """Return what a ticket offers.  Raises ValueError."""
    words = [each.value for each in ACTIONS]
    if isinstance(offers, str) or not all([each in words for each in offers]):
        raise ValueError(f"offers {offers!r}: expected a list of {', '.join(words)}")
    return tuple(dict.fromkeys(map(Action, offers)))


def milliseconds_of(within_s: float | None) -> int | None:
    """Return a time limit in milliseconds.  Raises ValueError, also for NaN."""
    if within_s is None:
        return None
    if not isinstance(within_s, int | float) or not 0 <= within_s <= WITHIN_MAX_S:
        raise ValueError(f"{within_s!r} seconds: expected a number from 0 to {WITHIN_MAX_S:,}")
    return round(within_s * 1000)


def word_of(on_input: WhileWaiting | str | None) -> WhileWaiting | None:
    """Return what an input does to a wait.  Raises IllegalResult."""
    words = ("fold", "hold", "supersede")
    if on_input is not None and on_input not in words:
        raise IllegalResult(f"on_input {on_input!r}: expected {', '.join(words)}")
    return None if on_input is None else WhileWaiting(on_input)


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
        self.kinds: dict[str, TicketKind] = {}  # of tickets, by id
        self.work: dict[str, Work] = {}  # that tickets await, by id
        self.tickets = {each.ticket_id: each for each in loaded.tickets}
        self.given = given_tickets(loaded.entries, loaded.run.turn)
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
            self.kinds[each.ticket_id] = each.kind
            if each.awaits is not None:
                self.work[each.ticket_id] = each.awaits
            if isinstance(each.state, Settled):
                self.decisions[each.ticket_id] = decision_of(each.state)

    def new(
        self,
        effect_id: str,
        kind: TicketKind,
        prompt: str,
        offers: Sequence[Action | str],
        within_s: float | None,
    ) -> tuple[str, NewTicket | None]:
        """Return the id of a ticket, and the ticket to open; None: an earlier attempt has opened it."""
        try:
            actions, within_ms = actions_of(offers), milliseconds_of(within_s)
        except ValueError as error:
            raise IllegalResult(str(error)) from error
        name = question_id(effect_id, self.ids, self.tickets, prompt, actions)
        if name in self.ids:
            return self.ids[name], None
        self.ids[name] = new_id()
        self.kinds[self.ids[name]] = kind
        return self.ids[name], NewTicket(self.ids[name], name, kind, prompt, actions, within_ms)

    async def start(self, effect_id: str, to: str, submit: NewInput, within_s: float | None) -> str:
        """Submit an input to another session with the ticket that its end settles, and return the ticket's id."""
        if (known := self.ids.get(effect_id)) is not None:
            return known
        ticket_id = new_id()
        sent = replace(
            submit,
            input_id=submit.input_id or ticket_id,
            settles=TicketName(self.turn.session_id, ticket_id),
        )
        work = Work(to, sent.input_id)
        return await self._open_work(effect_id, ticket_id, work, Admit(to, (sent,)), within_s)

    async def start_job(
        self, effect_id: str, register: Callable[[str], Register], within_s: float | None
    ) -> str:
        """Register a job with the ticket that its end settles, and return the ticket's id, which is the job's too."""
        if (known := self.ids.get(effect_id)) is not None:
            return known
        ticket_id = new_id()
        settles = TicketName(self.turn.session_id, ticket_id)
        command = replace(register(ticket_id), settles=settles)
        return await self._open_work(effect_id, ticket_id, Work(ticket_id), command, within_s)

    async def _open_work(
        self, effect_id: str, ticket_id: str, work: Work, command: Sendable, within_s: float | None
    ) -> str:
        within_ms = milliseconds_of(within_s)
        new = NewTicket(ticket_id, effect_id, TicketKind.WORK, within_ms=within_ms, awaits=work)
        outbound = (NewOutbound(command),)
        if problem := validate_outbound(outbound):
            raise ValueError(problem)
        self.ids[effect_id] = ticket_id
        self.kinds[ticket_id], self.work[ticket_id] = TicketKind.WORK, work
        await self.turn.record(Record(tickets=(new,), outbound=outbound))
        return ticket_id

    def reason(self, ticket_ids: Iterable[str]) -> WaitReason:
        """Return why a turn waits for these tickets: for people, if any of them asks one."""
        kinds = {self.kinds.get(each) for each in ticket_ids}
        people = kinds - {TicketKind.WORK, TicketKind.TIMER}
        return WaitReason.TOOL if people else WaitReason.WORK

    async def with_answers(self, ticket_ids: Sequence[str], waited: Waited) -> Waited:
        """Return what a wait gave, with the answers that were too long or too early for an end of work (TICKET-43)."""
        found = list(waited.decisions)
        for index, (ticket_id, decision) in enumerate(zip(ticket_ids, found, strict=True)):
            work = self.work.get(ticket_id)
            if decision is None or not decision.completed or decision.body or work is None:
                continue
            if work.peer:
                continue
            if work.input_id is None:
                loaded = await self.turn.read(LoadJob(work.done_by, limit=1))
                if loaded is not None and loaded.output:
                    found[index] = replace(decision, body=loaded.output)
                continue
            status = await self.turn.read(Status(work.done_by, work.input_id))
            if status is not None and status.answer:
                found[index] = replace(decision, body=status.answer)
        return replace(waited, decisions=tuple(found))

    async def open(self, new: NewTicket | None) -> None:
        """Open a ticket without waiting for it."""
        if new is not None:
            await self.turn.record(Record(tickets=(new,)))

    async def wait(
        self,
        effect_id: str,
        ticket_ids: Sequence[str],
        reason: WaitReason,
        on_input: WhileWaiting | None,
        new: NewTicket | None = None,
        needs: int | None = None,
        rest: Rest = Rest.KEEP,
    ) -> Waited:
        """Return what the turn waits for if it has come, else park: raise Parked (WAIT-36).

        `needs`: how many of the tickets; None: all.  `rest`: what becomes of the others, which Park decides.
        """
        if (given := self.given.get(given_id(effect_id))) is not None:
            return Waited(self._found(ticket_ids, given), self.turn.entered(effect_id))
        found = self._found(ticket_ids)
        enough = sum([each is not None for each in found])
        inputs = self.turn.entered(effect_id)
        missing = len(found) if rest is not Rest.KEEP or needs is None else needs
        if not inputs and not (ticket_ids and enough >= missing):
            opened = () if new is None else (new,)
            named = tuple([each for each in ticket_ids if new is None or each != new.ticket_id])
            await self.turn.park(
                TurnWait(effect_id, reason, named, needs, on_input, opened, rest=rest)
            )
            self.note(await self.turn.read(LoadTickets(self.turn.session_id, tuple(ticket_ids))))
            found = self._found(ticket_ids)
        if (entry := given_entry(effect_id, ticket_ids, self.decisions)) is not None:
            await self.turn.record(Record(entries=(entry,)))
        return Waited(found, inputs)

    def _found(
        self, ticket_ids: Sequence[str], given: Container[str] | None = None
    ) -> tuple[Decision | None, ...]:
        known = [each if given is None or each in given else "" for each in ticket_ids]
        return tuple([self.decisions.get(each) for each in known])
