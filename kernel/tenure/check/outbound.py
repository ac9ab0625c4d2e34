"""The model of outbound commands: a session that sends, two that are sent to, and two relays that crash anywhere.

All commands are real ones, and so is what a relay reads and how it judges an answer.  A target that does not answer may
have executed the command or not.  One target refuses for good until a person opens it again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen

from .. import commands as c
from ..indexes import OUTBOUND_DUE
from ..machines import lease as lease_
from ..outbound_records import Due, Outbound, Undeliverable
from ..outcome import Decided, Refused, Update
from ..phase import Phase
from ..queries import First, Record
from ..records import EventBatch, ExecutedCommand, Input, QueueEntry, Session
from ..relay import protocol
from ..relay.answers import report_of
from ..relay.machine import step
from ..release import RELEASE, decide_at
from ..replace import replace
from ..world import EMPTY, World, ask, evolve, world_of
from .explorer import Model
from .invariants import outbound_numbered, routes_move
from .session.snapshot import snapshot_of
from .trace import Line

__all__ = ["OUTBOUND_DEEP", "OUTBOUND_SYSTEM", "OutboundModel", "OutboundSystem"]


SENDER, TARGET, CLOSED = "s", "t", "u"
FENCE: Final = lease_.Fence(SENDER, 1, "l")
OWNER: Final = lease_.Owner("w", "w")
NOW: Final = 1_000  # it stands still: the clock ends pauses one by one
# What each Amend sends, by its id.  A retired session takes wakes, and refuses messages.
SENDS: Final[dict[str, tuple[tuple[str, str, str], ...]]] = {
    "c1": ((TARGET, "wake", "a"),),
    "c2": ((CLOSED, "peer_message", "x"), (TARGET, "wake", "b")),
}

ONCE: Final = "a command that was sent has its effect once"
IN_ORDER: Final = "the commands of a route arrive in the order in which they were sent"
KEPT: Final = "what was sent has arrived, is to be sent, or is listed as undeliverable"
ONLY_SENT: Final = "only what was sent arrives"
NEVER_MINDS: Final = "a relay is refused only because another one was faster"
NUMBERED: Final = "the number of every row is below the next one"
MOVES: Final = "the first row of every route is due, now or later"

TWICE: Final = "a command is executed again, as a replay"
LINED: Final = "a row is lined up behind another one"
RESENT: Final = "a row that was undeliverable is sent again, and arrives"
BOTH: Final = "two relays send the same row"


@frozen
class OutboundSystem:
    """What may happen.

    `outages`: how often a target does not answer.  `early`: who sends executes the command before it has written the row.
    `drops_first`: a relay drops a row before it executes it.  With one of these the model is wrong.
    """

    name: str = "outbound"
    description: str = (
        "a session sends to two others; two relays, crashes at each write, a refusal, outages"
    )
    relays: int = 2
    outages: int = 1
    early: bool = False
    drops_first: bool = False


OUTBOUND_SYSTEM: Final = OutboundSystem()
OUTBOUND_DEEP: Final = OutboundSystem("outbound-outages", "likewise, with three outages", 2, 3)


@frozen
class Relay:
    """What a relay does: it holds the first row of a route, or the command that stores what came of it."""

    route: protocol.Route | None = None
    head: protocol.Head | None = None
    record: protocol.Record | None = None
    executed: bool = False  # `drops_first`: the row was dropped


IDLE: Final = Relay()


@frozen
class State:
    """The rows, what the relays know, and what is left to happen."""

    world: World
    relays: tuple[Relay, ...] = ()
    outages: int = 0
    early: tuple[str, ...] = ()  # texts that were executed before their row was written
    broken: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()


Next: TypeAlias = Iterator[tuple[Any, State]]


@define(eq=False)
class OutboundModel(Model[State]):
    """The model for the explorer."""

    system: OutboundSystem = OUTBOUND_SYSTEM
    decisions: int = 0
    clauses: dict[str, int] = field(factory=dict)
    judged: dict[World, tuple[str, ...]] = field(factory=dict)

    @property
    def name(self) -> str:
        """The name of the model, as `tenure check --list` prints it."""
        return self.system.name

    @property
    def always(self) -> tuple[str, ...]:
        """The properties."""
        return (ONCE, IN_ORDER, KEPT, ONLY_SENT, NEVER_MINDS, NUMBERED, MOVES)

    @property
    def sometimes(self) -> tuple[str, ...]:
        """What must happen."""
        return (TWICE, LINED, RESENT, *((BOTH,) if self.system.relays > 1 else ()))

    def initial(self) -> Iterable[State]:
        """Yield the three sessions: one under a lease, one open, one retired."""
        world = EMPTY
        for command in (
            *(c.Open(SENDER), c.Acquire(SENDER, "l", OWNER, 60_000)),
            *(c.Open(TARGET), c.Open(CLOSED), c.Retire(CLOSED, "retire")),
        ):
            world = self._after(world, command)
        yield State(canonical(world), (IDLE,) * self.system.relays, self.system.outages)

    def actions(self, state: State) -> Next:
        """Yield every action with the state after it."""
        yield from self._send(state)
        for slot, relay in enumerate(state.relays):
            yield from self._relay(state, slot, relay)
        yield from self._person(state)
        for row in rows_of(state):
            if isinstance(row.state, Due) and row.state.due_at_ms > NOW:
                over = Update(replace(row, state=Due(0)))
                after = replace(state, world=evolve(state.world, [over]), seen=())
                yield ("clock", f"the pause of no. {row.number} is over"), after

    def broken(self, state: State) -> Collection[str]:
        """Return the properties that a state violates."""
        known = self.judged.get(state.world)
        if known is None:
            known = self.judged[state.world] = tuple(judge(state.world))
        return (*state.broken, *known)

    def seen(self, state: State) -> Collection[str]:
        """Return what has happened."""
        heads = [(r.route, r.head.number) for r in state.relays if r.route and r.head is not None]
        return (*state.seen, *((BOTH,) if len(set(heads)) < len(heads) else ()))

    def finished(self, state: State) -> bool:
        """Return True if everything was sent and has arrived."""
        sent = all(was_sent(state.world, command_id) for command_id in SENDS)
        return sent and not rows_of(state) and set(state.relays) == {IDLE}

    def canonical(self, state: State) -> State:
        """Return one representative of all states in which the relays have exchanged their places."""
        return replace(state, relays=tuple(sorted(state.relays, key=str)))

    def describe(self, label: Any) -> Line:
        """Return the line of a trace for an action."""
        return Line(*label)

    # -- who does what

    def _send(self, state: State) -> Next:
        """Yield what the sender does: it amends its transcript, and sends with that."""
        command_id = next((each for each in SENDS if not was_sent(state.world, each)), None)
        if command_id is None:
            return
        if self.system.early:
            early = [each for each in SENDS[command_id] if each[2] not in state.early]
            for to, kind, text in early[:1]:
                after = replace(state, early=(*state.early, text))
                yield self._do(after, "sender", admit(to, kind, text, text))
                return
        revision = session_of(state.world, SENDER).revision
        sent = tuple([c.NewOutbound(admit(*each)) for each in SENDS[command_id]])
        yield self._do(state, "sender", c.Amend(SENDER, command_id, FENCE, revision, outbound=sent))

    def _person(self, state: State) -> Next:
        """Yield what a person does: it opens the target again, and sends what was refused."""
        closed = session_of(state.world, CLOSED)
        for row in rows_of(state):
            if isinstance(row.state, Undeliverable):
                command: Any = c.Resend(SENDER, f"resend-{row.number}", row.number)
                if closed.phase is Phase.RETIRED:
                    command = c.Reopen(CLOSED, "reopen")
                yield self._do(state, "person", command)

    def _relay(self, state: State, slot: int, relay: Relay) -> Next:
        who = f"relay {slot}"
        if relay == IDLE:
            yield from self._look(state, slot, who)
            return
        state = replace(state, seen=())
        yield (who, "crashes"), put(state, slot, IDLE)
        if relay.record is not None:
            label, done = self._do(state, who, relay.record.command)
            then = relay_after(relay) if self.system.drops_first else IDLE
            yield label, put(done, slot, then)
            return
        assert relay.route is not None and relay.head is not None
        command: Any = relay.head.command
        if self.system.drops_first and not relay.executed:
            at = (SENDER, relay.head.number, relay.route.to)
            record = protocol.Record(relay.route, c.Sent(*at), False)
            yield (
                (who, "drops the row first"),
                put(state, slot, Relay(relay.route, relay.head, record)),
            )
            return
        answer, done = self._answer(state, command, again=True)
        event = report_of(0, relay.route, relay.head, answer)
        yield (
            (who, words_of(command), answer_of(answer), command.session_id),
            put(done, slot, self._recording(relay, event)),
        )
        if state.outages:
            failed = protocol.Failed(
                0, relay.route, relay.head.number, relay.head.attempts, "no answer"
            )
            held = self._recording(relay, failed)
            for told, base in (("is not answered", state), ("loses the answer", done)):
                less = replace(base, outages=state.outages - 1)
                yield (who, f"{told} by {command.session_id}"), put(less, slot, held)

    def _look(self, state: State, slot: int, who: str) -> Next:
        """Yield what a relay finds: the first row of a route, or rows that are behind one that waits."""
        state = replace(state, seen=())
        found: dict[protocol.Route, tuple[int, ...]] = {}
        due = state.world.answer(First(OUTBOUND_DUE, ("",), 100))
        for row in due:
            if isinstance(row.state, Due) and row.state.due_at_ms <= NOW:
                route = protocol.Route(row.session_id, row.to, row.peer)
                found[route] = (*found.get(route, ()), row.number)
        for route, numbers in found.items():
            head = ask(protocol.LoadHead(route, NOW), state.world.answer)
            assert head is not None
            if head.wait_ms == 0:
                yield (
                    (who, f"reads no. {head.number} to {route.to}"),
                    put(state, slot, Relay(route, head)),
                )
                continue
            relaying = protocol.Relaying(("",), 1, sending=(protocol.Sending(route, numbers),))
            (record,) = step(relaying, protocol.NotDue(0, route)).effects
            assert isinstance(record, protocol.Record)
            label, after = self._do(state, who, record.command)
            yield label, replace(after, seen=(LINED,))

    def _recording(self, relay: Relay, event: Any) -> Relay:
        """Return a relay that is about to store what came of its row, as its machine says."""
        assert relay.route is not None
        if self.system.drops_first:
            return IDLE
        relaying = protocol.Relaying(("",), 1, sending=(protocol.Sending(relay.route, ()),))
        (record,) = step(relaying, event).effects
        assert isinstance(record, protocol.Record)
        return Relay(relay.route, None, record)

    # -- commands

    def _do(self, state: State, who: str, command: Any) -> tuple[Any, State]:
        answer, after = self._answer(state, command)
        return (who, words_of(command), answer_of(answer), command.session_id), after

    def _answer(
        self, state: State, command: Any, *, again: bool = False
    ) -> tuple[Decided[Any] | Refused, State]:
        """Return an answer and the state after it.  `again`: a refusal is the target's."""
        answer = self._decide(state.world, command)
        if isinstance(answer, Refused):
            minded = not again and not isinstance(command, c.Reopen)
            return answer, replace(state, seen=(), broken=(NEVER_MINDS,) if minded else ())
        seen = (TWICE,) if again and answer.replayed else ()
        if again and not answer.replayed and command.session_id == CLOSED:
            seen = (RESENT,)
        world = canonical(evolve(state.world, answer.writes))
        return answer, replace(state, world=world, seen=seen, broken=())

    def _decide(self, world: World, command: Any) -> Decided[Any] | Refused:
        answer: Decided[Any] | Refused = decide_at(
            RELEASE, command, world.load(command.reads()), NOW
        )
        self.decisions += 1
        for clause in (answer.clause, *getattr(answer, "via", ())):
            self.clauses[clause] = self.clauses.get(clause, 0) + 1
        return answer

    def _after(self, world: World, command: Any) -> World:
        answer = self._decide(world, command)
        assert isinstance(answer, Decided), answer
        return evolve(world, answer.writes)


