"""The bounded world of one turn: the turn machine over real commands and records, crashed at every point.

A model that is a pure function of what it reads, a once tool, a rerunnable tool that fails first, a batch of both;
a cancel, a deadline, a changed prompt; a resume under a new lease after every crash.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final, TypeAlias

from attrs import define, field

from ... import commands as c
from ...failure import ErrorKind, Failure
from ...machines import lease as lease_
from ...machines import run as run_
from ...messages.types import Disposition, Finish, Message, Reply, ToolCall
from ...outcome import Decided, Refusal, Refused
from ...replace import replace
from ...transcript import Role, UsageDelta
from ...turn import machine as turn_
from ...turn import protocol
from ...turn.loading import LoadedTurn, LoadTurn
from ...turn_end import TurnEnd
from ...world import EMPTY, ask, evolve
from ..trace import Line
from .properties import ALWAYS, SOMETIMES, broken, seen
from .settings import CONFIGS, ModelConfig
from .state import S, State

__all__ = ["CONFIGS", "ModelConfig", "State", "TurnModel"]

TTL_MS: Final = 30_000
WAIT_MS: Final = 60_000
ONE: Final = UsageDelta("turn", "m", 1, 10, 1)
CALLS: Final[dict[str, ToolCall]] = {
    "pay": ToolCall("c-pay", "pay", "{}"),
    "send": ToolCall("c-send", "send", "{}"),
    "look": ToolCall("c-look", "look", "{}"),
    "find": ToolCall("c-find", "find", "{}"),
    "sing": ToolCall("c-sing", "sing", "{}"),
}


Step: TypeAlias = tuple[Line, State]


@define(eq=False)
class TurnModel:
    config: ModelConfig
    always: tuple[str, ...] = ALWAYS
    fired: set[str] = field(factory=set)

    @property
    def name(self) -> str:
        return f"turn: {self.config.name}"

    @property
    def sometimes(self) -> tuple[str, ...]:
        return tuple(name for name, (when, _) in SOMETIMES.items() if when(self.config))

    # -- the model of the explorer

    def initial(self) -> Iterable[State]:
        admit = c.Admit(S, (c.NewInput("i", "prompt", "go"),))
        answer = admit.decide(EMPTY.load(admit.reads()), 0)
        assert isinstance(answer, Decided)
        yield State(evolve(EMPTY, answer.writes))

    def canonical(self, world: State) -> State:
        return world

    def describe(self, label: Line) -> Line:
        return label

    def finished(self, world: State) -> bool:
        return world.done

    def broken(self, world: State) -> Collection[str]:
        return broken(self.config, world)

    def seen(self, world: State) -> Collection[str]:
        return seen(world)

    def actions(self, world: State) -> Iterator[Step]:
        if world.done:
            return
        if world.begun is None:
            yield from self.take(world)
        else:
            yield from self.work(world)
        if self.config.cancel and not world.cancelled and world.begun is not None:
            after, answer = self.execute(world, c.RequestCancel(S, "cancel", "r"))
            assert isinstance(answer, Decided), answer
            yield Line("user", "cancel", to="store"), replace(after, cancelled=True)
        if self.config.change and world.version == 1:
            yield Line("operator", "change the prompt"), replace(world, version=2)

    # -- the store

    def execute(
        self, world: State, command: Any, sooner_ms: int = 0
    ) -> tuple[State, Decided[Any] | Refused]:
        now_ms = world.lives * 1_000_000 + sooner_ms
        answer = command.decide(world.world.load(command.reads()), now_ms)
        self.fired.add(answer.clause)
        if isinstance(answer, Refused):
            return world, answer
        self.fired.update(answer.via)
        return replace(world, world=evolve(world.world, answer.writes)), answer

    # -- a life: from Begin to a crash or the end

    def take(self, world: State) -> Iterator[Step]:
        alive = replace(world, lives=world.lives + 1)
        owner = lease_.Owner("w", f"w{alive.lives}")
        alive, _ = self.execute(
            alive, c.Sweep(S), -WAIT_MS
        )  # a lapsed lease is ended, its run waits
        if alive.done:  # it was cancelled before it had done anything
            yield Line("worker", "sweep", to="store"), alive
            return
        fresh = "r" if alive.lives == 1 else f"r{alive.lives}"
        after, answer = self.execute(alive, c.Begin(S, f"L{alive.lives}", fresh, owner, TTL_MS))
        assert isinstance(answer, Decided) and isinstance(answer.outcome, c.Begun), answer
        begun = answer.outcome
        after = replace(after, begun=begun, n=begun.n)
        if begun.cancel is not None:  # the runner closes it without the turn (RUNNER-21)
            line = Line("worker", "begin, close", to="store")
            yield line, self.commit(after, TurnEnd(run_.Termination.CANCELLED))[0]
            return
        loaded = ask(LoadTurn(S, "r"), after.world.answer)
        assert isinstance(loaded, LoadedTurn)
        preparing = turn_.prepare(loaded, self.config.limits)
        yield Line("worker", "begin", to="store"), self.feed(after, preparing, protocol.Begin())

    def feed(self, world: State, machine: turn_.State, event: protocol.Event) -> State:
        outcome = turn_.step(machine, event)
        self.fired.add(outcome.clause)
        if isinstance(outcome, Refused):
            late = getattr(event, "key", "") in world.aborted
            return world if late else replace(world, fault=f"{outcome} for {event}")
        under_way = list(world.under_way)
        for effect in outcome.effects:
            if isinstance(effect, protocol.Abort):  # they may still come to their end
                world = replace(world, aborted=tuple(sorted({*world.aborted, *effect.keys})))
            elif not isinstance(effect, protocol.SetDeadline):
                under_way.append(effect)
        order = sorted(under_way, key=repr)
        return replace(world, machine=outcome.state, under_way=tuple(order))

    def crash(self, world: State) -> State:
        return replace(
            world, machine=None, under_way=(), begun=None, n=0, notified=False,
            crashes=world.crashes + 1, late=False, aborted=(),
        )  # fmt: skip

    # -- carrying effects out

    def work(self, world: State) -> Iterator[Step]:
        machine = world.machine
        assert machine is not None
        crashing = world.crashes < self.config.crashes
        for effect in world.under_way:
            rest = replace(world, under_way=tuple(e for e in world.under_way if e != effect))
            for text, after, events in self.execute_command(rest, effect):
                name = f"{effect.__class__.__name__}: {text}"
                if after.done or after.begun is None:
                    yield Line("worker", name, to="store"), after
                    continue
                for event in events:
                    yield Line("worker", name), self.feed(after, machine, event)
        if crashing:
            yield Line("worker", "crash"), self.crash(world)
        if world.cancelled and not world.notified:
            notified = replace(world, notified=True)
            yield (
                Line("worker", "hears of the cancel"),
                self.feed(notified, machine, protocol.CancelSeen()),
            )
        if self.config.deadline and not world.late:
            late = replace(world, late=True)
            yield (
                Line("worker", "is out of time"),
                self.feed(late, machine, protocol.DeadlinePassed()),
            )

    def execute_command(
        self, world: State, effect: protocol.Effect
    ) -> Iterator[tuple[str, State, tuple[protocol.Event, ...]]]:
        match effect:
            case protocol.PrepareEnvironment(key):
                prompt = f"version {world.version}"
                environment = protocol.Environment("m", prompt, self.config.tools)
                yield prompt, world, (protocol.EnvironmentReady(key, environment),)
            case protocol.CallModel(key, request):
                reply = self.reply(request.messages, bool(request.tools))
                yield "replied", world, (protocol.ModelReplied(key, reply),)
                if self.config.outage and not world.down:
                    failure = Failure(ErrorKind.RATE_LIMITED)
                    down = replace(world, down=True)
                    yield "failed", down, (protocol.ModelFailed(key, failure, (ONE,)),)
            case protocol.RunTool():
                yield from self.use(world, effect)
            case protocol.Probe(key):
                known = key in world.took
                result = protocol.ToolResult("paid") if known else None
                yield "known" if known else "unknown", world, (protocol.Probed(key, result),)
            case protocol.Sleep(key, attempt):
                yield "over", world, (protocol.RetryDue(key, attempt),)
            case protocol.WriteRecord():
                yield from self.record(world, effect)
            case TurnEnd():
                after, answer = self.commit(world, effect)
                events = (protocol.CancelSeen(),) if _is(answer, Refusal.CANCELLED) else ()
                yield "answered", replace(after, notified=after.notified or bool(events)), events
            case protocol.Fail(failure, usage):
                begun = world.begun
                assert begun is not None
                command = c.Fail(S, begun.fence, "r", begun.turn, failure, usage)
                after, answer = self.execute(world, command)
                assert isinstance(answer, Decided), answer
                yield "answered", replace(self.crash(after), crashes=world.crashes), ()

    def reply(self, messages: tuple[Message, ...], tools: bool) -> Reply:
        text = sum(m.role is Role.ASSISTANT for m in messages)
        if text < len(self.config.batches) and tools:
            calls = tuple(
                replace(CALLS[x], call_id=f"{x}{text}") for x in self.config.batches[text]
            )
            return Reply("", calls, finish=Finish.TOOL_CALLS, usage=(ONE,))
        return Reply(f"answer after {len(messages)}", usage=(ONE,))

    def use(
        self, world: State, effect: protocol.RunTool
    ) -> Iterator[tuple[str, State, tuple[protocol.Event, ...]]]:
        name, key = effect.tool.name, effect.key
        if effect.tool.disposition is Disposition.ONCE:
            took = replace(world, took=tuple(sorted((*world.took, key))))
            yield (
                "paid",
                took,
                (protocol.ToolReported(key, effect.attempt, protocol.ToolResult("paid")),),
            )
            return
        failed = protocol.ToolResult("busy", is_error=True, retryable=True)
        result = failed if name == "look" and effect.attempt == 1 else protocol.ToolResult("seen")
        yield result.text, world, (protocol.ToolReported(key, effect.attempt, result),)

    def record(
        self, world: State, effect: protocol.WriteRecord
    ) -> Iterator[tuple[str, State, tuple[protocol.Event, ...]]]:
        begun, record = world.begun, effect.record
        assert begun is not None
        command = c.Checkpoint(
            S, begun.fence, "r", begun.turn, world.n, record.entries, record.nodes,
            record.usage, record.environment,
        )  # fmt: skip
        after, answer = self.execute(world, command)
        if isinstance(answer, Refused):
            fair = answer.reason is Refusal.CANCELLED
            notified = replace(world, notified=True) if fair else replace(world, fault=str(answer))
            yield "refused", notified, (protocol.NotRecorded(effect.key, answer),)
            return
        yield "written", replace(after, n=answer.outcome.n), (protocol.Recorded(effect.key),)

    def commit(self, world: State, effect: TurnEnd) -> tuple[State, Decided[Any] | Refused]:
        begun = world.begun
        assert begun is not None
        command = c.Commit(
            S, begun.fence, "r", begun.turn, world.n, begun.revision, effect.termination,
            effect.reason, effect.nodes, effect.usage,
        )  # fmt: skip
        after, answer = self.execute(world, command)
        if isinstance(answer, Refused) and not _is(answer, Refusal.CANCELLED):
            return replace(world, fault=str(answer)), answer
        return after, answer


def _is(answer: Decided[Any] | Refused, reason: Refusal) -> bool:
    return isinstance(answer, Refused) and answer.reason is reason
