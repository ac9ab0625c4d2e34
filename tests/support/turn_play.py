"""Carry out a turn by hand: the journal is a list, model and tools are functions, and a test chooses the crashes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from attrs import define, field

from tenure.machines.ticket import Settled, TicketKind
from tenure.messages.types import (
    Approval,
    Disposition,
    Finish,
    Message,
    Reply,
    Request,
    RetryPolicy,
    Tool,
    ToolCall,
)
from tenure.outcome import Refused
from tenure.policy import POLICIES, REACHED, Boundary
from tenure.records import EntryKind, Input, JournalEntry, Node, Ticket
from tenure.transcript import INPUTS_NODE, Form, Tip, UsageDelta, extend_path, hash_node
from tenure.turn import machine as turn
from tenure.turn import protocol
from tenure.turn.loading import LoadedTurn
from tenure.turn_end import Record, TurnEnd, TurnWait

ONE = UsageDelta("turn", "m", 1, 10, 1)
TOOLS = (
    Tool("pay", "", "{}", Disposition.ONCE),
    Tool("look", "", "{}", retry=RetryPolicy(3, 100, 1_000)),
    Tool("answer", "", "{}", finishes=True),
)
BUY = Tool("buy", "", "{}", Disposition.ONCE, approval=Approval())
ENVIRONMENT = protocol.Environment("m", "be brief", TOOLS)

Model = Callable[[Request], Reply]
Use = Callable[[ToolCall, int], protocol.ToolResult]


def prompt(text: str = "go") -> Input:
    return Input("s", "i", "prompt", "api", None, None, "", POLICIES["prompt"], 0, text)


def entering(input_id: str, text: str, kind: str = "steering") -> Input:
    """Return an input that enters the running turn."""
    return Input("s", input_id, kind, "api", None, None, "", POLICIES[kind], 0, text)


def calling(*calls: tuple[str, str] | tuple[str, str, str], text: str = "") -> Reply:
    """Return a reply with calls: (id, tool) or (id, tool, arguments)."""
    made = tuple(ToolCall(c[0], c[1], c[2] if len(c) > 2 else "{}") for c in calls)
    return Reply(text, made, finish=Finish.TOOL_CALLS, usage=(ONE,))


def saying(text: str) -> Reply:
    return Reply(text, usage=(ONE,))


def script(*replies: Reply) -> Model:
    """Return a model that gives the n-th reply after n - 1 replies."""

    def model(request: Request) -> Reply:
        count = sum(m.role == "assistant" for m in request.messages)
        return replies[min(count, len(replies) - 1)]

    return model


def paid(call: ToolCall, attempt: int) -> protocol.ToolResult:
    return protocol.ToolResult(f"{call.name} {call.call_id}")


@define
class Play:
    model: Model
    use: Use = paid
    environment: protocol.Environment = ENVIRONMENT
    limits: protocol.Limits = protocol.Limits(iterations_max=5, concurrency=4)
    strict: bool = False
    inputs: tuple[Input, ...] = field(factory=lambda: (prompt(),))
    frame: str = ""
    entries: list[JournalEntry] = field(factory=list)
    nodes: list[Node] = field(factory=list)
    kept: str | None = None
    state: turn.State | None = None
    effects: list[protocol.Effect] = field(factory=list)
    clauses: list[str] = field(factory=list)
    asked: list[str] = field(factory=list)  # keys of calls of the model and of tools
    usage: list[UsageDelta] = field(factory=list)
    checkpoints: int = 0
    waiting: list[Input] = field(factory=list)  # inputs that the next record that takes may take
    taken: list[Input] = field(factory=list)
    last: TurnEnd | protocol.Fail | None = None
    tickets: dict[str, Ticket] = field(factory=dict)
    parked: TurnWait | None = None
    needs: Callable[[ToolCall], str | None] = lambda call: f"{call.name}?"

    # -- the machine

    def prepare(self, entries: list[JournalEntry] | None = None) -> turn.Preparing:
        entries = self.entries if entries is None else entries
        known = {entry.node_id for entry in entries}
        nodes = tuple(node for node in self.nodes if node.node_id in known)
        named = {
            i for entry in entries if entry.kind is EntryKind.TAKEN for i in entry.body.split()
        }
        taken = tuple([each for each in self.taken if each.input_id in named])
        spoken = LoadedTurn(
            "s", "r", 1, None, self.frame, (), self.inputs, tuple(entries), nodes, self.kept, taken,
            tuple([t for t in self.tickets.values() if t.ticket_id in {e.body for e in entries}]),
        )  # fmt: skip
        return turn.prepare(spoken, self.limits, strict=self.strict)

    def begin(self) -> Play:
        """Begin, or resume after a crash."""
        self.effects = []
        self.state = self.prepare()
        self.feed(protocol.Begin())
        return self

    def feed(self, event: protocol.Event) -> turn.Outcome:
        assert self.state is not None
        outcome = turn.step(self.state, event)
        self.clauses.append(outcome.clause)
        if not isinstance(outcome, Refused):
            self.state = outcome.state
            self.effects += outcome.effects
        return outcome

    def take(self, kind: type[Any]) -> Any:
        """Remove and return the first effect of a kind that is in progress."""
        effect = next(e for e in self.effects if isinstance(e, kind))
        self.effects.remove(effect)
        return effect

    # -- effects

    def go(self, steps: int = 10_000, until: type[Any] | None = None) -> Play:
        """Carry out effects in order, until an effect of a kind is next or the turn has ended."""
        while self.effects and steps > 0:
            if until is not None and isinstance(self.effects[0], until):
                return self
            self.carry_out(self.effects.pop(0))
            steps -= 1
        return self

    def carry_out(self, effect: protocol.Effect) -> None:
        match effect:
            case protocol.PrepareEnvironment(key):
                self.feed(protocol.EnvironmentReady(key, self.environment))
            case protocol.CallModel(key, request):
                self.asked.append(key)
                self.feed(protocol.ModelReplied(key, self.model(request)))
            case protocol.CheckApproval(key, call):
                ticket_id = f"t{key}"
                self.feed(protocol.ApprovalChecked(key, ticket_id, self.needs(call)))
            case protocol.Park(key, wait):
                self.park(key, wait)
            case protocol.SettleTicket(key, ticket_id, settlement):
                self.decide(ticket_id, settlement)
                self.feed(protocol.TicketsSettled(key, self.settled()))
            case protocol.RunTool(key, call, _, attempt):
                self.asked.append(key)
                self.feed(protocol.ToolReported(key, attempt, self.use(call, attempt)))
            case protocol.Sleep(key, attempt):
                self.feed(protocol.RetryDue(key, attempt))
            case protocol.WriteRecord():
                self.feed(protocol.Recorded(effect.key, self.write(effect.record)))
            case TurnEnd(yields=True) if self.reached(Boundary.BEFORE_COMPLETION):
                self.feed(protocol.CommitSteered())
            case TurnEnd() | protocol.Fail():
                self.last = effect
                self.usage += effect.usage

    def park(self, key: str, wait: TurnWait) -> None:
        """Park as the kernel does; what was written is in the journal, and this attempt is over."""
        if any(name in wait.waits_for for name, _ in self.settled()):
            self.feed(protocol.TicketsSettled(key, self.settled()))
            return
        opened = [(EntryKind.TICKET, new.effect_id, new.ticket_id) for new in wait.tickets]
        self.write(wait.record, (*opened, (EntryKind.WAIT, wait.effect_id, "")))
        for new in wait.tickets:
            self.tickets[new.ticket_id] = Ticket(
                "s",
                new.ticket_id,
                "r",
                new.call_id,
                TicketKind.APPROVAL,
                new.offers,
                None,
                0,
                new.prompt,
            )
        self.parked = wait

    def decide(self, ticket_id: str, settled: Settled) -> None:
        """Settle a ticket unless it is settled."""
        if self.tickets[ticket_id].open_run is not None:
            self.tickets[ticket_id] = attrs.evolve(self.tickets[ticket_id], state=settled)

    def settled(self) -> tuple[tuple[str, Settled], ...]:
        found = [(t.ticket_id, t.state) for t in self.tickets.values()]
        return tuple([(name, state) for name, state in found if isinstance(state, Settled)])

    def reached(self, boundary: Boundary) -> list[Input]:
        """Return the inputs that a record may take at this boundary."""
        return [each for each in self.waiting if each.policy.delivery in REACHED[boundary]]

    def write(
        self, record: Record, more: tuple[tuple[EntryKind, str, str], ...] = ()
    ) -> tuple[Input, ...]:
        """Write a record as a checkpoint does, and return what it has taken."""
        taken: list[Input] = []
        if record.take is not None:
            taken = self.reached(record.take.boundary)[: record.take.most]
        if not (record.entries or record.nodes or taken or more):
            return ()
        n = self.checkpoints
        self.checkpoints += 1
        self.usage += record.usage
        self.kept = record.environment or self.kept
        for i, line in enumerate(record.entries):
            self.entries.append(
                JournalEntry("s", "r", 1, n, i, line.kind, line.effect_id, "L", "", None, line.body)
            )
        at = len(record.entries)
        for kind, name, body in more:
            self.entries.append(JournalEntry("s", "r", 1, n, at, kind, name, "L", "", None, body))
            at += 1
        ids = tuple([each.input_id for each in taken])
        if record.take is not None and taken:
            kind, name = EntryKind.TAKEN, record.take.effect_id
            self.entries.append(
                JournalEntry("s", "r", 1, n, at, kind, name, "L", "", None, " ".join(ids))
            )
            at += 1
        nodes = (*record.nodes, *((INPUTS_NODE,) if taken else ()))
        for i, new in enumerate(nodes):
            parent = self.nodes[-1] if self.nodes else None
            tip = None if parent is None else Tip(parent.node_id, parent.path_digest)
            inputs: tuple[str, ...] = () if parent else ("i",)
            inputs += ids if new is INPUTS_NODE else ()
            path = extend_path(tip, inputs, hash_node(new))
            node_id = f"r:1:{n}:{i}"
            self.nodes.append(
                Node(
                    "s", node_id, parent.node_id if parent else None, "r", 1, new.role, inputs,
                    new.call_ids, path, new.hidden, 0, new.body, new.form,
                )
            )  # fmt: skip
            kind = EntryKind.NODE
            self.entries.append(
                JournalEntry("s", "r", 1, n, at + i, kind, node_id, "L", "", node_id)
            )
        self.taken += taken
        self.waiting = [each for each in self.waiting if each not in taken]
        return tuple(taken)

    # -- results

    @property
    def transcript(self) -> list[Message]:
        from tenure.messages.codec import decode

        bodies = [node.body for node in self.nodes if node.form is not Form.INPUTS]
        bodies += [node.body for node in getattr(self.last, "nodes", ())]
        return [decode(body) for body in bodies]

    @property
    def texts(self) -> list[str]:
        return [f"{m.role.value}: {m.text}" for m in self.transcript]


def play(model: Model, **rest: Any) -> Play:
    return Play(model, **rest).begin().go()