# -- properties


def judge(world: World) -> Iterator[str]:
    """Yield the properties that the rows violate."""
    arrived = {to: texts_of(world, to) for to in (TARGET, CLOSED)}
    waiting = [row.command for row in world.all(Outbound)]
    texts = [text for found in arrived.values() for text in found]
    if len(set(texts)) < len(texts):
        yield ONCE
    order = [text for sends in SENDS.values() for to, _, text in sends if to == TARGET]
    if arrived[TARGET] != sorted(arrived[TARGET], key=order.index):
        yield IN_ORDER
    for command_id, sends in SENDS.items():
        sent = was_sent(world, command_id)
        for _, _, text in sends:
            known = text in texts or any(f'"payload":"{text}"' in each for each in waiting)
            if sent and not known:
                yield KEPT
            if not sent and text in texts:
                yield ONLY_SENT
    snapshot = snapshot_of(-1, only(world, SENDER))
    if not outbound_numbered(snapshot):
        yield NUMBERED
    if not routes_move(snapshot):
        yield MOVES


def canonical(world: World) -> World:
    """Return the rows without events, and with one time for all that comes later."""
    rows: list[Record] = []
    for row in world:
        if (
            isinstance(row, Session) and row.session_id == SENDER
        ):  # a target's events number its inputs
            row = replace(row, next_event=1)
        elif isinstance(row, Outbound) and isinstance(row.state, Due) and row.state.due_at_ms > NOW:
            row = replace(row, state=Due(NOW + 1))
        if not isinstance(row, EventBatch):
            rows.append(row)
    return world_of(rows)


