"""Carry out a turn by hand: the journal is a list, model and tools are functions, and a test chooses the crashes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field

from tenure.messages.types import (
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
from tenure.policy import POLICIES
from tenure.records import EntryKind, Input, JournalEntry, Node
from tenure.transcript import Tip, UsageDelta, extend_path, hash_node
from tenure.turn import machine as turn
from tenure.turn import protocol
from tenure.turn.loading import LoadedTurn
from tenure.turn_end import Record, TurnEnd

ONE = UsageDelta("turn", "m", 1, 10, 1)
TOOLS = (
    Tool("pay", "", "{}", Disposition.ONCE),
    Tool("look", "", "{}", retry=RetryPolicy(3, 100, 1_000)),
    Tool("answer", "", "{}", finishes=True),
)
ENVIRONMENT = protocol.Environment("m", "be brief", TOOLS)

Model = Callable[[Request], Reply]
Use = Callable[[ToolCall, int], protocol.ToolResult]


def prompt(text: str = "go") -> Input:
    return Input("s", "i", "prompt", "api", None, None, "", POLICIES["prompt"], 0, text)


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
    last: TurnEnd | protocol.Fail | None = None

    # -- the machine

    def prepare(self, entries: list[JournalEntry] | None = None) -> turn.Preparing:
        entries = self.entries if entries is None else entries
        known = {entry.node_id for entry in entries}
        nodes = tuple(node for node in self.nodes if node.node_id in known)
        spoken = LoadedTurn(
            "s", "r", 1, None, self.frame, (), self.inputs, tuple(entries), nodes, self.kept
        )
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
            case protocol.RunTool(key, call, _, attempt):
                self.asked.append(key)
                self.feed(protocol.ToolReported(key, attempt, self.use(call, attempt)))
            case protocol.Sleep(key, attempt):
                self.feed(protocol.RetryDue(key, attempt))
            case protocol.WriteRecord():
                self.write(effect.record)
                self.feed(protocol.Recorded(effect.key))
            case TurnEnd() | protocol.Fail():
                self.last = effect
                self.usage += effect.usage

    def write(self, record: Record) -> None:
        n = self.checkpoints
        self.checkpoints += 1
        self.usage += record.usage
        self.kept = record.environment or self.kept
        for i, line in enumerate(record.entries):
            self.entries.append(
                JournalEntry("s", "r", 1, n, i, line.kind, line.effect_id, "L", "", None, line.body)
            )
        for i, new in enumerate(record.nodes):
            parent = self.nodes[-1] if self.nodes else None
            tip = None if parent is None else Tip(parent.node_id, parent.path_digest)
            inputs = () if parent else ("i",)
            path = extend_path(tip, inputs, hash_node(new))
            node_id = f"r:1:{n}:{i}"
            self.nodes.append(
                Node(
                    "s", node_id, parent.node_id if parent else None, "r", 1, new.role, inputs,
                    new.call_ids, path, new.hidden, 0, new.body, new.form,
                )
            )  # fmt: skip
            at = len(record.entries) + i
            kind = EntryKind.NODE
            self.entries.append(JournalEntry("s", "r", 1, n, at, kind, node_id, "L", "", node_id))

    # -- results

    @property
    def transcript(self) -> list[Message]:
        from tenure.messages.codec import decode

        bodies = [node.body for node in self.nodes]
        bodies += [node.body for node in getattr(self.last, "nodes", ())]
        return [decode(body) for body in bodies]

    @property
    def texts(self) -> list[str]:
        return [f"{m.role.value}: {m.text}" for m in self.transcript]


def play(model: Model, **rest: Any) -> Play:
    return Play(model, **rest).begin().go()