def only(world: World, session_id: str) -> World:
    """Return the rows of one session."""
    return world_of([row for row in world if getattr(row, "session_id", "") == session_id])


def texts_of(world: World, session_id: str) -> list[str]:
    """Return the texts that have arrived, in order."""
    at = {q.input_id: q.seq for q in world.all(QueueEntry) if q.session_id == session_id}
    inputs = [row for row in world.all(Input) if row.session_id == session_id]
    return [row.payload for row in sorted(inputs, key=lambda row: at[row.input_id])]


def was_sent(world: World, command_id: str) -> bool:
    """Return whether the Amend of this id was executed."""
    return any(row.command_id == command_id for row in world.all(ExecutedCommand))


def rows_of(state: State) -> list[Outbound]:
    """Return the rows of the sender, in the order of their numbers."""
    return sorted(state.world.all(Outbound), key=lambda row: row.number)


def session_of(world: World, session_id: str) -> Session:
    """Return the row of a session."""
    return next(row for row in world.all(Session) if row.session_id == session_id)


def admit(to: str, kind: str, text: str, input_id: str = "") -> c.Admit:
    """Return what is sent: an input without an id of its own."""
    return c.Admit(to, (c.NewInput(input_id, kind, text),))


def put(state: State, slot: int, relay: Relay) -> State:
    """Return the state with what a relay does now."""
    relays = (*state.relays[:slot], relay, *state.relays[slot + 1 :])
    return replace(state, relays=relays)


def relay_after(relay: Relay) -> Relay:
    """Return a relay that has dropped its row, and has not sent it."""
    return Relay(relay.route, relay.head, executed=True)


def words_of(command: Any) -> str:
    """Return a command as text for a trace."""
    more = getattr(command, "number", None) or getattr(command, "command_id", "")
    return f"{command.__class__.__name__} {more}".strip()


def answer_of(answer: Decided[Any] | Refused) -> str:
    """Return an answer as text for a trace."""
    if isinstance(answer, Refused):
        return f"{answer.clause} refused: {answer.reason.value}"
    return f"{answer.clause}{' (replayed)' * answer.replayed}"
